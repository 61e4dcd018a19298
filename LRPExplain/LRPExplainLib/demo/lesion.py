"""Planting a lesion in a T1-weighted brain volume.

The lesion is a function of physical space (mm), so one seed gives the same lesion at any voxel size and orientation,
up to where in the brain it lies.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from ..errors import UserError
from ..imaging.grid import Grid, same_grid
from ..seeds import check_seed

__all__ = ["Seed", "plant_lesion"]

Seed = int | Sequence[int]
Array = NDArray[np.float32]

_ATTEMPTS = 50  # places to try before a brain is called too small
_WITHIN_BRAIN = 0.9  # least share of the lesion that must lie in the brain; the rest is cut off at its surface
_BRIGHTEST = 1.5  # of the brain's intensity range: contrast agent and blood outshine white matter, but not by far
_DETAIL = 0.6  # share of the image's fine detail and noise that stays visible within the lesion


@dataclass(frozen=True)
class _Waves:
    """A smooth random function of physical space with values mostly in -1..1: a sum of plane waves."""

    vectors: Array  # [waves, 3], radians per mm
    phases: Array  # [waves]

    @classmethod
    def draw(cls, rng: np.random.Generator, shortest: float, longest: float, count: int = 12) -> "_Waves":
        """Waves in all directions with wavelengths between ``shortest`` and ``longest`` mm."""
        directions = rng.normal(size=(count, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        lengths = rng.uniform(shortest, longest, size=(count, 1))
        phases = rng.uniform(0, 2 * np.pi, size=count)
        return cls((2 * np.pi / lengths * directions).astype(np.float32), phases.astype(np.float32))

    def __call__(self, points: Array) -> Array:
        """Values at ``points`` [..., 3] in mm."""
        total = np.zeros(points.shape[:-1], np.float32)
        for vector, phase in zip(self.vectors, self.phases, strict=True):
            total += np.cos(points @ vector + phase)
        return total / np.float32(np.sqrt(2 * len(self.phases)))


@dataclass(frozen=True)
class _Lesion:
    """What a lesion looks like, wherever it lies. Lengths in mm, intensities in units of the brain's range."""

    radii: Array  # [3], half axes
    rotation: Array  # [3, 3]
    lobes: float  # depth of the lobulation, as a share of the mean radius
    outline: _Waves
    edge: float  # width over which it fades into the tissue
    contrast: float  # how far it stands out from the tissue it replaces
    prefers_bright: bool
    grain: float  # amplitude of its inner texture
    texture: _Waves
    core: float  # change of contrast towards its centre, as a share: below 0 a necrotic core

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "_Lesion":
        rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        return cls(
            radii=(rng.uniform(8, 18) * rng.uniform(0.75, 1.3, size=3)).astype(np.float32),
            rotation=rotation.astype(np.float32),
            lobes=rng.uniform(0.05, 0.3),
            outline=_Waves.draw(rng, 14, 40),
            edge=rng.uniform(0.5, 1.6),
            contrast=rng.uniform(0.3, 0.6),
            prefers_bright=bool(rng.random() < 0.5),
            grain=rng.uniform(0, 0.08),
            texture=_Waves.draw(rng, 5, 14),
            core=rng.uniform(-0.35, 0.2),
        )

    @property
    def reach(self) -> float:
        """No part of the lesion lies farther than this from its centre."""
        return float(self.radii.max() + 2 * self.lobes * self.radii.mean() + 4 * self.edge)

    def depth(self, points: Array) -> Array:
        """How deep below the lesion's surface each point [..., 3] (mm from its centre) lies; negative outside."""
        distance = np.linalg.norm((points @ self.rotation) / self.radii, axis=-1)
        return self.radii.mean() * (1 - distance + self.lobes * self.outline(points))

    def opacity(self, points: Array) -> Array:
        """Share of lesion in each point: 0 outside, 1 inside, 0.5 at the surface."""
        share = 1 / (1 + np.exp(np.clip(-self.depth(points) / (self.edge / 2), -30, 30)))
        return np.where(share < 1e-3, 0, share)  # exactly 0, so that far voxels keep their value to the last bit

    def level(self, points: Array, sign: float) -> Array:
        """Intensity of the lesion relative to the tissue it replaces, at each point."""
        centrality = np.clip(self.depth(points) / self.radii.mean(), 0, 1)
        return sign * self.contrast * (1 + self.core * centrality) + self.grain * self.texture(points)


