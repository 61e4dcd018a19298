"""Whether the slices of a DICOM series are a volume: a straight stack of even steps.

ITK takes the first slice's orientation and the slices' mean distance, whatever the slices themselves say of their
places, so that anything else than such a stack would be read with a wrong geometry, and relevance would be misplaced.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

POSITION, ORIENTATION = "0020|0032", "0020|0037"  # DICOM tags
# Gaps between slices may differ by this share of their median before the series counts as uneven.
_UNEVEN = 0.05
# The first and any other slice may lie apart sideways by this share of a voxel before the stack counts as sheared.
_SIDEWAYS = 0.5
# Slices nearer than this, in mm, are at one place; cosines that differ by more than this are of another orientation.
_SAME_PLACE, _SAME_COSINE = 1e-3, 1e-3


@dataclass(frozen=True)
class Placed:
    """What a slice says of its place.

    Attributes:
        position: of its first voxel's centre in mm (LPS); None where it does not say.
        orientation: direction cosines of its rows and columns; None where it does not say.
    """

    position: NDArray[np.float64] | None
    orientation: NDArray[np.float64] | None


def numbers(text: str, count: int) -> NDArray[np.float64] | None:
    """The value of a tag of so many finite numbers; None if it is none."""
    return finite(text.split("\\"), count)


def finite(value: Any, count: int) -> NDArray[np.float64] | None:
    """A number or numbers, if they are so many and finite; else None."""
    try:
        values = np.asarray(value, dtype=float).reshape(-1)
    except (TypeError, ValueError):
        return None
    return values if len(values) == count and bool(np.isfinite(values).all()) else None


def stack_problem(slices: Sequence[Placed], voxel: Sequence[float]) -> str | None:
    """What is wrong with the slices and what to do, for the end of a sentence about their series; None: nothing.

    Args:
        slices: in the order in which they are stacked.
        voxel: its size in a slice, in mm.
    """
    positions = [entry.position for entry in slices if entry.position is not None]
    orientations = [entry.orientation for entry in slices if entry.orientation is not None]
    if len(slices) < 2:
        return None  # also a whole volume in one file
    if len(positions) < len(slices) or len(orientations) < len(slices):
        return (
            "has slices that do not say where they lie (Image Position or Orientation is missing), so that their order"
            " and distance are unknown: export it with positions, or give it as NIfTI or NRRD"
        )
    if np.ptp(orientations, axis=0).max() > _SAME_COSINE:
        return "has slices of several orientations, which are no volume: give a folder with those of one orientation"
    normal = np.cross(*np.reshape(orientations[0], (2, 3)))
    steps = np.asarray(positions) - positions[0]
    gaps = np.abs(np.diff(steps @ normal))
    if gaps.min() < _SAME_PLACE:
        return (
            "has several slices at one place, as points in time, echoes or copies are: give a folder with one slice for"
            " each place"
        )
    if np.ptp(gaps) > _UNEVEN * np.median(gaps):
        return (
            "has missing or unevenly spaced slices, which would misplace the relevance: resample it to even slices"
            " first"
        )
    sideways = _sideways(steps, orientations[0])
    if sideways > _SIDEWAYS * min(voxel):
        return (
            f"is a sheared stack (its slices shift sideways by up to {sideways:.3g} mm, as under a tilted gantry),"
            " which would misplace the relevance: resample it to a straight one first, as 3D Slicer's DICOM import does"
        )
    return None


def on_one_line(slices: Sequence[Placed], voxel: Sequence[float]) -> bool:
    """Whether all slices say where they lie, and that is behind or before the first one without shift or turn."""
    positions = [entry.position for entry in slices if entry.position is not None]
    orientations = [entry.orientation for entry in slices if entry.orientation is not None]
    return (
        len(positions) == len(orientations) == len(slices)
        and bool(np.ptp(orientations, axis=0).max() <= _SAME_COSINE)
        and _sideways(np.asarray(positions) - positions[0], orientations[0]) <= _SIDEWAYS * min(voxel)
    )


def _sideways(steps: NDArray[np.float64], orientation: NDArray[np.float64]) -> float:
    """How far, in mm, any of these steps goes along a slice's rows or columns."""
    return float(np.abs(steps @ np.reshape(orientation, (2, 3)).T).max())
