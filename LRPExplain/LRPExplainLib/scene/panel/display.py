"""Section "Display": how the map is shown. Nodes of the scene keep all of it; the section shows it and sets it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import slicer
import vtk
from slicer.i18n import tr as _

from ...errors import UserError
from ..nodes import ROLE_ATTRIBUTE
from .section import Section

if TYPE_CHECKING:
    from .panel import Panel


_USUAL = {"peak": 10.0, "mass": 80.0}  # percent


class DisplaySection(Section):
    """Works on the explanation whose map is selected; ``nodes`` are its nodes, None where none is selected."""

    def __init__(self, ui: Any, panel: Panel) -> None:
        super().__init__(ui, panel)
        self.nodes: Any = None
        self._selected: Any = None
        self._looking: Iterator[None] | None = None  # for what is to be applied then
        self._busy = False
        for selector in (ui.relevanceSelector, ui.besideSelector):
            selector.addAttribute("vtkMRMLScalarVolumeNode", ROLE_ATTRIBUTE, "relevance")
        self._choices = {
            "color_map": _Choice(ui.colorMapComboBox, color_maps()),
            "sign": _Choice(ui.signComboBox, signs()),
            "threshold_kind": _Choice(ui.thresholdKindComboBox, threshold_kinds()),
        }
        for combo in (ui.colorMapComboBox, ui.signComboBox):
            combo.connect("currentIndexChanged(int)", self.apply)
        ui.thresholdKindComboBox.connect("currentIndexChanged(int)", self._on_kind)
        for slider in (ui.thresholdSlider, ui.opacitySlider, ui.clusterSpinBox):
            slider.connect("valueChanged(double)", self.apply)
        for box in (ui.legendCheckBox, ui.volumeRenderingCheckBox, ui.hotSpotsCheckBox):
            box.connect("toggled(bool)", self.apply)
        ui.overlayCheckBox.connect("toggled(bool)", self.switch)
        ui.sideBySideButton.connect("toggled(bool)", self.side_by_side)
        ui.besideSelector.connect("currentNodeChanged(vtkMRMLNode*)", self._put_above)
        self._show()

    def on_result(self, nodes: Any) -> None:
        """An explanation has been presented: the map that it shows is the one that is selected now."""
        from .. import overlay
        from ..display import chosen_map

        chosen = chosen_map(nodes)
        if overlay.shown(nodes):
            overlay.change_background(nodes.scene, self._selected, chosen)
        self.nodes = nodes
        self._selected = chosen
        self.parameters.relevance = self._selected
        self._show()

    def refresh(self) -> None:
        selected = self.parameters.relevance if self.parameters else None
        if selected is not self._selected:
            self._select(selected)

    def _select(self, selected: Any) -> None:
        """Another map is selected, or none: it is shown in place of the one before."""
        from .. import overlay, presented_of

        earlier, self._selected = self._selected, selected
        over = self.ui.overlayCheckBox.checked  # as it was left, also where no map was selected in between
        try:
            self.nodes = presented_of(selected) if selected else None
        except UserError as error:
            self.nodes = None
            self.panel.run.say(str(error))
        if self.nodes is None:
            self.ui.sideBySideButton.checked = False  # nothing is left to stand beside the image
        elif over or overlay.shown(self.nodes):
            overlay.change_background(self.nodes.scene, earlier, selected)
            overlay.show(self.nodes)
        self._put_above()
        self._show()
        self.panel.on_map()
        self.panel.run.on_map(self.nodes)
        if self.nodes is not None:
            self.apply()
        else:
            self.panel.on_display()

    def on_removal(self, node: Any) -> None:
        """A map is about to be deleted: the strongest that is left of the same explanation is shown then, else none.

        The selector itself would go to its neighbour, which may be a map of another patient's volume.
        """
        if node is self._selected and self.nodes is not None and self.parameters:
            rest = [each for each in self.nodes.relevance if each.GetScene() is not None and each is not node]
            goes_on = rest and node is not self.nodes.relevance[0]
            self.parameters.relevance = self.nodes.strongest(rest) if goes_on else None

    def close(self) -> None:
        super().close()
        if self.nodes and self.ui.sideBySideButton.checked:
            self.ui.sideBySideButton.checked = False
        self.nodes = self._selected = None
        with self._quiet():
            self.ui.overlayCheckBox.checked = False  # a map of a scene that is loaded next may be out of the views
        self._show()

    def apply(self, *_changed: Any) -> None:
        """Set what the controls say; regions of a large map are found in several turns, while a slider moves on."""
        if self.nodes is None or self._busy:
            return
        from ..display import look_up

        wanted = self.display()
        self._looking = look_up(self.nodes, wanted)
        self._apply(self._looking, self.nodes, wanted)

    def _apply(self, looking: Iterator[None], nodes: Any, wanted: Any) -> None:
        if looking is not self._looking or nodes is not self.nodes:  # the controls say something else by now
            return
        from ..display import apply
        from ..process import later

        if next(looking, looking) is not looking:
            later(0, lambda: self._apply(looking, nodes, wanted))
            return
        apply(nodes, wanted)
        self.panel.on_display()

    def _on_kind(self, *_index: Any) -> None:
        """The other kind of percentage means something else: begin at its usual value."""
        if self._busy:
            return
        with self._quiet():
            self.ui.thresholdSlider.value = _USUAL[self._choices["threshold_kind"].chosen]
        self.apply()

    def display(self) -> Any:
        """The controls as a value."""
        from ..display import Display

        ui = self.ui
        return Display(
            **{name: choice.chosen for name, choice in self._choices.items()},
            threshold=ui.thresholdSlider.value,
            minimum_cluster_ml=ui.clusterSpinBox.value,
            opacity=ui.opacitySlider.value / 100,
            legend=ui.legendCheckBox.checked,
            volume_rendering=ui.volumeRenderingCheckBox.checked,
            hot_spots=ui.hotSpotsCheckBox.checked,
            input=next((n for n, node in enumerate(self.nodes.relevance) if node is self._selected), 0),
        )

    def switch(self, on: bool) -> None:
        """Show the map over the slices, or leave the views as they were before."""
        if self.nodes is not None and not self._busy:
            from .. import overlay

            (overlay.show if on else overlay.hide)(self.nodes)
            self.outline_reference()

    def outline_reference(self) -> None:
        """While a map is shown, the reference is drawn as outlines."""
        from ..outlining import outline

        over = self.nodes is not None and self.ui.overlayCheckBox.checked
        outline(slicer.mrmlScene, self.panel.volumes.reference.node if over else None)

    def side_by_side(self, on: bool) -> None:
        """The layout with and without relevance beside each other, or the user's own again."""
        if self._busy:
            return
        from .. import side_by_side

        if on:
            with self._quiet():
                self.ui.showResultButton.checked = False  # of two layouts to come back to it is the user's own
            reference = self.panel.volumes.reference
            side_by_side.enter(self.nodes, reference.node, reference.segment or None)
            self._put_above()
            self._watch_layout()
        else:
            side_by_side.leave(slicer.mrmlScene)

    def _put_above(self, *_node: Any) -> None:
        """The image above, alone or with another map over it."""
        from .. import presented_of, side_by_side

        if self.nodes is None or not self.ui.sideBySideButton.checked:
            return
        node, beside = self.ui.besideSelector.currentNode(), None
        try:
            beside = presented_of(node) if node is not None else None
        except UserError as error:
            self.panel.run.say(str(error))
        side_by_side.put_above(self.nodes.scene, beside)

    def _watch_layout(self) -> None:
        """Choosing another layout leaves side by side, which the button then shows."""
        from ..layout import layout_node

        node = layout_node(self.nodes.scene)
        if not self.hasObserver(node, vtk.vtkCommand.ModifiedEvent, self._on_layout):
            self.addObserver(node, vtk.vtkCommand.ModifiedEvent, self._on_layout)

    def _on_layout(self, *_event: Any) -> None:
        from ..side_by_side import active

        if self._busy or self.nodes is None:
            return
        if self.ui.sideBySideButton.checked and not active(self.nodes.scene):
            with self._quiet():
                self.ui.sideBySideButton.checked = False

    def _show(self) -> None:
        """Bring the controls to what the nodes say."""
        ui = self.ui
        with self._quiet():
            for widget in self._controls():
                widget.enabled = self.nodes is not None
            if self.nodes is None:
                self.removeObservers(self._on_shown)
                self.outline_reference()
                return
            from .. import overlay, side_by_side
            from ..display import read

            ui.sideBySideButton.checked = side_by_side.active(self.nodes.scene)  # of a loaded scene it may be
            shown = read(self.nodes)
            for name, choice in self._choices.items():
                choice.choose(getattr(shown, name))
            ui.thresholdSlider.value = shown.threshold
            ui.clusterSpinBox.value = shown.minimum_cluster_ml
            ui.opacitySlider.value = 100 * shown.opacity
            ui.legendCheckBox.checked = shown.legend
            ui.volumeRenderingCheckBox.checked = shown.volume_rendering
            ui.hotSpotsCheckBox.checked = shown.hot_spots
            ui.overlayCheckBox.checked = overlay.shown(self.nodes)
        if ui.sideBySideButton.checked:
            self._watch_layout()
        self._watch_shown()
        self.outline_reference()

    def _watch_shown(self) -> None:
        """A script that explains shows another map in place of this one: the box says so."""
        self.removeObservers(self._on_shown)
        self.addObserver(self.nodes.relevance[0], vtk.vtkCommand.ModifiedEvent, self._on_shown)

    def _on_shown(self, *_event: Any) -> None:
        from .. import overlay

        if self.nodes is not None and not self._busy and self.ui.overlayCheckBox.checked != overlay.shown(self.nodes):
            with self._quiet():
                self.ui.overlayCheckBox.checked = overlay.shown(self.nodes)
            self.outline_reference()

    def _controls(self) -> tuple[Any, ...]:
        ui = self.ui
        return (
            ui.overlayCheckBox, ui.colorMapComboBox, ui.signComboBox, ui.thresholdKindComboBox, ui.thresholdSlider,
            ui.clusterSpinBox, ui.opacitySlider, ui.legendCheckBox, ui.volumeRenderingCheckBox, ui.hotSpotsCheckBox,
            ui.sideBySideButton, ui.besideSelector,
        )  # fmt: skip

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        """Controls are set by the program, so nothing is applied."""
        self._busy, before = True, self._busy
        try:
            yield
        finally:
            self._busy = before


class _Choice:
    """A combo box whose entries stand for values."""

    def __init__(self, combo: Any, entries: Mapping[str, str]) -> None:
        self._combo, self._values = combo, list(entries)
        combo.clear()
        combo.addItems(list(entries.values()))

    @property
    def chosen(self) -> str:
        return self._values[max(0, self._combo.currentIndex)]

    def choose(self, value: str) -> None:
        if value in self._values:
            self._combo.currentIndex = self._values.index(value)


def signs() -> dict[str, str]:
    return {
        "both": _("For and against"),
        "positive": _("For the class (positive)"),
        "negative": _("Against it (negative)"),
    }


def threshold_kinds() -> dict[str, str]:
    return {"peak": _("Percent of the peak"), "mass": _("Percent of relevance kept")}


def color_maps() -> dict[str, str]:
    """The colour maps of `scene.colors` in the user's words; a test compares them."""
    return {
        "Fire and ice": _("Fire and ice"),
        "Purple and orange": _("Purple and orange"),
        "Green and magenta": _("Green and magenta"),
        "Inferno (magnitude)": _("Inferno (magnitude)"),
        "Viridis (magnitude)": _("Viridis (magnitude)"),
    }
