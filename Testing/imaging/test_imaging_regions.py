"""Regions hit the voxels they mean, on any grid; files of regions are read as Slicer writes them."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from helpers.volumes import make_volume, rotation
from LRPExplainLib.errors import UserError
from LRPExplainLib.imaging import (
    Box,
    Everywhere,
    Points,
    Segment,
    read_markups,
    read_segment,
    read_segments,
    segmentation,
)
from LRPExplainLib.imaging.grid import Grid
from LRPExplainLib.imaging.segmentation import check_labels

LANDMARK = (6, 20, 9)  # i, j, k
RAS = np.array([-1, -1, 1])


@pytest.fixture
def grid() -> Grid:
    """Oblique and anisotropic."""
    return Grid.of(make_volume())


@pytest.fixture
def inside(grid) -> np.ndarray:
    return np.ones(grid.shape, dtype=bool)


def centres(grid: Grid) -> np.ndarray:
    """RAS in mm of every voxel centre, [D, H, W, 3], by SimpleITK."""
    image = grid.image(np.zeros(grid.shape, np.uint8))
    places = np.empty((*grid.shape, 3))
    for k, j, i in np.ndindex(*grid.shape):
        places[k, j, i] = image.TransformIndexToPhysicalPoint((i, j, k))
    return places * RAS


def ras_of(grid: Grid, index: tuple[float, float, float]) -> tuple[float, ...]:
    return tuple((np.array(grid.point(index)) * RAS).tolist())


def the_voxel(mask: np.ndarray) -> tuple[int, ...]:
    """i, j, k of the only voxel in a mask."""
    (found,) = np.argwhere(mask)
    return tuple(found[::-1].tolist())


# --- points --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shift", [(0, 0, 0), (0.4, -0.4, 0.4), (-0.45, 0.45, -0.45)])
def test_a_point_hits_the_voxel_that_holds_it(grid, inside, shift):
    place = ras_of(grid, tuple(np.add(LANDMARK, shift)))
    assert the_voxel(Points((place,)).mask(grid, inside)) == LANDMARK


def test_several_points_hit_their_voxels_and_two_in_one_voxel_are_one(grid, inside):
    places = [ras_of(grid, index) for index in ((1, 2, 3), LANDMARK, (1.2, 2.1, 2.9))]
    mask = Points(tuple(places)).mask(grid, inside)
    assert sorted(tuple(found[::-1]) for found in np.argwhere(mask).tolist()) == [(1, 2, 3), LANDMARK]


@pytest.mark.parametrize("index", [(-0.6, 3, 3), (29.6, 3, 3), (3, 3, 400), (1e30, 3, 3)])
def test_a_point_outside_the_volume_is_refused_by_its_name(grid, inside, index):
    place = ras_of(grid, index)
    first = re.escape(f"{place[0]:g}")
    with pytest.raises(UserError, match=f"^The point {first}, .* lies outside what the model sees"):
        Points((ras_of(grid, LANDMARK), place)).mask(grid, inside)


def test_a_point_on_padding_is_outside_too(grid, inside):
    inside[:, :, : LANDMARK[0] + 1] = False
    with pytest.raises(UserError, match="outside"):
        Points((ras_of(grid, LANDMARK),)).mask(grid, inside)


# --- boxes ---------------------------------------------------------------------------------------------------------


def test_a_box_along_the_patients_axes_holds_the_voxels_whose_centres_lie_in_it(grid, inside):
    centre, size = ras_of(grid, LANDMARK), (9.0, 7.0, 12.0)
    expected = (np.abs(centres(grid) - centre) <= np.array(size) / 2).all(axis=-1)
    assert 10 < expected.sum() < 500
    np.testing.assert_array_equal(Box(centre, size).mask(grid, inside), expected)
    corners = np.add(centre, np.divide(size, 2)), np.subtract(centre, np.divide(size, 2))
    np.testing.assert_array_equal(Box.between(*corners).mask(grid, inside), expected)


def test_an_oblique_box_along_the_volumes_axes_holds_whole_rows_of_voxels(grid, inside):
    """Three by five by one voxels of the volume, whose axes are oblique to the patient's."""
    axes = (np.reshape(grid.direction, (3, 3)) * RAS[:, None]).ravel()
    size = np.array(grid.spacing) * (2.9, 4.9, 0.9)
    box = Box(ras_of(grid, LANDMARK), tuple(size), tuple(axes))
    i, j, k = LANDMARK
    expected = np.zeros(grid.shape, dtype=bool)
    expected[k, j - 2 : j + 3, i - 1 : i + 2] = True
    np.testing.assert_array_equal(box.mask(grid, inside), expected)


