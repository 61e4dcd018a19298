"""How much of a relevance map falls on a structure that is known to be the reason."""

import math

import numpy as np
import SimpleITK as sitk

from ..errors import UserError
from ..imaging.grid import Grid, same_grid

__all__ = ["share_inside"]

_ROUNDING_MM = 1e-4  # distances are float32: a voxel at exactly the rim's width belongs to the rim


def share_inside(relevance: sitk.Image, mask: sitk.Image, rim_mm: float) -> tuple[float, float]:
    """The shares of positive relevance inside the mask, and inside the mask or at most ``rim_mm`` from it.

    A voxel's distance is that of its centre from the centre of the nearest voxel of the mask, in mm.

    Args:
        relevance: scalar volume.
        mask: volume in the geometry of ``relevance``; voxels above 0 belong to the structure.
        rim_mm: width of the rim in mm, at least 0.

    Raises:
        UserError: the geometries differ, the mask is empty, the rim is negative, or no relevance is positive.
    """
    if not same_grid(Grid.of(relevance), Grid.of(mask)):
        raise UserError("The relevance map and the mask differ in geometry: resample the mask to the relevance map.")
    if not rim_mm >= 0:
        raise UserError(f"The width of the rim is {rim_mm} mm: give a width of 0 mm or more.")
    inside = sitk.Greater(mask, 0)
    positive = np.maximum(sitk.GetArrayFromImage(sitk.Cast(relevance, sitk.sitkFloat64)), 0)
    total = positive.sum()
    if not sitk.GetArrayViewFromImage(inside).any():
        raise UserError("The mask is empty: give a mask with at least one voxel above 0.")
    if total <= 0:
        raise UserError(
            "The relevance map has no positive value, so no share of it can be given: choose another target."
        )
    in_mask = positive[sitk.GetArrayViewFromImage(inside) > 0].sum()
    start, stop = _box_around(inside, rim_mm)
    near = sitk.GetArrayFromImage(_distance_mm(inside[_slices(start, stop)])) <= rim_mm + _ROUNDING_MM
    in_rim = positive[_slices(start[::-1], stop[::-1])][near].sum()
    return float(in_mask / total), float(in_rim / total)


def _distance_mm(mask: sitk.Image) -> sitk.Image:
    """Distance from the mask in mm, negative within it; 0 at its outermost voxels."""
    return sitk.SignedMaurerDistanceMap(mask, insideIsPositive=False, squaredDistance=False, useImageSpacing=True)


def _box_around(mask: sitk.Image, margin_mm: float) -> tuple[list[int], list[int]]:
    """First and one past the last index [x, y, z] of the mask's bounding box, widened by the margin."""
    shape = sitk.LabelShapeStatisticsImageFilter()
    shape.ComputeFeretDiameterOff()
    shape.Execute(mask)
    bounds, dimension = shape.GetBoundingBox(1), mask.GetDimension()
    start, stop = [], []
    for axis, spacing in enumerate(mask.GetSpacing()):
        first, count = bounds[axis], bounds[axis + dimension]
        margin = math.ceil(margin_mm / spacing) + 1
        start.append(max(first - margin, 0))
        stop.append(min(first + count + margin, mask.GetSize()[axis]))
    return start, stop


def _slices(start: list[int], stop: list[int]) -> tuple[slice, ...]:
    return tuple(slice(first, last) for first, last in zip(start, stop, strict=True))
