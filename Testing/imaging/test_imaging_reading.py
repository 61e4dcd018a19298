"""Reading volumes, and refusing what is none."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from helpers.volumes import make_volume, write_series
from LRPExplainLib.errors import UserError
from LRPExplainLib.imaging.grid import Grid
from LRPExplainLib.imaging.reading import read_volume, volume_files


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha", ".mhd"])
def test_files_keep_voxels_and_oblique_geometry(tmp_path, oblique_volume, suffix):
    path = tmp_path / f"volume{suffix}"
    sitk.WriteImage(oblique_volume, str(path))
    read = read_volume(path)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read), sitk.GetArrayFromImage(oblique_volume))
    np.testing.assert_allclose(Grid.of(read).axes, Grid.of(oblique_volume).axes, atol=1e-5)
    np.testing.assert_allclose(read.GetOrigin(), oblique_volume.GetOrigin(), atol=1e-4)
    assert volume_files(path) == [path]


def test_a_dicom_series_folder_is_a_volume(tmp_path, oblique_volume):
    volume = sitk.Cast(oblique_volume, sitk.sitkInt16)
    write_series(volume, tmp_path / "series")
    read = read_volume(tmp_path / "series")
    assert read.GetSize() == volume.GetSize()
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read), sitk.GetArrayFromImage(volume))
    np.testing.assert_allclose(Grid.of(read).axes, Grid.of(volume).axes, atol=1e-4)
    np.testing.assert_allclose(read.GetOrigin(), volume.GetOrigin(), atol=1e-4)
    assert len(volume_files(tmp_path / "series")) == volume.GetSize()[2]


def test_a_single_time_point_is_a_volume(tmp_path, oblique_volume):
    path = tmp_path / "one.nii.gz"
    sitk.WriteImage(sitk.JoinSeries([oblique_volume]), str(path))
    assert read_volume(path).GetSize() == oblique_volume.GetSize()


def _missing(folder: Path) -> Path:
    return folder / "nowhere.nii.gz"


def _text(folder: Path) -> Path:
    path = folder / "notes.txt"
    path.write_text("not an image")
    return path


def _text_named_as_image(folder: Path) -> Path:
    path = folder / "notes.nii.gz"
    path.write_text("not an image")
    return path


def _truncated(folder: Path) -> Path:
    path = folder / "cut.nrrd"
    sitk.WriteImage(make_volume(), str(path))
    path.write_bytes(path.read_bytes()[:2000])
    return path


def _written(folder: Path, image: sitk.Image, name: str = "volume.nrrd") -> Path:
    sitk.WriteImage(image, str(folder / name))
    return folder / name


def _with_voxel(value: float) -> sitk.Image:
    volume = make_volume()
    volume[3, 4, 5] = value
    return volume


def _two_series(folder: Path) -> Path:
    volume = sitk.Cast(make_volume(), sitk.sitkInt16)
    write_series(volume, folder / "two", "1.2.826.0.1.3680043.2.1125.1")
    write_series(volume, folder / "two", "1.2.826.0.1.3680043.2.1125.2")
    return folder / "two"


def _missing_slice(folder: Path) -> Path:
    write_series(sitk.Cast(make_volume(), sitk.sitkInt16), folder / "gap", skip=6)
    return folder / "gap"


def _mixed_sizes(folder: Path) -> Path:
    volume = sitk.Cast(make_volume(), sitk.sitkInt16)
    write_series(volume, folder / "mixed")
    write_series(volume[:20, :, 4:5], folder / "mixed")  # overwrites the first slice with a smaller one
    return folder / "mixed"


def _single_slice(folder: Path) -> Path:
    write_series(sitk.Cast(make_volume(), sitk.sitkInt16), folder / "series")
    return folder / "series" / "1-003.dcm"


BAD = {
    "missing": (_missing, "no file or folder"),
    "text": (_text, "not an image"),
    "text named as image": (_text_named_as_image, "not an image|damaged"),
    "truncated": (_truncated, "damaged"),
    "4D": (lambda f: _written(f, sitk.JoinSeries([make_volume()] * 3), "t.nii.gz"), "4 dimensions"),
    "RGB": (lambda f: _written(f, sitk.Compose([sitk.Cast(make_volume(), sitk.sitkUInt8)] * 3)), "3 values per voxel"),
    "NaN": (lambda f: _written(f, _with_voxel(float("nan"))), "1 NaN or infinite voxels"),
    "infinite": (lambda f: _written(f, _with_voxel(float("inf"))), "1 NaN or infinite voxels"),
    "constant": (lambda f: _written(f, make_volume() * 0), "same value"),
    "empty folder": (lambda f: f, "no DICOM series"),
    "two series": (_two_series, "2 DICOM series"),
    "missing slice": (_missing_slice, "unevenly spaced"),
    "mixed sizes": (_mixed_sizes, "could not be read"),
    "single slice": (_single_slice, "single DICOM slice"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_in_one_sentence(tmp_path, case, capfd):
    make, expected = BAD[case]
    path = make(tmp_path)
    capfd.readouterr()
    with pytest.raises(UserError, match=expected) as caught:
        read_volume(path)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["x-ray.nrrd", "x-ray.png", "x-ray.tif", "x-ray.mha"])
def test_an_image_of_two_dimensions_is_a_volume_of_one_slice(tmp_path, name):
    flat = sitk.Cast(make_volume(spacing=(0.5, 0.7, 1.0), angles=(0.0, 0.0, 0.0))[:, :, 3], sitk.sitkUInt8)
    volume = read_volume(_written(tmp_path, flat, name))
    assert volume.GetSize() == (30, 26, 1)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(volume)[0], sitk.GetArrayFromImage(flat))
    if name.endswith((".nrrd", ".mha")):
        assert volume.GetSpacing() == (0.5, 0.7, 1.0)


def test_an_x_ray_in_dicom_is_read_from_its_file(tmp_path):
    flat = sitk.Cast(make_volume()[:, :, 3:4], sitk.sitkUInt16)
    flat.SetMetaData("0008|0060", "DX")
    path = _written(tmp_path, flat, "x-ray.dcm")
    volume = read_volume(path)
    assert volume.GetSize() == (30, 26, 1)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(volume), sitk.GetArrayFromImage(flat))