def test_a_box_is_cut_at_the_field_of_view(grid, inside):
    inside[:5] = False
    mask = Box((0.0, 0.0, 0.0), (1e4, 1e4, 1e4)).mask(grid, inside)
    np.testing.assert_array_equal(mask, inside)
    np.testing.assert_array_equal(Everywhere().mask(grid, inside), inside)


@pytest.mark.parametrize("box", [Box((500, 0, 0), (10, 10, 10)), Box((0, 0, 0), (1e-3, 1e-3, 1e-3))])
def test_a_box_without_a_voxel_is_refused_with_the_size_of_a_voxel(grid, inside, box):
    with pytest.raises(UserError, match=r"Nothing .* lies in the box around .* \(0.9 x 1.1 x 2.7 mm\)"):
        box.mask(grid, inside)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: Points(((0, float("nan"), 0),)), "A point is given as 0, nan, 0"),
        (lambda: Points(((1, 2),)), "give 3 finite numbers"),
        (lambda: Points(()), "no point"),
        (lambda: Box((0, 0, float("inf")), (1, 1, 1)), "box's centre"),
        (lambda: Box((0, 0, 0), (1, -1, 1)), "size 1, -1, 1 mm"),
        (lambda: Box.between((0, 0, 0), (1, 0, 1)), "size 1, 0, 1 mm"),
        (lambda: Box((0, 0, 0), (1, 1, 1), (1, 1, 0, 0, 1, 0, 0, 0, 1)), "right angles"),
    ],
)
def test_coordinates_that_make_no_sense_are_refused_in_one_sentence(make, expected):
    with pytest.raises(UserError, match=expected) as caught:
        make()
    assert "\n" not in str(caught.value)


# --- segments ------------------------------------------------------------------------------------------------------


def ball(image: sitk.Image, centre: tuple[float, ...], radius: float) -> np.ndarray:
    return np.linalg.norm(centres(Grid.of(image)) - centre, axis=-1) < radius


def test_a_segment_of_another_geometry_hits_the_landmark(grid, inside):
    """Drawn on a fine grid at another angle, asked about on the volume's grid: within half a voxel of the truth."""
    centre = ras_of(grid, LANDMARK)
    drawn = make_volume((40, 44, 42), (0.6, 0.5, 0.55), (-0.5, 0.3, 0.1))
    middle = np.array(Grid.of(drawn).point([19.5, 21.5, 20.5]))
    drawn.SetOrigin((np.array(drawn.GetOrigin()) + np.array(centre) * RAS - middle).tolist())
    labels = Grid.of(drawn).image(ball(drawn, centre, 5.0).astype(np.int16) * 7)
    mask = Segment(labels, "ball").mask(grid, inside)
    truth = np.linalg.norm(centres(grid) - centre, axis=-1)
    assert mask[truth < 4.4].all()
    assert not mask[truth > 5.6].any()
    assert the_voxel(mask & (truth < 0.1)) == LANDMARK


def test_on_its_own_grid_a_segment_is_itself(grid, inside):
    voxels = np.random.default_rng(1).random(grid.shape) < 0.1
    np.testing.assert_array_equal(Segment(grid.image(voxels.astype(np.uint8)), "some").mask(grid, inside), voxels)


def test_segments_that_hit_nothing_are_refused_with_the_reason(grid, inside):
    voxels = np.zeros(grid.shape, np.uint8)
    with pytest.raises(UserError, match="segment 'x' is empty"):
        Segment(grid.image(voxels), "x").mask(grid, inside)
    fine = Grid((9, 9, 9), (0.05,) * 3, grid.point((3.3, 3.3, 3.3)), grid.direction)
    with pytest.raises(UserError, match="segment 'x' is so small"):
        Segment(fine.image(np.ones(fine.shape, np.uint8)), "x").mask(grid, inside)
    far = Grid((9, 9, 9), (1.0,) * 3, (900.0, 0.0, 0.0), grid.direction)
    with pytest.raises(UserError, match="segment 'x' lies outside"):
        Segment(far.image(np.ones(far.shape, np.uint8)), "x").mask(grid, inside)


