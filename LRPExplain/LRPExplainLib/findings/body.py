"""What of a volume is the body, and what is air around it."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from .field import Field

GRID_MM = 4.5  # the body is sought on a grid of about this size
# Between the darkest value and Otsu's threshold, which separates bright from dark tissue rather than tissue from air
_LEVEL = 0.5
# A model sees through a window: relevance may lie this far outside the skin without meaning anything
MARGIN_MM = 6.0


def relevance_outside(relevance: Field, volume: Field) -> float | None:
    """The share (0..1) of the |relevance| that lies outside the body and more than `MARGIN_MM` away from it.

    Both fields are on the same grid. None where no air can be told from the body (no air, or an even volume).
    """
    factors = [max(1, round(GRID_MM / step)) for step in relevance.spacing]
    step = tuple(slice(None, None, factor) for factor in factors[::-1])
    body = _body(volume.values[step], [s * f for s, f in zip(relevance.spacing, factors, strict=True)])
    if body is None:
        return None
    weights = block_sums(np.abs(relevance.values), factors)
    whole = float(weights.sum())
    return float(weights[~body].sum()) / whole if whole else 0.0


def block_sums(values: NDArray[np.floating], factors: list[int]) -> NDArray[np.float64]:
    """Sums over blocks of ``factors`` voxels along i, j, k (the last ones may be smaller): [D/fk, H/fj, W/fi]."""
    result: NDArray[np.floating] = values
    for axis, factor in enumerate(factors[::-1]):
        whole = result.shape[axis] // factor * factor
        parts = [_along(result, axis, slice(n, whole, factor)) for n in range(factor)]
        total = sum(parts[1:], start=parts[0])  # adding strided views is much faster than np.add.reduceat
        if whole < result.shape[axis]:
            rest = _along(result, axis, slice(whole, None)).sum(axis=axis, keepdims=True)
            total = np.concatenate([total, rest], axis=axis)
        result = total
    return np.asarray(result, np.float64)


def _along(values: NDArray[np.floating], axis: int, part: slice) -> NDArray[np.floating]:
    return values[(slice(None),) * axis + (part,)]


def _body(values: NDArray[np.floating], spacing: list[float]) -> NDArray[np.bool_] | None:
    image = sitk.GetImageFromArray(np.ascontiguousarray(values, np.float32))
    image.SetSpacing(spacing)
    low, high = float(values.min()), float(np.percentile(values, 99.5))
    if not high > low:
        return None
    clipped = sitk.Clamp(image, sitk.sitkFloat32, low, high)  # metal and vessels would draw the threshold up
    otsu = sitk.OtsuThresholdImageFilter()
    otsu.Execute(clipped)
    level = low + _LEVEL * (otsu.GetThreshold() - low)
    mask = clipped > min(max(level, _noise(values)), max(otsu.GetThreshold(), level))
    labels = sitk.RelabelComponent(sitk.ConnectedComponent(mask), sortByObjectSize=True)
    filled = sitk.BinaryFillhole(labels == 1)
    distance = sitk.SignedMaurerDistanceMap(filled, squaredDistance=False, useImageSpacing=True)
    body = sitk.GetArrayFromImage(distance) <= MARGIN_MM
    return None if body.all() else body


def _noise(values: NDArray[np.floating]) -> float:
    """How bright air can be: nearly the highest value in the four darkest of the eight corners."""
    sides = [(slice(0, max(1, size // 8)), slice(size - max(1, size // 8), size)) for size in values.shape]
    corners = [values[k, j, i].ravel() for k in sides[0] for j in sides[1] for i in sides[2]]
    darkest = sorted(corners, key=lambda corner: float(np.median(corner)))[:4]
    return float(np.percentile(np.concatenate(darkest), 99.5))
