"""Regular grids in patient space, and the grid that a model asks for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from math import ceil

import numpy as np
import SimpleITK as sitk

Triple = tuple[float, float, float]
Size = tuple[int, int, int]

# Letter -> (axis of ITK's patient space, sign). An orientation such as "RAS" names where the i, j and k axes run to.
_LETTERS = {"L": (0, 1), "R": (0, -1), "P": (1, 1), "A": (1, -1), "S": (2, 1), "I": (2, -1)}
# A volume is cut into model voxels without a sliver more for rounding errors of its spacing (in voxels).
_SLIVER = 1e-3
# Voxels that lie this close together (in voxels) are the same.
_ALIKE = 0.01
# MONAI's tolerance (in voxels) for an index to be the least.
_LEAST = 1e-8
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Grid:
    """Where the voxels of a volume are: ITK's conventions, LPS millimetres, axes in the order i, j, k.

    `direction` is row-major 3x3; its columns are the unit vectors of the i, j and k axes. An array or tensor on this
    grid has the reversed shape [k, j, i], as SimpleITK and PyTorch ([D, H, W]) have it.
    """

    size: Size
    spacing: Triple
    origin: Triple
    direction: tuple[float, ...]

    @classmethod
    def of(cls, image: sitk.Image) -> "Grid":
        """The grid of a 3D image."""
        return cls(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())

    def stamp(self, image: sitk.Image) -> sitk.Image:
        """Give `image` (same size) exactly this spacing, origin and direction; returns it."""
        image.SetSpacing(self.spacing)
        image.SetOrigin(self.origin)
        image.SetDirection(self.direction)
        return image

    def image(self, array: np.ndarray) -> sitk.Image:
        """An image on this grid from an array of shape [k, j, i]."""
        return self.stamp(sitk.GetImageFromArray(array))

    def as_dict(self) -> dict[str, list[float]]:
        """JSON-ready."""
        return {
            "size": list(self.size),
            "spacing": list(self.spacing),
            "origin": list(self.origin),
            "direction": list(self.direction),
        }

    @classmethod
    def from_dict(cls, values: dict[str, list[float]]) -> "Grid":
        """The reverse of `as_dict`.

        Raises:
            ValueError: no grid, as somebody else has changed it.
        """
        i, j, k = (int(n) for n in values["size"])
        grid = cls(
            (i, j, k), _triple(values["spacing"]), _triple(values["origin"]), tuple(map(float, values["direction"]))
        )
        if len(grid.direction) != 9 or not np.isfinite([*grid.spacing, *grid.origin, *grid.direction]).all():
            raise ValueError("a grid has three axes of finite numbers")
        if min(grid.spacing) <= 0 or abs(np.linalg.det(grid.axes)) == 0:
            raise ValueError("voxels have an extent along each axis")
        return grid

    @property
    def shape(self) -> Size:
        """Shape of an array on this grid: [k, j, i]."""
        i, j, k = self.size
        return k, j, i

    @property
    def axes(self) -> np.ndarray:
        """3x3, columns: the step in mm from one voxel to the next along i, j and k."""
        return np.asarray(self.direction).reshape(3, 3) * np.asarray(self.spacing)

    @property
    def ijk_to_ras(self) -> np.ndarray:
        """4x4: from a voxel's index (i, j, k, 1) to RAS in mm, as MRML keeps it."""
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = self.axes, self.origin
        return _LPS_TO_RAS @ matrix

    def point(self, index: Sequence[float]) -> Triple:
        """The position in mm of a (continuous) index i, j, k."""
        return _triple(np.asarray(self.origin) + self.axes @ np.asarray(index, dtype=float))

    def middle_of(self, mask: np.ndarray) -> Triple | None:
        """The centre of mass in mm of a mask [k, j, i] on this grid; None of an empty one."""
        lines = [mask.sum(axis=axes) for axes in ((0, 1), (0, 2), (1, 2))]  # along i, j, k
        if not lines[0].any():
            return None
        return self.point([float(np.average(np.arange(len(line)), weights=line)) for line in lines])


def core_grid(
    source: Grid,
    orientation: str | None = None,
    spacing: Sequence[float | None] | None = None,
    resampling: str = "extent",
) -> Grid:
    """`source` with its axes permuted and flipped to the nearest anatomical `orientation`, then in voxels of `spacing`
    (mm, along the new i, j, k; None: as they are), which lie as the row `resampling` of `RESAMPLING` says."""
    grid = source if orientation is None else reorient(source, orientation)
    if spacing is not None:
        steps = [own if step is None else step for own, step in zip(grid.spacing, spacing, strict=True)]
        grid = RESAMPLING[resampling](grid, _triple(steps))
    return grid


