"""What a card asks for gives the voxels that MONAI's transforms give."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from helpers.volumes import make_volume
from LRPExplainLib.imaging import prepare
from LRPExplainLib.models import Preprocessing
from monai import transforms as mt
from monai.data.meta_tensor import MetaTensor

VOLUMES = {
    "oblique": make_volume(),
    "flipped": make_volume(size=(21, 19, 17), spacing=(1.0, 1.3, 2.0), angles=(0.1, 3.0, 1.7), seed=3),
    "coarse": make_volume(size=(33, 30, 9), spacing=(0.8, 0.8, 6.5), angles=(1.5, 0.1, 0.0), seed=4),
}


def metatensor(*volumes: sitk.Image) -> MetaTensor:
    """[C, i, j, k] with nibabel's affine, as MONAI's LoadImage makes it."""
    first = volumes[0]
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(first.GetDirection()).reshape(3, 3) * first.GetSpacing()
    affine[:3, 3] = first.GetOrigin()
    arrays = [sitk.GetArrayFromImage(volume).transpose(2, 1, 0) for volume in volumes]
    return MetaTensor(torch.from_numpy(np.stack(arrays)), affine=np.diag([-1.0, -1, 1, 1]) @ affine)


def shifted(volume: sitk.Image) -> sitk.Image:
    """A second channel with zeros in it and another range."""
    array = sitk.GetArrayFromImage(volume)
    result = sitk.GetImageFromArray(np.where(array > 20, 3 * array - 40, 0).astype(np.float32))
    result.CopyInformation(volume)
    return result


def assert_agrees(preprocessing: Preprocessing, theirs: list, *volumes: sitk.Image) -> None:
    ours = prepare(list(volumes), preprocessing).tensor[0].permute(0, 3, 2, 1)  # MONAI's arrays are [C, i, j, k]
    expected = mt.Compose(theirs)(metatensor(*volumes)).as_tensor()
    assert tuple(ours.shape) == tuple(expected.shape)
    scale = float(expected.abs().max())
    torch.testing.assert_close(ours, expected.float(), atol=1e-4 * scale, rtol=0)


@pytest.mark.parametrize("name", VOLUMES)
@pytest.mark.parametrize("pixdim", [(1.5, 1.5, 2.0), (0.7, 1.0, 3.7), (2.9, 3.1, 1.0)])
def test_orientation_and_spacing(name, pixdim):
    """Bilinear Spacing looks between voxels, keeps the first voxel's place and continues the border."""
    theirs = [mt.Orientation("RAS"), mt.Spacing(pixdim, mode="bilinear")]
    ours = Preprocessing(orientation="RAS", spacing=pixdim, resampling="first-voxel", interpolation="linear")
    assert_agrees(ours, theirs, VOLUMES[name])


@pytest.mark.parametrize("pixdim", [(2.0, 1.0, 1.5), (0.6, 0.7, 1.5), (0.9, 1.1, 2.0)])
@pytest.mark.parametrize("angles", [(0.2, -0.1, 0.3), (0.35, 0.2, -0.15), (0.0, 0.0, 0.0)])
def test_spacing_of_an_oblique_file(tmp_path, pixdim, angles):
    """NIfTI's axes are in single precision, of which MONAI makes another grid."""
    file = tmp_path / "v.nii.gz"
    sitk.WriteImage(make_volume(angles=angles), str(file))
    theirs = [mt.LoadImage(), mt.EnsureChannelFirst(), mt.Orientation("RAS"), mt.Spacing(pixdim, mode="bilinear")]
    ours = Preprocessing(orientation="RAS", spacing=pixdim, resampling="first-voxel", interpolation="linear")
    found = prepare([sitk.ReadImage(str(file))], ours)
    expected = mt.Compose(theirs)(file)
    torch.testing.assert_close(found.tensor[0].permute(0, 3, 2, 1), expected.as_tensor(), atol=1e-2, rtol=0)
    np.testing.assert_allclose(found.grid.ijk_to_ras, expected.affine, atol=1e-3)


def test_arrays_as_they_are():
    assert_agrees(Preprocessing(), [mt.Identity()], VOLUMES["oblique"])
    assert_agrees(Preprocessing(orientation="LPS"), [mt.Orientation("LPS")], VOLUMES["flipped"])


PIXDIM = (1.17, 1.21, 1.3)
# Where new and old voxels coincide, MONAI's rounding errors leave some 1e-14 of the neighbours: "not 0" to a step that
# asks for it. That cannot be matched, so these voxels are made 0.
SPACING = mt.Compose([mt.Spacing(PIXDIM, mode="bilinear"), mt.Lambda(lambda x: torch.where(x.abs() < 1e-9, 0, x))])

