"""One space for the maps of many volumes: a lattice of blocks, each with the relevance that lies in it.

Relevance is brought there by the adjoint of linear interpolation from the lattice to the volume's voxels: each voxel
hands its relevance to the blocks around its centre, with weights that sum to one. So nothing is lost, whatever the
volume's spacing, size and angle, and a map that moves a little changes a little.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import SimpleITK as sitk
import torch

from ..errors import UserError
from ..explanation import Explanation
from ..imaging.grid import Grid, Size, Triple
from ..imaging.resampling import linear_map

BLOCKS = 24  # along the longest side of the first volume, where no edge is given
_MOST_BLOCKS = 2_000_000
_SLIVER = 1e-3  # of a block: no block is made for rounding errors of a geometry
_APART = 2.0  # fields of view together this much larger than the largest of them have little in common
_LPS = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)

Placed = tuple[sitk.Image, Grid]


@dataclass(frozen=True)
class Blocks:
    """A map on its own part of the lattice.

    Attributes:
        start: lattice index (i, j, k) of its first block.
        values: float32 [k, j, i], the relevance in each block.
    """

    start: Size
    values: np.ndarray

    @property
    def stop(self) -> Size:
        """Lattice index behind its last block."""
        k, j, i = self.values.shape
        return self.start[0] + i, self.start[1] + j, self.start[2] + k


@dataclass(frozen=True)
class Home:
    """What the first volume says of the lattice: the sides of its field of view (LPS, mm), and where its point is."""

    extent: np.ndarray
    point: np.ndarray


class Space:
    """The lattice; its axes run to the left, posterior and superior, in mm, and it lies where the first volume does.

    Args:
        first: the explanation onto whose first volume all others are brought.
        align: a name in `ALIGNMENTS`.
        edge: of a block in mm; None: a `BLOCKS`th of the longest side of that volume.

    Raises:
        UserError: the alignment does not suit the explanation.
    """

    def __init__(self, first: Explanation, align: str, edge: float | None) -> None:
        self._align, self._point = ALIGNMENTS[align]
        upright = Grid.of(sitk.DICOMOrient(first.relevance[0], "LPS"))
        extent = np.asarray(upright.size) * np.asarray(upright.spacing)
        self._home = Home(extent, np.asarray(self._point(first)))
        self.edge = float(edge or max(extent) / BLOCKS)
        self._anchor = _box(self._placed(first)[0][1])[0]

    def blocks(self, explanation: Explanation) -> list[Blocks]:
        """The explanation's maps, one per input, on the lattice.

        Raises:
            UserError: the alignment does not suit it, or there would be too many blocks.
        """
        return [self._deposit(image, grid) for image, grid in self._placed(explanation)]

    def averages(self, image: sitk.Image, explanation: Explanation) -> Blocks:
        """Another image on the grid of the first volume: its mean in each block."""
        alike = replace(explanation, relevance=(image,), volumes=explanation.volumes[:1])
        ones = Grid.of(image).image(np.ones(image.GetSize()[::-1], np.float32))
        sums, counts = self.blocks(alike)[0], self.blocks(replace(alike, relevance=(ones,)))[0]
        return replace(sums, values=sums.values / np.maximum(counts.values, 1e-6 * counts.values.max()))

    def grid(self, start: Size, stop: Size) -> Grid:
        """The grid whose voxels are the blocks from `start` to before `stop`."""
        i, j, k = (int(b - a) for a, b in zip(start, stop, strict=True))
        x, y, z = (float(c + self.edge * (a + 0.5)) for c, a in zip(self._anchor, start, strict=True))
        return Grid((i, j, k), (self.edge,) * 3, (x, y, z), _LPS)

    def _placed(self, explanation: Explanation) -> list[Placed]:
        return self._align(explanation, self._home, np.asarray(self._point(explanation)))

    def _deposit(self, image: sitk.Image, grid: Grid) -> Blocks:
        low, high = ((corner - self._anchor) / self.edge for corner in _box(grid))
        first = np.floor(low + _SLIVER).astype(int)
        last = np.maximum(np.ceil(high - _SLIVER).astype(int), first + 1)
        if np.prod((last - first).astype(float)) > _MOST_BLOCKS:
            raise UserError(
                f"Blocks of {self.edge:g} mm make {np.prod((last - first).astype(float)):.0f} of them: choose larger"
                " ones."
            )
        start, stop = _size(first), _size(last)
        values = torch.from_numpy(sitk.GetArrayFromImage(image)).float()
        return Blocks(start, linear_map(self.grid(start, stop), grid).adjoint(values).numpy())


def check_space(align: str, edge: float | None) -> None:
    """Refuse what makes no space before anything is read.

    Raises:
        UserError: no such alignment, or an edge that is none.
    """
    if align not in ALIGNMENTS:
        raise UserError(f"There is no alignment '{align}': choose {', '.join(ALIGNMENTS)}.")
    if edge is not None and not (np.isfinite(edge) and edge > 0):
        raise UserError(f"A block's edge is above 0 mm, not {edge:g}.")


def together(maps: Sequence[Blocks]) -> tuple[np.ndarray, Size, Size]:
    """Maps on the smallest part of the lattice that holds them all: float32 [N, k, j, i], its start and stop.

    Raises:
        UserError: they lie so far apart that it would be too large.
    """
    start = _size(np.min([one.start for one in maps], axis=0))
    stop = _size(np.max([one.stop for one in maps], axis=0))
    i, j, k = (b - a for a, b in zip(start, stop, strict=True))
    if k * j * i > _MOST_BLOCKS:
        raise UserError(f"The volumes lie so far apart that they need {k * j * i} blocks: try another alignment.")
    result = np.zeros((len(maps), k, j, i), np.float32)
    for place, one in zip(result, maps, strict=True):
        x, y, z = (a - b for a, b in zip(one.start, start, strict=True))
        depth, height, width = one.values.shape
        place[z : z + depth, y : y + height, x : x + width] = one.values
    return result, start, stop


def lie_apart(maps: Sequence[Blocks]) -> bool:
    """Whether the fields of view have little in common, so that one place is not one place in all of them."""
    start, stop = np.min([one.start for one in maps], axis=0), np.max([one.stop for one in maps], axis=0)
    return float(np.prod(stop - start)) > _APART * max(one.values.size for one in maps)


def _as_they_lie(explanation: Explanation, home: Home, point: np.ndarray) -> list[Placed]:
    return [(image, Grid.of(image)) for image in explanation.relevance]


def _moved(explanation: Explanation, home: Home, point: np.ndarray) -> list[Placed]:
    """The point is where it is in the first explanation."""
    grids = [Grid.of(image) for image in explanation.relevance]
    shifted = [replace(grid, origin=_triple(home.point - point + grid.origin)) for grid in grids]
    return list(zip(explanation.relevance, shifted, strict=True))


def _stretched(explanation: Explanation, home: Home, point: np.ndarray) -> list[Placed]:
    """Each field of view takes the place of the first one."""
    placed = []
    for image in explanation.relevance:
        upright = sitk.DICOMOrient(image, "LPS")
        size = upright.GetSize()
        grid = Grid(size, _triple(home.extent / np.asarray(size)), (0.0, 0.0, 0.0), _LPS)
        middle = grid.point([(n - 1) / 2 for n in size])
        placed.append((upright, replace(grid, origin=_triple(home.point - middle))))
    return placed


def _centre(explanation: Explanation) -> Triple:
    """Of the first volume's field of view."""
    grid = Grid.of(explanation.relevance[0])
    return grid.point([(n - 1) / 2 for n in grid.size])