def label_map(grid: Grid, kind: type = np.uint8) -> sitk.Image:
    """1 in one corner, 2 in another."""
    voxels = np.zeros(grid.shape, kind)
    voxels[:3, :4, :5] = 1
    voxels[-2:, -3:, -4:] = 2
    return grid.image(voxels)


def header(*segments: dict[str, Any]) -> dict[str, str]:
    return {f"Segment{n}_{key}": str(value) for n, entry in enumerate(segments) for key, value in entry.items()}


def write(image: sitk.Image, path: Path, metadata: dict[str, str] | None = None) -> Path:
    for key, value in (metadata or {}).items():
        image.SetMetaData(key, value)
    sitk.WriteImage(image, str(path))
    return path


NAMED = header({"Name": "Tumour", "LabelValue": 2, "Layer": 0}, {"Name": "edema", "LabelValue": 1, "Layer": 0})


@pytest.mark.parametrize(
    ("name", "called", "values"),
    [("Tumour", "Tumour", {2}), ("EDEMA", "edema", {1}), ("2", "Tumour", {2}), (1, "edema", {1}),
     (None, "s.seg.nrrd", {1, 2})],
)  # fmt: skip
def test_a_segment_is_chosen_by_name_or_label_value(tmp_path, grid, inside, name, called, values):
    path = write(label_map(grid), tmp_path / "s.seg.nrrd", NAMED)
    segment = read_segment(path, name)
    assert segment.name == called
    assert segment.source == str(path)
    expected = np.isin(sitk.GetArrayFromImage(label_map(grid)), list(values))
    np.testing.assert_array_equal(segment.mask(grid, inside), expected)


@pytest.mark.parametrize("ending", [".nrrd", ".nii.gz", ".mha"])
@pytest.mark.parametrize("kind", [np.int16, np.float32])
def test_a_plain_label_map_is_chosen_by_value(tmp_path, grid, inside, ending, kind):
    path = write(label_map(grid, kind), tmp_path / f"labels{ending}")
    for name in ("2", "label 2"):  # as the message about a wrong choice offers it
        segment = read_segment(path, name)
        assert segment.name == "label 2"
        np.testing.assert_array_equal(segment.mask(grid, inside), sitk.GetArrayFromImage(label_map(grid)) == 2)


def test_overlapping_segments_lie_in_layers(tmp_path, grid, inside):
    one = np.zeros(grid.shape, np.uint8)
    one[:6, :6, :6] = 1
    two = np.zeros(grid.shape, np.uint8)
    two[3:9, 3:9, 3:9] = 5
    image = sitk.Compose([grid.image(one), grid.image(two)])
    modern = header({"Name": "a", "LabelValue": 1, "Layer": 0}, {"Name": "b", "LabelValue": 5, "Layer": 1})
    path = write(image, tmp_path / "modern.seg.nrrd", modern)
    np.testing.assert_array_equal(read_segment(path, "a").mask(grid, inside), one > 0)
    np.testing.assert_array_equal(read_segment(path, "b").mask(grid, inside), two > 0)
    np.testing.assert_array_equal(read_segment(path).mask(grid, inside), (one > 0) | (two > 0))
    old = sitk.Compose([grid.image(one), grid.image((two > 0).astype(np.uint8))])
    path = write(old, tmp_path / "old.seg.nrrd", header({"Name": "a"}, {"Name": "b"}))
    np.testing.assert_array_equal(read_segment(path, "b").mask(grid, inside), two > 0)


def test_segments_of_one_name_are_told_apart_and_none_is_lost(tmp_path, grid, inside):
    twice = header({"Name": "mets", "LabelValue": 1, "Layer": 0}, {"Name": "mets", "LabelValue": 2, "Layer": 0})
    path = write(label_map(grid), tmp_path / "twice.seg.nrrd", twice)
    assert [segment.name for segment in read_segments(path)] == ["mets (1)", "mets (2)"]
    with pytest.raises(UserError, match=r"choose one of mets \(1\), mets \(2\)"):
        read_segment(path, "mets")
    expected = sitk.GetArrayFromImage(label_map(grid)) == 1
    np.testing.assert_array_equal(read_segment(path, "mets (1)").mask(grid, inside), expected)
    layered = sitk.Compose(
        [grid.image((sitk.GetArrayFromImage(label_map(grid)) == n).astype(np.uint8)) for n in (1, 2)]
    )
    alike = header({"Name": "a", "LabelValue": 1, "Layer": 0}, {"Name": "a", "LabelValue": 1, "Layer": 1})
    path = write(layered, tmp_path / "layers.seg.nrrd", alike)
    assert [segment.name for segment in read_segments(path)] == ["a (1)", "a (2)"]


