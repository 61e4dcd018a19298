"""An explanation as MRML nodes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
from hand_built import LANDMARK, build, head, like, oblique
from LRPExplainLib.errors import UserError
from LRPExplainLib.explanation import Prediction
from LRPExplainLib.scene import PresentedNodes, overlay, present, present_in_steps, presented_of
from LRPExplainLib.scene.host import Application
from LRPExplainLib.scene.nodes import add_volume, by_role
from LRPExplainLib.scene.overlay import OPACITY
from slicer.util import arrayFromVolume
from vtkmodules.vtkCommonCore import vtkStringArray
from vtkmodules.vtkCommonMath import vtkMatrix4x4

OVERLAY = slicer.vtkMRMLSliceCompositeNode.Layer_Last


def composites(scene: Any) -> list[Any]:
    nodes = scene.GetNodesByClass("vtkMRMLSliceCompositeNode")
    nodes.UnRegister(None)
    return [nodes.GetItemAsObject(n) for n in range(nodes.GetNumberOfItems())]


def ras_of(node: Any, index: tuple[int, int, int]) -> np.ndarray:
    matrix = vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return np.array(matrix.MultiplyPoint((*index, 1))[:3])


def voxels_of(shown: PresentedNodes, segment: str) -> np.ndarray:
    """Where the segment is (1) and is not (0), on the grid of the first volume."""
    labels = shown.scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
    names = vtkStringArray()
    names.InsertNextValue(segment)
    slicer.vtkSlicerSegmentationsModuleLogic.ExportSegmentsToLabelmapNode(
        shown.segmentation, names, labels, shown.volumes[0]
    )
    return arrayFromVolume(labels)


def test_volumes_have_the_voxels_and_the_geometry_of_their_images(tmp_path: Path) -> None:
    image = oblique((30, 26, 14), (0.9, 1.1, 2.7))
    relevance = like(image, np.random.default_rng(0).normal(size=(14, 26, 30)).astype(np.float32))
    shown = present(build(tmp_path, [image], relevance=(relevance,)))
    for node, expected in ((shown.volumes[0], image), (shown.relevance[0], relevance)):
        np.testing.assert_array_equal(arrayFromVolume(node), sitk.GetArrayFromImage(expected))
        for index in ((0, 0, 0), (29, 0, 0), (0, 25, 0), (7, 11, 13)):
            physical = np.array(image.TransformIndexToPhysicalPoint(index)) * [-1, -1, 1]
            np.testing.assert_allclose(ras_of(node, index), physical, atol=1e-4)
    assert shown.relevance[0].GetImageData().GetScalarTypeAsString() == "float"


def test_relevance_is_shown_over_a_symmetric_window_in_the_relevance_colours(tmp_path: Path) -> None:
    shown = present(build(tmp_path))
    display = shown.relevance[0].GetDisplayNode()
    assert shown.limit == 1.0
    assert display.GetWindowLevelMax() == -display.GetWindowLevelMin() == pytest.approx(shown.limit, rel=0.01)
    assert not display.GetAutoWindowLevel()
    table = display.GetColorNode().GetLookupTable()
    colors = np.array([table.GetTableValue(n) for n in range(table.GetNumberOfTableValues())])
    assert len(colors) == 256
    level = 0.5  # the weaker of the two regions: 80 % of the relevance cannot do without it
    rows = np.floor((np.array([-1.0, -level, -0.49, 0, 0.49, level, 1.0]) / display.GetWindowLevelMax() + 1) / 2 * 255)
    assert colors[rows.clip(0, 255).astype(int), 3].tolist() == [1, 1, 0, 0, 0, 1, 1]
    assert shown.volumes[0].GetDisplayNode().GetColorNodeID() == "vtkMRMLColorTableNodeGrey"


def test_the_focus_is_where_relevance_is_strongest(tmp_path: Path) -> None:
    shown = present(build(tmp_path))
    assert np.linalg.norm(np.subtract(shown.focus, LANDMARK)) < 2


def test_the_prediction_is_a_segmentation_with_outlines_and_no_fill(tmp_path: Path) -> None:
    explanation = build(tmp_path)
    shown = present(explanation)
    segmentation = shown.segmentation.GetSegmentation()
    assert list(segmentation.GetSegmentIDs()) == ["class_1", "class_2"]
    lesion, oedema = (segmentation.GetSegment(name) for name in segmentation.GetSegmentIDs())
    assert (lesion.GetName(), lesion.GetColor()) == ("lesion", (0.0, 1.0, 0.0))
    assert (oedema.GetName(), oedema.GetColor()) == ("oedema", (0.0, 0.0, 1.0))
    labels = sitk.GetArrayFromImage(explanation.prediction.segmentation)
    assert labels.sum() > 0
    np.testing.assert_array_equal(voxels_of(shown, "class_1"), labels)
    assert voxels_of(shown, "class_2").sum() == 0
    display = shown.segmentation.GetDisplayNode()
    assert display.GetVisibility2DOutline()
    assert not display.GetVisibility2DFill()


def test_a_classification_has_no_segmentation(tmp_path: Path) -> None:
    said = Prediction(None, {"ill": 0.9}, [{"name": "well"}, {"name": "ill"}])
    shown = present(build(tmp_path, prediction=said, target={"class": "ill", "index": 1, "where": "output"}))
    assert shown.segmentation is None
    assert shown.scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0


def test_the_legend_has_the_colours_and_the_window_of_the_overlay(tmp_path: Path) -> None:
    shown = present(build(tmp_path))
    colors = shown.legend.GetDisplayNode()
    window = shown.relevance[0].GetDisplayNode().GetWindowLevelMax()
    assert colors.GetScalarRange() == (-window, window)
    tables = [node.GetDisplayNode().GetColorNode().GetLookupTable() for node in (shown.legend, shown.relevance[0])]
    assert tables[0].GetTableValue(254)[:3] == pytest.approx(tables[1].GetTableValue(254)[:3])
    legend = shown.legend.GetNthDisplayNode(1)
    assert legend.IsA("vtkMRMLColorLegendDisplayNode")
    assert legend.GetTitleText() == "Relevance for\nlesion"
    assert not legend.GetUseColorNamesForLabels()
    for view, drawn in (("vtkMRMLSliceNodeRed", True), ("vtkMRMLViewNode1", False)):  # in 3D no relevance is rendered
        assert (bool(colors.GetVisibility(view)), bool(legend.GetVisibility(view))) == (drawn, drawn)


def test_the_legend_tells_another_method_and_a_channel_from_the_whole_map(tmp_path: Path) -> None:
    explanation = build(tmp_path)
    compared = replace(explanation, composite=explanation.composite | {"name": "grad-cam", "method": {}})
    concept = {"layer": "decoder.0.layers.block.3", "part": "channel", "channel": 12}
    part = replace(explanation, target=explanation.target | {"concept": concept})
    both = [present(each) for each in (compared, part)]
    titles = [shown.legend.GetNthDisplayNode(1).GetTitleText() for shown in both]
    assert titles == ["Relevance for\nlesion\nby grad-cam", "Relevance for\nlesion\nchannel 12 of decoder.0…"]


def test_a_long_name_is_shortened_in_the_legend_and_long_numbers_have_their_width(tmp_path: Path) -> None:
    explanation = build(tmp_path)
    faint = like(head(), np.asarray(sitk.GetArrayViewFromImage(explanation.relevance[0])) * np.float32(3.73e-6))
    target = explanation.target | {"class": "pneumothorax, left-sided, with tension"}
    both = [present(explanation), present(replace(explanation, relevance=(faint,), target=target))]
    short, long = (shown.legend.GetNthDisplayNode(1) for shown in both)
    assert long.GetTitleText() == "Relevance for\npneumothorax, left-side…"
    assert short.GetSize()[0] * 1.4 < long.GetSize()[0] < short.GetSize()[0] * 2
    for text in (short.GetTitleTextProperty(), short.GetLabelTextProperty()):
        assert text.GetBackgroundOpacity() > 0.5


def test_the_users_own_layers_stay_as_they_are(tmp_path: Path) -> None:
    application = Application()
    explanation = build(tmp_path)
    mine, other, third = (add_volume(application.scene, head(), name) for name in ("mine", "other", "third"))
    mine.GetDisplayNode().SetAutoWindowLevel(False)
    mine.GetDisplayNode().SetWindowLevel(321, 123)
    for composite in composites(application.scene):
        composite.SetBackgroundVolumeID(other.GetID())
        composite.SetForegroundVolumeID(mine.GetID())
        composite.SetForegroundOpacity(0.3)
        composite.SetNthLayerVolumeID(OVERLAY, third.GetID())
        composite.SetNthLayerOpacity(OVERLAY, 0.25)
    shown = present(explanation, [mine])
    assert shown.scene is application.scene
    assert shown.volumes == (mine,)
    for composite in composites(application.scene):
        assert composite.GetBackgroundVolumeID() == other.GetID()
        assert composite.GetForegroundVolumeID() == mine.GetID()
        assert composite.GetForegroundOpacity() == 0.3
        assert composite.GetLabelVolumeID() is None
        assert composite.GetNthLayerVolumeID(OVERLAY) == third.GetID()
        assert composite.GetNthLayerOpacity(OVERLAY) == 0.25
        assert composite.GetNthLayerVolumeID(OVERLAY + 1) == shown.relevance[0].GetID()
        assert composite.GetNthLayerOpacity(OVERLAY + 1) == OPACITY
    assert (mine.GetDisplayNode().GetWindow(), mine.GetDisplayNode().GetLevel()) == (321, 123)


def test_a_second_explanation_takes_the_place_of_the_first(tmp_path: Path) -> None:
    first = present(build(tmp_path))
    second = present(build(tmp_path), first.volumes)
    assert second.scene is first.scene
    for composite in composites(first.scene):
        assert composite.GetNumberOfAdditionalLayers() == 1
        assert composite.GetNthLayerVolumeID(OVERLAY) == second.relevance[0].GetID()
    assert len(by_role(first.scene, "relevance")) == 2
    visible = [node for node in by_role(first.scene, "legend") if node.GetNthDisplayNode(1).GetVisibility()]
    assert visible == [second.legend]


def test_maps_of_several_inputs_are_added_in_steps_and_all_go_again(tmp_path: Path) -> None:
    application = Application()
    volumes = [add_volume(application.scene, head(), name) for name in ("one", "two", "three")]
    explanation = build(tmp_path, [head()] * 3)
    before = application.scene.GetNumberOfNodes()
    for taken in (1, 2, 3, 5):
        steps = present_in_steps(explanation, volumes)
        for _ in range(taken):
            next(steps)
        assert len(by_role(application.scene, "relevance")) == min(taken, 3)
        steps.close()
        assert by_role(application.scene, "relevance") == []
        assert application.scene.GetNumberOfNodes() == before
    assert len(present(explanation, volumes).relevance) == 3


def test_each_view_is_told_once_of_another_map(tmp_path: Path) -> None:
    first = present(build(tmp_path))
    second = present(build(tmp_path), first.volumes)
    told: list[str] = []
    for composite in composites(first.scene):
        composite.AddObserver("ModifiedEvent", lambda node, _event: told.append(node.GetLayoutName()))
    overlay.show(first)
    assert sorted(told) == ["Green", "Red", "Yellow"]
    overlay.show(first)
    assert len(told) == 3
    assert not overlay.shown(second)


def test_relevance_and_prediction_follow_the_transform_of_the_volume(tmp_path: Path) -> None:
    application = Application()
    volume = add_volume(application.scene, head(), "moved")
    moved = vtkMatrix4x4()
    moved.SetElement(0, 3, 50.0)
    transform = application.scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(moved)
    volume.SetAndObserveTransformNodeID(transform.GetID())
    shown = present(build(tmp_path), [volume])
    assert shown.relevance[0].GetTransformNodeID() == transform.GetID()
    assert shown.segmentation.GetTransformNodeID() == transform.GetID()
    assert shown.focus[0] == pytest.approx(LANDMARK[0] + 50, abs=2)


def test_the_strongest_place_is_where_its_own_volume_lies(tmp_path: Path) -> None:
    """Of several volumes each may have a transform of its own."""
    application = Application()
    volumes = [add_volume(application.scene, head(), name) for name in ("still", "moved")]
    explanation = build(tmp_path, [head(), head()])
    shares = explanation.ledger | {"absolute_share_by_input": [0.2, 0.8]}
    shown = present(replace(explanation, ledger=shares), volumes)
    transform = application.scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    moved = vtkMatrix4x4()
    moved.SetElement(0, 3, 50.0)
    transform.SetMatrixTransformToParent(moved)
    volumes[1].SetAndObserveTransformNodeID(transform.GetID())
    assert presented_of(shown.relevance[0]).focus[0] == pytest.approx(LANDMARK[0] + 50, abs=2)
    first = replace(explanation, ledger=explanation.ledger | {"absolute_share_by_input": [0.8, 0.2]})
    assert present(first, volumes, update=shown).focus[0] == pytest.approx(LANDMARK[0], abs=2)


def test_several_inputs_share_window_and_colours_and_the_first_is_the_overlay(tmp_path: Path) -> None:
    explanation = build(tmp_path, [head(), head()])
    strong = like(head(), sitk.GetArrayFromImage(explanation.relevance[1]) * 4)
    shown = present(replace(explanation, relevance=(explanation.relevance[0], strong)))
    assert shown.limit == 4.0
    displays = [node.GetDisplayNode() for node in shown.relevance]
    windows = [display.GetWindowLevelMax() for display in displays]
    assert windows[0] == windows[1] == pytest.approx(4.0, rel=0.05)
    assert len({display.GetColorNodeID() for display in displays}) == 1
    assert composites(shown.scene)[0].GetNthLayerVolumeID(OVERLAY) == shown.relevance[0].GetID()
    assert [node.GetName() for node in shown.volumes] == ["scan1", "scan2"]


@pytest.mark.parametrize("wrong", [head((20, 20, 20)), head(spacing=1.9)], ids=["size", "spacing"])
def test_a_volume_on_another_grid_is_refused_and_nothing_is_added(tmp_path: Path, wrong: sitk.Image) -> None:
    application = Application()
    other = add_volume(application.scene, wrong, "other")
    before = application.scene.GetNumberOfNodes()
    with pytest.raises(UserError, match="'other' does not have the size and the place"):
        present(build(tmp_path), [other])
    with pytest.raises(UserError, match=r"were given \(2\) is not that of the explained ones \(1\)"):
        present(build(tmp_path), [other, other])
    assert application.scene.GetNumberOfNodes() == before


def test_a_volume_that_was_removed_meanwhile_is_refused(tmp_path: Path) -> None:
    application = Application()
    volume = add_volume(application.scene, head(), "gone")
    application.scene.RemoveNode(volume)
    with pytest.raises(UserError, match="no longer in the scene"):
        present(build(tmp_path), [volume])


def test_a_source_that_changed_is_gone_or_was_never_a_file_is_named(tmp_path: Path) -> None:
    explanation = build(tmp_path)
    sitk.WriteImage(head((40, 48, 30)), explanation.volumes[0]["path"])
    with pytest.raises(UserError, match="has changed since"):
        present(explanation)
    Path(explanation.volumes[0]["path"]).unlink()
    with pytest.raises(UserError, match=r"scan1\.nii\.gz"):
        present(explanation)
    from_memory = replace(explanation, volumes=[explanation.volumes[0] | {"path": None}])
    with pytest.raises(UserError, match="explained from memory"):
        present(from_memory)
