"""Cases for the shortcut demonstration: brains with or without a planted lesion, with or without a marker in a corner.

The lesions are those of the demo that are brighter than what they replace and have at least 2 ml.
The marker is a small bright block near the right, anterior, superior corner of the field of view, outside the head, as
marks of the side or of the scanner are burned into images.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import count

import numpy as np
import SimpleITK as sitk
from LRPExplainLib.demo import plant_lesion
from synthetic_brains import SHAPE, SPACING, as_image, random_anatomy

EDGE_MM = 10.0  # of the marker
_NOISE = 0.02  # of white matter
_LEAST_ML = 2.0
_AWAY_MM = (6.0, 12.0)  # how far the marker is from the sides of the field of view


@dataclass(frozen=True)
class ShortcutCase:
    """A case and where its lesion and its marker are (uint8 masks, empty where there is none)."""

    image: sitk.Image
    lesion: sitk.Image
    marker: sitk.Image


def shortcut_case(*seed: int, lesion: bool, marker: bool) -> ShortcutCase:
    """The same seed gives the same brain, and the same lesion and marker where they are wanted."""
    image, brain = _brain(*seed)
    empty = sitk.Image(image.GetSize(), sitk.sitkUInt8)
    empty.CopyInformation(image)
    mask = empty
    if lesion:
        image, mask = _with_lesion(*seed)
    if not marker:
        return ShortcutCase(image, mask, empty)
    block = marker_at(np.random.default_rng((*seed, 0, 1)))
    voxels = sitk.GetArrayFromImage(image)
    voxels[block.place] = block.brightness * np.percentile(voxels[sitk.GetArrayViewFromImage(brain) > 0], 90)
    where = np.zeros(SHAPE, np.uint8)
    where[block.place] = 1
    return ShortcutCase(_like(image, voxels), mask, _like(image, where))


@lru_cache(maxsize=1)
def _brain(*seed: int) -> tuple[sitk.Image, sitk.Image]:
    """The MNI152 brain, deformed, with a little noise; and the mask of it."""
    rng = np.random.default_rng((*seed, 0))
    anatomy = random_anatomy(rng)
    noise = rng.standard_normal((2, *SHAPE), dtype=np.float32) * _NOISE
    return as_image(np.hypot(anatomy.t1 + noise[0], noise[1])), as_image(anatomy.brain)


@lru_cache(maxsize=1)
def _with_lesion(*seed: int) -> tuple[sitk.Image, sitk.Image]:
    """The first lesion of a series that is bright and large enough for a small network to find."""
    image, brain = _brain(*seed)
    before = sitk.GetArrayViewFromImage(image)
    for number in count(1):
        with_lesion, mask = plant_lesion(image, (*seed, number), brain)
        inside = sitk.GetArrayViewFromImage(mask) > 0
        brighter = float((sitk.GetArrayViewFromImage(with_lesion)[inside] - before[inside]).mean()) > 0
        if brighter and inside.sum() * SPACING**3 / 1000 >= _LEAST_ML:
            return with_lesion, mask
    raise AssertionError


@dataclass(frozen=True)
class Marker:
    """Its voxels [k, j, i], and how bright it is beside the brain's 90th percentile."""

    place: tuple[slice, ...]
    brightness: float


def marker_at(rng: np.random.Generator) -> Marker:
    """A marker somewhere near its corner; i, j and k run to the right, anterior and superior."""
    edge, (nearest, farthest) = round(EDGE_MM / SPACING), (round(mm / SPACING) for mm in _AWAY_MM)
    ends = [size - int(rng.integers(nearest, farthest, endpoint=True)) for size in SHAPE]
    return Marker(tuple(slice(end - edge, end) for end in ends), float(rng.uniform(0.7, 1.1)))


def _like(image: sitk.Image, voxels: np.ndarray) -> sitk.Image:
    result = sitk.GetImageFromArray(voxels)
    result.CopyInformation(image)
    return result
