"""Side by side: image and manual segmentation above, the same views with relevance below, and back."""

import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
from hand_built import LANDMARK, SIZE, build, head
from LRPExplainLib.scene import display, load, present, presented_in, save, side_by_side
from LRPExplainLib.scene.host import SLICE_VIEWS, Application, vtk
from LRPExplainLib.scene.layout import BEFORE, LAYOUT, PAIRS, SINGLE_LAYOUT, active, layout_node
from LRPExplainLib.scene.nodes import add_segmentation, add_volume, announce_legend, legend_of
from LRPExplainLib.scene.overlay import composites, hide, show, shown
from LRPExplainLib.scene.side_by_side import enter, leave, put_above

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


def resize(node: Any, wide: int, high: int) -> None:
    """As vtkMRMLSliceLogic does."""
    _width, height, depth = node.GetFieldOfView()
    modifying = node.StartModify()
    node.SetDimensions(wide, high, 1)
    node.SetFieldOfView(height * wide / high, height, depth)
    node.EndModify(modifying)


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


def test_another_map_can_stand_above(case: Any, tmp_path: Path) -> None:
    nodes, _reference = case
    (tmp_path / "other").mkdir()
    other = present(build(tmp_path / "other"), nodes.volumes)
    show(nodes)
    ours, theirs = nodes.relevance[0].GetID(), other.relevance[0].GetID()
    put_above(nodes.scene, other)  # nothing stands side by side yet: without effect
    enter(nodes)
    put_above(nodes.scene, other)
    assert (layers_of(nodes.scene, PAIRS), layers_of(nodes.scene, PAIRS.values())) == ({theirs}, {ours})
    put_above(nodes.scene, None)
    assert (layers_of(nodes.scene, PAIRS), layers_of(nodes.scene, PAIRS.values())) == ({""}, {ours})
    put_above(nodes.scene, other)
    leave(nodes.scene)
    assert layers_of(nodes.scene, PAIRS) == {ours}
    hide(nodes)
    enter(nodes)
    put_above(nodes.scene, other)
    leave(nodes.scene)
    assert layers_of(nodes.scene, PAIRS) == {""}


def test_relevance_is_below_alone_over_the_same_layers(case: Any) -> None:
    nodes, reference = case
    enter(nodes, reference, "class_1")
    assert active(nodes.scene)
    for above, below in PAIRS.items():
        assert (relevance_in(nodes.scene, above), relevance_in(nodes.scene, below)) == (False, True)
        one, two = composite_of(nodes.scene, above), composite_of(nodes.scene, below)
        assert one.GetBackgroundVolumeID() == two.GetBackgroundVolumeID() == nodes.volumes[0].GetID()
        assert two.GetNthLayerOpacity(3) == 0.5
        assert view(nodes.scene, above).GetOrientation() == view(nodes.scene, below).GetOrientation()
        for ours in (nodes.segmentation.GetDisplayNode(), nodes.legend.GetNthDisplayNode(1)):
            assert not ours.IsDisplayableInView(view(nodes.scene, above).GetID())
            assert ours.IsDisplayableInView(view(nodes.scene, below).GetID())
        theirs = reference.GetDisplayNode()
        assert theirs.IsDisplayableInView(view(nodes.scene, above).GetID())


@pytest.mark.parametrize("moved", ["above", "below"])
def test_both_sides_show_the_same_slice_at_the_same_zoom(case: Any, moved: str) -> None:
    nodes, _ = case
    enter(nodes)
    for above, below in PAIRS.items():
        sides = {"above": view(nodes.scene, above), "below": view(nodes.scene, below)}
        other = sides["below" if moved == "above" else "above"]
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
    """A real Slicer fits the lower views when they are first drawn; a second later they lead as well."""
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
    side_by_side._link(nodes.scene, side_by_side._pairs(nodes.scene, nodes.application), {})
    new = view(nodes.scene, PAIRS["Red"])
    new.SetSliceToRASByNTP(0, 0, 1, -1, 0, 0, 0, 0, 0, 0)
    np.testing.assert_allclose(matrix(mine), before)
    timers[0]()
    np.testing.assert_allclose(matrix(new), before)
    new.SetSliceOffset(3)
    np.testing.assert_allclose(matrix(mine), matrix(new))


