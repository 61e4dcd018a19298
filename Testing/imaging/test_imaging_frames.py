"""DICOM files of many frames: each frame lies where it says, and what makes no volume is refused."""

import sys

import numpy as np
import pytest
import SimpleITK as sitk
from helpers.dicom import enhanced, frame
from helpers.volumes import make_volume
from LRPExplainLib.errors import UserError
from LRPExplainLib.imaging.grid import Grid
from LRPExplainLib.imaging.reading import read_volume, volume_files

pytest.importorskip("pydicom")


@pytest.fixture(scope="module")
def volume():
    return sitk.Cast(make_volume(), sitk.sitkInt16)


def assert_same(read, volume, scale=1.0):
    np.testing.assert_allclose(sitk.GetArrayFromImage(read), scale * sitk.GetArrayFromImage(volume))
    np.testing.assert_allclose(Grid.of(read).axes, Grid.of(volume).axes, atol=1e-5)
    np.testing.assert_allclose(read.GetOrigin(), volume.GetOrigin(), atol=1e-5)


@pytest.mark.parametrize("order", ["as they lie", "reversed", "shuffled"])
def test_frames_are_read_where_they_lie_whatever_their_order(tmp_path, volume, order):
    frames = list(range(volume.GetSize()[2]))
    if order == "reversed":
        frames.reverse()
    if order == "shuffled":
        np.random.default_rng(1).shuffle(frames)
    enhanced(volume, frames).save_as(tmp_path / "many.dcm")
    assert_same(read_volume(tmp_path / "many.dcm"), volume)


def test_a_file_of_frames_is_read_in_its_folder_too(tmp_path, volume):
    enhanced(volume).save_as(tmp_path / "many.dcm")
    assert_same(read_volume(tmp_path), volume)
    assert volume_files(tmp_path) == [tmp_path / "many.dcm"]


def test_each_frame_has_its_own_rescaling(tmp_path, volume):
    stored = sitk.GetArrayFromImage(volume)
    dataset = enhanced(volume, rescale=lambda k: (0.5 + k, -3.0))
    dataset.save_as(tmp_path / "many.dcm")
    expected = stored * (0.5 + np.arange(len(stored)))[:, None, None] - 3
    np.testing.assert_allclose(sitk.GetArrayFromImage(read_volume(tmp_path / "many.dcm")), expected)
    whole = enhanced(volume, rescale=lambda k: (2, -1024))
    whole.save_as(tmp_path / "whole.dcm")
    read = read_volume(tmp_path / "whole.dcm")
    assert read.GetPixelID() == sitk.sitkInt32
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read), stored * 2 - 1024)


@pytest.mark.parametrize("signed", [True, False])
def test_frames_whose_low_values_are_bright_are_read_as_they_are_seen(tmp_path, volume, signed):
    """MONOCHROME1: of 12 bits without a sign v becomes 4095 - v, of 16 with one -1 - v; before the rescaling."""
    stored = sitk.GetArrayFromImage(sitk.Abs(volume)).astype(int)
    dataset = enhanced(sitk.Cast(sitk.Abs(volume), sitk.sitkInt16), rescale=lambda k: (2, -1000))
    dataset.PhotometricInterpretation = "MONOCHROME1"
    if not signed:
        dataset.PixelRepresentation, dataset.BitsStored, dataset.HighBit = 0, 12, 11
    dataset.save_as(tmp_path / "many.dcm")
    seen = -1 - stored if signed else 4095 - stored
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read_volume(tmp_path / "many.dcm")), 2 * seen - 1000)


def _moved(change):
    def make(volume):
        dataset = enhanced(volume)
        for k in range(dataset.NumberOfFrames):
            plane = frame(dataset, k).PlanePositionSequence[0]
            plane.ImagePositionPatient = [*np.asarray(plane.ImagePositionPatient, float) + change(k)]
        return dataset

    return make


def _turned(volume):
    dataset = enhanced(volume)
    for k in range(6):
        frame(dataset, k).PlaneOrientationSequence[0].ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    return dataset


def _without_places(volume):
    """As a film of ultrasound."""
    dataset = enhanced(volume)
    del dataset.PerFrameFunctionalGroupsSequence
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.3.1"
    dataset.Modality = "US"
    return dataset


def _endless(volume):
    dataset = _without_places(volume)
    dataset.NumberOfFrames = 2_000_000_000
    return dataset


def _without_spacing(volume):
    dataset = enhanced(volume)
    del dataset.SharedFunctionalGroupsSequence
    return dataset


def _of_two_sizes(volume):
    dataset = enhanced(volume)
    measures = type(dataset)()
    measures.PixelSpacing = [3, 3]
    frame(dataset, 3).PixelMeasuresSequence = [measures]
    return dataset


def _cut_off(volume):
    dataset = enhanced(volume)
    dataset.PixelData = dataset.PixelData[:1000]
    return dataset


def _fewer_described(volume):
    dataset = enhanced(volume)
    del dataset.PerFrameFunctionalGroupsSequence[-1]
    return dataset


NORMAL = np.reshape(make_volume().GetDirection(), (3, 3))[:, 2]
BAD = {
    "missing frame": (lambda v: enhanced(v, [0, 1, 2, 4, 5, 6]), "unevenly spaced"),
    "uneven": (_moved(lambda k: 5 * NORMAL * (k > 6)), "unevenly spaced"),
    "sheared": (_moved(lambda k: (0.5 * k, 0, 0)), "sheared|unevenly"),
    "two points in time": (lambda v: enhanced(v, [*range(6), *range(6)]), "several slices at one place"),
    "two orientations": (_turned, "several orientations"),
    "film": (_without_places, "do not say where they lie"),
    "endless": (_endless, "more than there are in any"),
    "no spacing": (_without_spacing, "how large their voxels are"),
    "two voxel sizes": (_of_two_sizes, "several voxel sizes"),
    "cut off": (_cut_off, "cannot be read"),
    "not all described": (_fewer_described, "does not describe each frame"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_makes_no_volume_is_refused(tmp_path, volume, case):
    make, expected = BAD[case]
    make(volume).save_as(tmp_path / "many.dcm")
    with pytest.raises(UserError, match=expected) as caught:
        read_volume(tmp_path / "many.dcm")
    assert "\n" not in str(caught.value)


def test_without_pydicom_many_frames_are_refused(tmp_path, volume, monkeypatch):
    enhanced(volume).save_as(tmp_path / "many.dcm")
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(UserError, match="pip install pydicom"):
        read_volume(tmp_path / "many.dcm")
