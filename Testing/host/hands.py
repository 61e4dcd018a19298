"""A person at the panel of LRPExplain: clicks, and what can be seen afterwards."""

from __future__ import annotations

import contextlib
from typing import Any

import psutil
import slicer
from PySide6 import QtWidgets

from .host import Host
from .pythonqt import unwrap

SAMPLE = "LRPExplainDemo"
_TOLD_BY_THEIR_LABEL = (QtWidgets.QLabel, QtWidgets.QAbstractScrollArea)
_TYPES = ("QComboBox", "QCheckBox", "QToolButton", "QPushButton", "QLineEdit", "QDoubleSpinBox", "ctkSliderWidget",
          "ctkDoubleSpinBox", "ctkPathLineEdit", "qMRMLNodeComboBox", "qMRMLSegmentSelectorWidget")  # fmt: skip


class Person:
    """Uses the panel only by what it shows; ``clicks`` counts the mouse clicks."""

    def __init__(self, host: Host, widget: Any) -> None:
        self.host, self.widget, self.ui = host, widget, widget.ui
        self.clicks = 0

    def load_sample(self) -> list[Any]:
        """The bundled demo case by Sample Data: its volume and its segmentation."""
        import SampleData

        nodes = SampleData.SampleDataLogic().downloadSamples(SAMPLE)
        self.host.process()
        return nodes

    def click(self, target: Any) -> None:
        self.clicks += 1
        self.host.click(target)

    def open(self, button: Any) -> None:
        """Open a folded part of the panel, if it is not open."""
        if button.collapsed:
            self.click(button)

    def open_all(self) -> None:
        for button in self.widget.parent.findChildren(type(self.ui.modelCollapsibleButton)):
            if button.visible:
                self.open(button)

    def click_row(self, table: Any, row: int) -> None:
        self.clicks += 1
        self.host.click_cell(table, row)

    def slide(self, slider: Any, value: float) -> None:
        self.clicks += 1
        self.host.type(slider, str(value))

    def volume_selector(self) -> Any:
        """The selector of the first channel, which the panel makes itself."""

        def shown() -> list[Any]:
            found = self.widget.parent.findChildren(slicer.qMRMLNodeComboBox, "inputSelector1")
            return [each for each in found if each.visible]

        return self.host.wait(shown, 10)[0]

    def offered_volumes(self) -> list[str]:
        combo = unwrap(self.volume_selector()).findChild(QtWidgets.QComboBox)
        return [combo.itemText(n) for n in range(combo.count())]

    def choose_model(self, path: Any) -> None:
        """Type a path into the model's line, and wait until the panel has something to say of it."""
        before = self.ui.modelSummaryLabel.text
        self.host.type(self.ui.modelPathLineEdit, str(path))
        self.host.wait(lambda: self.ui.modelSummaryLabel.text != before, 30)

    def begin(self) -> None:
        """Press Explain as soon as it can be pressed."""
        self.host.wait(lambda: self.ui.explainButton.enabled, 30)
        self.click(self.ui.explainButton)

    def explain(self, seconds: float = 120) -> None:
        """Press Explain and wait for the map; AssertionError with the panel's own sentence if there is none."""
        self.begin()
        self.wait_for_the_end(seconds)
        assert not self.said(), self.said()

    def wait_for_the_end(self, seconds: float = 120) -> None:
        self.host.wait(lambda: not self.ui.cancelButton.enabled, seconds)
        self.host.process()

    def said(self) -> str:
        """The line below the buttons, if it is shown."""
        return self.ui.statusLabel.text if self.ui.statusLabel.visible else ""

    def first_hot_spot(self) -> tuple[float, float, float]:
        """Where the crosshair stands."""
        return slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode").GetCrosshairRAS()

    def opaque_share(self, colors: Any) -> float:
        """Which part of a colour table is drawn."""
        count = colors.GetNumberOfColors()
        return sum(colors.GetLookupTable().GetTableValue(n)[3] > 0 for n in range(count)) / count

    def views(self) -> dict[str, tuple[Any, ...]]:
        """What each slice view shows and how: layers, opacities, window, place and zoom."""
        result = {}
        nodes = {node.GetLayoutName(): node for node in slicer.util.getNodesByClass("vtkMRMLSliceNode")}
        for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
            layers = range(composite.Layer_Last + 1)
            node = nodes[composite.GetLayoutName()]
            volume = slicer.mrmlScene.GetNodeByID(composite.GetBackgroundVolumeID() or "")
            display = volume.GetDisplayNode() if volume else None
            matrix = node.GetSliceToRAS()
            result[composite.GetLayoutName()] = (
                tuple(composite.GetNthLayerVolumeID(n) or "" for n in layers),
                (display.GetWindow(), display.GetLevel()) if display else (),
                tuple(round(matrix.GetElement(r, c), 6) for r in range(3) for c in range(4)),
                tuple(round(each, 6) for each in node.GetFieldOfView()),
                slicer.app.layoutManager().layout,
            )
        return result

    def shown(self) -> tuple[Any, ...]:
        """The settings of the display section, and whether there is an overlay."""
        ui = self.ui
        return (
            ui.relevanceSelector.currentNode() is not None,
            ui.overlayCheckBox.checked,
            ui.colorMapComboBox.currentText,
            ui.signComboBox.currentText,
            ui.thresholdKindComboBox.currentText,
            round(ui.thresholdSlider.value, 3),
            round(ui.opacitySlider.value, 3),
            round(ui.clusterSpinBox.value, 3),
        )

    def without_tool_tip(self) -> list[str]:
        """Names of the widgets to be used that have no tool tip."""
        every = [getattr(self.ui, name) for name in vars(self.ui)]
        own = [each for each in every if each.className() in _TYPES and each.name and not each.name.startswith("qt_")]
        return [each.name for each in own if not each.toolTip and not isinstance(unwrap(each), _TOLD_BY_THEIR_LABEL)]


def workers() -> list[psutil.Process]:
    """The worker processes of this application that live."""
    result = []
    for each in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if any("LRPExplainLib" in part for part in each.cmdline()) and each.status() != psutil.STATUS_ZOMBIE:
                result.append(each)
    return result