def test_a_layer_that_the_user_changes_above_changes_below(case: Any) -> None:
    nodes, _ = case
    enter(nodes)
    other = add_volume(nodes.scene, head(), "other")
    above, below = composite_of(nodes.scene, "Red"), composite_of(nodes.scene, PAIRS["Red"])
    above.SetForegroundVolumeID(other.GetID())
    above.SetForegroundOpacity(0.3)
    assert (below.GetForegroundVolumeID(), below.GetForegroundOpacity()) == (other.GetID(), 0.3)
    assert relevance_in(nodes.scene, PAIRS["Red"])
    assert not relevance_in(nodes.scene, "Red")


def test_leaving_brings_everything_back(case: Any) -> None:
    nodes, reference = case
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


def test_a_new_explanation_side_by_side_stays_below(case: Any, tmp_path: Path) -> None:
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


def test_the_layout_is_one_that_every_slicer_knows_and_has_its_views(case: Any) -> None:
    """A Slicer without LRPExplain shows a scene that was saved side by side, in the same views."""
    nodes, _ = case
    logic = slicer.vtkMRMLLayoutLogic()
    logic.SetMRMLScene(nodes.scene)
    layout = logic.GetLayoutNode()
    layout.SetViewArrangement(LAYOUT)
    views = logic.GetViewNodes()
    names = [views.GetItemAsObject(n).GetLayoutName() for n in range(views.GetNumberOfItems())]
    assert sorted(names) == sorted([*PAIRS, *PAIRS.values()])
    assert not active(nodes.scene)  # whoever chooses it for something else has it for that
    logic.SetMRMLScene(None)


def test_lower_views_that_the_user_had_already_are_as_before(case: Any) -> None:
    nodes, _ = case
    enter(nodes)  # makes them
    leave(nodes.scene)
    other = add_volume(nodes.scene, head(), "other")
    mine, layers = view(nodes.scene, PAIRS["Red"]), composite_of(nodes.scene, PAIRS["Red"])
    mine.SetOrientation("Coronal")
    mine.SetSliceOffset(7)
    layers.SetBackgroundVolumeID(other.GetID())
    layers.SetForegroundVolumeID(nodes.volumes[0].GetID())
    layers.SetForegroundOpacity(0.25)
    before = matrix(mine)
    enter(nodes)
    assert layers.GetBackgroundVolumeID() == nodes.volumes[0].GetID()
    assert not np.allclose(matrix(mine), before)
    leave(nodes.scene)
    np.testing.assert_allclose(matrix(mine), before)
    assert (layers.GetBackgroundVolumeID(), layers.GetForegroundOpacity()) == (other.GetID(), 0.25)
    assert layers.GetForegroundVolumeID() == nodes.volumes[0].GetID()
    enter(nodes)
    nodes.scene.RemoveNode(other)
    leave(nodes.scene)
    assert layers.GetBackgroundVolumeID() == nodes.volumes[0].GetID()  # as in any view that has none


def narrow(scene: Any, **widths: int) -> None:
    for name, width in widths.items():
        view(scene, name).SetMappedInLayout(1)
        view(scene, name).SetDimensions(width, 300, 1)


def legend_views(nodes: Any) -> list[str]:
    return list(legend_of(nodes.legend).GetViewNodeIDs() or ())


def test_no_legend_in_views_that_are_too_narrow_to_read_it(case: Any) -> None:
    nodes, _ = case
    glowing = replace(display.read(nodes), volume_rendering=True)
    display.apply(nodes, glowing)
    assert legend_views(nodes) == []  # everywhere
    narrow(nodes.scene, Red=800, Yellow=200, Green=379)
    assert legend_views(nodes) == ["vtkMRMLSliceNodeRed", "vtkMRMLViewNode1"]
    assert not nodes.segmentation.GetDisplayNode().GetNumberOfViewNodeIDs()  # outlines can be seen there
    view(nodes.scene, "Green").SetSliceOffset(3)
    narrow(nodes.scene, Red=379)  # and no 3D view is shown: the first has it
    assert "vtkMRMLSliceNodeRed" in legend_views(nodes)
    assert "vtkMRMLSliceNodeYellow" not in legend_views(nodes)
    narrow(nodes.scene, Red=800, Yellow=800, Green=800)
    assert legend_views(nodes) == []
    display.apply(nodes, replace(glowing, volume_rendering=False))
    assert legend_views(nodes) == [view(nodes.scene, name).GetID() for name in SLICE_VIEWS]  # no relevance in 3D