def test_a_segment_in_a_layer_that_the_file_does_not_have_is_none(tmp_path, grid):
    odd = header({"Name": "a", "LabelValue": 1, "Layer": 0}, {"Name": "b", "LabelValue": 2, "Layer": 7})
    path = write(label_map(grid), tmp_path / "odd.seg.nrrd", odd)
    assert [segment.name for segment in read_segments(path)] == ["a"]
    with pytest.raises(UserError, match="has no segment 'b': choose one of a"):
        read_segment(path, "b")


def test_a_segmentation_cut_to_its_segment_is_one_value_all_over_and_still_read(tmp_path, grid, inside):
    cut = label_map(grid)[:5, :4, :3]
    path = write(cut, tmp_path / "cut.nrrd")
    assert read_segment(path, 1).mask(grid, inside).sum() == 60


def parcels(shape: tuple[int, ...], count: int, step: int, seed: int = 0) -> np.ndarray:
    """Regions around random places in a ball, labelled by multiples of `step`."""
    rng = np.random.default_rng(seed)
    places = np.argwhere(min(shape) / 2 > np.linalg.norm(np.indices(shape).T - np.array(shape) / 2, axis=-1).T)
    seeds = places[rng.choice(len(places), count, replace=False)]
    nearest = np.linalg.norm(places[:, None] - seeds, axis=-1).argmin(axis=1)
    labels = np.zeros(shape, np.int32)
    labels[tuple(places.T)] = (nearest + 1) * step
    return labels


def hashed(monkeypatch):
    """The files that are hashed from now on."""
    seen, original = [], segmentation.volume_digest

    def watched(path):
        seen.append(str(path))
        return original(path)

    monkeypatch.setattr(segmentation, "volume_digest", watched)
    return seen


def test_an_atlas_of_many_large_labels_is_a_label_map(tmp_path, monkeypatch):
    labels = parcels((32, 32, 32), 120, 118)
    assert labels.max() == 14160
    path = write(sitk.GetImageFromArray(labels), tmp_path / "aparc.nii.gz")
    opened = hashed(monkeypatch)
    segments = read_segments(path)
    assert [segment.chosen for segment in segments] == [str(n * 118) for n in range(1, 121)]
    assert {segment.sha256 for segment in segments} == {hashlib.sha256(path.read_bytes()).hexdigest()}
    assert opened == [str(path)]  # once for all of them
    assert read_segment(path, "14160").mask(Grid.of(sitk.ReadImage(str(path))), labels >= 0).any()
    check_labels(sitk.ReadImage(str(path)), "aparc.nii.gz", [118])


def test_labels_of_single_voxels_are_a_label_map(tmp_path):
    labels = np.zeros((20, 20, 20), np.uint8)
    labels[::4, ::4, ::4] = np.arange(1, 126).reshape(5, 5, 5)  # as the contacts of electrodes
    assert len(read_segments(write(sitk.GetImageFromArray(labels), tmp_path / "contacts.nrrd"))) == 125


def test_what_slicer_wrote_is_a_segmentation_whatever_it_looks_like(tmp_path, grid):
    path = write(_grey(make_volume()), tmp_path / "s.seg.nrrd", header({"Name": "odd", "LabelValue": 50, "Layer": 0}))
    assert read_segment(path, "odd").name == "odd"


@pytest.mark.parametrize("kind", [sitk.sitkUInt8, sitk.sitkInt16, sitk.sitkFloat32])
@pytest.mark.parametrize("smooth", [False, True])
def test_a_brain_in_whole_numbers_is_no_label_map(tmp_path, kind, smooth):
    """Also as a label map for a network's input, where some of its grey levels are labels of the model."""
    brain = make_volume()
    brain = sitk.Cast(_grey(sitk.SmoothingRecursiveGaussian(brain, 2.0) if smooth else brain), kind)
    with pytest.raises(UserError, match="as the grey levels of an image do"):
        read_segments(write(brain, tmp_path / "t1.nrrd"))
    with pytest.raises(UserError, match="'t1' holds values that change from voxel to voxel"):
        check_labels(brain, "t1", [50])


def _grey(image: sitk.Image) -> sitk.Image:
    """In whole numbers."""
    return sitk.Cast(sitk.Round(image), sitk.sitkInt16)


def _text(path: Path) -> Path:
    path.write_text("no image")
    return path


