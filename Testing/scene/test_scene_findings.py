"""Findings from nodes: reference segmentations, transforms, the crosshair, tables and plots."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from hand_built import LANDMARK, blob_relevance, build, fill, head, like, oblique, ras_positions
from LRPExplainLib.findings import caution
from LRPExplainLib.scene import cache, findings_of, present
from LRPExplainLib.scene.crosshair import Follower, crosshair_node, in_view, jump, readout
from LRPExplainLib.scene.display import Display, apply, read
from LRPExplainLib.scene.nodes import add_segmentation, array_of
from LRPExplainLib.scene.record import linked_one
from LRPExplainLib.scene.tables import write, writing
from slicer.util import arrayFromTableColumn
from vtkmodules.vtkCommonMath import vtkMatrix4x4

PEAK = Display(threshold_kind="peak", threshold=40)


def ball(image: sitk.Image, center: Any, radius: float) -> sitk.Image:
    inside = np.linalg.norm(ras_positions(image) - np.array(center), axis=-1) < radius
    return like(image, inside.astype(np.uint8))


def segmentation_of(scene: Any, labels: sitk.Image, *names: str) -> Any:
    return add_segmentation(scene, labels, [{"name": "background"}, *({"name": name} for name in names)], "manual")


def linear(scene: Any, by: float) -> Any:
    matrix = vtkMatrix4x4()
    matrix.SetElement(0, 3, by)
    node = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    node.SetMatrixTransformToParent(matrix)
    return node


def test_hot_spots_lie_where_they_were_planted_and_name_the_segment(tmp_path: Path) -> None:
    shown = present(build(tmp_path))
    reference = segmentation_of(shown.scene, ball(head(), LANDMARK, 12), "tumour")
    strong, weak = findings_of(shown, PEAK, reference).hot_spots
    assert np.linalg.norm(np.subtract(strong.place, LANDMARK)) < 9
    assert np.linalg.norm(np.subtract(weak.place, np.multiply(LANDMARK, [-1, 1, 1]))) < 9
    assert (strong.segment, strong.overlap, weak.segment) == ("tumour", 1.0, "outside")
    assert strong.share == pytest.approx(2 / 3, abs=1e-6)


def test_a_reference_of_another_geometry_is_brought_onto_the_map(tmp_path: Path) -> None:
    shown = present(build(tmp_path))
    other = fill(oblique((60, 70, 50), (1.5, 1.3, 1.9)))
    reference = segmentation_of(shown.scene, ball(other, LANDMARK, 12), "tumour")
    rows = findings_of(shown, PEAK, reference).shares
    assert [row.name for row in rows] == ["tumour", "outside"]
    assert rows[0].positive == pytest.approx(rows[0].positive + rows[1].positive, rel=1e-6)
    assert rows[0].ml == pytest.approx(4 / 3 * np.pi * 1.2**3, rel=0.03)


def test_other_voxels_than_those_that_were_explained_are_told(tmp_path: Path) -> None:
    shown = present(build(tmp_path, [head(), head()]))
    names = [node.GetName() for node in shown.volumes]
    assert findings_of(shown).altered == ()
    voxels = array_of(shown.volumes[1])
    before = voxels.copy()
    voxels[:] = voxels[::-1].copy()
    shown.volumes[1].GetImageData().Modified()
    found = findings_of(shown)
    assert found.altered == (names[1],)
    assert found.warnings[0].startswith(f"The voxels of '{names[1]}' are not those that were explained")
    assert found.volumes[1] is None  # nothing is told of anatomy that was not explained
    voxels[:] = before
    shown.volumes[1].GetImageData().Modified()
    assert findings_of(shown).altered == ()


def test_each_volume_is_looked_at_once_whatever_the_threshold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[float] = []
    outside = caution.relevance_outside
    monkeypatch.setattr(
        caution, "relevance_outside", lambda *fields: (looked.append(fields[0].values.sum()), outside(*fields))[1]
    )
    shown = present(build(tmp_path, [head(), head()]))
    for threshold in (80, 50):
        found = findings_of(shown, replace(PEAK, threshold=threshold))
        assert found.of_input(0) + found.of_input(1) == found.warnings
        assert len(looked) == 2
    voxels = array_of(shown.relevance[1])
    voxels *= 2
    shown.relevance[1].GetImageData().Modified()
    assert findings_of(shown, PEAK).warnings
    assert len(looked) == 3


def test_regions_are_found_once_whatever_the_smallest_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []
    real = cache.regions_in_steps
    monkeypatch.setattr(cache, "regions_in_steps", lambda *what: asked.append(what) or real(*what))
    shown = present(build(tmp_path))
    size = findings_of(shown, PEAK).hot_spots[0].ml  # both are as large
    for smallest, count in ((0.0, 2), (size, 2), (1.1 * size, 0), (1.2 * size, 0), (0.9 * size, 2), (0.0, 2)):
        display = replace(PEAK, minimum_cluster_ml=smallest)
        apply(shown, display)
        assert len(findings_of(shown, display).hot_spots) == count
    assert len(asked) == 1


def test_a_volume_of_another_geometry_is_not_the_one_that_was_explained(tmp_path: Path) -> None:
    shown = present(build(tmp_path))
    (volume,) = shown.volumes
    volume.SetSpacing(*np.multiply(volume.GetSpacing(), 1.5))
    assert findings_of(shown).altered == (volume.GetName(),)


@pytest.mark.parametrize("moved", ["volume", "reference", "both"])
def test_transforms_of_volume_and_reference_are_followed(tmp_path: Path, moved: str) -> None:
    shown = present(build(tmp_path))
    center = np.array(LANDMARK) + {"volume": [40, 0, 0], "reference": [-40, 0, 0], "both": [0, 0, 0]}[moved]
    big = head((90, 60, 50))
    reference = segmentation_of(shown.scene, ball(big, center, 12), "tumour")
    transform = linear(shown.scene, 40)
    for name, node in (("volume", shown.volumes[0]), ("reference", reference)):
        if moved in (name, "both"):
            node.SetAndObserveTransformNodeID(transform.GetID())
    rows = findings_of(shown, PEAK, reference).shares
    assert rows[0].share == pytest.approx(2 / 3, abs=1e-6)


def test_overlapping_and_surface_only_segments_are_read_and_left_as_they_are(tmp_path: Path) -> None:
    shown = present(build(tmp_path))
    node = shown.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "surfaces")
    node.CreateDefaultDisplayNodes()
    from vtkmodules.vtkFiltersSources import vtkSphereSource

    for radius in (12, 20):
        sphere = vtkSphereSource()
        sphere.SetCenter(*LANDMARK)
        sphere.SetRadius(radius)
        sphere.SetThetaResolution(40)
        sphere.SetPhiResolution(40)
        sphere.Update()
        node.AddSegmentFromClosedSurfaceRepresentation(sphere.GetOutput(), f"ball {radius}", [1, 0, 0])
    node.SetSourceRepresentationToClosedSurface()
    before = node.GetSegmentation().ContainsRepresentation("Binary labelmap")
    rows = findings_of(shown, PEAK, node).shares
    assert [row.name for row in rows] == ["ball 12", "ball 20", "outside"]
    assert rows[0].share == pytest.approx(2 / 3, abs=0.01)
    assert rows[1].share == pytest.approx(2 / 3, abs=0.01)
    assert node.GetSegmentation().ContainsRepresentation("Binary labelmap") == before


def test_one_segment_alone_can_be_the_reference_and_a_change_of_it_counts(tmp_path: Path) -> None:
    shown = present(build(tmp_path))
    labels = ball(head(), LANDMARK, 12) + 2 * ball(head(), np.multiply(LANDMARK, [-1, 1, 1]), 12)
    reference = segmentation_of(shown.scene, sitk.Cast(labels, sitk.sitkUInt8), "right", "left")
    both = findings_of(shown, PEAK, reference).shares
    assert [row.name for row in both] == ["right", "left", "outside"]
    only = findings_of(shown, PEAK, reference, "class_2").shares
    assert [(row.name, round(row.share, 3)) for row in only] == [("left", 0.333), ("outside", 0.667)]
    reference.GetSegmentation().GetSegment("class_2").SetName("mirror")
    assert findings_of(shown, PEAK, reference, "class_2").shares[0].name == "mirror"
    reference.GetSegmentation().RemoveSegment("class_1")
    assert [row.name for row in findings_of(shown, PEAK, reference).shares] == ["mirror", "outside"]


def test_an_empty_reference_is_all_outside(tmp_path: Path) -> None:
    shown = present(build(tmp_path))
    empty = shown.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "empty")
    empty.GetSegmentation().AddEmptySegment("nothing", "nothing")
    rows = findings_of(shown, PEAK, empty).shares
    assert rows[-1].name == "outside"
    assert rows[-1].share == pytest.approx(1)


# --- the crosshair ---------------------------------------------------------------------------------------------------


def test_the_readout_follows_the_crosshair_through_a_transform(tmp_path: Path) -> None:
    shown = present(build(tmp_path))
    shown.volumes[0].SetAndObserveTransformNodeID(linear(shown.scene, 40).GetID())
    found = findings_of(shown, PEAK, shown.segmentation)
    there = readout(found, np.add(LANDMARK, [40, 0, 0]))
    assert there is not None
    assert (there.relevance, there.segments, there.intensity) == (1.0, ("lesion",), 200.0)
    assert there.hot_spot == found.hot_spots[0]
    assert there.hot_spot.mean == 1.0
    beside = readout(found, (40, 0, 0))
    assert beside is not None
    assert (beside.relevance, beside.hot_spot) == (0.0, None)
    assert readout(found, (500, 0, 0)) is None


def test_a_nonlinear_transform_is_followed_too(tmp_path: Path) -> None:
    shown = present(build(tmp_path))
    from vtkmodules.vtkCommonCore import vtkPoints
    from vtkmodules.vtkCommonTransforms import vtkThinPlateSplineTransform

    spline, source, target = vtkThinPlateSplineTransform(), vtkPoints(), vtkPoints()
    for corner in ((0, 0, 0), (60, 0, 0), (0, 60, 0), (0, 0, 60), (60, 60, 60)):
        source.InsertNextPoint(corner)
        target.InsertNextPoint(corner[0] + 7, corner[1], corner[2])
    spline.SetSourceLandmarks(source)
    spline.SetTargetLandmarks(target)
    spline.SetBasisToR()
    transform = shown.scene.AddNewNodeByClass("vtkMRMLTransformNode")
    transform.SetAndObserveTransformToParent(spline)
    shown.volumes[0].SetAndObserveTransformNodeID(transform.GetID())
    there = readout(findings_of(shown, PEAK), np.add(LANDMARK, [7, 0, 0]))
    assert there is not None
    assert there.relevance == 1.0


def test_a_follower_hears_the_mouse_until_it_is_stopped(tmp_path: Path) -> None:
    shown = present(build(tmp_path))
    heard: list[Any] = []
    follower = Follower(shown.scene, heard.append)
    node = crosshair_node(shown.scene)
    node.SetCursorPositionRAS([1.0, 2.0, 3.0])
    assert heard[-1] == (1.0, 2.0, 3.0)
    node.SetCursorPositionInvalid()
    assert heard[-1] is None
    follower.stop()
    count = len(heard)
    node.SetCursorPositionRAS([4.0, 5.0, 6.0])
    assert len(heard) == count


def test_a_click_on_a_hot_spot_brings_all_slice_views_there(tmp_path: Path) -> None:
    shown = present(build(tmp_path))
    place = findings_of(shown, PEAK).hot_spots[0].place
    jump(shown.scene, place)
    for name, axis in (("Red", 2), ("Yellow", 0), ("Green", 1)):
        node = shown.scene.GetSingletonNode(name, "vtkMRMLSliceNode")
        assert node.GetSliceToRAS().GetElement(axis, 3) == pytest.approx(place[axis], abs=1e-4)
    assert np.allclose(crosshair_node(shown.scene).GetCrosshairRAS(), place)


def test_it_is_known_whether_the_slices_shown_cut_the_map(tmp_path: Path) -> None:
    image, elsewhere = head(), (-20.0, -20.0, -16.0)
    maps = (like(image, np.zeros(image.GetSize()[::-1], np.float32)), blob_relevance(image, elsewhere))
    ledger = {"target_value": 12.5, "in_volume_by_input": [0.0, 12.5]}
    shown = present(build(tmp_path, [image, image], relevance=maps, ledger=ledger))
    first, second = shown.relevance
    nodes = [shown.scene.GetSingletonNode(name, "vtkMRMLSliceNode") for name in ("Red", "Yellow", "Green")]
    for node in nodes:
        node.JumpSliceByOffsetting(*(value + 50 for value in elsewhere))
    assert not in_view(second, 0.4)
    nodes[1].JumpSliceByOffsetting(*elsewhere)
    assert in_view(second, 0.4)
    assert not in_view(first, 0.4)


# --- tables and plots ------------------------------------------------------------------------------------------------


def test_nobody_is_told_of_findings_that_are_as_they_were(tmp_path: Path) -> None:
    """Views and selectors look at a node anew for each change that they are told of."""
    shown = present(build(tmp_path))
    first = shown.relevance[0]
    told: list[Any] = []
    first.AddObserver("ModifiedEvent", lambda *event: told.append(event))
    parts = writing(shown, findings_of(shown, PEAK, shown.segmentation))
    for part in parts:
        part()
    assert len(told) == len(parts)  # of the map, to which several new nodes are linked in a part
    tables = {name: node.GetTable() for name, node in shown.tables.items()}
    write(shown, findings_of(shown, PEAK, shown.segmentation))
    assert len(told) == len(parts)
    assert {name: node.GetTable() for name, node in shown.tables.items()} == tables
    shown.tables["segments"].GetTable().GetColumnByName("segment").SetValue(0, "somebody's")
    write(shown, findings_of(shown, Display(threshold_kind="peak", threshold=60), shown.segmentation))
    new = {name: node.GetTable() for name, node in shown.tables.items()}
    assert {name for name, table in tables.items() if new[name] is not table} == {"hot spots", "segments"}
    assert new["segments"].GetColumnByName("segment").GetValue(0) == "lesion"


def test_nobody_is_told_of_settings_that_are_as_they_were(tmp_path: Path) -> None:
    shown = present(build(tmp_path))
    first = shown.relevance[0]
    legend = linked_one(first, "legendColors")
    told: list[Any] = []
    for node in (first, first.GetDisplayNode(), linked_one(first, "colors"), legend):
        node.AddObserver("ModifiedEvent", lambda node, _event: told.append(node.GetClassName()))
    apply(shown, read(shown))
    assert told == []
    apply(shown, replace(read(shown), opacity=0.25))
    assert told == ["vtkMRMLScalarVolumeNode"]  # which keeps the settings: once
    apply(shown, replace(read(shown), threshold=50.0))
    assert told.count("vtkMRMLColorTableNode") == 2


def test_tables_and_plots_hold_the_findings_and_are_written_again_in_place(tmp_path: Path) -> None:
    shown = present(build(tmp_path))
    found = findings_of(shown, PEAK, shown.segmentation)
    write(shown, found)
    tables = shown.tables
    assert sorted(tables) == ["hot spots", "ledger", "segments", "slices axial", "slices coronal", "slices sagittal"]
    np.testing.assert_allclose(arrayFromTableColumn(tables["hot spots"], "peak"), [1.0, -0.5])
    assert tables["hot spots"].GetTable().GetColumnByName("segment").GetValue(0) == found.hot_spots[0].segment
    axial = found.profiles[2]
    np.testing.assert_allclose(arrayFromTableColumn(tables["slices axial"], "for the class"), axial.positive)
    np.testing.assert_allclose(arrayFromTableColumn(tables["slices axial"], "S (mm)"), axial.position)
    assert tables["ledger"].GetCellText(0, 0) == "target value"
    chart = shown.charts["axial"]
    series = [chart.GetNthPlotSeriesNode(n) for n in range(chart.GetNumberOfPlotSeriesNodes())]
    assert [(s.GetXColumnName(), s.GetYColumnName()) for s in series] == [
        ("S (mm)", "for the class"),
        ("S (mm)", "against the class"),
    ]
    assert {s.GetTableNodeID() for s in series} == {tables["slices axial"].GetID()}
    count = shown.scene.GetNumberOfNodes()
    write(shown, findings_of(shown, Display(threshold_kind="peak", threshold=60), shown.segmentation))
    assert shown.scene.GetNumberOfNodes() == count
    assert tables["hot spots"].GetNumberOfRows() == 1


def test_findings_of_several_inputs_name_them_and_show_the_chosen_one(tmp_path: Path) -> None:
    explanation = build(tmp_path, [head(), head()])
    explanation.ledger["in_volume_by_input"] = [8.0, 4.0]
    shown = present(explanation)
    shown.volumes[1].SetName("FLAIR")
    found = findings_of(shown, Display(threshold_kind="peak", threshold=40, input=1))
    assert [(name, round(share, 2)) for name, _, share in found.inputs] == [("scan1", 0.64), ("FLAIR", 0.32)]
    assert found.hot_spots[0].share == pytest.approx(1 / 3)


def test_what_was_kept_is_the_newest_of_each_kind_and_goes_with_the_scene() -> None:
    made: list[int] = []

    def ask(kind: str, n: int) -> int:
        return cache.kept(kind, n, lambda: made.append(n) or n)

    cache.forget()
    for n in (1, 2, 3, 4, 1, 5):
        assert ask("one", n) == n
    assert ask("other", 9) == 9
    assert made == [1, 2, 3, 4, 5, 9]
    assert (ask("one", 1), ask("one", 2)) == (1, 2)  # 2 was the oldest when 5 came
    assert made == [1, 2, 3, 4, 5, 9, 2]
    cache.forget()
    assert ask("other", 9) == 9
    assert made[-1] == 9


def test_a_closed_scene_leaves_no_numbers_and_no_segments_in_memory(tmp_path: Path) -> None:
    cache.forget()
    shown = present(build(tmp_path))
    _ = findings_of(shown, reference=shown.segmentation).hot_spots
    assert {kind for kind, known in cache._kept.items() if known} == {
        "checksums",
        "magnitudes",
        "clusters",
        "references",
    }
    shown.scene.Clear(False)
    assert not cache._kept
