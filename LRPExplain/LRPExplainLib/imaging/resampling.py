"""Linear interpolation from one grid to another as a linear map, and its exact adjoint.

Every row of the map is a set of weights that sums to one, or is empty where the target voxel lies outside the source's
field of view. So the adjoint carries relevance back without loss, except for what sat on those outside voxels, and that
is counted voxel by voxel.

Where the target is coarser, the interpolation triangle is widened to the target's voxel (as `antialias=True` does in
PyTorch). That averages instead of picking every other voxel, so that no source voxel is blind to relevance and the
map on screen has no comb in it. Within half a voxel beyond the outermost voxel centres the nearest value continues.

A network that was trained on triangles left as they are (MONAI's `Spacing`) gets those, and its relevance goes back
through them: source voxels between its own were never looked at. One that was trained on cubic splines gets splines
(`splines.py`), whose weights are in part negative and reach far; its relevance goes back by the adjoint of the widened
triangles on the same grid, which is as exact an account and stays where it belongs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .grid import Grid, index_map, respace

# Axes count as parallel when no voxel of the target is misplaced by more than this (in source voxels).
_PARALLEL = 0.01
# A voxel centre this close (in source voxels) to the rim of the field of view counts as within it.
_RIM = 1e-4
_SLAB_VOXELS = 1 << 22


class LinearMap(Protocol):
    """A linear map A from arrays on a source grid [K, J, I] to arrays on a target grid [D, H, W]."""

    inside: Tensor
    """bool [D, H, W]: the target voxels that lie in the source's field of view."""

    def forward(self, volume: Tensor) -> Tensor:
        """A x; zero outside the field of view."""
        ...

    def adjoint(self, values: Tensor) -> Tensor:
        """A' y: <A x, y> = <x, A' y>; what `values` holds outside the field of view has no place to go."""
        ...


def linear_map(source: Grid, target: Grid, widened: bool = True, continued: bool = False) -> LinearMap:
    """The interpolation from `source` to `target`: separable where the axes are parallel, trilinear otherwise.

    Args:
        widened: triangles grow with the target's voxels. Between axes at an angle they always do.
        continued: beyond the source's extent the nearest value continues, so that all of the target is inside.
    """
    alignment = align(source, target)
    if alignment is None:
        return Oblique(source, target)
    return AxisAligned(source, target, alignment, widened, continued)


@dataclass(frozen=True)
class AxisLink:
    """Along one source axis: source index = scale * (index along `target_axis`) + offset; 0, 1, 2 = i, j, k."""

    target_axis: int
    scale: float
    offset: float


def align(source: Grid, target: Grid) -> tuple[AxisLink, AxisLink, AxisLink] | None:
    """How the axes of two grids correspond, one link per source axis; None when they are not parallel."""
    matrix, offset = index_map(source, target)
    dominant = np.abs(matrix).argmax(axis=1)
    if len(set(dominant.tolist())) != 3:
        return None
    rest = matrix.copy()
    rest[range(3), dominant] = 0
    if np.max(np.abs(rest) @ (np.asarray(target.size) - 1)) > _PARALLEL:
        return None
    first, second, third = (AxisLink(int(a), float(matrix[r, a]), float(offset[r])) for r, a in enumerate(dominant))
    return first, second, third


class AxisAligned:
    """Interpolation between grids with parallel axes: a small matrix along each axis, and its transpose back."""

    def __init__(
        self,
        source: Grid,
        target: Grid,
        links: tuple[AxisLink, AxisLink, AxisLink],
        widened: bool = True,
        continued: bool = False,
    ) -> None:
        self._matrices = [
            axis_weights(target.size[link.target_axis], source.size[axis], link.scale, link.offset, widened, continued)
            for axis, link in enumerate(links)
        ]
        # tensor dimension d is axis 2 - d; `_dims[d]` is the source's dimension behind the target's dimension d
        self._dims = [0, 0, 0]
        for axis, link in enumerate(links):
            self._dims[2 - link.target_axis] = 2 - axis
        seen = [self._matrices[2 - dim].sum(1) > 0 for dim in self._dims]
        self.inside = seen[0][:, None, None] & seen[1][None, :, None] & seen[2][None, None, :]

    def forward(self, volume: Tensor) -> Tensor:
        return self._apply(volume, self._matrices).permute(self._dims).contiguous()

    def adjoint(self, values: Tensor) -> Tensor:
        inverse = [self._dims.index(dim) for dim in range(3)]
        return self._apply(values.permute(inverse), [matrix.T for matrix in self._matrices]).contiguous()

    @staticmethod
    def _apply(volume: Tensor, matrices: list[Tensor]) -> Tensor:
        # the axes that shrink most come first: less work for the others
        for axis in sorted(range(3), key=lambda a: matrices[a].shape[0] / matrices[a].shape[1]):
            matrix = matrices[axis]
            if not _is_identity(matrix):
                lines = volume.movedim(2 - axis, -1)
                product = lines.reshape(-1, lines.shape[-1]) @ matrix.T  # one plain product is far faster than a batch
                volume = product.reshape(*lines.shape[:-1], -1).movedim(-1, 2 - axis)
        return volume