def _target(explanation: Explanation) -> Triple:
    """The centre of mass of what is predicted as the target. Raises UserError where there is no such place."""
    labels, name = explanation.prediction.segmentation, explanation.target["class"]
    if labels is None:
        raise UserError("A classification has no place to align maps by: align them by frame, space or centre.")
    classes = explanation.prediction.classes
    told = [entry["centre_ras"] for entry in classes if entry["name"] == name and "centre_ras" in entry]
    if told:  # of what other classes may hide in the label map
        return _triple(np.multiply(told[0], (-1, -1, 1)))
    values = [n for n, entry in enumerate(classes) if entry["name"] == name]
    middle = Grid.of(labels).middle_of(np.isin(sitk.GetArrayViewFromImage(labels), values))
    if middle is None:
        raise UserError(f"Nothing is predicted as '{name}', by which the maps are aligned.")
    return middle


_Align = Callable[[Explanation, Home, np.ndarray], list[Placed]]
ALIGNMENTS: dict[str, tuple[_Align, Callable[[Explanation], Triple]]] = {
    "frame": (_stretched, _centre),  # fields of view are turned upright and stretched onto each other
    "space": (_as_they_lie, _centre),  # patient space, for volumes that are registered to each other
    "centre": (_moved, _centre),  # the centre of the field of view is the same place in all
    "target": (_moved, _target),  # what is predicted as the target has its centre of mass at the same place in all
}


def _box(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and highest LPS coordinates of a field of view."""
    faces = [(-0.5, n - 0.5) for n in grid.size]
    corners = np.array([grid.point(corner) for corner in product(*faces)])
    return corners.min(axis=0), corners.max(axis=0)


def _size(values: np.ndarray) -> Size:
    i, j, k = (int(n) for n in values)
    return i, j, k


def _triple(values: np.ndarray) -> Triple:
    x, y, z = (float(value) for value in values)
    return x, y, z
