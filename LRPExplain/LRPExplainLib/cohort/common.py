"""A coarse grid on which the maps of different volumes can be compared; every unit of relevance lands in one cell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from ..imaging.grid import Grid

ALIGNMENTS = {
    "field": "the same share of the way through each field of view is the same place, as if resized alike",
    "mm": "the same point in mm is the same place, for volumes that are registered to each other",
}
_LPS = "LPS"


@dataclass(frozen=True)
class Space:
    """Cells over a field of view, along the volume's axes that are nearest to L, P and S.

    Attributes:
        align: one of `ALIGNMENTS`.
        cells: how many along each axis.
        start, edge: where the first cell begins along each of these axes, and how long cells are, in mm.
        direction: the axes, as the columns of a 3x3 matrix in rows.
    """

    align: str
    cells: tuple[int, int, int]
    start: tuple[float, float, float]
    edge: tuple[float, float, float]
    direction: tuple[float, ...]

    @classmethod
    def over(cls, image: sitk.Image, edge_mm: float, align: str) -> Space:
        """Cells of about `edge_mm` over the field of view of this volume."""
        turned = _turned(image)
        extent = [n * step for n, step in zip(turned.GetSize(), turned.GetSpacing(), strict=True)]
        i, j, k = (
            min(size, max(1, round(length / edge_mm))) for size, length in zip(turned.GetSize(), extent, strict=True)
        )
        axes = np.reshape(turned.GetDirection(), (3, 3))
        start = (axes.T @ turned.GetOrigin() - np.array(turned.GetSpacing()) / 2).tolist()
        edges = [length / n for length, n in zip(extent, (i, j, k), strict=True)]
        return cls(align, (i, j, k), _three(start), _three(edges), turned.GetDirection())

    @property
    def grid(self) -> Grid:
        """The cells as voxels of a volume."""
        centre = self._axes @ (np.array(self.start) + np.array(self.edge) / 2)
        return Grid(self.cells, self.edge, _three(centre.tolist()), self.direction)

    def sums(self, image: sitk.Image) -> np.ndarray:
        """Relevance in each cell, float64 [K, J, I]; with "mm" what lies outside all cells is left out.

        A volume tilted against the first one is taken along the axes that are nearest to its own.
        """
        turned = _turned(image)
        values = sitk.GetArrayFromImage(turned).astype(np.float64)
        for axis in range(3):
            member = self._membership(axis, turned)
            values = np.moveaxis(np.tensordot(member, values, axes=(1, 2 - axis)), 0, 2 - axis)
        return values

    def place(self, cell: tuple[int, ...]) -> tuple[float, float, float]:
        """R, A, S in mm of the middle of a cell [k, j, i]."""
        along = np.array(self.start) + (np.array(cell[::-1]) + 0.5) * self.edge
        left, posterior, superior = (self._axes @ along).tolist()
        return -left, -posterior, superior

    @property
    def _axes(self) -> np.ndarray:
        return np.reshape(self.direction, (3, 3))

    def _membership(self, axis: int, turned: sitk.Image) -> np.ndarray:
        """[cells, voxels] along one axis: 1 where a voxel belongs to a cell."""
        size, count = turned.GetSize()[axis], self.cells[axis]
        if self.align == "field":
            cell = ((np.arange(size) + 0.5) * count / size).astype(int)
        else:
            first = float((self._axes.T @ turned.GetOrigin())[axis])
            place = first + np.arange(size) * turned.GetSpacing()[axis]
            cell = np.floor((place - self.start[axis]) / self.edge[axis]).astype(int)
        return (np.arange(count)[:, None] == cell).astype(np.float64)


def _turned(image: sitk.Image) -> sitk.Image:
    return sitk.DICOMOrient(image, _LPS)


def _three(values: list[float]) -> tuple[float, float, float]:
    a, b, c = (float(value) for value in values)
    return a, b, c