def test_a_single_slice_stands_beside_itself_in_two_views(tmp_path: Path) -> None:
    application = Application()
    picture = head()[:, :, 12:13]
    nodes = present(build(tmp_path, [picture]), [add_volume(application.scene, picture, "x-ray")])
    scene, layout = nodes.scene, layout_node(nodes.scene)
    layout.SetViewArrangement(FOUR_UP)
    right, field = view(scene, "Yellow"), (70.0, 50.0, 1.0)
    right.SetDimensions(350, 250, 1)
    right.SetFieldOfView(*field)
    right.SetSliceOffset(7)
    before = matrix(right)
    enter(nodes)
    assert (layout.GetViewArrangement(), active(scene)) == (SINGLE_LAYOUT, True)
    assert (relevance_in(scene, "Red"), relevance_in(scene, "Yellow")) == (False, True)
    view(scene, "Red").SetSliceOffset(3)
    np.testing.assert_allclose(matrix(right), matrix(view(scene, "Red")))
    assert set(legend_views(nodes)) == {right.GetID()}
    leave(scene)
    assert (layout.GetViewArrangement(), active(scene)) == (FOUR_UP, False)
    assert all(relevance_in(scene, name) for name in SLICE_VIEWS)
    np.testing.assert_allclose(matrix(right), before)
    assert right.GetFieldOfView() == field
    enter(nodes)
    layout.SetViewArrangement(LAYOUT)  # of three pairs, which nobody asked for
    assert not active(scene)
    assert layout.GetAttribute(BEFORE) is None


