"""Side by side: image and manual segmentation left, the same views with relevance right, and back."""

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
from hand_built import LANDMARK, build, head
from LRPExplainLib.scene import load, present, presented_in, save, side_by_side
from LRPExplainLib.scene.host import Application, vtk
from LRPExplainLib.scene.layout import LAYOUT, PAIRS, description, layout_node, register
from LRPExplainLib.scene.nodes import add_segmentation, add_volume, announce_legend, legend_of
from LRPExplainLib.scene.overlay import composites, hide, show, shown
from LRPExplainLib.scene.side_by_side import active, enter, leave, put_left

FOUR_UP = slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView


def manual(application: Application, volume: Any) -> Any:
    import SimpleITK as sitk

    labels = sitk.Cast(head() > 150, sitk.sitkUInt8)
    node = add_segmentation(application.scene, labels, [{"name": "background"}, {"name": "tumour"}], "manual")
    node.RemoveAttribute("LRPExplain.Role")
    return node


@pytest.fixture
def case(tmp_path: Path) -> Any:
    application = Application()
    volume = add_volume(application.scene, head(), "mine")
    layout_node(application.scene).SetViewArrangement(FOUR_UP)
    for composite in composites(application.scene):
        composite.SetBackgroundVolumeID(volume.GetID())
    nodes = present(build(tmp_path), [volume])
    return nodes, manual(application, volume)


def view(scene: Any, name: str) -> Any:
    return scene.GetSingletonNode(name, "vtkMRMLSliceNode")


def composite_of(scene: Any, name: str) -> Any:
    return next(node for node in composites(scene) if node.GetLayoutName() == name)


def relevance_in(scene: Any, name: str) -> bool:
    node = composite_of(scene, name)
    layers = [node.GetNthLayerVolume(3 + n) for n in range(node.GetNumberOfAdditionalLayers())]
    return any(layer is not None and layer.GetAttribute("LRPExplain.Role") == "relevance" for layer in layers)


def matrix(node: Any) -> np.ndarray:
    return np.array([[node.GetSliceToRAS().GetElement(r, c) for c in range(4)] for r in range(4)])


def layers_of(scene: Any, names: Any) -> set[str]:
    found = (composite_of(scene, name) for name in names)
    return {node.GetNthLayerVolumeID(3) or "" for node in found}


def test_another_map_can_stand_on_the_left(case: Any, tmp_path: Path) -> None:
    nodes, _reference = case
    (tmp_path / "other").mkdir()
    other = present(build(tmp_path / "other"), nodes.volumes)
    show(nodes)
    ours, theirs = nodes.relevance[0].GetID(), other.relevance[0].GetID()
    put_left(nodes.scene, other)  # nothing stands side by side yet: without effect
    enter(nodes)
    put_left(nodes.scene, other)
    assert (layers_of(nodes.scene, PAIRS), layers_of(nodes.scene, PAIRS.values())) == ({theirs}, {ours})
    put_left(nodes.scene, None)
    assert (layers_of(nodes.scene, PAIRS), layers_of(nodes.scene, PAIRS.values())) == ({""}, {ours})
    put_left(nodes.scene, other)
    leave(nodes.scene)
    assert layers_of(nodes.scene, PAIRS) == {ours}
    hide(nodes)
    enter(nodes)
    put_left(nodes.scene, other)
    leave(nodes.scene)
    assert layers_of(nodes.scene, PAIRS) == {""}


def test_relevance_is_on_the_right_alone_over_the_same_layers(case: Any) -> None:
    nodes, reference = case
    enter(nodes, reference, "class_1")
    assert active(nodes.scene)
    for left, right in PAIRS.items():
        assert (relevance_in(nodes.scene, left), relevance_in(nodes.scene, right)) == (False, True)
        one, two = composite_of(nodes.scene, left), composite_of(nodes.scene, right)
        assert one.GetBackgroundVolumeID() == two.GetBackgroundVolumeID() == nodes.volumes[0].GetID()
        assert two.GetNthLayerOpacity(3) == 0.5
        assert view(nodes.scene, left).GetOrientation() == view(nodes.scene, right).GetOrientation()
        for ours in (nodes.segmentation.GetDisplayNode(), nodes.legend.GetNthDisplayNode(1)):
            assert not ours.IsDisplayableInView(view(nodes.scene, left).GetID())
            assert ours.IsDisplayableInView(view(nodes.scene, right).GetID())
        theirs = reference.GetDisplayNode()
        assert theirs.IsDisplayableInView(view(nodes.scene, left).GetID())