@pytest.mark.parametrize(
    ("make", "name", "expected"),
    [
        (lambda f, g: f / "nowhere.nrrd", None, "no segmentation file"),
        (lambda f, g: f, None, "no segmentation file"),
        (lambda f, g: _text(f / "a.txt"), None, "not an image"),
        (lambda f, g: write(make_volume(), f / "t1.nrrd"), None, "no whole numbers"),
        (lambda f, g: write(_grey(make_volume()), f / "t1.nrrd"), None, "as the grey levels of an image do"),
        (lambda f, g: write(_grey(make_volume()), f / "t1.nrrd"), "50", "as the grey levels of an image do"),
        (lambda f, g: write(sitk.Compose([_grey(make_volume())] * 3), f / "rgb.nrrd"), None, "as the grey levels of"),
        (lambda f, g: write(label_map(g), f / "s.seg.nrrd", NAMED), "liver", "'liver': choose one of Tumour, edema"),
        (lambda f, g: write(label_map(g), f / "l.nrrd"), "9", "no segment '9': choose one of label 1, label 2"),
        (lambda f, g: write(label_map(g) * 0, f / "e.nrrd"), "1", "for it is empty"),
        (lambda f, g: write(sitk.JoinSeries([label_map(g)] * 2), f / "4d.nrrd"), None, "three dimensions"),
    ],
)  # fmt: skip
def test_files_without_the_segment_are_refused_in_one_sentence(tmp_path, grid, make, name, expected):
    with pytest.raises(UserError, match=expected) as caught:
        read_segment(make(tmp_path, grid), name)
    assert "\n" not in str(caught.value)


# --- Slicer's markups ----------------------------------------------------------------------------------------------


def markups(path: Path, *entries: dict[str, Any]) -> Path:
    path.write_text(json.dumps({"@schema": "markups-schema-v1.0.3.json#", "markups": list(entries)}))
    return path


def roi(grid: Grid, system: str = "LPS") -> dict[str, Any]:
    """The oblique box of 3 x 5 x 1 voxels around the landmark, as Slicer writes it."""
    sign = np.ones(3) if system in ("LPS", "1") else RAS
    axes = np.reshape(grid.direction, (3, 3)) * sign[:, None]
    return {
        "type": "ROI", "coordinateSystem": system, "coordinateUnits": "mm", "roiType": "Box", "insideOut": False,
        "center": (np.array(grid.point(LANDMARK)) * sign).tolist(), "orientation": axes.ravel().tolist(),
        "size": (np.array(grid.spacing) * (2.9, 4.9, 0.9)).tolist(), "controlPoints": [],
    }  # fmt: skip


@pytest.mark.parametrize("system", ["LPS", "RAS", "1", "0"])
def test_a_markups_roi_is_its_oblique_box(tmp_path, grid, inside, system):
    mask = read_markups(markups(tmp_path / "R.mrk.json", roi(grid, system))).mask(grid, inside)
    assert mask.sum() == 15
    assert [tuple(c[::-1]) for c in np.argwhere(mask).mean(0, keepdims=True).tolist()] == [LANDMARK]


@pytest.mark.parametrize("units", ["mm", ["mm", "UCUM", "millimeter"]])
def test_a_point_list_is_its_placed_points(tmp_path, grid, inside, units):
    placed = [{"position": list(grid.point(index))} for index in (LANDMARK, (1, 1, 1))]
    pending = {"position": [9e9, 0, 0], "positionStatus": "undefined"}
    entry = {"type": "Fiducial", "coordinateSystem": "LPS", "coordinateUnits": units}
    entry["controlPoints"] = [*placed, pending]
    points = read_markups(markups(tmp_path / "F.mrk.json", entry))
    assert points.mask(grid, inside).sum() == 2
    assert points.mask(grid, inside)[LANDMARK[::-1]]


def oriented(slicer: Any, vtk: Any, image: sitk.Image) -> Any:
    """A vtkOrientedImageData with the voxels and the place of an image."""
    from vtkmodules.util.numpy_support import numpy_to_vtk

    data = slicer.vtkOrientedImageData()
    data.SetDimensions(image.GetSize())
    data.GetPointData().SetScalars(numpy_to_vtk(sitk.GetArrayFromImage(image).ravel(), deep=True))
    grid = Grid.of(image)
    matrix = vtk.vtkMatrix4x4()
    for row in range(3):
        for column in range(3):
            matrix.SetElement(row, column, grid.axes[row, column] * RAS[row])
        matrix.SetElement(row, 3, grid.origin[row] * RAS[row])
    data.SetGeometryFromImageToWorldMatrix(matrix)
    return data


