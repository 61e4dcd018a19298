"""The symmetric window of a relevance map, and the place where its relevance is strongest. Numbers only, no MRML."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from ..findings.body import block_sums
from ..findings.magnitudes import Magnitudes

# Share of the total |relevance| that lies within the window; the few strongest voxels beyond it are saturated.
WINDOW_SHARE = 0.95
# Standard deviation in mm of the smoothing before the strongest place is sought: a lone bright voxel is not a place.
FOCUS_SIGMA_MM = 3.0


def limit_of(magnitudes: Magnitudes, share: float = WINDOW_SHARE) -> float:
    """The half-width w of the window [-w, w] that all maps share, so that their colours can be compared.

    A percentile of |relevance| in which every voxel counts by its own |relevance|: voxels up to w carry ``share`` of
    the total. Unlike a percentile over voxels it does not depend on how much empty space surrounds the relevance.
    Maps that are zero everywhere give 1.
    """
    return magnitudes.level(1 - share) or 1.0


def strongest_point(relevance: sitk.Image) -> tuple[float, float, float]:
    """Where |relevance|, smoothed over a few millimetres, is greatest: physical point in mm, LPS (as in SimpleITK).

    Sought on blocks of about 3 mm, then as the centre of the relevance around the strongest one.
    """
    spacing = relevance.GetSpacing()
    factors = [max(1, round(FOCUS_SIGMA_MM / step)) for step in spacing]
    magnitude = np.abs(sitk.GetArrayViewFromImage(relevance))
    smoothed = block_sums(magnitude, factors)
    for axis, (step, factor) in enumerate(zip(spacing[::-1], factors[::-1], strict=True)):
        smoothed = _smooth(smoothed, axis, round(2 * (FOCUS_SIGMA_MM / (step * factor)) ** 2))
    place = np.unravel_index(int(np.argmax(smoothed)), smoothed.shape)
    around = tuple(
        slice(max(0, (n - 1) * factor), (n + 2) * factor) for n, factor in zip(place, factors[::-1], strict=True)
    )
    weights = magnitude[around].astype(np.float64)
    whole = float(weights.sum())
    centre = []
    for axis, part in enumerate(around):
        others = tuple(other for other in range(3) if other != axis)
        line = weights.sum(axis=others)
        mean = float(np.dot(line, np.arange(len(line)))) / whole if whole else (len(line) - 1) / 2
        centre.append(part.start + mean)
    x, y, z = relevance.TransformContinuousIndexToPhysicalPoint(centre[::-1])
    return x, y, z


def _smooth(values: NDArray[np.float64], axis: int, times: int) -> NDArray[np.float64]:
    """[1 2 1] / 4 so many times: a variance of half a voxel each time."""
    for _ in range(times if values.shape[axis] > 1 else 0):
        line = np.moveaxis(values, axis, 0)
        line = np.concatenate([line[:1], line, line[-1:]])
        values = np.moveaxis((line[:-2] + 2 * line[1:-1] + line[2:]) / 4, 0, axis)
    return values