class Oblique:
    """Trilinear interpolation between grids at any angle; a finer source is first averaged along its own axes."""

    def __init__(self, source: Grid, target: Grid) -> None:
        matrix, _ = index_map(source, target)
        # how many source voxels one step on the target grid covers along each source axis
        steps = np.maximum(1.0, np.sqrt((matrix**2).sum(axis=1)))
        coarse = respace(source, tuple(np.asarray(source.spacing) * steps))
        self._average = linear_map(source, coarse) if coarse.size != source.size else None
        self._grid, self._target = coarse, target
        self._matrix, self._offset = index_map(coarse, target)
        self.inside = torch.cat([self._positions(start, stop)[1] for start, stop in self._slabs()])

    def forward(self, volume: Tensor) -> Tensor:
        if self._average is not None:
            volume = self._average.forward(volume)
        return torch.cat([self._sample(volume, start, stop) for start, stop in self._slabs()])

    def adjoint(self, values: Tensor) -> Tensor:
        result = torch.zeros(self._grid.shape, dtype=values.dtype)
        for start, stop in self._slabs():
            result += _transpose(lambda x, a=start, b=stop: self._sample(x, a, b), result, values[start:stop])  # type: ignore[misc]
        return result if self._average is None else self._average.adjoint(result)

    def _slabs(self) -> list[tuple[int, int]]:
        depth, height, width = self._target.shape
        step = max(1, _SLAB_VOXELS // (height * width))
        return [(start, min(start + step, depth)) for start in range(0, depth, step)]

    def _positions(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Source indices [d, H, W, 3] (i, j, k) of the target voxels in a slab, and which of them are inside."""
        _, height, width = self._target.shape
        k, j, i = torch.meshgrid(
            torch.arange(start, stop, dtype=torch.float64),
            torch.arange(height, dtype=torch.float64),
            torch.arange(width, dtype=torch.float64),
            indexing="ij",
        )
        index = torch.stack([i, j, k], dim=-1) @ torch.from_numpy(self._matrix).T + torch.from_numpy(self._offset)
        upper = torch.tensor(self._grid.size, dtype=torch.float64) - 0.5
        return index, ((index >= -0.5 - _RIM) & (index <= upper + _RIM)).all(dim=-1)

    def _sample(self, volume: Tensor, start: int, stop: int) -> Tensor:
        index, inside = self._positions(start, stop)
        # PyTorch's sampling positions run from -1 to 1 between the outer faces of the volume
        position = (2 * index + 1) / torch.tensor(self._grid.size, dtype=torch.float64) - 1
        sampled = F.grid_sample(
            volume[None, None], position[None].to(volume.dtype), padding_mode="border", align_corners=False
        )
        return sampled[0, 0] * inside


def nearest(labels: Tensor, grid: Grid, target: Grid) -> Tensor:
    """Labels on `grid` looked up at the voxels of `target` (parallel axes); 0 where `grid` does not reach.

    Raises:
        ValueError: the axes of the two grids are not parallel.
    """
    links = align(grid, target)
    if links is None:
        raise ValueError("nearest needs grids with parallel axes")
    dims = [0, 0, 0]
    for axis, link in enumerate(links):
        index = torch.arange(target.size[link.target_axis], dtype=torch.float64) * link.scale + link.offset
        index = torch.round(torch.round(index, decimals=6)).long()
        known = (index >= 0) & (index < grid.size[axis])
        dim = 2 - axis
        labels = labels.index_select(dim, index.clamp(0, grid.size[axis] - 1))
        labels = labels * known.reshape([-1 if d == dim else 1 for d in range(3)])
        dims[2 - link.target_axis] = dim
    return labels.permute(dims).contiguous()


def axis_weights(
    count: int,
    source_count: int,
    scale: float,
    offset: float,
    widened: bool = True,
    continued: bool = False,
) -> Tensor:
    """Weights [count, source_count] of linear interpolation at the source positions scale * index + offset.

    Rows are empty outside the source's extent, unless the nearest value is `continued` there.
    """
    position = torch.round(torch.arange(count, dtype=torch.float64) * scale + offset, decimals=6)
    if continued:
        position = position.clamp(-0.5, source_count - 0.5)
    inside = (position >= -0.5 - _RIM) & (position <= source_count - 0.5 + _RIM)
    distance = (position[:, None] - torch.arange(source_count, dtype=torch.float64)).abs()
    width = max(1.0, abs(scale)) if widened else 1.0
    weights = (1 - distance / width).clamp_min(0) * inside[:, None]
    return (weights / weights.sum(1, keepdim=True).clamp_min(1e-12)).float()


def _is_identity(matrix: Tensor) -> bool:
    return matrix.shape[0] == matrix.shape[1] and bool((matrix == torch.eye(matrix.shape[0])).all())


def _transpose(linear: Callable[[Tensor], Tensor], like: Tensor, values: Tensor) -> Tensor:
    """The transpose of a linear function, which is what reverse-mode differentiation computes."""
    with torch.enable_grad():
        start = torch.zeros_like(like, requires_grad=True)
        (result,) = torch.autograd.grad(linear(start), start, values)
    return result