def plant_lesion(image: sitk.Image, seed: Seed, brain: sitk.Image | None = None) -> tuple[sitk.Image, sitk.Image]:
    """Plants one lesion of random shape, size, place and contrast in the brain.

    Its half axes are 6 to 23 mm; it is 0.3 to 0.6 of the brain's intensity range brighter or darker than the tissue
    it replaces, faintly textured, with a soft edge. Fine detail and noise of the image stay partly visible within it,
    so that the lesion is not betrayed by being smoother than its surroundings.

    Args:
        image: T1-weighted scalar volume, 3D.
        seed: an integer from 0 to 2^32 - 1, or several; the same seed and image give the same lesion.
        brain: mask of the brain in the geometry of ``image``; without one, everything clearly brighter than the
            background, which suits volumes without skull.

    Returns:
        The volume with the lesion (float32) and the mask of the lesion (uint8, 0 and 1), both in the geometry of
        ``image``. The mask holds the voxels that are lesion to at least one half.

    Raises:
        UserError: there is no brain in the volume, or no place in it for the lesion; the seed is none; or the mask
            differs from the image in geometry.
    """
    for one in seed if isinstance(seed, Sequence) else (seed,):
        check_seed(one)
    if brain is not None and not same_grid(Grid.of(image), Grid.of(brain)):
        raise UserError("The image and the mask of its brain differ in geometry: resample the mask to the image.")
    rng = np.random.default_rng(seed)
    lesion = _Lesion.draw(rng)
    voxels = sitk.GetArrayFromImage(sitk.Cast(image, sitk.sitkFloat32))
    tissue = (sitk.GetArrayViewFromImage(brain) > 0) if brain is not None else _brighter_than_background(voxels)
    if not tissue.any():
        raise UserError("There is no brain in this volume to plant a lesion in: give a T1 volume without skull.")
    low, high = np.percentile(voxels[tissue], [2, 98])
    box, points, opacity = _place(lesion, image, tissue, rng)
    inside = opacity >= 0.5
    voxels[box] = _blend(lesion, voxels[box], points, opacity, (float(low), float(high)), image.GetSpacing())
    mask = np.zeros(voxels.shape, np.uint8)
    mask[box] = inside
    return _like(image, voxels), _like(image, mask)


def _brighter_than_background(voxels: Array) -> NDArray[np.bool_]:
    """Voxels above a tenth of the bright end of the histogram."""
    bright = np.percentile(voxels[voxels > voxels.min()], 98) if voxels.max() > voxels.min() else voxels.max()
    return voxels > voxels.min() + 0.1 * (bright - voxels.min())


def _place(
    lesion: _Lesion, image: sitk.Image, tissue: NDArray[np.bool_], rng: np.random.Generator
) -> tuple[tuple[slice, ...], Array, Array]:
    """A box [D, H, W] around a random place for the lesion, with each voxel's offset (mm) and share of lesion."""
    places = np.flatnonzero(tissue)
    to_mm = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    half = np.ceil(lesion.reach / np.array(image.GetSpacing())).astype(int)[::-1]
    for _ in range(_ATTEMPTS):
        centre = np.array(np.unravel_index(rng.choice(places), tissue.shape))
        first, last = np.maximum(centre - half, 0), np.minimum(centre + half + 1, tissue.shape)
        box = tuple(slice(int(start), int(stop)) for start, stop in zip(first, last, strict=True))
        offsets = np.moveaxis(np.mgrid[box], 0, -1) - centre
        points = (offsets[..., ::-1] @ to_mm.T).astype(np.float32)
        opacity = lesion.opacity(points)
        within = opacity * tissue[box]
        inside = np.count_nonzero(within >= 0.5)
        if inside > 0 and inside >= _WITHIN_BRAIN * np.count_nonzero(opacity >= 0.5):
            return box, points, within
    raise UserError("There is no place for a lesion of this seed in the brain: use a larger brain or another seed.")


def _blend(
    lesion: _Lesion,
    voxels: Array,
    points: Array,
    opacity: Array,
    brain_range: tuple[float, float],
    spacing: tuple[float, ...],
) -> Array:
    """The voxels with the lesion in them."""
    low, high = brain_range
    width = max(high - low, 1e-6)
    # a lesion must stand out from most of the tissue it replaces, white and grey matter alike ...
    darkest, brightest = np.percentile(voxels[opacity >= 0.5], [25, 75])
    # ... but one darker than fluid, or far brighter than white matter, would be an artefact
    fits_bright = (brightest - low) / width + lesion.contrast <= _BRIGHTEST
    fits_dark = (darkest - low) / width - lesion.contrast >= 0
    sign = 1.0 if (lesion.prefers_bright and fits_bright) or not fits_dark else -1.0
    target = (brightest if sign > 0 else darkest) + width * lesion.level(points, sign)
    box = sitk.GetImageFromArray(voxels)
    box.SetSpacing(spacing)
    detail = voxels - sitk.GetArrayFromImage(sitk.DiscreteGaussian(box, [4.0] * 3))  # variances in mm², hence 2 mm
    return voxels + opacity * (np.maximum(target + _DETAIL * detail, min(low, 0.0)) - voxels)


def _like(image: sitk.Image, voxels: NDArray) -> sitk.Image:
    result = sitk.GetImageFromArray(voxels)
    result.CopyInformation(image)
    return result
