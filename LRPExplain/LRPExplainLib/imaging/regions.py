"""Parts of patient space that a question can be about. Coordinates are Slicer's: RAS in millimetres.

Inside, grids are ITK's (LPS); the first two coordinates change their sign at this door.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import SimpleITK as sitk

from ..errors import UserError
from .grid import Grid, Triple, nearest_on

_LPS_FROM_RAS = np.array([-1.0, -1.0, 1.0])
_IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
# A voxel centre this close (in mm) to the face of a box counts as within it.
_FACE = 1e-4


class Region(Protocol):
    """A part of patient space; `str()` of it ends "over 12 voxels of ..."."""

    @property
    def kind(self) -> str:
        """What explanation.json calls it under `where`."""
        ...

    def mask(self, grid: Grid, inside: np.ndarray) -> np.ndarray:
        """bool [D, H, W]: the voxels of `grid` that belong to it, among those `inside` the field of view.

        Raises:
            UserError: there is none, or a point lies outside the field of view.
        """
        ...

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        ...


@dataclass(frozen=True)
class Everywhere:
    """All of the field of view."""

    kind = "everywhere"

    def __str__(self) -> str:
        return "the field of view"

    def mask(self, grid: Grid, inside: np.ndarray) -> np.ndarray:
        return inside

    def as_dict(self) -> dict[str, Any]:
        return {}


@dataclass(frozen=True, eq=False)
class Segment:
    """A segment of a given segmentation, brought to any grid by nearest neighbour; see `read_segment` for files.

    Attributes:
        image: 3D, any geometry; the segment is where it is not 0.
        name: what to call it.
        source: the file that it is from.
        chosen: the name or label value by which it was chosen in the file; None: all that is not background.
        sha256: of the file.
    """

    image: sitk.Image
    name: str
    source: str | None = None
    chosen: str | None = None
    sha256: str | None = None

    kind = "segment"

    def __post_init__(self) -> None:
        if not isinstance(self.image, sitk.Image):
            raise TypeError(
                f"a segment is made of a SimpleITK image, not {type(self.image).__name__}: read a file with"
                " read_segment, and make an image on its volume's grid of an array"
            )

    def __str__(self) -> str:
        return f"the segment '{self.name}'"

    def mask(self, grid: Grid, inside: np.ndarray) -> np.ndarray:
        binary = self.image != 0
        voxels = (nearest_on(binary, grid) != 0) & inside
        if not voxels.any():
            own = np.argwhere(sitk.GetArrayViewFromImage(binary))[:, ::-1]
            if not len(own):
                raise UserError(
                    f"The segment '{self.name}' is empty, so there is nothing to ask about: choose another."
                )
            places = Grid.of(self.image)
            positions = np.asarray(places.origin) + own @ places.axes.T
            self._refuse(grid, bool(_seen(positions, grid, inside).any()))
        return voxels

    def as_dict(self) -> dict[str, Any]:
        return {"segment": self.name, "file": self.source, "chosen": self.chosen, "sha256": self.sha256}

    def _refuse(self, grid: Grid, within: bool) -> None:
        if within:
            raise UserError(
                f"The segment '{self.name}' is so small that it holds no voxel centre of the model's grid"
                f" ({_voxel(grid)}): ask about a point in it instead."
            )
        raise UserError(
            f"The segment '{self.name}' lies outside what the model sees of the volume: choose a segmentation of it."
        )


@dataclass(frozen=True)
class Box:
    """A box at any angle, such as Slicer's ROI.

    Attributes:
        centre: RAS, mm.
        size: full edge lengths in mm along the box's own axes.
        axes: row-major 3x3; its columns are the box's axes as unit vectors in RAS.
    """

    centre: Triple
    size: Triple
    axes: tuple[float, ...] = _IDENTITY

    kind = "box"

    def __post_init__(self) -> None:
        object.__setattr__(self, "centre", _numbers(self.centre, 3, "The box's centre"))
        object.__setattr__(self, "size", _numbers(self.size, 3, "The box's size"))
        object.__setattr__(self, "axes", _numbers(self.axes, 9, "The box's axes"))
        if min(self.size) <= 0:
            raise UserError(f"The box has the size {_said(self.size)} mm: give edge lengths above 0.")
        matrix = np.reshape(self.axes, (3, 3))
        if not np.allclose(matrix.T @ matrix, np.eye(3), atol=1e-3):
            raise UserError(
                "The box's axes are no unit vectors at right angles: give a rotated box, not a sheared one."
            )

    @classmethod
    def between(cls, corner: Sequence[float], opposite: Sequence[float]) -> "Box":
        """The box along the R, A and S axes that two opposite corners (RAS, mm) span."""
        first = np.asarray(_numbers(corner, 3, "The box's first corner"))
        second = np.asarray(_numbers(opposite, 3, "The box's second corner"))
        return cls(tuple((first + second) / 2), tuple(np.abs(second - first)))

    def __str__(self) -> str:
        return f"the box around {_said(self.centre)} (RAS, mm)"

    def mask(self, grid: Grid, inside: np.ndarray) -> np.ndarray:
        to_box = np.reshape(self.axes, (3, 3)).T * _LPS_FROM_RAS  # from LPS to coordinates along the box's axes
        steps = to_box @ grid.axes
        start = to_box @ (np.asarray(grid.origin) - np.asarray(self.centre) * _LPS_FROM_RAS)
        i, j, k = (np.arange(n) for n in grid.size)
        voxels = inside.copy()
        for offset, step, size in zip(start, steps, self.size, strict=True):
            along = offset + step[0] * i + (step[1] * j)[:, None] + (step[2] * k)[:, None, None]
            voxels &= np.abs(along) <= size / 2 + _FACE
        if not voxels.any():
            raise UserError(
                f"Nothing that the model sees of the volume lies in {self}: move it, or enlarge it if it is smaller"
                f" than a voxel of the model's grid ({_voxel(grid)})."
            )
        return voxels

    def as_dict(self) -> dict[str, Any]:
        return {"centre_ras": list(self.centre), "size_mm": list(self.size), "axes_ras": list(self.axes)}


@dataclass(frozen=True)
class Points:
    """The voxels that hold these points (RAS, mm). Two points in one voxel are one."""

    points: tuple[Triple, ...]

    kind = "points"

    def __post_init__(self) -> None:
        object.__setattr__(self, "points", tuple(_numbers(point, 3, "A point") for point in self.points))
        if not self.points:
            raise UserError("There is no point to ask about: give one at least.")

    def __str__(self) -> str:
        if len(self.points) == 1:
            return f"the point {_said(self.points[0])} (RAS, mm)"
        return f"{len(self.points)} points"

    def mask(self, grid: Grid, inside: np.ndarray) -> np.ndarray:
        positions = np.asarray(self.points) * _LPS_FROM_RAS
        seen = _seen(positions, grid, inside)
        if not seen.all():
            missed = self.points[int(np.argmin(seen))]
            raise UserError(
                f"The point {_said(missed)} (RAS, mm) lies outside what the model sees of the volume: choose one in it."
            )
        voxels = np.zeros(grid.shape, dtype=bool)
        voxels[tuple(_nearest(positions, grid).T[::-1])] = True
        return voxels

    def as_dict(self) -> dict[str, Any]:
        return {"points_ras": [list(point) for point in self.points]}


def _nearest(positions: np.ndarray, grid: Grid) -> np.ndarray:
    """Indices [n, 3] (i, j, k) of the voxels that hold positions [n, 3] (LPS, mm); they may lie beyond the grid."""
    index = np.linalg.solve(grid.axes, (positions - np.asarray(grid.origin)).T).T
    return np.floor(np.clip(index, -1, max(grid.size)) + 0.5).astype(np.int64)


def _seen(positions: np.ndarray, grid: Grid, inside: np.ndarray) -> np.ndarray:
    """bool [n]: which positions (LPS, mm) lie in a voxel of the grid that is in the field of view."""
    index = _nearest(positions, grid)
    within = np.asarray(((index >= 0) & (index < np.asarray(grid.size))).all(axis=1))
    i, j, k = np.where(within[:, None], index, 0).T
    return np.asarray(within & inside[k, j, i])


def _numbers(values: Iterable[float], count: int, what: str) -> Any:
    numbers = tuple(float(value) for value in values)
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise UserError(f"{what} is given as {_said(numbers)}: give {count} finite numbers.")
    return numbers


def _said(numbers: Sequence[float]) -> str:
    return ", ".join(f"{number:g}" for number in numbers)


def _voxel(grid: Grid) -> str:
    return f"{' x '.join(f'{step:.3g}' for step in grid.spacing)} mm"