INTENSITY = {
    "range": (
        [{"type": "range", "lower": 10, "upper": 80, "to": [-1, 1]}],
        [mt.ScaleIntensityRange(10, 80, -1, 1, clip=True)],
    ),
    "range without clip": (
        [{"type": "range", "lower": 10, "upper": 80, "clip": False}],
        [mt.ScaleIntensityRange(10, 80, 0, 1)],
    ),
    "minmax over all channels": (
        [{"type": "minmax", "to": [-2, 3], "together": True}],
        [mt.ScaleIntensity(-2, 3)],
    ),
    "minmax": ([{"type": "minmax"}], [mt.ScaleIntensity(channel_wise=True)]),
    "percentiles": (
        [{"type": "percentile", "lower": 3, "upper": 97, "to": [0, 255]}],
        [mt.ScaleIntensityRangePercentiles(3, 97, 0, 255, clip=True, channel_wise=True)],
    ),
    "percentiles over all channels": (
        [{"type": "percentile", "lower": 3, "upper": 97, "clip": False, "together": True}],
        [mt.ScaleIntensityRangePercentiles(3, 97, 0, 1)],
    ),
    "relative percentiles": (
        [{"type": "percentile", "lower": 5, "upper": 90, "to": [-1, 3], "relative": True}],
        [mt.ScaleIntensityRangePercentiles(5, 90, -1, 3, clip=True, relative=True, channel_wise=True)],
    ),
    "clipped percentiles": (
        [{"type": "percentile", "lower": 5, "upper": 90, "to": None}],
        [mt.ClipIntensityPercentiles(5, 90, channel_wise=True)],
    ),
    "normalised": ([{"type": "zscore"}], [mt.NormalizeIntensity(channel_wise=True)]),
    "normalised where not zero": (
        [{"type": "zscore", "nonzero": True}],
        [mt.NormalizeIntensity(nonzero=True, channel_wise=True)],
    ),
    "normalised over all channels": (
        [{"type": "zscore", "nonzero": True, "together": True}],
        [mt.NormalizeIntensity(nonzero=True)],
    ),
    "given mean and deviation": (
        [{"type": "zscore", "mean": 10, "std": 4, "channels": [0]}, {"type": "zscore", "mean": 7, "channels": [1]}],
        [
            mt.Lambda(
                lambda x: torch.cat([mt.NormalizeIntensity(10, 4)(x[:1]), mt.NormalizeIntensity(subtrahend=7)(x[1:])])
            )
        ],
    ),
    "two steps": (
        [{"type": "zscore", "nonzero": True}, {"type": "minmax", "to": [-1, 1]}],
        [mt.NormalizeIntensity(nonzero=True, channel_wise=True), mt.ScaleIntensity(-1, 1, channel_wise=True)],
    ),
    "a factor": ([{"type": "linear", "factor": 1.25}], [mt.ScaleIntensity(None, None, factor=0.25)]),
    "an offset": ([{"type": "linear", "offset": 12.5}], [mt.ShiftIntensity(12.5)]),
}


@pytest.mark.parametrize("case", INTENSITY)
@pytest.mark.parametrize("first", [False, True])
def test_intensity_steps(case, first):
    steps, theirs = INTENSITY[case]
    volume = VOLUMES["oblique"]
    ours = Preprocessing(
        spacing=PIXDIM,
        resampling="first-voxel",
        interpolation="linear",
        intensity=tuple(steps),
        intensity_first=first,
    )
    assert_agrees(ours, [*theirs, SPACING] if first else [SPACING, *theirs], volume, shifted(volume))


STEP = {"type": "range", "lower": 0, "upper": 100, "to": [-0.5, 0.5], "clip": False}
SCALE = mt.ScaleIntensityRange(0, 100, -0.5, 0.5)


@pytest.mark.parametrize(
    ("crop", "theirs"),
    [
        (
            {"above": 30, "when": "first"},
            [mt.CropForeground(lambda x: x > 30, allow_smaller=True), SPACING, SCALE],
        ),
        (
            {"above": 30, "margin": 3, "when": "first"},
            [mt.CropForeground(lambda x: x > 30, margin=3, allow_smaller=True), SPACING, SCALE],
        ),
        ({"above": 40, "when": "resampled"}, [SPACING, mt.CropForeground(lambda x: x > 40), SCALE]),
        ({"when": "last"}, [SPACING, SCALE, mt.CropForeground()]),
        (
            {"margin": 4, "when": "last"},
            [SPACING, SCALE, mt.CropForeground(margin=4, allow_smaller=False), mt.DivisiblePad(16)],
        ),
    ],
)
def test_crops_to_the_foreground(crop, theirs):
    volume = make_volume(size=(40, 38, 20), spacing=(1.0, 1.1, 2.0))
    ours = Preprocessing(
        spacing=PIXDIM,
        resampling="first-voxel",
        interpolation="linear",
        crop=crop,
        intensity=(STEP,),
        size_multiple=16 if crop.get("margin") == 4 else 1,
    )
    assert_agrees(ours, theirs, volume, shifted(volume))


def test_sizes():
    volume = VOLUMES["flipped"]
    size = Preprocessing(size=(19, 12, 24))
    assert_agrees(size, [mt.ResizeWithPadOrCrop((19, 12, 24))], volume)
    assert_agrees(Preprocessing(size_multiple=8), [mt.DivisiblePad(8)], volume)
    some = Preprocessing(size=(0, 12, 0), minimum_size=(24, 0, 18))
    assert_agrees(some, [mt.ResizeWithPadOrCrop((-1, 12, -1)), mt.SpatialPad((24, -1, 18))], volume)