def fitted(
    grid: Grid, size: Sequence[int] | None, size_multiple: int = 1, minimum_size: Sequence[int] | None = None
) -> Grid:
    """Grown or cut to `size` (None or 0: its own), grown to `minimum_size` and to the next multiple, evenly on both
    sides, by whole voxels."""
    wanted = [n or own for n, own in zip(size or (0, 0, 0), grid.size, strict=True)]
    least = [max(n, m) for n, m in zip(wanted, minimum_size or (0, 0, 0), strict=True)]
    return refit(grid, [-(-n // size_multiple) * size_multiple for n in least])


def reorient(grid: Grid, orientation: str) -> Grid:
    """The same voxels with axes permuted and flipped so that they run as closely as possible to `orientation`."""
    direction = np.asarray(grid.direction).reshape(3, 3)
    wanted = [_LETTERS[letter] for letter in orientation]
    order = max(
        permutations(range(3)), key=lambda p: sum(abs(direction[w, a]) for a, (w, _) in zip(p, wanted, strict=True))
    )
    signs = [1 if direction[w, a] * sign >= 0 else -1 for a, (w, sign) in zip(order, wanted, strict=True)]
    corner = [0.0, 0.0, 0.0]
    for axis, sign in zip(order, signs, strict=True):
        corner[axis] = 0 if sign > 0 else grid.size[axis] - 1
    i, j, k = order
    return Grid(
        size=(grid.size[i], grid.size[j], grid.size[k]),
        spacing=(grid.spacing[i], grid.spacing[j], grid.spacing[k]),
        origin=grid.point(corner),
        direction=tuple((direction[:, order] * signs).ravel().tolist()),
    )


def respace(grid: Grid, spacing: Triple) -> Grid:
    """The same extent around the same centre in voxels of `spacing` mm; the last voxels may stick out a little.

    No voxel centre lies outside the extent, so nothing of it is padding. An axis that has this spacing stays as it is.
    """
    same = [abs(new - old) <= 1e-4 * old for new, old in zip(spacing, grid.spacing, strict=True)]
    steps = [old if keep else new for keep, new, old in zip(same, spacing, grid.spacing, strict=True)]
    counts = [max(1, ceil(n * old / new - _SLIVER)) for n, old, new in zip(grid.size, grid.spacing, steps, strict=True)]
    return _centred(grid, counts, steps)


def respace_from_first_voxel(grid: Grid, spacing: Triple) -> Grid:
    """The first voxel's centre stays where it is; the last one's lies within half a voxel of the old last one's.

    So MONAI means it, but it looks for the corner where all new indices are least, to 1e-8. Of oblique axes in single
    precision, as NIfTI has them, none is, and it puts index n / 2 of the one grid on n / 2 of the other instead.
    """
    upright = grid.axes @ np.linalg.inv(np.linalg.cholesky(grid.axes.T @ grid.axes).T)
    matrix = np.linalg.solve(upright * spacing, grid.axes)  # new index = matrix @ old index, but for the origin
    last = np.asarray(grid.size) - 1
    i, j, k = (int(n) for n in np.round(np.abs(matrix) @ last + 1))
    found = replace(grid, size=(i, j, k), spacing=spacing)
    aside = np.minimum(matrix, 0) @ last
    if aside.min() >= -_LEAST:
        return found
    middle = grid.point([n / 2 for n in grid.size])
    return replace(found, origin=_triple(np.subtract(middle, found.axes @ (np.asarray(found.size) / 2))))


def respace_rounded(grid: Grid, spacing: Triple) -> Grid:
    """The same extent in a whole number of voxels, whose spacing is as near to `spacing` as that allows."""
    counts = [
        max(1, round(old / new * n)) for n, old, new in zip(grid.size, grid.spacing, spacing, strict=True)
    ]  # in this order, as nnU-Net has it: halves are rounded alike
    steps = [old * n / count for n, old, count in zip(grid.size, grid.spacing, counts, strict=True)]
    return _centred(grid, counts, steps)


RESAMPLING: dict[str, Callable[[Grid, Triple], Grid]] = {
    "extent": respace,
    "first-voxel": respace_from_first_voxel,  # MONAI's Spacing
    "extent-rounded": respace_rounded,  # nnU-Net, scikit-image's resize
}


def _centred(grid: Grid, counts: Sequence[int], steps: Sequence[float]) -> Grid:
    i, j, k = counts
    centre = grid.point([(n - 1) / 2 for n in grid.size])
    resized = replace(grid, size=(i, j, k), spacing=_triple(steps), origin=(0.0, 0.0, 0.0))
    offset = resized.point([(n - 1) / 2 for n in resized.size])
    return replace(resized, origin=_triple(np.subtract(centre, offset)))


def refit(grid: Grid, size: Sequence[int]) -> Grid:
    """Grown or cut to `size` by whole voxels, evenly on both sides (an odd voxel is added or cut at the far side)."""
    start = [(old - new) // 2 if old > new else -((new - old) // 2) for old, new in zip(grid.size, size, strict=True)]
    return cut(grid, start, size)


def cut(grid: Grid, start: Sequence[int], size: Sequence[int]) -> Grid:
    """The box of `size` voxels whose first one has the index `start` (i, j, k), which may lie outside."""
    i, j, k = (int(n) for n in size)
    return replace(grid, size=(i, j, k), origin=grid.point(start))


def same_grid(one: Grid, other: Grid) -> bool:
    """Whether every voxel of one lies on the other's voxel of the same index, to a hundredth of a voxel."""
    if one.size != other.size:
        return False
    matrix, shift = index_map(one, other)
    growth = np.abs(matrix - np.eye(3)) @ np.asarray(one.size, dtype=float)
    return bool(np.max(np.abs(shift) + growth) < _ALIKE)


def index_map(source: Grid, target: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Matrix [3, 3] and offset [3]: source index (i, j, k) = matrix @ target index + offset."""
    inverse = np.linalg.inv(source.axes)
    return inverse @ target.axes, inverse @ np.subtract(target.origin, source.origin)


def nearest_on(labels: sitk.Image, grid: Grid) -> np.ndarray:
    """A label map of any geometry looked up at the voxels of a grid, 0 where it does not reach; [k, j, i], its type."""
    found = sitk.Resample(
        labels, grid.size, sitk.Transform(), sitk.sitkNearestNeighbor, grid.origin, grid.spacing, grid.direction, 0
    )
    return sitk.GetArrayFromImage(found)


def _triple(values: Sequence[float] | np.ndarray) -> Triple:
    x, y, z = (float(value) for value in values)
    return x, y, z
