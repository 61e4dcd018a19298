"""Views that come later, and 3D views, show what there is to see."""

from __future__ import annotations

import gc
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
import vtk
from LRPExplainLib.scene import display, present, present_in_steps
from LRPExplainLib.scene.layout import LAYOUT, SINGLE_LAYOUT
from LRPExplainLib.scene.nodes import legend_of
from LRPExplainLib.scene.overlay import hide
from LRPExplainLib.scene.parts import parts_of
from LRPExplainLib.scene.record import linked
from scene.hand_built import LANDMARK, build, head

from host.hands import Person
from host.host import Host
from host.layout import qMRMLThreeDView
from host.pythonqt import invokable, unwrap
from host.test_panel_trust import composite


@pytest.fixture
def opened(host: Host, temporary: Path, tmp_path: Path) -> Any:
    """The panel with a map."""
    widget = host.open()
    widget.panel.display.on_result(present(build(tmp_path), scene=slicer.mrmlScene))
    widget.ui.displayCollapsibleButton.collapsed = False
    host.process()
    return widget


@pytest.mark.parametrize("layout", ["CompareView", "ThreeByThreeSliceView", "Dual3DView"])
def test_views_of_another_layout_have_the_overlay_and_the_legend(host: Host, opened: Any, layout: str) -> None:
    seen: list[Any] = []

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def note(_scene: Any, _event: str, node: Any) -> None:
        seen.append(node)

    tag = slicer.mrmlScene.AddObserver(slicer.mrmlScene.NodeAddedEvent, note)
    slicer.app.layoutManager().setLayout(getattr(slicer.vtkMRMLLayoutNode, f"SlicerLayout{layout}"))
    nodes = opened.panel.display.nodes
    legend = legend_of(nodes.legend)
    host.wait(lambda: legend in seen, 5)
    slicer.mrmlScene.RemoveObserver(tag)
    views = [node for node in seen if node.IsA("vtkMRMLAbstractViewNode")]
    assert views
    assert seen.index(legend) > max(seen.index(view) for view in views)
    for view in views:
        if view.IsA("vtkMRMLSliceNode"):
            assert composite(view.GetLayoutName()) == nodes.relevance[0].GetID()
    assert legend_of(nodes.legend) is legend


def segmentation(name: str) -> Any:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.GetSegmentation().AddEmptySegment(f"{name} segment")
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetVisibility2DOutline(False)
    return node


def drawn(node: Any) -> str:
    display = node.GetDisplayNode()
    return {(1, 0): "filled", (0, 1): "outlined"}[display.GetVisibility2DFill(), display.GetVisibility2DOutline()]


def test_the_reference_is_drawn_as_outlines_while_a_map_is_shown(host: Host, opened: Any) -> None:
    ui, mine, other = opened.ui, segmentation("mine"), segmentation("other")

    def choose(node: Any) -> None:
        ui.referenceSelector.setCurrentNode(node)
        host.process()

    choose(mine)
    assert (drawn(mine), drawn(other)) == ("outlined", "filled")
    choose(other)
    assert (drawn(mine), drawn(other)) == ("filled", "outlined")
    host.click(ui.overlayCheckBox)
    assert drawn(other) == "filled"
    choose(mine)
    assert drawn(mine) == "filled"
    host.click(ui.overlayCheckBox)
    assert (drawn(mine), drawn(other)) == ("outlined", "filled")
    relevance = ui.relevanceSelector.currentNode()
    for shown, reading in ((None, "filled"), (relevance, "outlined")):
        ui.relevanceSelector.setCurrentNode(shown)
        host.process()
        assert drawn(mine) == reading
    choose(None)
    assert drawn(mine) == "filled"


@pytest.mark.parametrize("shown", [True, False])
def test_a_reference_has_its_fill_back_after_side_by_side(host: Host, opened: Any, shown: bool) -> None:
    ui, mine = opened.ui, segmentation("mine")
    ui.referenceSelector.setCurrentNode(mine)
    host.process()
    if not shown:
        host.click(ui.overlayCheckBox)
    host.click(ui.sideBySideButton)
    assert drawn(mine) == "outlined"
    if shown:
        host.click(ui.overlayCheckBox)
        assert drawn(mine) == "filled"
    host.click(ui.sideBySideButton)
    assert drawn(mine) == "filled"


