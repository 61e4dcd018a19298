"""Section "Volumes": one selector for each input channel of the model, and the reference segmentation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import qt
import slicer
import vtk
from slicer.i18n import tr as _

from ..nodes import ROLE_ATTRIBUTE
from .matching import match
from .section import Section, let_shrink
from .segments import SegmentChoice

if TYPE_CHECKING:
    from .panel import Panel


class VolumesSection(Section):
    """Keeps the parameter node's ``inputVolumes`` and its reference segment in step with the selectors.

    ``selectors`` are those of the channels, in their order.
    """

    def __init__(self, ui: Any, panel: Panel) -> None:
        super().__init__(ui, panel)
        self.selectors: list[Any] = []
        self._updating = False
        self._optional = 0
        self._active: str | None = None  # the ID of the active volume
        self.reference = SegmentChoice(ui.referenceSelector, "referenceSegmentation", "referenceSegment", panel)
        self.show_channels([_("Volume")])

    def show_channels(self, names: list[str], labels: int = 0) -> None:
        """One row for each channel; what was chosen stays where it was.

        The last rows, ``labels`` of them, are for label maps that the model's earlier stage can make as well.
        """
        self._optional = labels
        layout = self.ui.volumesCollapsibleButton.layout()
        while self.selectors:
            layout.removeRow(self.selectors.pop())
        for number, name in enumerate(names):
            selector = slicer.qMRMLNodeComboBox()
            selector.name = f"inputSelector{number + 1}"
            labels_row = number >= len(names) - labels
            selector.nodeTypes = ["vtkMRMLLabelMapVolumeNode" if labels_row else "vtkMRMLScalarVolumeNode"]
            selector.showChildNodeTypes = False  # neither label maps nor vector volumes among the images
            selector.noneEnabled = True
            selector.addEnabled = selector.removeEnabled = selector.renameEnabled = False
            selector.noneDisplay = _("Computed by the model's first stage") if labels_row else _("Choose a volume")
            selector.toolTip = (
                _("What the stage before found, as a label map; without one it is computed.")
                if labels_row
                else _("The volume to explain. Its window, layers and transform stay as they are.")
            )
            let_shrink(selector)
            selector.setMRMLScene(slicer.mrmlScene)
            selector.connect("currentNodeChanged(vtkMRMLNode*)", self._on_chosen)
            layout.insertRow(number, _("{channel}:").format(channel=name), selector)
            before = _focused(self.selectors[-1]) if self.selectors else self.ui.volumesCollapsibleButton
            qt.QWidget.setTabOrder(before, _focused(selector))
            self.selectors.append(selector)
        self._show()

    @property
    def nodes(self) -> list[Any]:
        """The chosen volumes in the order of the channels; None where nothing is chosen."""
        chosen = list(self.parameters.inputVolumes) if self.parameters else []
        count = len(self.selectors)
        return (chosen + [None] * count)[:count]

    @property
    def given(self) -> list[Any]:
        """`nodes` without the label maps that the model is to compute; None where an image is missing."""
        nodes = self.nodes
        images = nodes[: len(nodes) - self._optional]
        return images + [node for node in nodes[len(images) :] if node is not None]

    def on_model(self) -> None:
        """Another model is known: it says how many volumes it wants, and what they are."""
        facts = self.panel.model.facts
        if facts:
            names = [entry["name"] for entry in facts["inputs"]]
            labels = sum(entry.get("labels", False) for entry in facts["inputs"])
            self.show_channels(names if len(names) > 1 else [_("Volume")], labels)
            self.fill(names[: len(names) - labels])

    def fill(self, names: list[str] | None = None) -> None:
        """Choose a volume for every channel that has none: by its name, or the active one for a single channel."""
        if not self.parameters:
            return
        chosen = self.nodes[: len(self.selectors) - self._optional]
        free = [node for node in _volumes() if all(node is not other for other in chosen)]
        if len(chosen) == 1:
            matched = [_active(free)]
        else:
            found = match(names or [], [node.GetName() for node in free])
            matched = [None if index is None else free[index] for index in found]
        result = [node or match for node, match in zip(chosen, [*matched, *chosen], strict=False)]
        if any(a is not b for a, b in zip(result, chosen, strict=True)):
            self.parameters.inputVolumes = result + self.nodes[len(result) :]

    def refresh(self) -> None:
        self._show()
        self.reference.refresh()

    def observe(self) -> None:
        """Follow the active volume as long as none is chosen."""
        selection = _selection()
        if selection is not None and not self.hasObserver(selection, vtk.vtkCommand.ModifiedEvent, self._on_active):
            self.addObserver(selection, vtk.vtkCommand.ModifiedEvent, self._on_active)
            self._active = selection.GetActiveVolumeID()

    def _on_active(self, selection: Any, _event: str) -> None:
        """Another volume is active; none where the active one was deleted, which is no reason to choose another."""
        before, self._active = self._active, selection.GetActiveVolumeID()
        if self._active and self._active != before and self.panel.entered and len(self.selectors) - self._optional == 1:
            self.fill()

    def _on_chosen(self, *_node: Any) -> None:
        if self.parameters and not self._updating:
            self.parameters.inputVolumes = [selector.currentNode() for selector in self.selectors]

    def _show(self) -> None:
        self._updating = True
        try:
            for selector, node in zip(self.selectors, self.nodes, strict=True):
                if selector.currentNode() is not node:
                    selector.setCurrentNode(node)
        finally:
            self._updating = False


def _focused(selector: Any) -> Any:
    """What has the keyboard's focus in a selector: the combo box inside."""
    return slicer.util.findChildren(selector, className="ctkComboBox")[0]


def _selection() -> Any:
    return slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSelectionNode")


def _volumes() -> list[Any]:
    """Scalar volumes that are neither label maps nor relevance."""
    found = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    return [
        node
        for node in found
        if node.GetClassName() == "vtkMRMLScalarVolumeNode" and not node.GetAttribute(ROLE_ATTRIBUTE)
    ]


def _active(volumes: list[Any]) -> Any:
    """The active volume, else the one that the slice views show, else the first."""
    selection = _selection()
    composite = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSliceCompositeNode")
    wanted = [selection.GetActiveVolumeID() if selection else None]
    wanted.append(composite.GetBackgroundVolumeID() if composite else None)
    by_id = {node.GetID(): node for node in volumes}
    return next((by_id[name] for name in wanted if name in by_id), volumes[0] if volumes else None)
