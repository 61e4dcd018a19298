"""Relevance per slice along the three axes of the volume."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .field import DIRECTIONS, Field

AXIS_NAMES = ("sagittal", "coronal", "axial")


@dataclass(frozen=True, eq=False)
class Profile:
    """Sums over the slices along one axis of the volume.

    Attributes:
        name: "axial", "coronal" or "sagittal": the slices' orientation (the nearest one on a tilted grid).
        axis: 0, 1, 2 for slices of equal i, j, k.
        direction: two letters, towards the negative and the positive end of ``position``: "LR", "PA" or "IS".
        position: of the slices' centres in mm along R, A or S, ascending.
        positive, negative: sums of the relevance of each sign in the slices (negative: <= 0).
    """

    name: str
    axis: int
    direction: str
    position: NDArray[np.float64]
    positive: NDArray[np.float64]
    negative: NDArray[np.float64]


def profiles_of(field: Field) -> tuple[Profile, Profile, Profile]:
    """The profiles along i, j and k."""
    positive = np.maximum(field.values, 0)
    negative = np.minimum(field.values, 0)
    along_k = [part.sum(axis=(1, 2), dtype=np.float64) for part in (positive, negative)]
    # the sums over k are taken once and serve both other axes
    flat = [part.sum(axis=0, dtype=np.float64) for part in (positive, negative)]
    along_j = [part.sum(axis=1) for part in flat]
    along_i = [part.sum(axis=0) for part in flat]
    nearest = _nearest_axes(field.ijk_to_ras[:3, :3])
    i, j, k = (
        _profile(field, axis, nearest[axis], sums[0], sums[1]) for axis, sums in enumerate((along_i, along_j, along_k))
    )
    return i, j, k


def _profile(
    field: Field, axis: int, ras: int, positive: NDArray[np.float64], negative: NDArray[np.float64]
) -> Profile:
    centre = [(n - 1) / 2 for n in field.values.shape[::-1]]
    places = []
    for n in range(len(positive)):
        centre[axis] = n
        places.append(field.point(centre)[ras])
    position = np.array(places)
    order = np.argsort(position, kind="stable")
    return Profile(AXIS_NAMES[ras], axis, "".join(DIRECTIONS[ras]), position[order], positive[order], negative[order])


def _nearest_axes(matrix: NDArray[np.float64]) -> list[int]:
    """For i, j, k the R, A or S axis that runs most alike, each taken once."""
    likeness = np.abs(matrix / np.linalg.norm(matrix, axis=0))
    chosen = [-1, -1, -1]
    for _ in range(3):
        ras, axis = (int(n) for n in np.unravel_index(int(likeness.argmax()), likeness.shape))
        chosen[axis] = ras
        likeness[ras, :] = -1
        likeness[:, axis] = -1
    return chosen
