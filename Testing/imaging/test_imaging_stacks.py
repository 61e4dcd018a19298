"""RT Dose and reconstructed Nuclear Medicine: frames that are a stack lie where DICOM says, or are refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from helpers.dicom import item, rt_dose, spect
from helpers.volumes import make_volume
from LRPExplainLib.errors import UserError
from LRPExplainLib.imaging.grid import Grid
from LRPExplainLib.imaging.reading import read_volume

pytest.importorskip("pydicom")


@pytest.fixture(scope="module")
def volume() -> sitk.Image:
    """Oblique."""
    return sitk.Cast(sitk.RescaleIntensity(make_volume(), 0, 1000), sitk.sitkUInt16)


@pytest.fixture(scope="module")
def axial() -> sitk.Image:
    image = make_volume(angles=(0.0, 0.0, 0.0))
    return sitk.Cast(sitk.RescaleIntensity(image, 0, 1000), sitk.sitkUInt16)


def assert_same(path: Path, volume: sitk.Image, scale: float = 1.0) -> None:
    """The file is this volume, voxel by voxel at each place, in whichever order its slices are kept."""
    read = read_volume(path)
    expected, grid = sitk.GetArrayFromImage(volume), Grid.of(volume)
    np.testing.assert_allclose(sitk.GetArrayFromImage(read), scale * expected, rtol=1e-6)
    np.testing.assert_allclose(Grid.of(read).axes, grid.axes, atol=1e-5)
    np.testing.assert_allclose(read.GetOrigin(), grid.origin, atol=1e-5)


def test_a_dose_lies_where_its_offsets_say_and_is_in_its_units(tmp_path: Path, volume: sitk.Image) -> None:
    rt_dose(volume, 0.002).save_as(tmp_path / "dose.dcm")
    assert_same(tmp_path / "dose.dcm", volume, 0.002)
    assert read_volume(tmp_path).GetPixelID() == sitk.sitkFloat32


def test_a_dose_may_tell_patient_coordinates_of_axial_planes(tmp_path: Path, axial: sitk.Image) -> None:
    rt_dose(axial, absolute=True).save_as(tmp_path / "dose.dcm")
    assert_same(tmp_path / "dose.dcm", axial, 0.25)


def test_a_dose_whose_planes_go_down_is_turned_up(tmp_path: Path, volume: sitk.Image) -> None:
    dose = rt_dose(volume)
    last = volume.TransformIndexToPhysicalPoint((0, 0, volume.GetSize()[2] - 1))
    dose.ImagePositionPatient = [round(x, 8) for x in last]
    dose.GridFrameOffsetVector = [-float(offset) for offset in dose.GridFrameOffsetVector]
    dose.PixelData = sitk.GetArrayFromImage(volume)[::-1].astype("<u4").tobytes()
    dose.save_as(tmp_path / "dose.dcm")
    assert_same(tmp_path / "dose.dcm", volume, 0.25)


def test_a_dose_of_large_whole_numbers_is_no_overflow(tmp_path: Path, volume: sitk.Image) -> None:
    rt_dose(volume, 10_000_000.0).save_as(tmp_path / "dose.dcm")
    assert_same(tmp_path / "dose.dcm", volume, 1e7)


@pytest.mark.parametrize("against", [False, True], ids=["along", "against"])
def test_slices_of_a_reconstruction_are_stacked_along_the_normal_or_against_it(
    tmp_path: Path, volume: sitk.Image, against: bool
) -> None:
    spect(volume, against).save_as(tmp_path / "spect.dcm")
    assert_same(tmp_path / "spect.dcm", volume)


def test_a_reconstruction_may_be_rescaled(tmp_path: Path, volume: sitk.Image) -> None:
    dataset = spect(volume)
    dataset.RescaleSlope, dataset.RescaleIntercept = 0.5, 0
    dataset.save_as(tmp_path / "spect.dcm")
    assert_same(tmp_path / "spect.dcm", volume, 0.5)


def _without(make: Callable[..., Any], name: str) -> Callable[[sitk.Image], Any]:
    def made(volume: sitk.Image) -> Any:
        dataset = make(volume)
        delattr(dataset, name)
        return dataset

    return made


def _with(make: Callable[..., Any], **elements: Any) -> Callable[[sitk.Image], Any]:
    def made(volume: sitk.Image) -> Any:
        dataset = make(volume)
        for name, value in elements.items():
            setattr(dataset, name, value(dataset) if callable(value) else value)
        return dataset

    return made


def _other_detector(dataset: Any) -> list[Any]:
    (one,) = dataset.DetectorInformationSequence
    return [one, item(ImagePositionPatient=[1, 2, 3], ImageOrientationPatient=list(one.ImageOrientationPatient))]


BAD = {
    "no offsets": (_without(rt_dose, "GridFrameOffsetVector"), "where each of its planes lies"),
    "no scaling": (_without(rt_dose, "DoseGridScaling"), "what its values mean"),
    "no position": (_without(rt_dose, "ImagePositionPatient"), "where each of its planes lies"),
    "fewer offsets": (
        _with(rt_dose, GridFrameOffsetVector=lambda d: list(d.GridFrameOffsetVector)[:-1]),
        "where each of its planes lies",
    ),
    "oblique coordinates": (lambda volume: rt_dose(volume, absolute=True), "in no way that DICOM knows"),
    "uneven": (
        _with(rt_dose, GridFrameOffsetVector=lambda d: [float(o) ** 1.2 for o in d.GridFrameOffsetVector]),
        "unevenly spaced",
    ),
    "projections": (_with(spect, ImageType=["ORIGINAL", "PRIMARY", "TOMO"]), "no reconstructed volume"),
    "gated": (
        _with(
            spect,
            ImageType=["ORIGINAL", "PRIMARY", "RECON GATED TOMO"],
            FrameIncrementPointer=[0x00540070, 0x00540080],
        ),
        "no reconstructed volume",
    ),
    "no step": (_without(spect, "SpacingBetweenSlices"), "where its slices lie"),
    "no detector": (_without(spect, "DetectorInformationSequence"), "where its slices lie"),
    "two places": (_with(spect, DetectorInformationSequence=_other_detector), "where its slices lie"),
    "out of order": (_with(spect, SliceVector=lambda d: list(d.SliceVector)[::-1]), "not stored in their order"),
    "twice": (_with(spect, SliceVector=lambda d: [1] * len(d.SliceVector)), "not stored in their order"),
    "no numbers": (_without(spect, "SliceVector"), "not stored in their order"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_say_where_it_lies_is_refused(tmp_path: Path, volume: sitk.Image, case: str) -> None:
    make, expected = BAD[case]
    make(volume).save_as(tmp_path / "bad.dcm")
    with pytest.raises(UserError, match=expected) as caught:
        read_volume(tmp_path / "bad.dcm")
    assert "\n" not in str(caught.value)
