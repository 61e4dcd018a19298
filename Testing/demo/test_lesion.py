"""Planted lesions: the same for the same seed, where they should be, and visible."""

import importlib.util

import numpy as np
import pytest
import SimpleITK as sitk
from LRPExplainLib.demo import demo_case, mni152_path, plant_lesion
from LRPExplainLib.errors import UserError
from LRPExplainLib.imaging.grid import Grid

needs_brain = pytest.mark.skipif(importlib.util.find_spec("nilearn") is None, reason="nilearn carries the brain")


def ball(
    radius_mm: float = 60.0, spacing: tuple[float, float, float] = (2.0, 2.0, 2.0), size_mm: float = 150.0
) -> sitk.Image:
    """A bright ball (200, faintly noisy) on black, centred on the origin, in an oblique volume."""
    size = [int(size_mm / step) for step in spacing]
    image = sitk.Image(size, sitk.sitkInt16)
    image.SetSpacing(spacing)
    image.SetDirection(sitk.Euler3DTransform((0, 0, 0), 0.2, -0.3, 0.4).GetMatrix())
    middle = image.TransformContinuousIndexToPhysicalPoint([(count - 1) / 2 for count in size])
    image.SetOrigin([-coordinate for coordinate in middle])
    shape = size[::-1]
    axes = [(np.arange(count) - (count - 1) / 2) * step for count, step in zip(shape, spacing[::-1], strict=True)]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    noise = np.random.default_rng(5).normal(200, 4, shape)
    voxels = np.where(x**2 + y**2 + z**2 <= radius_mm**2, noise, 0).astype(np.int16)
    result = sitk.GetImageFromArray(voxels)
    result.CopyInformation(image)
    return result


def array(image: sitk.Image) -> np.ndarray:
    return sitk.GetArrayFromImage(image)


def test_the_seed_decides() -> None:
    brain = ball()
    first, again, other = (plant_lesion(brain, seed) for seed in (7, 7, 8))
    assert np.array_equal(array(first[0]), array(again[0]))
    assert np.array_equal(array(first[1]), array(again[1]))
    assert not np.array_equal(array(first[1]), array(other[1]))


@pytest.mark.parametrize("seed", range(6))
def test_the_lesion_is_in_the_brain_and_leaves_the_rest_alone(seed: int) -> None:
    brain = ball()
    before = array(brain)
    image, mask = plant_lesion(brain, seed)
    assert Grid.of(image) == Grid.of(brain)
    assert Grid.of(mask) == Grid.of(brain)
    assert image.GetPixelID() == sitk.sitkFloat32
    assert mask.GetPixelID() == sitk.sitkUInt8
    lesion = array(mask) > 0
    assert 0.3 < lesion.sum() * 8 / 1000 < 40  # ml
    assert (before[lesion] > 0).all()
    changed = array(image) != before
    assert changed[lesion].mean() > 0.95
    assert (array(image)[before == 0] == 0).all()
    far = array(sitk.SignedMaurerDistanceMap(mask, squaredDistance=False, useImageSpacing=True, insideIsPositive=False))
    assert not changed[far > 30].any()


@pytest.mark.parametrize("seed", range(6))
def test_the_lesion_stands_out(seed: int) -> None:
    """By at least a quarter of the brain's intensity range; here a brain with a dark and a bright half."""
    brain = sitk.Cast(ball(), sitk.sitkFloat32)
    voxels = array(brain)
    voxels[:, :, : voxels.shape[2] // 2] *= 0.5
    brain = sitk.GetImageFromArray(voxels)
    brain.SetSpacing((2.0, 2.0, 2.0))
    image, mask = plant_lesion(brain, seed)
    lesion = array(mask) > 0
    low, high = np.percentile(voxels[voxels > 0], [2, 98])
    difference = abs(np.median(array(image)[lesion]) - np.median(voxels[lesion]))
    assert difference > 0.25 * (high - low)


def test_the_shape_does_not_depend_on_the_voxels() -> None:
    """The same seed on coarse and on fine voxels: a lesion of the same volume, to within what voxels can tell."""
    volumes = []
    for spacing in ((2.0, 2.0, 2.0), (1.5, 1.5, 3.0)):
        _, mask = plant_lesion(ball(spacing=spacing), 11)
        volumes.append(array(mask).sum() * np.prod(spacing))
    assert volumes[0] == pytest.approx(volumes[1], rel=0.1)


def test_the_given_mask_of_the_brain_is_kept_to() -> None:
    head = ball()
    brain = sitk.Cast(sitk.Equal(ball(radius_mm=35.0) > 100, 1), sitk.sitkUInt8)
    _, mask = plant_lesion(head, 3, brain)
    assert array(mask).any()
    assert (array(brain)[array(mask) > 0] > 0).all()


def test_what_cannot_hold_a_lesion_is_refused() -> None:
    flat = sitk.Image([20, 20, 20], sitk.sitkFloat32)
    with pytest.raises(UserError, match="no brain"):
        plant_lesion(flat, 0)
    with pytest.raises(UserError, match="no place"):
        plant_lesion(ball(radius_mm=3.0, size_mm=60.0), 0)
    for seed in (-1, (3, -1)):
        with pytest.raises(UserError, match=r"^-1 is no seed"):
            plant_lesion(ball(), seed)
    with pytest.raises(UserError, match="geometry"):
        plant_lesion(ball(), 0, flat)


@needs_brain
def test_the_demo_case_is_a_real_brain_with_one_known_change() -> None:
    case, again = demo_case(0), demo_case(0)
    template = sitk.ReadImage(str(mni152_path()))
    assert case.image.GetSize() == (197, 233, 189)
    assert case.image.GetSpacing() == (1.0, 1.0, 1.0)
    assert Grid.of(case.image) == Grid.of(template)
    assert Grid.of(case.mask) == Grid.of(template)
    assert np.array_equal(array(case.image), array(again.image))
    assert np.array_equal(array(case.mask), array(again.mask))
    lesion, before = array(case.mask) > 0, array(template)
    assert (before[lesion] > 0).all()
    share_changed = (np.abs(array(case.image) - before) > 1e-3).mean()
    assert lesion.mean() < share_changed < 0.02


@needs_brain
def test_the_tissue_maps_lie_beside_the_brain() -> None:
    geometries = [sitk.ReadImage(str(mni152_path(tissue))) for tissue in ("t1", "gm", "wm")]
    assert Grid.of(geometries[0]) == Grid.of(geometries[1])
    assert Grid.of(geometries[0]) == Grid.of(geometries[2])


def test_a_missing_nilearn_is_said_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install nilearn"):
        demo_case(0)


@needs_brain
@pytest.mark.parametrize("seed", [-1, 2**32])
def test_the_demo_says_which_seeds_there_are(seed) -> None:
    with pytest.raises(UserError, match=f"^{seed} is no seed: give a whole number from 0 to 4294967295"):
        demo_case(seed)


def test_a_nilearn_without_the_brain_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    spec = importlib.util.spec_from_loader("nilearn", None, is_package=True)
    assert spec is not None
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(UserError, match="does not carry"):
        mni152_path()