@pytest.mark.parametrize(("own", "axis"), [("Green", 1), ("Yellow", 0)])
def test_a_slice_that_is_not_axial_stands_in_the_same_two_views(
    tmp_path: Path, own: str, axis: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Red stands in for the view that shows it, which has what was done meanwhile; Red itself is as it was.

    All of the slice is to be seen there, though the layout gives Red another shape, of which Slicer keeps the height.
    """
    timers: list[Any] = []
    process = types.SimpleNamespace(later=lambda seconds, function: timers.append(function))
    monkeypatch.setitem(sys.modules, "LRPExplainLib.scene.process", process)
    monkeypatch.setattr(side_by_side, "in_slicer", lambda: True)
    application = Application()
    cut = [slice(None)] * 3
    cut[axis] = slice(SIZE[axis] // 2, SIZE[axis] // 2 + 1)
    picture = head()[tuple(cut)]
    nodes = present(build(tmp_path, [picture]), [add_volume(application.scene, picture, "a slice")])
    scene, layout = nodes.scene, layout_node(nodes.scene)
    layout.SetViewArrangement(FOUR_UP)
    other = add_volume(scene, head(), "other")
    mine, red = view(scene, own), view(scene, "Red")
    for each, offset in ((mine, picture.GetOrigin()[axis]), (red, 7.0)):
        each.SetDimensions(350, 250, 1)
        each.SetFieldOfView(140, 100, 1)
        each.SetSliceOffset(offset)
    kept = {name: matrix(view(scene, name)) for name in SLICE_VIEWS}
    enter(nodes)
    assert layout.GetViewArrangement() == SINGLE_LAYOUT
    for name in ("Red", "Yellow"):
        assert view(scene, name).GetOrientation() == SLICE_VIEWS[own]
        np.testing.assert_allclose(matrix(view(scene, name)), kept[own])
    assert (relevance_in(scene, "Red"), relevance_in(scene, "Yellow")) == (False, True)
    resize(red, 350, 500)
    for link in timers:
        link()
    wide = max(picture.GetSize()) * 2.0
    np.testing.assert_allclose(red.GetFieldOfView()[:2], (wide, wide * 500 / 350))
    red.SetFieldOfView(wide / 2, wide / 2 * 500 / 350, 1)  # the user zooms
    composite_of(scene, "Red").SetForegroundVolumeID(other.GetID())
    leave(scene)
    assert all(relevance_in(scene, name) for name in SLICE_VIEWS)
    for name in SLICE_VIEWS:
        np.testing.assert_allclose(matrix(view(scene, name)), kept[name])
    assert mine.GetFieldOfView()[:2] == pytest.approx((70, 50))
    assert red.GetFieldOfView()[:2] == (140, 100)
    assert composite_of(scene, own).GetForegroundVolumeID() == other.GetID()
    assert composite_of(scene, "Red").GetForegroundVolumeID() is None


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_views_of_a_single_slice_are_slicers_own_again_when_the_scene_is_closed(tmp_path: Path, axis: int) -> None:
    """Slicer turns its views back before anybody else hears that the scene is being closed (seen in 5.13)."""
    application = Application()
    cut = [slice(None)] * 3
    cut[axis] = slice(SIZE[axis] // 2, SIZE[axis] // 2 + 1)
    picture = head()[tuple(cut)]
    nodes = present(build(tmp_path, [picture]), [add_volume(application.scene, picture, "a slice")])
    scene = nodes.scene

    def turn_back(*_event: Any) -> None:
        for name, orientation in SLICE_VIEWS.items():
            view(scene, name).SetOrientation(orientation)

    tags = [scene.AddObserver(scene.StartCloseEvent, turn_back)]
    enter(nodes)
    tags.append(scene.AddObserver(scene.StartCloseEvent, lambda *_event: leave(scene)))  # as the panel does
    scene.StartState(scene.CloseState)
    found = {name: view(scene, name).GetOrientation() for name in SLICE_VIEWS}
    scene.EndState(scene.CloseState)
    for tag in tags:
        scene.RemoveObserver(tag)
    assert found == SLICE_VIEWS


def test_views_that_the_user_chose_for_the_outlines_stay_chosen(case: Any) -> None:
    nodes, _ = case
    outlines, legend = nodes.segmentation.GetDisplayNode(), legend_of(nodes.legend)
    outlines.SetViewNodeIDs(["vtkMRMLSliceNodeRed"])
    narrow(nodes.scene, Red=800, Yellow=200, Green=200)
    enter(nodes)
    assert view(nodes.scene, "Green+").GetID() in legend.GetViewNodeIDs()
    leave(nodes.scene)
    assert list(outlines.GetViewNodeIDs()) == ["vtkMRMLSliceNodeRed"]
    outlines.SetViewNodeIDs([])
    enter(nodes)
    assert not outlines.IsDisplayableInView("vtkMRMLSliceNodeRed")
    leave(nodes.scene)
    assert not outlines.GetNumberOfViewNodeIDs()


def test_a_map_above_has_its_own_legend_there_since_its_numbers_are_others(case: Any, tmp_path: Path) -> None:
    nodes, _ = case
    (tmp_path / "other").mkdir()
    other = present(build(tmp_path / "other"), nodes.volumes)
    show(nodes)
    mine, theirs = legend_of(nodes.legend), legend_of(other.legend)
    enter(nodes)
    assert (mine.GetVisibility(), theirs.GetVisibility()) == (1, 0)
    put_above(nodes.scene, other)
    assert (mine.GetVisibility(), theirs.GetVisibility()) == (1, 1)
    assert other.legend.GetDisplayNode().GetVisibility()  # of the model, without which Slicer draws no legend
    assert set(theirs.GetViewNodeIDs()) == {view(nodes.scene, name).GetID() for name in PAIRS}
    assert not {*theirs.GetViewNodeIDs()} & {*mine.GetViewNodeIDs()}
    put_above(nodes.scene, nodes)  # the same as below
    assert (mine.GetVisibility(), theirs.GetVisibility()) == (1, 0)
    put_above(nodes.scene, other)
    leave(nodes.scene)
    assert (mine.GetVisibility(), theirs.GetVisibility()) == (1, 0)
    show(other)
    assert (mine.GetVisibility(), theirs.GetVisibility()) == (0, 1)


def test_side_by_side_the_legend_is_below_where_it_can_be_read(case: Any) -> None:
    nodes, _ = case
    enter(nodes)
    narrow(nodes.scene, **dict.fromkeys([*PAIRS, *PAIRS.values()], 300))
    narrow(nodes.scene, **{"Green+": 500})
    assert legend_views(nodes) == ["vtkMRMLSliceNodeGreen+"]
    leave(nodes.scene)
    assert layout_node(nodes.scene).GetAttribute(BEFORE) is None
