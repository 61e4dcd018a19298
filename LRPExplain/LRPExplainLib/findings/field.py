"""Voxels and where they lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Point = tuple[float, float, float]
Index = tuple[int, int, int]
# Patient directions along the RAS axes: towards the negative and the positive end
DIRECTIONS = (("L", "R"), ("P", "A"), ("I", "S"))


@dataclass(frozen=True, eq=False)
class Field:
    """A volume as numbers.

    Attributes:
        values: [D, H, W] = [k, j, i], as SimpleITK and MRML give it to NumPy.
        ijk_to_ras: 4x4, voxel index (i, j, k) to RAS in mm.
    """

    values: NDArray[np.floating]
    ijk_to_ras: NDArray[np.float64]

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel in millilitres."""
        return float(abs(np.linalg.det(self.ijk_to_ras[:3, :3]))) / 1000

    @property
    def spacing(self) -> Point:
        """Voxel size along i, j, k in mm."""
        i, j, k = np.linalg.norm(self.ijk_to_ras[:3, :3], axis=0).tolist()
        return i, j, k

    def point(self, index: Sequence[float]) -> Point:
        """RAS in mm of a voxel index (i, j, k)."""
        x, y, z = (self.ijk_to_ras[:3, :3] @ np.asarray(index, float) + self.ijk_to_ras[:3, 3]).tolist()
        return x, y, z

    def index(self, ras: Sequence[float]) -> Index | None:
        """The voxel (i, j, k) that holds a point (RAS, mm); None outside the volume."""
        matrix, offset = self.ijk_to_ras[:3, :3], self.ijk_to_ras[:3, 3]
        i, j, k = (int(n) for n in np.floor(np.linalg.solve(matrix, np.asarray(ras, float) - offset) + 0.5))
        inside = all(0 <= n < size for n, size in zip((i, j, k), self.values.shape[::-1], strict=True))
        return (i, j, k) if inside else None

    def at(self, index: Index) -> float:
        """The value of a voxel (i, j, k)."""
        return float(self.values[index[::-1]])
