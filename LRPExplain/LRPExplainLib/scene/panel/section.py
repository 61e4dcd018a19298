"""What all sections of the panel have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import qt
import slicer
from slicer.util import VTKObservationMixin

if TYPE_CHECKING:
    from .panel import Panel


class Section(VTKObservationMixin):
    """A part of the panel: some widgets of the `.ui`, and what they do.

    ``ui`` has the widgets by name; ``panel`` has the other sections, the logic and the parameter node, which is None
    while a scene is being closed.
    """

    def __init__(self, ui: Any, panel: Panel) -> None:
        super().__init__()
        self.ui = ui
        self.panel = panel

    @property
    def parameters(self) -> Any:
        """The parameter node; None while there is none."""
        return self.panel.parameters

    def refresh(self) -> None:
        """The parameter node has changed, or is another one, or there is none any more."""

    def removeObservers(self, method: Any = None) -> None:
        """Slicer's own; it keeps what it observed by one method (5.13), and so the voxels of maps that were deleted."""
        others = [each for each in self.Observations if method is not None and each[2] != method]
        super().removeObservers()
        for node, event, act, group, _tag, priority in others:
            self.addObserver(node, event, act, group, priority)

    def close(self) -> None:
        """The scene or the panel is about to go: let go of its nodes."""
        self.removeObservers()


def show_rows(layout: Any, fields: dict[Any, bool]) -> None:
    """Show or hide fields of a form together with their labels (QFormLayout.setRowVisible came with Qt 6.4 only)."""
    for field, visible in fields.items():
        field.setVisible(visible)
        label = layout.labelForField(field)
        if label is not None:
            label.setVisible(visible)


def let_shrink(selector: Any) -> None:
    """A selector of nodes asks for the width of the longest name that it holds when it is first shown, and the panel
    with it: instead the chosen name is shortened in the width that there is."""
    for combo in slicer.util.findChildren(selector, className="*ComboBox"):
        combo.sizeAdjustPolicy = qt.QComboBox.AdjustToMinimumContentsLengthWithIcon