@pytest.mark.parametrize("moved", ["left", "right"])
def test_both_sides_show_the_same_slice_at_the_same_zoom(case: Any, moved: str) -> None:
    nodes, _ = case
    enter(nodes)
    for left, right in PAIRS.items():
        sides = {"left": view(nodes.scene, left), "right": view(nodes.scene, right)}
        other = sides["right" if moved == "left" else "left"]
        mover = sides[moved]
        mover.SetDimensions(400, 300, 1)
        other.SetDimensions(800, 300, 1)
        mover.JumpSliceByOffsetting(*LANDMARK)
        mover.SetFieldOfView(100, 75, 1)
        mover.SetXYZOrigin(5, -7, 0)
        np.testing.assert_allclose(matrix(mover), matrix(other))
        assert mover.GetXYZOrigin() == other.GetXYZOrigin()
        assert mover.GetFieldOfView()[0] / 400 == pytest.approx(other.GetFieldOfView()[0] / 800)
        assert mover.GetFieldOfView()[1] == pytest.approx(other.GetFieldOfView()[1])
        mover.SetSliceToRASByNTP(0, 0.6, 0.8, 1, 0, 0, 10, 20, 30, 0)
        np.testing.assert_allclose(matrix(mover), matrix(other))


def test_what_slicer_does_to_a_view_that_is_new_does_not_move_the_users(
    case: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real Slicer fits the right views when they are first drawn; a second later they lead as well."""
    nodes, _ = case
    mine = view(nodes.scene, "Red")
    mine.JumpSliceByOffsetting(*LANDMARK)
    before = matrix(mine).copy()
    timers: list[Any] = []
    process = types.SimpleNamespace(later=lambda seconds, function: timers.append(function))
    monkeypatch.setitem(sys.modules, "LRPExplainLib.scene.process", process)
    enter(nodes)
    side_by_side._LINKS[id(nodes.scene)].stop()
    monkeypatch.setattr(side_by_side, "in_slicer", lambda: True)
    side_by_side._link(nodes.scene, side_by_side._pairs(nodes.scene, nodes.application))
    new = view(nodes.scene, PAIRS["Red"])
    new.SetSliceToRASByNTP(0, 0, 1, -1, 0, 0, 0, 0, 0, 0)
    np.testing.assert_allclose(matrix(mine), before)
    timers[0]()
    np.testing.assert_allclose(matrix(new), before)
    new.SetSliceOffset(3)
    np.testing.assert_allclose(matrix(mine), matrix(new))


def test_a_layer_that_the_user_changes_on_the_left_changes_on_the_right(case: Any) -> None:
    nodes, _ = case
    enter(nodes)
    other = add_volume(nodes.scene, head(), "other")
    left, right = composite_of(nodes.scene, "Red"), composite_of(nodes.scene, PAIRS["Red"])
    left.SetForegroundVolumeID(other.GetID())
    left.SetForegroundOpacity(0.3)
    assert (right.GetForegroundVolumeID(), right.GetForegroundOpacity()) == (other.GetID(), 0.3)
    assert relevance_in(nodes.scene, PAIRS["Red"])
    assert not relevance_in(nodes.scene, "Red")


def test_leaving_brings_everything_back(case: Any) -> None:
    nodes, reference = case
    composite_of(nodes.scene, "Red").SetLinkedControl(True)
    drawn = reference.GetDisplayNode()
    drawn.SetVisibility(False)
    drawn.SetVisibility2DFill(True)
    drawn.SetVisibility2DOutline(False)
    enter(nodes, reference, "class_1")
    assert drawn.GetVisibility()
    assert (drawn.GetVisibility2DFill(), drawn.GetVisibility2DOutline()) == (0, 1)  # a fill would hide the relevance
    leave(nodes.scene)
    assert not active(nodes.scene)
    assert layout_node(nodes.scene).GetViewArrangement() == FOUR_UP
    assert not drawn.GetVisibility()
    assert (drawn.GetVisibility2DFill(), drawn.GetVisibility2DOutline()) == (1, 0)
    assert [composite_of(nodes.scene, name).GetLinkedControl() for name in PAIRS] == [1, 0, 0]
    assert all(relevance_in(nodes.scene, name) for name in PAIRS)
    assert nodes.segmentation.GetDisplayNode().IsDisplayableInView("vtkMRMLSliceNodeRed")
    view(nodes.scene, "Red").SetFieldOfView(50, 50, 1)
    assert view(nodes.scene, PAIRS["Red"]).GetFieldOfView()[0] != 50
    leave(nodes.scene)
    assert layout_node(nodes.scene).GetViewArrangement() == FOUR_UP


def test_a_legend_is_announced_to_views_that_came_later(case: Any) -> None:
    nodes, _reference = case
    legend = legend_of(nodes.legend)
    colors, views = legend.GetColorNodeID(), nodes.legend.GetNumberOfDisplayNodes()
    came: list[Any] = []

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def note(_scene: Any, _event: str, node: Any) -> None:
        came.append(node)

    nodes.scene.AddObserver(nodes.scene.NodeAddedEvent, note)
    announce_legend(nodes.scene, nodes.legend)
    assert came == [legend]
    assert legend_of(nodes.legend) is legend
    assert nodes.legend.GetNumberOfDisplayNodes() == views
    assert (legend.GetColorNodeID(), legend.GetLabelFormat()) == (colors, "%.3g")


def test_an_overlay_that_was_off_is_off_again_after_leaving(case: Any) -> None:
    nodes, _ = case
    hide(nodes)
    enter(nodes)
    assert relevance_in(nodes.scene, PAIRS["Green"])
    leave(nodes.scene)
    assert not shown(nodes)
    assert not any(relevance_in(nodes.scene, name) for name in PAIRS)


def test_choosing_another_layout_leaves_and_stays(case: Any) -> None:
    nodes, reference = case
    reference.GetDisplayNode().SetVisibility(False)
    enter(nodes, reference)
    layout_node(nodes.scene).SetViewArrangement(slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView)
    assert relevance_in(nodes.scene, "Red")
    assert not reference.GetDisplayNode().GetVisibility()
    leave(nodes.scene)
    expected = slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView
    assert layout_node(nodes.scene).GetViewArrangement() == expected
    assert relevance_in(nodes.scene, "Red")


def test_a_new_explanation_side_by_side_stays_on_the_right(case: Any, tmp_path: Path) -> None:
    nodes, _ = case
    enter(nodes)
    again = present(build(tmp_path), nodes.volumes)
    assert not relevance_in(nodes.scene, "Red")
    assert composite_of(nodes.scene, PAIRS["Red"]).GetNthLayerVolumeID(3) == again.relevance[0].GetID()
    assert not again.segmentation.GetDisplayNode().IsDisplayableInView("vtkMRMLSliceNodeRed")
    leave(nodes.scene)
    assert again.segmentation.GetDisplayNode().IsDisplayableInView("vtkMRMLSliceNodeRed")


def test_a_scene_saved_side_by_side_comes_back_so_and_can_be_left(case: Any, tmp_path: Path) -> None:
    nodes, reference = case
    enter(nodes, reference)
    scene = load(save(nodes, tmp_path / "scene.mrb")).scene
    assert active(scene)
    assert layout_node(scene).IsLayoutDescription(LAYOUT)
    assert (relevance_in(scene, "Red"), relevance_in(scene, PAIRS["Red"])) == (False, True)
    view(scene, "Red").JumpSliceByOffsetting(*LANDMARK)
    np.testing.assert_allclose(matrix(view(scene, "Red")), matrix(view(scene, PAIRS["Red"])))
    leave(scene)
    assert layout_node(scene).GetViewArrangement() == FOUR_UP
    assert relevance_in(scene, "Red")
    assert len(presented_in(scene)) == 1


def test_a_scene_closed_side_by_side_leaves_nothing_behind(case: Any, tmp_path: Path) -> None:
    nodes, _ = case
    scene = nodes.scene
    enter(nodes)
    scene.Clear(False)
    again = present(build(tmp_path), scene=scene)
    leave(scene)
    enter(again)
    assert relevance_in(scene, PAIRS["Red"])
    leave(scene)


def test_the_layout_is_xml_that_slicer_reads(case: Any) -> None:
    nodes, _ = case
    node = register(nodes.scene)
    assert node.IsLayoutDescription(LAYOUT)
    root = node.ParseLayout(description())
    assert root is not None
    names = [root.GetNestedElement(row).GetNestedElement(0).GetNestedElement(n).GetNestedElement(0)
             .GetAttribute("singletontag") for row in range(3) for n in range(2)]  # fmt: skip
    assert names == ["Red", "LRPExplainRed", "Yellow", "LRPExplainYellow", "Green", "LRPExplainGreen"]