def test_another_frame_of_the_volume_is_told_at_once(host: Host, opened: Any) -> None:
    (volume,), ui = opened.panel.display.nodes.volumes, opened.ui
    ui.findingsCollapsibleButton.collapsed = False
    opened.panel.findings.compute()
    assert "are not those that were explained" not in ui.warningsLabel.text
    voxels = slicer.util.arrayFromVolume(volume)
    before = voxels.copy()
    for frame, told in ((voxels[::-1].copy(), True), (before, False)):
        voxels[:] = frame
        slicer.util.arrayFromVolumeModified(volume)
        host.wait(lambda told=told: ("are not those that were explained" in ui.warningsLabel.text) is told, 20)


def test_the_findings_are_computed_again_for_what_they_depend_on_alone(
    host: Host, opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tables and charts that they are written to are linked to the map, of which MRML tells as of any change."""
    from LRPExplainLib import scene

    nodes, panel, computed = opened.panel.display.nodes, opened.panel, []
    examine = scene.findings_of
    monkeypatch.setattr(scene, "findings_of", lambda *about: (computed.append(about), examine(*about))[1])

    def settle() -> None:
        host.wait(lambda: not panel.findings.pending, 20)

    panel.findings.update()
    settle()
    assert len(nodes.charts) == 3
    assert len(computed) == 1
    nodes.relevance[0].SetAttribute("somebody's", "note")
    nodes.volumes[0].SetDescription("a note")
    settle()
    assert len(computed) == 1
    nodes.volumes[0].SetName("another name")
    settle()
    assert len(computed) == 2
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    nodes.volumes[0].SetAndObserveTransformNodeID(transform.GetID())
    settle()
    matrix = vtk.vtkMatrix4x4()
    matrix.SetElement(0, 3, 10.0)
    before = len(computed)
    transform.SetMatrixTransformToParent(matrix)
    settle()
    assert len(computed) == before + 1
    ui = opened.ui
    host.choose(ui.colorMapComboBox, "Purple and orange")
    ui.opacitySlider.value = 30
    for box in (ui.legendCheckBox, ui.overlayCheckBox, ui.overlayCheckBox):
        host.click(box)
    settle()
    assert len(computed) == before + 1
    ui.thresholdSlider.value = 60
    settle()
    assert len(computed) == before + 2


def test_the_findings_wait_for_what_is_being_presented(
    host: Host, opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be presented in the nodes of the map that they are of."""
    from LRPExplainLib.scene.session import Run

    panel, run = opened.panel, Run()
    run.presenting = iter(())
    session = panel.logic.session
    monkeypatch.setattr(session, "_presenting", [run])
    looked: list[int] = []
    monkeypatch.setattr(panel.findings, "_examine", lambda: looked.append(1))
    panel.findings.update()
    panel.findings._step()  # as its timer does
    assert not looked
    assert panel.findings.pending
    run.presenting = None
    host.wait(lambda: looked, 5)


def test_each_step_of_the_findings_has_its_turn(host: Host, opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from LRPExplainLib.scene.examination import SceneFindings
    from LRPExplainLib.scene.process import later

    panel, events, served = opened.panel, [], []

    def in_steps(_found: Any) -> Any:
        for n in range(3):
            later(0, lambda n=n: served.append(n))
            yield
            events.append(list(served))

    monkeypatch.setattr(SceneFindings, "in_steps", in_steps)
    panel.findings.update()
    host.wait(lambda: not panel.findings.pending, 20)
    assert events == [[0], [0, 1], [0, 1, 2]]
    assert opened.ui.hotSpotsTable.rowCount == len(panel.findings.found.hot_spots) > 0


def test_places_are_given_once_for_all_views_that_another_layout_gives_another_width(
    host: Host, opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from LRPExplainLib.scene import placing

    given: list[Any] = []
    place = placing.place
    monkeypatch.setattr(placing, "place", lambda scene: (given.append(scene), place(scene)))
    views = slicer.util.getNodesByClass("vtkMRMLSliceNode")
    for width in (200, 800):
        for view in views:
            view.SetMappedInLayout(1)
            view.SetDimensions(width, 300, 1)
    assert not given
    host.wait(lambda: given, 5)
    host.process()
    assert len(given) == 1


def test_side_by_side_the_mouse_reads_the_map_that_it_is_over(host: Host, opened: Any, tmp_path: Path) -> None:
    ui, panel = opened.ui, opened.panel
    nodes = panel.display.nodes
    (tmp_path / "other").mkdir()
    strong = build(tmp_path / "other")
    strong = replace(strong, relevance=tuple(image * 2 for image in strong.relevance))
    other = present(strong, nodes.volumes)
    panel.display.on_result(present(build(tmp_path), nodes.volumes))
    panel.findings.compute()
    host.click(ui.sideBySideButton)
    crosshair = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    name = other.relevance[0].GetName()

    def read(view: str) -> str:
        node = slicer.mrmlScene.GetSingletonNode(view, "vtkMRMLSliceNode")
        node.JumpSliceByOffsetting(*LANDMARK)
        to_view = vtk.vtkMatrix4x4()
        vtk.vtkMatrix4x4.Invert(node.GetXYToRAS(), to_view)
        crosshair.SetCursorPositionXYZ(to_view.MultiplyPoint((*LANDMARK, 1.0))[:3], node)
        return str(ui.readoutLabel.text)

    def value(text: str) -> float:
        return float(text.split("Relevance ")[1].split(",")[0].rstrip("."))

    alone = read("Red")
    assert alone == read("Red+")
    ui.besideSelector.setCurrentNode(other.relevance[0])
    assert read("Red+") == alone
    above = read("Red")
    assert above.startswith(f"{name}: Relevance ")
    assert value(above) == pytest.approx(2 * value(alone), rel=0.01)
    ui.besideSelector.setCurrentNode(None)
    assert read("Red") == alone


def test_the_map_is_read_at_once_where_the_mouse_rests(host: Host, opened: Any) -> None:
    crosshair = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    node = slicer.mrmlScene.GetSingletonNode("Red", "vtkMRMLSliceNode")
    node.JumpSliceByOffsetting(*LANDMARK)
    to_view = vtk.vtkMatrix4x4()
    vtk.vtkMatrix4x4.Invert(node.GetXYToRAS(), to_view)
    crosshair.SetCursorPositionXYZ(to_view.MultiplyPoint((*LANDMARK, 1.0))[:3], node)
    opened.panel.findings.compute()  # with nobody moving the mouse
    assert opened.ui.readoutLabel.text.startswith("Relevance ")
    crosshair.SetCursorPositionInvalid()
    opened.panel.findings.compute()
    assert opened.ui.readoutLabel.text.startswith("Move the mouse")


def test_a_map_that_is_chosen_after_another_was_deleted_is_shown(host: Host, opened: Any, tmp_path: Path) -> None:
    ui, panel = opened.ui, opened.panel
    earlier = panel.display.nodes
    panel.display.on_result(present(build(tmp_path), earlier.volumes))
    slicer.mrmlScene.RemoveNode(panel.display.nodes.relevance[0])
    host.process()
    assert (ui.relevanceSelector.currentNode(), composite("Red")) == (None, "None")
    ui.relevanceSelector.setCurrentNode(earlier.relevance[0])
    assert composite("Red") == earlier.relevance[0].GetID()
    assert ui.overlayCheckBox.checked
    host.click(ui.overlayCheckBox)
    slicer.mrmlScene.RemoveNode(earlier.relevance[0])
    host.process()
    again = present(build(tmp_path), earlier.volumes)
    hide(again)
    ui.relevanceSelector.setCurrentNode(again.relevance[0])
    assert (composite("Red"), ui.overlayCheckBox.checked) == ("None", False)  # who does not want it sees none


def test_a_table_is_shown_until_another_layout_is_chosen(host: Host, opened: Any) -> None:
    ui, manager, kinds = opened.ui, slicer.app.layoutManager(), slicer.vtkMRMLLayoutNode
    opened.panel.findings.compute()
    ui.trustCollapsibleButton.collapsed = False
    host.process()
    table, mine = kinds.SlicerLayoutFourUpTableView, kinds.SlicerLayoutOneUpRedSliceView

    def state() -> tuple[int, bool, bool]:
        host.process()
        return manager.layout, bool(ui.showResultButton.checked), bool(ui.sideBySideButton.checked)

    host.click(ui.showResultButton)
    assert state() == (table, True, False)
    manager.setLayout(mine)
    assert state() == (mine, False, False)
    for expected in ((table, True, False), (mine, False, False), (table, True, False)):
        host.click(ui.showResultButton)
        assert state() == expected
    for _again in range(2):
        host.click(ui.sideBySideButton)
        assert state() == (LAYOUT, False, True)
        host.click(ui.sideBySideButton)
        assert state() == (mine, False, False)
        host.click(ui.showResultButton)
        assert state() == (table, True, False)
    host.click(ui.sideBySideButton)
    host.click(ui.showResultButton)
    assert state() == (table, True, False)
    host.click(ui.showResultButton)
    assert state() == (mine, False, False)


def test_a_fill_that_the_user_brings_back_stays(host: Host, opened: Any) -> None:
    mine = segmentation("mine")
    opened.ui.referenceSelector.setCurrentNode(mine)
    host.process()
    mine.GetDisplayNode().SetVisibility2DFill(True)
    opened.ui.opacitySlider.value = 30
    opened.panel.refresh()
    host.process()
    assert mine.GetDisplayNode().GetVisibility2DFill()


@pytest.mark.parametrize("deleted", [False, True])
def test_a_map_without_hot_spots_points_to_the_volume_that_counts(
    host: Host, opened: Any, tmp_path: Path, deleted: bool
) -> None:
    """The first of several volumes is shown at first, be it of no relevance at all."""
    explanation = build(tmp_path, [head(), head()])
    shares = {"in_volume_by_input": [0.0, 12.0]}
    explanation = replace(
        explanation,
        relevance=(explanation.relevance[0] * 0, explanation.relevance[1]),
        ledger=explanation.ledger | shares,
    )
    nodes = present(explanation, scene=slicer.mrmlScene)
    opened.panel.display.on_result(nodes)
    if deleted:
        slicer.mrmlScene.RemoveNode(nodes.relevance[1])
        host.process()
    opened.panel.findings.compute()
    said = opened.ui.hotSpotsLabel.text
    assert said.startswith("No relevance above the threshold")
    assert ("in that of scan2," in said) != deleted
    findings = unwrap(opened.ui.findingsCollapsibleButton)
    findings.setChecked(True)
    assert findings.minimumSizeHint().width() <= 400  # a longer line would take the views' room
    if not deleted:
        opened.ui.relevanceSelector.setCurrentNode(nodes.relevance[1])
        opened.panel.findings.compute()
        assert opened.ui.hotSpotsTable.rowCount


@pytest.mark.parametrize("with_a_model", [False, True])
def test_3d_views_are_centred_once_if_nothing_else_is_in_them(
    host: Host, opened: Any, monkeypatch: pytest.MonkeyPatch, with_a_model: bool
) -> None:
    centred: list[str] = []

    @invokable
    def centre(view: Any) -> None:
        centred.append(view.mrmlViewNode().GetLayoutName())

    monkeypatch.setattr(qMRMLThreeDView, "resetCamera", centre)
    if with_a_model:
        sphere = vtk.vtkSphereSource()
        sphere.Update()
        model = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLModelNode")
        model.SetAndObservePolyData(sphere.GetOutput())
        model.CreateDefaultDisplayNodes()
    for on in (True, False, True):
        opened.ui.volumeRenderingCheckBox.checked = on
        host.process()
    assert centred == ([] if with_a_model else ["1"])
    for layout in ("Dual3DView", "FourUpView", "Dual3DView"):  # the second view of it is new
        slicer.app.layoutManager().setLayout(getattr(slicer.vtkMRMLLayoutNode, f"SlicerLayout{layout}"))
        host.process()
    assert centred == ([] if with_a_model else ["1", "2"])


def test_a_channel_is_shown_by_the_input_of_its_whole(opened: Any, host: Host, tmp_path: Path) -> None:
    explanation = build(tmp_path, [head(), head()])
    whole = present(explanation, scene=slicer.mrmlScene)
    opened.panel.display.on_result(whole)
    opened.ui.relevanceSelector.setCurrentNode(whole.relevance[1])
    concept = {"layer": "mid", "part": "channel", "channel": 7, "rank": 1, "share": 0.5}
    of_channel = replace(explanation, target=explanation.target | {"concept": concept})
    for _step in present_in_steps(of_channel, whole.volumes, whole=whole):
        pass
    (part,) = parts_of(whole.relevance[0])
    entry = {"rank": 1, "channel": 7, "share": 0.5, "peak": {"input": 1, "ras": [0.0, 0.0, 0.0]}}
    account = {"in_volume": 1.0, "other_channels": 0.0, "not_through": 0.0, "absorbed": 0.0}
    facts = {"layer": "mid", "target_value": 1.0, "ledger": account, "concepts": [entry]}
    whole.relevance[0].SetAttribute("LRPExplain.Concepts", json.dumps(facts))
    opened.panel.concepts.update()
    opened.panel.concepts.choose(0)
    host.process()
    assert opened.panel.parameters.relevance is linked(part, "relevance")[1]
    opened.panel.concepts.back()
    assert opened.panel.parameters.relevance is whole.relevance[1]


def test_of_several_volumes_the_one_with_most_relevance_is_selected(opened: Any, tmp_path: Path) -> None:
    ledger = {"target_value": 12.5, "absolute_share_by_input": [0.2, 0.8], "in_volume_by_input": [2.5, 10.0]}
    shown = present(build(tmp_path, [head(), head()], ledger=ledger), scene=slicer.mrmlScene)
    opened.panel.display.on_result(shown)
    assert opened.panel.parameters.relevance is shown.relevance[1]
    assert composite("Red") == shown.relevance[1].GetID()


def test_a_deleted_map_is_let_go(host: Host, opened: Any) -> None:
    """The panel must not keep its voxels until the scene is closed."""
    panel = opened.panel
    panel.findings.compute()
    known = vtk.vtkWeakReference()
    known.Set(panel.display.nodes.relevance[0])
    slicer.mrmlScene.RemoveNode(known.Get())
    host.wait(lambda: panel.display.nodes is None and not panel.findings.pending, 10)
    for section in panel.sections:
        assert known.Get() not in [each[0] for each in section.Observations]
    gc.collect()
    held = [each for each in gc.get_referrers(known.Get()) if isinstance(each, dict)] if known.Get() else []
    assert not [each for each in held if known.Get() in each]  # as a key: of what is observed


def test_regions_of_a_map_are_found_while_the_threshold_moves_on(
    host: Host, opened: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which takes a second of a large map of noise: nothing waits for a threshold that is left already."""
    nodes = present(build(tmp_path), scene=slicer.mrmlScene)
    opened.panel.display.on_result(nodes)
    ui = opened.ui
    ui.clusterSpinBox.value = 0.5
    applied: list[float] = []
    apply = display.apply

    def note(nodes: Any, wanted: Any) -> None:
        applied.append(wanted.threshold)
        apply(nodes, wanted)

    monkeypatch.setattr(display, "apply", note)
    for threshold in (50, 60, 70):
        ui.thresholdSlider.value = threshold
    assert applied == []
    host.wait(lambda: applied, 20)
    assert applied == [70]
    assert display.read(nodes).threshold == 70
    assert nodes.relevance[0].GetAttribute("LRPExplain.Shown") == "1"
    ui.thresholdSlider.value = 60  # known by now
    ui.clusterSpinBox.value = 0
    assert applied[-1] == 60
    assert display.read(nodes).minimum_cluster_ml == 0


def test_a_single_coronal_slice_is_explained_and_stands_side_by_side(with_small_model: Person) -> None:
    """Of a volume of one voxel's depth, as SimpleITK cuts it: from Explain to two views, and back."""
    person = with_small_model
    ui, host = person.ui, person.host
    volume = slicer.util.addVolumeFromArray(np.random.default_rng(0).random((12, 1, 20)).astype(np.float32))
    volume.SetName("coronal")
    host.choose(person.volume_selector(), "coronal")
    person.explain()
    chosen = ui.relevanceSelector.currentNode()
    assert chosen.GetImageData().GetDimensions() == (20, 1, 12)
    assert composite("Green") == chosen.GetID()
    before = person.views()
    person.open(ui.displayCollapsibleButton)
    person.click(ui.sideBySideButton)
    assert slicer.app.layoutManager().layout == SINGLE_LAYOUT
    shown = {name: slicer.app.layoutManager().sliceWidget(name).mrmlSliceNode() for name in ("Red", "Yellow")}
    assert {node.GetOrientation() for node in shown.values()} == {"Coronal"}
    assert (composite("Red"), composite("Yellow")) == ("None", chosen.GetID())
    person.click(ui.sideBySideButton)
    assert person.views() == before
