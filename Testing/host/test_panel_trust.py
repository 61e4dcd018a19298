"""The section "Trust" by clicks: checked, compared, recorded, cancelled, and what it says when it cannot."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import slicer
from LRPExplainLib.errors import UserError
from LRPExplainLib.reporting.record import Record
from LRPExplainLib.scene import photographs
from LRPExplainLib.scene.layout import PAIRS

from host import dialogs
from host.hands import Person
from host.stalls import held


def maps() -> list[str]:
    nodes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    return [node.GetName() for node in nodes if node.GetAttribute("LRPExplain.Role") == "relevance"]


def composite(view: str) -> str:
    """The map in a view's overlay layer."""
    nodes = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    return str(next(node for node in nodes if node.GetLayoutName() == view).GetNthLayerVolumeID(3))


def test_checks_another_method_and_the_record(
    with_small_model: Person, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = with_small_model
    person.widget.panel.volumes.nodes[0].SetName("Doe^Jane: T1")
    ui, host, trust = person.ui, person.host, person.widget.panel.trust
    assert not ui.faithfulnessButton.enabled
    person.explain()
    person.open(ui.trustCollapsibleButton)
    assert ui.faithfulnessButton.enabled
    assert not ui.agreementButton.enabled  # nobody has drawn a reference
    assert not ui.dicomButton.enabled  # the volume is from no series

    person.click(ui.sanityButton)
    person.click(ui.trustCancelButton)
    host.wait(lambda: ui.sanityButton.enabled, 1)
    assert ui.trustStatusLabel.text == "Cancelled."
    assert not ui.verdictLabel.text

    def check() -> None:
        for button, word in ((ui.faithfulnessButton, "Faithfulness: "), (ui.sanityButton, "Sanity: ")):
            person.click(button)
            host.wait(lambda: not trust.running, 120)
            assert not ui.trustStatusLabel.text
            assert word in ui.verdictLabel.text

    assert not held(check, 100)
    assert "Faithfulness: " in ui.verdictLabel.text  # the first check is still there

    host.choose(ui.otherMethodComboBox, "grad-cam")
    person.click(ui.compareButton)
    host.wait(lambda: not trust.running, 60)
    assert "grad-cam: rank correlation" in ui.trustStatusLabel.text
    assert len(maps()) == 4  # with the other method's, the consensus and the combination
    assert {"Table: comparison", "Plot: perturbation curves"} <= {
        ui.resultsComboBox.itemText(n) for n in range(ui.resultsComboBox.count)
    }

    assert composite("Red") == person.widget.panel.display.nodes.relevance[0].GetID()
    other = next(name for name in maps() if name.endswith("by grad-cam"))
    host.choose(ui.besideSelector, other)
    person.click(ui.sideBySideButton)
    (above,) = {composite("Red"), composite("Green"), composite("Yellow")}
    assert slicer.mrmlScene.GetNodeByID(above).GetName() == other
    person.click(ui.sideBySideButton)
    assert composite("Red") == person.widget.panel.display.nodes.relevance[0].GetID()

    drawn: list[int] = []
    write = photographs.write_window

    def note(window: Any, path: Path) -> Path:
        drawn.append(slicer.app.layoutManager().sliceWidget("Red").sliceView().cornerAnnotation().GetVisibility())
        return write(window, path)

    monkeypatch.setattr(photographs, "write_window", note)
    dialogs.dialogs.paths = [str(tmp_path / "case 1.2")]
    person.click(ui.recordButton)
    host.wait(lambda: not trust.running, 60)
    assert "case 1.2.html" in ui.trustStatusLabel.text
    assert "How far to trust it" in (tmp_path / "case 1.2.html").read_text(encoding="utf-8")
    # the volume's name may be a patient's: it is in files and sentences, and in no record
    for written in (tmp_path / "case 1.2.html", tmp_path / "case 1.2.json"):
        assert "Doe^Jane" not in written.read_text(encoding="utf-8")
        assert "volume-1.nrrd" in written.read_text(encoding="utf-8")
    assert not drawn[0]

    slicer.mrmlScene.Clear(0)  # another case: what was said of the last one must not stand there
    host.process()
    assert not ui.verdictLabel.text
    assert not ui.resultsComboBox.count


def test_the_verdict_on_agreement_says_when_the_reference_was_changed(with_small_model: Person, tmp_path: Path) -> None:
    person = with_small_model
    ui, host, panel = person.ui, person.host, person.widget.panel
    volume = panel.volumes.nodes[0]
    labels = np.zeros((16, 16, 16), np.uint8)
    labels[4:8, 4:8, 4:8] = 1
    drawn = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "drawn")
    drawn.CreateDefaultDisplayNodes()
    segment = drawn.GetSegmentation().AddEmptySegment("tumour", "tumour")

    def draw(part: slice) -> None:
        labels[part] = 1 - labels[part]
        slicer.util.updateSegmentBinaryLabelmapFromArray(labels, drawn, segment, volume)
        host.wait(lambda: not panel.findings.pending, 20)

    def remarks(name: str) -> list[str]:
        panel.trust.write_record(tmp_path / name)
        host.wait(lambda: not panel.trust.running, 60)
        assert f"The record is {tmp_path / name}" in ui.trustStatusLabel.text
        record = Record.load(tmp_path / name)
        assert "agreement" in record.facts["evaluation"]["checks"]
        told = record.facts.get("remarks", [])
        assert all(remark in (tmp_path / name).read_text() for remark in told)
        return told

    draw(slice(8, 9))
    person.explain()
    ui.referenceSelector.setCurrentNode(drawn)
    person.open(ui.trustCollapsibleButton)
    person.click(ui.agreementButton)
    host.wait(lambda: not panel.trust.running, 60)
    assert "Agreement with tumour" in ui.verdictLabel.text
    assert "The reference is not as it was" not in ui.verdictLabel.text
    assert remarks("as checked.html") == []
    draw(slice(10, 11))
    assert "The reference is not as it was" in ui.verdictLabel.text
    (remark,) = remarks("edited.html")
    assert "edited after agreement with it was measured" in remark
    draw(slice(10, 11))  # back
    assert "The reference is not as it was" not in ui.verdictLabel.text
    ui.referenceSelector.setCurrentNode(None)  # what was checked is asked for, whatever is chosen now
    assert remarks("back.html") == []
    draw(slice(10, 11))
    assert remarks("edited again.html") == [remark]
    ui.referenceSelector.setCurrentNode(drawn)
    slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    slicer.mrmlScene.Clear(0)
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    host.wait(lambda: not panel.findings.pending, 20)
    assert "The reference is not as it was" in ui.verdictLabel.text
    person.explain()
    assert not ui.verdictLabel.text


