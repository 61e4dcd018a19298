"""Section "Display": how the map is shown. All of it is kept by nodes of the scene; the section only shows and sets it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slicer.i18n import tr as _

from ...errors import UserError
from ..nodes import ROLE_ATTRIBUTE
from .section import Section

if TYPE_CHECKING:
    from .panel import Panel


class DisplaySection(Section):
    """Works on the explanation whose map is selected; ``nodes`` are its nodes, None where none is."""

    def __init__(self, ui: Any, panel: Panel) -> None:
        super().__init__(ui, panel)
        self.nodes: Any = None
        self._showing = False
        ui.relevanceSelector.addAttribute("vtkMRMLScalarVolumeNode", ROLE_ATTRIBUTE, "relevance")
        _offer(ui.signComboBox, signs())
        _offer(ui.thresholdKindComboBox, threshold_kinds())
        for combo in (ui.colorMapComboBox, ui.signComboBox, ui.thresholdKindComboBox):
            combo.connect("currentIndexChanged(int)", self.apply)
        for slider in (ui.thresholdSlider, ui.opacitySlider, ui.clusterSpinBox):
            slider.connect("valueChanged(double)", self.apply)
        for box in (ui.legendCheckBox, ui.volumeRenderingCheckBox, ui.hotSpotsCheckBox, ui.overlayCheckBox):
            box.connect("toggled(bool)", self.apply)
        ui.sideBySideButton.connect("toggled(bool)", self.side_by_side)
        self._enable(False)
