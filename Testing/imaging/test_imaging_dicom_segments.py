"""DICOM Segmentations: each segment lies where its frames say."""

import numpy as np
import pytest
import SimpleITK as sitk
from helpers.dicom import segmentation, slices_of
from helpers.volumes import make_volume, write_series
from LRPExplainLib.errors import UserError
from LRPExplainLib.imaging import read_segment, read_segments, read_volume
from LRPExplainLib.imaging.segmentation import read_labels

highdicom = pytest.importorskip("highdicom")


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    folder = tmp_path_factory.mktemp("segments") / "series"
    write_series(sitk.Cast(make_volume(), sitk.sitkInt16), folder)
    return folder


@pytest.fixture(scope="module")
def source(series):
    return slices_of(series)


@pytest.fixture(scope="module")
def masks(series):
    """A tumour with a hole in the slices between its parts, and an organ apart from it."""
    tumour = np.zeros(sitk.GetArrayFromImage(read_volume(series)).shape, bool)
    organ = tumour.copy()
    tumour[3:5, 4:9, 5:12] = tumour[8, 4:6, 5:7] = True
    organ[6:10, 12:20, 10:25] = True
    return {"Tumour": tumour, "organ": organ}


def on_volume(segment, series):
    return sitk.GetArrayFromImage(
        sitk.Resample(segment.image, read_volume(series), sitk.Transform(), sitk.sitkNearestNeighbor)
    ).astype(bool)


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
@pytest.mark.parametrize("whole", [True, False], ids=["all planes", "planes that are not empty"])
def test_segments_lie_where_their_frames_say(tmp_path, series, source, masks, kind, whole):
    if kind not in highdicom.seg.SegmentationTypeValues.__members__:
        pytest.skip(f"highdicom {highdicom.__version__} makes no {kind}")
    path = tmp_path / "labels.dcm"
    segmentation(source, masks, kind, omit_empty_frames=not whole).save_as(path)
    found = read_segments(path)
    assert [segment.name for segment in found] == ["Tumour", "organ"]
    for segment in found:
        np.testing.assert_array_equal(on_volume(segment, series), masks[segment.name])
    for chosen in ("tumour", "1", "label 1", 1):
        segment = read_segment(path, chosen)
        assert segment.name == "Tumour"
        np.testing.assert_array_equal(on_volume(segment, series), masks["Tumour"])
    np.testing.assert_array_equal(on_volume(read_segment(path), series), masks["Tumour"] | masks["organ"])
    with pytest.raises(UserError, match="choose one of Tumour, organ"):
        read_segment(path, "3")


@pytest.mark.parametrize("told", [0.62, 5.0, None], ids=["rounded", "wrong", "not told"])
def test_slices_are_as_far_apart_as_they_lie(tmp_path, told):
    """Whatever their thickness: rounded figures add up over many slices."""
    many = sitk.Cast(make_volume((10, 8, 300), (1.0, 1.0, 0.6249)), sitk.sitkInt16)
    write_series(many, tmp_path / "many", told=lambda k, tags: {**tags, "0018|0050": "0.3"})
    mask = np.random.default_rng(0).random((300, 8, 10)) > 0.9
    mask[5:40] = False
    mask[0, 0, 0] = True
    made = segmentation(slices_of(tmp_path / "many"), {"all": mask}, "BINARY")
    measures = made.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    if told is not None:
        measures.SpacingBetweenSlices = told
    elif "SpacingBetweenSlices" in measures:
        del measures.SpacingBetweenSlices
    made.save_as(tmp_path / "labels.dcm")
    segment = read_segment(tmp_path / "labels.dcm", "all")
    assert segment.image.GetSpacing()[2] == pytest.approx(0.6249, rel=1e-4)
    np.testing.assert_array_equal(on_volume(segment, tmp_path / "many"), mask)


def test_segments_that_overlap_are_both_whole(tmp_path, series, source, masks):
    path = tmp_path / "labels.dcm"
    both = {"core": masks["Tumour"], "whole": masks["Tumour"] | masks["organ"]}
    segmentation(source, both, "BINARY").save_as(path)
    for segment in read_segments(path):
        np.testing.assert_array_equal(on_volume(segment, series), both[segment.name])
    with pytest.raises(UserError, match="overlap"):
        read_labels(path, [1, 2])


def test_a_segmentation_is_a_label_map_for_a_next_stage(tmp_path, series, source, masks):
    path = tmp_path / "labels.dcm"
    segmentation(source, masks, "BINARY").save_as(path)
    labels = read_labels(path, [1, 2])
    assert np.unique(sitk.GetArrayFromImage(labels)).tolist() == [0, 1, 2]
    with pytest.raises(UserError, match="none of 7"):
        read_labels(path, [7])


def test_a_segmentation_is_no_volume(tmp_path, source, masks):
    segmentation(source, masks, "BINARY").save_as(tmp_path / "labels.dcm")
    for path in (tmp_path / "labels.dcm", tmp_path):
        with pytest.raises(UserError, match="is a segmentation"):
            read_volume(path)


def test_frames_beside_their_grid_are_refused(tmp_path, source, masks):
    path = tmp_path / "labels.dcm"
    made = segmentation(source, masks, "BINARY")
    plane = made.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence[0]
    plane.ImagePositionPatient = [value + 1.2 for value in plane.ImagePositionPatient]
    made.save_as(path)
    with pytest.raises(UserError, match="do not lie on one grid"):
        read_segment(path)
    del made.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence
    made.save_as(path)
    with pytest.raises(UserError, match="do not lie on one grid"):
        read_segment(path)


def test_segments_of_one_name_are_told_apart(tmp_path, series, source, masks):
    path = tmp_path / "labels.dcm"
    made = segmentation(source, masks, "BINARY")
    for entry in made.SegmentSequence:
        entry.SegmentLabel = "lesion"
    made.save_as(path)
    assert [segment.name for segment in read_segments(path)] == ["lesion (1)", "lesion (2)"]
    np.testing.assert_array_equal(on_volume(read_segment(path, "lesion (2)"), series), masks["organ"])


def test_a_damaged_segmentation_is_refused_in_one_sentence(tmp_path, source, masks):
    made = segmentation(source, masks, "BINARY")
    del made.Columns
    made.save_as(tmp_path / "damaged.dcm")
    with pytest.raises(UserError, match="is damaged"):
        read_segment(tmp_path / "damaged.dcm")


def test_a_segmentation_that_would_fill_the_memory_is_refused(tmp_path, source, masks):
    made = segmentation(source, masks, "BINARY")
    made.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices = "0.000001"
    made.save_as(tmp_path / "endless.dcm")
    with pytest.raises(UserError, match="more than any volume has"):
        read_segment(tmp_path / "endless.dcm")
