"""Random T1-weighted brains for training and testing the demo model: the MNI152 brain, deformed and re-contrasted.

The template has no skull, and neither have these brains.

Arrays are [D, H, W] float32 on a 2 mm RAS grid of 96 x 112 x 96 voxels (x, y, z) around the brain's centre.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import SimpleITK as sitk
from LRPExplainLib.demo import mni152_path
from numpy.typing import NDArray

Array = NDArray[np.float32]

SPACING = 2.0  # mm
SHAPE = (96, 112, 96)  # [D, H, W]
_WHITE = 225.0  # white matter in the template


@dataclass(frozen=True)
class Anatomy:
    """A deformed brain before its contrast is drawn."""

    t1: Array  # 1 is white matter
    grey: Array  # probability of grey matter
    white: Array  # probability of white matter
    brain: NDArray[np.bool_]


def random_anatomy(rng: np.random.Generator) -> Anatomy:
    """The template turned, scaled, sheared, perhaps mirrored, and elastically deformed."""
    points = _grid_points()
    linear = _random_rotation(rng) @ np.diag(rng.uniform(0.88, 1.12, 3)) @ (np.eye(3) + rng.normal(0, 0.03, (3, 3)))
    if rng.random() < 0.5:
        linear = linear @ np.diag([-1, 1, 1])
    shift = rng.uniform(-6, 6, 3)
    elastic = np.stack([smooth_field(rng, 32.0) for _ in range(3)], axis=-1) * rng.uniform(0, 4.5)
    centre = _centre()
    displacement = (points - centre) @ linear.T + centre + shift + elastic - points
    field = sitk.GetImageFromArray(displacement.astype(np.float64), isVector=True)
    field.CopyInformation(_reference())
    transform = sitk.DisplacementFieldTransform(field)
    t1, grey, white = (_resample(tissue, transform) for tissue in ("t1", "gm", "wm"))
    return Anatomy(t1 / np.float32(_WHITE), grey / np.float32(255), white / np.float32(255), t1 > 10)


def random_contrast(anatomy: Anatomy, rng: np.random.Generator) -> Array:
    """An image of the anatomy: tissue contrast, sharpness, texture, bias field and noise of its own."""
    x = anatomy.t1 + _sometimes(rng, 0.7) * (anatomy.t1 - _blur(anatomy.t1, 2.5))
    fluid = np.clip(1 - anatomy.grey - anatomy.white, 0, 1)
    for tissue, spread in ((anatomy.grey, 0.05), (anatomy.white, 0.04), (fluid, 0.06)):
        x = x + rng.normal(0, spread) * tissue
    x = x + _sometimes(rng, 0.05) * _grainy(rng, 2.5)
    x = np.clip(x, 0.02, None) ** rng.uniform(0.8, 1.3) * anatomy.brain
    x = x * np.exp(_sometimes(rng, 0.15) * smooth_field(rng, 75.0))
    x = _rician(x, _sometimes(rng, 0.03), rng)
    return x if rng.random() < 0.3 else x * anatomy.brain  # a brain cut out of its head, or out of its noise as well


def as_image(voxels: NDArray) -> sitk.Image:
    """The array as a volume on the grid of this module."""
    image = sitk.GetImageFromArray(voxels.astype(np.uint8) if voxels.dtype == bool else voxels)
    image.CopyInformation(_reference())
    return image


def smooth_field(rng: np.random.Generator, knots_mm: float) -> Array:
    """A random field of standard deviation about 1 that varies over ``knots_mm`` (cubic B-splines)."""
    bases = [_spline_basis(size, knots_mm / SPACING) for size in SHAPE]
    knots = rng.normal(size=[basis.shape[1] for basis in bases]) / 0.33  # the splines damp white noise to 0.33
    for basis in bases:
        knots = np.moveaxis(np.tensordot(basis, knots, axes=(1, 0)), 0, -1)  # each turn brings the next axis first
    return knots.astype(np.float32)


def _spline_basis(size: int, step: float) -> NDArray[np.float64]:
    """Cubic B-splines [size, knots] with a knot every ``step`` voxels."""
    at = np.arange(-1, np.ceil((size - 1) / step) + 2) * step
    t = np.abs(np.arange(size)[:, None] - at) / step
    return np.where(t < 1, 2 / 3 - t**2 + t**3 / 2, np.where(t < 2, (2 - t) ** 3 / 6, 0))


def _sometimes(rng: np.random.Generator, most: float) -> np.float32:
    """0 in one of three draws, so that each effect is also seen absent; else anything up to ``most``."""
    return np.float32(max(rng.uniform(-0.5, 1), 0) * most)


def _rician(x: Array, sigma: np.float32, rng: np.random.Generator) -> Array:
    noise = rng.standard_normal((2, *SHAPE), dtype=np.float32) * sigma
    return np.hypot(x + noise[0], noise[1])


def _grainy(rng: np.random.Generator, width_mm: float) -> Array:
    """Noise of standard deviation 1 with a grain of ``width_mm``."""
    noise = _blur(rng.standard_normal(SHAPE, dtype=np.float32), width_mm)
    return noise / noise.std()


def _blur(x: Array, sigma_mm: float) -> Array:
    return sitk.GetArrayFromImage(sitk.SmoothingRecursiveGaussian(as_image(x), sigma_mm))


def _random_rotation(rng: np.random.Generator) -> NDArray[np.float64]:
    angles = np.deg2rad(rng.uniform(-12, 12, 3))
    return np.array(sitk.Euler3DTransform((0, 0, 0), *angles.tolist()).GetMatrix()).reshape(3, 3)


def _resample(tissue: str, transform: sitk.Transform) -> Array:
    return sitk.GetArrayFromImage(sitk.Resample(_template(tissue), _reference(), transform, sitk.sitkLinear, 0.0))


@cache
def _template(tissue: str) -> sitk.Image:
    return sitk.ReadImage(str(mni152_path(tissue)), sitk.sitkFloat32)  # type: ignore[arg-type]


@cache
def _centre() -> NDArray[np.float64]:
    """Centre of the brain's bounding box, in mm."""
    shape = sitk.LabelShapeStatisticsImageFilter()
    shape.Execute(sitk.Greater(_template("t1"), 10))
    start, size = np.array(shape.GetBoundingBox(1)).reshape(2, 3)
    return np.array(_template("t1").TransformContinuousIndexToPhysicalPoint((start + (size - 1) / 2).tolist()))


@cache
def _reference() -> sitk.Image:
    """The grid: RAS, 2 mm, centred on the brain."""
    size = np.array(SHAPE[::-1])
    reference = sitk.Image(size.tolist(), sitk.sitkUInt8)
    reference.SetSpacing([SPACING] * 3)
    reference.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    reference.SetOrigin((_centre() - np.diag([-1, -1, 1]) @ (size - 1) * SPACING / 2).tolist())
    return reference


@cache
def _grid_points() -> NDArray[np.float64]:
    """Physical position [D, H, W, 3] of each voxel, in mm."""
    index = np.moveaxis(np.mgrid[tuple(slice(size) for size in SHAPE)], 0, -1)[..., ::-1]
    return np.array(_reference().GetOrigin()) + index * SPACING * np.array([-1, -1, 1])