def test_a_place_that_holds_something_else_is_said(with_small_model: Person, tmp_path: Path) -> None:
    person = with_small_model
    trust = person.widget.panel.trust
    person.explain()
    (tmp_path / "mine.html").write_text("my own page")
    trust.write_record(tmp_path / "mine.html")
    person.host.wait(lambda: not trust.running, 60)
    assert "is there and no record: choose another name" in person.ui.trustStatusLabel.text
    assert (tmp_path / "mine.html").read_text() == "my own page"


def test_a_check_of_a_volume_that_was_changed_is_refused(with_small_model: Person) -> None:
    person = with_small_model
    person.explain()
    (volume,) = person.widget.panel.display.nodes.volumes
    voxels: Any = slicer.util.arrayFromVolume(volume)
    voxels[0, 0, 0] += 1
    slicer.util.arrayFromVolumeModified(volume)
    person.explain()  # the file of the first content goes
    first = next(node for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") if node.GetName() == maps()[0])
    person.ui.relevanceSelector.setCurrentNode(first)
    person.open(person.ui.trustCollapsibleButton)
    person.click(person.ui.complexityButton)
    assert "changed since it was explained: explain it again" in person.ui.trustStatusLabel.text
    assert not person.widget.panel.trust.running


def test_scripts_check_compare_and_record_without_the_panel(with_small_model: Person, tmp_path: Path) -> None:
    logic = with_small_model.widget.logic
    (volume,) = with_small_model.widget.panel.volumes.nodes
    nodes = logic.explain(volume, tmp_path / "small.ts")
    facts = logic.evaluate(nodes, ["complexity"])
    assert nodes.tables["complexity"].GetNumberOfRows() == len(facts["checks"]["complexity"])
    assert logic.compare(nodes, "grad-cam")["explanations"][1]["method"] == "grad-cam"
    assert logic.record(nodes, tmp_path / "case.html") == [str(tmp_path / "case.html"), str(tmp_path / "case.json")]


def test_a_map_that_is_deleted_while_it_is_checked_ends_the_check(with_small_model: Person) -> None:
    person = with_small_model
    person.explain()
    person.open(person.ui.trustCollapsibleButton)
    person.click(person.ui.sanityButton)
    slicer.mrmlScene.RemoveNode(person.widget.panel.display.nodes.relevance[0])
    assert not person.widget.panel.trust.running
    assert not [node for node in slicer.util.getNodesByClass("vtkMRMLTableNode") if "sanity" in node.GetName()]


def test_a_script_that_waits_is_told_when_a_person_asks_for_something_else(with_small_model: Person) -> None:
    from LRPExplainLib.scene.process import later  # which only Slicer can

    person = with_small_model
    person.explain()
    nodes = person.widget.panel.display.nodes
    later(0.05, lambda: person.click(person.ui.explainButton))
    with pytest.raises(UserError, match="taken the place"):
        person.widget.logic.evaluate(nodes, ["sanity"])
    person.wait_for_the_end(60)
    assert not person.said()


def test_the_records_pictures_are_of_the_views_that_show_relevance(
    with_small_model: Person, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = with_small_model
    person.explain()
    nodes = person.widget.panel.display.nodes
    assert set(photographs.photograph(nodes, tmp_path / "four-up")) == {"axial", "sagittal", "coronal"}
    person.click(person.ui.volumeRenderingCheckBox)  # only then does the 3D view show relevance
    assert set(photographs.photograph(nodes, tmp_path / "with 3D")) == {"axial", "sagittal", "coronal", "3d"}
    slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView)
    assert set(photographs.photograph(nodes, tmp_path / "one")) == {"axial"}

    drawn = []

    def draw(view: Any, path: Path) -> Path:
        node = view.mrmlSliceNode()
        drawn.append(node.GetLayoutName())
        assert node.GetOrientationMarkerType() == node.OrientationMarkerTypeAxes
        return path

    monkeypatch.setattr(photographs, "_write", draw)
    person.click(person.ui.sideBySideButton)
    photographs.photograph(nodes, tmp_path / "beside")
    assert sorted(drawn) == ["Green+", "Red+", "Yellow+"]
    views = slicer.util.getNodesByClass("vtkMRMLSliceNode")
    assert {node.GetOrientationMarkerType() for node in views} == {views[0].OrientationMarkerTypeNone}
    with monkeypatch.context() as without_main_window:
        without_main_window.setattr(slicer, "app", SimpleNamespace(layoutManager=lambda: None))
        assert photographs.photograph(nodes, tmp_path / "none") == {}


def test_a_scene_saved_side_by_side_is_shown_so_by_slicer_when_it_starts_anew(
    with_small_model: Person, tmp_path: Path
) -> None:
    person = with_small_model
    person.explain()
    person.open(person.ui.displayCollapsibleButton)
    person.click(person.ui.sideBySideButton)
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    slicer.mrmlScene.Clear(0)
    node = slicer.app.layoutManager().layoutLogic().GetLayoutNode()
    node.SetViewArrangement(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
    person.host.process()
    assert not person.ui.sideBySideButton.checked

    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    person.host.wait(lambda: person.ui.sideBySideButton.checked, 20)
    views = slicer.util.getNodesByClass("vtkMRMLSliceNode")
    shown = {view.GetLayoutName() for view in views if view.IsMappedInLayout()}
    assert shown == {*PAIRS, *PAIRS.values()}
    (relevance,) = {composite(name) for name in PAIRS.values()}
    assert {composite(name) for name in PAIRS} == {"None"}
    assert slicer.mrmlScene.GetNodeByID(relevance).GetAttribute("LRPExplain.Role") == "relevance"
    person.click(person.ui.sideBySideButton)
    assert node.GetViewArrangement() == slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView
