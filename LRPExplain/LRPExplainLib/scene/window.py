"""The symmetric window of a relevance map, and the place where its relevance is strongest. Numbers only, no MRML."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

# Share of the total |relevance| that lies within the window; the few strongest voxels beyond it are saturated.
WINDOW_SHARE = 0.95
# Standard deviation in mm of the smoothing before the strongest place is sought: a lone bright voxel is not a place.
FOCUS_SIGMA_MM = 3.0


def symmetric_limit(maps: Sequence[NDArray[np.floating]], share: float = WINDOW_SHARE) -> float:
    """The half-width w of the window [-w, w] that all ``maps`` share, so that their colours can be compared.

    A percentile of |relevance| in which every voxel counts by its own |relevance|: voxels up to w carry ``share`` of
    the total. Unlike a percentile over voxels it does not depend on how much empty space surrounds the relevance.
    Maps that are zero everywhere give 1.
    """
    magnitude = np.sort(np.abs(np.concatenate([m.ravel() for m in maps])).astype(np.float64))
    carried = np.cumsum(magnitude)
    if carried.size == 0 or carried[-1] == 0:
        return 1.0
    return float(magnitude[np.searchsorted(carried, share * carried[-1])])


def strongest_point(relevance: sitk.Image) -> tuple[float, float, float]:
    """Where |relevance|, smoothed over a few millimetres, is greatest: physical point in mm, LPS (as in SimpleITK)."""
    smoothed = sitk.DiscreteGaussian(sitk.Abs(relevance), variance=[FOCUS_SIGMA_MM**2] * 3, useImageSpacing=True)
    values = sitk.GetArrayViewFromImage(smoothed)
    k, j, i = (int(n) for n in np.unravel_index(int(np.argmax(values)), values.shape))
    x, y, z = relevance.TransformIndexToPhysicalPoint((i, j, k))
    return x, y, z