def test_slicers_own_files_are_read(tmp_path, grid, inside):
    """Written by Slicer's core: an oblique ROI, a point list, and two segments that overlap."""
    slicer, vtk = pytest.importorskip("slicer"), pytest.importorskip("vtk")
    from LRPExplainLib.scene.host import Application

    application = Application()
    scene = application.scene
    logic = application.adopt(slicer.vtkSlicerMarkupsLogic())

    def save(node: Any, name: str) -> Path:
        storage = node.CreateDefaultStorageNode()
        storage.SetFileName(str(tmp_path / name))
        assert storage.WriteData(node)
        return tmp_path / name

    box = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode")
    matrix = vtk.vtkMatrix4x4()
    axes = np.reshape(grid.direction, (3, 3)) * RAS[:, None]
    for row in range(3):
        for column in range(3):
            matrix.SetElement(row, column, axes[row, column])
        matrix.SetElement(row, 3, ras_of(grid, LANDMARK)[row])
    box.SetAndObserveObjectToNodeMatrix(matrix)
    box.SetSize(*(np.array(grid.spacing) * (2.9, 4.9, 0.9)))
    expected = read_markups(markups(tmp_path / "ours.mrk.json", roi(grid))).mask(grid, inside)
    np.testing.assert_array_equal(read_markups(save(box, "R.mrk.json")).mask(grid, inside), expected)

    points = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode")
    points.AddControlPoint(vtk.vtkVector3d(*ras_of(grid, LANDMARK)))
    assert the_voxel(read_markups(save(points, "F.mrk.json")).mask(grid, inside)) == LANDMARK
    del logic

    # Slicer cuts the voxels to the segments, and keeps those that overlap in layers
    segmentation = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    drawn = {}
    for name, (low, high) in {"one": (1, 5), "two": (3, 8)}.items():
        drawn[name] = np.zeros(grid.shape, np.uint8)
        drawn[name][low:high, low:high, low:high] = 1
        segment = slicer.vtkSegment()
        segment.SetName(name)
        segment.AddRepresentation("Binary labelmap", oriented(slicer, vtk, grid.image(drawn[name])))
        segmentation.GetSegmentation().AddSegment(segment)
    path = save(segmentation, "S.seg.nrrd")
    assert sitk.ReadImage(str(path)).GetSize() == (7, 7, 7)
    for name, voxels in drawn.items():
        np.testing.assert_array_equal(read_segment(path, name).mask(grid, inside), voxels > 0)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "no markups file"),
        ("{", "no markups file of Slicer's that can be read"),
        ("[]", "can be read"),
        ('{"markups": 3}', "can be read"),
        ('{"markups": []}', "holds nothing"),
        ('{"markups": [{"type": "Line"}]}', "holds Line, but an ROI or a point list is needed"),
        ('{"markups": [{"type": "ROI", "size": [1, 1, 1]}]}', "has no 'center'"),
        ('{"markups": [{"type": "ROI", "center": [0, 0], "size": [1, 1, 1]}]}', "can be read"),
        ('{"markups": [{"type": "ROI", "center": [0, 0, NaN], "size": [1, 1, 1]}]}', "box's centre"),
        ('{"markups": [{"type": "ROI", "center": [0, 0, 0], "size": [1, 1, 1], "insideOut": true}]}', "inside out"),
        ('{"markups": [{"type": "Fiducial", "controlPoints": []}]}', "no placed point"),
        ('{"markups": [{"type": "Fiducial", "controlPoints": [{"position": ["a", 1, 2]}]}]}', "can be read"),
        (
            '{"markups": [{"type": "Fiducial", "coordinateSystem": "IJK", "controlPoints": []}]}',
            "coordinate system 'IJK'",
        ),
        ('{"markups": [{"type": "Fiducial", "coordinateUnits": "um", "controlPoints": []}]}', "in 'um'"),
    ],
)
def test_malformed_markups_are_refused_in_one_sentence(tmp_path, content, expected):
    path = tmp_path / "x.mrk.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=expected) as caught:
        read_markups(path)
    assert "\n" not in str(caught.value)


def test_rotations_of_the_helpers_are_rotations():
    """What the oblique cases stand on."""
    matrix = rotation((0.3, -0.2, 0.4))
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
