"""The self test: one scenario for each section of the panel, by its own widgets, with the bundled model and case."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import slicer

from .parameters import Composite, Where

SAMPLE = "LRPExplainDemo"
_PATIENCE = 180.0  # seconds; a slow machine loads PyTorch and explains the case in a tenth of it


class Scenarios:
    """Mixed into the module's test class. Nothing here opens a dialog, and nothing waits longer than it must."""

    assertEqual: Callable[..., None]
    assertTrue: Callable[..., None]
    assertFalse: Callable[..., None]
    assertIn: Callable[..., None]
    assertIs: Callable[..., None]
    assertGreater: Callable[..., None]
    fail: Callable[..., None]

    def test_model(self) -> None:
        """Model: one line says what it is, and what is wrong with a path that leads nowhere."""
        widget, panel = self._opened()
        panel.model.choose("/nowhere/model.ts")
        self.assertIn("nothing at this path", widget.ui.modelSummaryLabel.text)
        widget.ui.demoModelButton.click()
        if panel.logic.missingPackages():
            self.assertIn("Explain asks before it installs", widget.ui.modelSummaryLabel.text)
            return
        self._wait(lambda: panel.model.facts is not None, "the model was not described")
        for word in ("Planted-lesion", "segmentation", "T1", "lesion"):
            self.assertIn(word, widget.ui.modelSummaryLabel.text)
        widget.ui.modelDetailsButton.click()
        self.assertIn("SHA-256", widget.ui.modelDetailsBrowser.toPlainText())

    def test_volumes(self) -> None:
        """Volumes: the loaded one is chosen by itself, the reference has its segment, and a removed one is noticed."""
        widget, panel = self._opened()
        volume, lesion = self._loaded()
        panel.volumes.fill()
        self.assertEqual(panel.volumes.nodes, [volume])
        widget.ui.referenceSelector.setCurrentNode(lesion)
        self.assertIs(panel.parameters.referenceSegmentation, lesion)
        segment = lesion.GetSegmentation().GetNthSegmentID(0)
        widget.ui.referenceSelector.setCurrentSegmentID(segment)
        self.assertEqual(panel.parameters.referenceSegment, segment)
        slicer.mrmlScene.RemoveNode(volume)
        self.assertEqual(panel.volumes.nodes, [None])
        self.assertFalse(widget.ui.explainButton.enabled)

    def test_question(self) -> None:
        """Question: the model's classes are offered, and the selector that the chosen place needs."""
        widget, panel = self._opened()
        ui, parameters = widget.ui, panel.parameters
        for where, selector in (
            (Where.SEGMENT, ui.segmentSelector),
            (Where.ROI, ui.roiSelector),
            (Where.POINTS, ui.pointsSelector),
        ):
            parameters.where = where
            shown = [s for s in (ui.segmentSelector, ui.roiSelector, ui.pointsSelector) if not s.isHidden()]
            self.assertEqual(shown, [selector])
        parameters.where = Where.PREDICTION
        if not panel.logic.missingPackages():
            self._wait(lambda: panel.model.facts is not None, "the model was not described")
            ui.targetComboBox.setCurrentText("lesion")
            self.assertEqual(parameters.target, "lesion")
            self.assertEqual(panel.question.asked()["target"], "lesion")

    def test_method(self) -> None:
        """Method: every composite has its sentence, and a rule that is none is refused before anything runs."""
        widget, panel = self._opened()
        self._loaded()
        panel.volumes.fill()
        for composite in Composite:
            panel.parameters.composite = composite
            self.assertGreater(len(widget.ui.compositeDescriptionLabel.text), 20)
        widget.ui.rulesLineEdit.setText("input")
        widget.ui.explainButton.click()
        self.assertIn("LAYER=RULE", widget.ui.statusLabel.text)
        self.assertFalse(panel.run.running)

    def test_explain_and_cancel(self) -> None:
        """Explain: progress, the prediction, the map; Cancel ends a run at once and leaves nothing."""
        widget, panel = self._opened()
        volume, _lesion = self._loaded()
        if self._lacks_packages(panel):
            return
        before = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode")
        panel.volumes.fill()
        widget.ui.explainButton.click()
        self.assertTrue(panel.run.running)
        widget.ui.cancelButton.click()
        self.assertFalse(panel.run.running)
        self.assertEqual(slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode"), before)
        self._explain(widget, panel)
        self.assertIs(panel.display.nodes.volumes[0], volume)
        self.assertEqual(widget.ui.predictionTable.item(0, 0).text(), "lesion")
        composite = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSliceCompositeNode")
        self.assertEqual(composite.GetBackgroundVolumeID(), volume.GetID())

    def test_display(self) -> None:
        """Display: what the controls say is on the nodes at once, and the overlay goes without a trace."""
        widget, panel = self._opened()
        self._loaded()
        if self._lacks_packages(panel):
            return
        from ..display import read

        self._explain(widget, panel)
        ui, nodes = widget.ui, panel.display.nodes
        composite = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSliceCompositeNode")
        layer = slicer.vtkMRMLSliceCompositeNode.Layer_Last
        ui.opacitySlider.value = 30
        ui.thresholdSlider.value = 60
        ui.hotSpotsCheckBox.click()
        self.assertEqual(round(composite.GetNthLayerOpacity(layer), 3), 0.3)
        self.assertEqual(read(nodes), panel.display.display())
        ui.overlayCheckBox.click()
        self.assertFalse(composite.GetNthLayerVolumeID(layer))
        ui.overlayCheckBox.click()
        self.assertTrue(composite.GetNthLayerVolumeID(layer))

    def test_findings(self) -> None:
        """Findings: the lesion is the first hot spot; a click on it brings the slices there; the account closes."""
        widget, panel = self._opened()
        volume, lesion = self._loaded()
        if self._lacks_packages(panel):
            return
        widget.ui.referenceSelector.setCurrentNode(lesion)
        self._explain(widget, panel)
        panel.findings.compute()
        ui, first = widget.ui, panel.findings.found.hot_spots[0]
        self.assertEqual(first.segment, "lesion")
        self.assertEqual(ui.sharesTable.item(0, 0).text(), "lesion")
        self.assertIn("closes", ui.ledgerLabel.text)
        panel.findings.go_to(0)
        slices = slicer.util.getNodesByClass("vtkMRMLSliceNode")
        red = next(node for node in slices if node.GetLayoutName() == "Red")
        self.assertTrue(abs(red.GetSliceToRAS().GetElement(2, 3) - first.place[2]) < max(volume.GetSpacing()))
        self.assertIn("hot spot 1", ui.readoutLabel.text)

    def test_concepts(self) -> None:
        """Concepts: the layers are offered; a click on a channel shows its map, another click the whole one again."""
        widget, panel = self._opened()
        self._loaded()
        if self._lacks_packages(panel):
            return
        from ..concepts import facts_of

        ui, layer = widget.ui, slicer.vtkMRMLSliceCompositeNode.Layer_Last
        self._explain(widget, panel)
        whole = panel.display.nodes.relevance[0]
        ui.conceptsCollapsibleButton.collapsed = False
        self._wait(lambda: ui.layerComboBox.count > 1, "no layers were offered")
        ui.layerComboBox.currentIndex = 1
        ui.conceptsSpinBox.value = 2
        ui.findConceptsButton.click()
        self.assertTrue(panel.concepts.running)
        self._wait(lambda: not panel.concepts.running, "the concepts were not found")
        self.assertEqual(ui.conceptsStatusLabel.text, "")
        self.assertEqual(ui.conceptsTable.rowCount, 2)
        self.assertTrue(facts_of(whole)["ledger"]["relative_gap"] < 1e-4)
        composite = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSliceCompositeNode")
        self.assertEqual(composite.GetNthLayerVolumeID(layer), whole.GetID())
        panel.concepts.choose(1)
        part = panel.display.nodes.relevance[0]
        self.assertIn("channel", part.GetName())
        self.assertEqual(composite.GetNthLayerVolumeID(layer), part.GetID())
        ui.wholeMapButton.click()
        self.assertEqual(composite.GetNthLayerVolumeID(layer), whole.GetID())

    def test_side_by_side(self) -> None:
        """Side by side: a layout with and without relevance, and the user's own again."""
        widget, panel = self._opened()
        _volume, lesion = self._loaded()
        if self._lacks_packages(panel):
            return
        widget.ui.referenceSelector.setCurrentNode(lesion)
        self._explain(widget, panel)
        layout = slicer.app.layoutManager().layoutLogic().GetLayoutNode() if slicer.app.layoutManager() else None
        if layout is None:  # Slicer without a main window has no layout
            return
        own = layout.GetViewArrangement()
        widget.ui.sideBySideButton.click()
        self.assertTrue(layout.GetViewArrangement() != own)
        widget.ui.sideBySideButton.click()
        self.assertEqual(layout.GetViewArrangement(), own)

    def test_trust(self) -> None:
        """Trust: a check has its verdict, table and plot, which the views show on request; the record is written."""
        widget, panel = self._opened()
        _volume, lesion = self._loaded()
        if self._lacks_packages(panel):
            return
        ui = widget.ui
        ui.referenceSelector.setCurrentNode(lesion)
        self._explain(widget, panel)
        for button in (ui.agreementButton, ui.complexityButton):
            button.click()
            self._wait(lambda: not panel.trust.running, "the check did not end")
            self.assertEqual(ui.trustStatusLabel.text, "")
        self.assertIn("far more than by chance", ui.verdictLabel.text)
        self.assertIn("Complexity", ui.verdictLabel.text)
        for name in ("agreement", "agreement over thresholds", "complexity"):
            self.assertGreater(panel.display.nodes.tables[name].GetNumberOfRows(), 0)
        layout = slicer.app.layoutManager().layoutLogic().GetLayoutNode() if slicer.app.layoutManager() else None
        if layout is None:  # Slicer without a main window has no views to show them in
            return
        own = layout.GetViewArrangement()
        ui.resultsComboBox.setCurrentIndex(ui.resultsComboBox.findText("Plot: agreement over thresholds"))
        ui.showResultButton.click()
        self.assertTrue(layout.GetViewArrangement() != own)
        ui.showResultButton.click()
        self.assertEqual(layout.GetViewArrangement(), own)
        with tempfile.TemporaryDirectory() as folder:
            panel.trust.write_record(Path(folder) / "record.html")
            self._wait(lambda: not panel.trust.running, "the record was not written")
            self.assertIn("record.html", ui.trustStatusLabel.text)
            page = (Path(folder) / "record.html").read_text(encoding="utf-8")
            self.assertIn("Agreement with the expert", page)
            self.assertEqual(page.count("<img "), 3)  # the slices: the 3D view has no relevance in it

    # --- steps ------------------------------------------------------------------------------------------------------

    def _opened(self) -> tuple[Any, Any]:
        """The module's widget and its panel, as a user finds them in a new scene."""
        widget = slicer.util.getModuleWidget("LRPExplain")
        widget.enter()
        widget.ui.rulesLineEdit.setText("")
        widget.ui.demoModelButton.click()
        return widget, widget.panel

    def _loaded(self) -> tuple[Any, Any]:
        import SampleData

        volume, lesion = SampleData.SampleDataLogic().downloadSamples(SAMPLE)
        return volume, lesion

    def _lacks_packages(self, panel: Any) -> bool:
        """Without PyTorch there is nothing to run; `test_model` sees that the panel says so."""
        return bool(panel.logic.missingPackages())

    def _explain(self, widget: Any, panel: Any) -> None:
        panel.volumes.fill()
        widget.ui.explainButton.click()
        self._wait(lambda: not panel.run.running, "the explanation did not end")
        self.assertEqual(widget.ui.statusLabel.text, "")

    def _wait(self, reached: Callable[[], bool], otherwise: str) -> None:
        """Handle events until it is so."""
        end = time.monotonic() + _PATIENCE
        while not reached():
            slicer.app.processEvents()
            time.sleep(0.01)
            if time.monotonic() > end:
                self.fail(otherwise)
