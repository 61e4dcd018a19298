"""Boxes of the same voxels: arrays cut and grown by whole ones, and maps from or to such a box."""

import torch
from torch import Tensor

from .grid import Grid, cut, index_map
from .resampling import LinearMap


class Cropped:
    """A map from a box of the source alone: what lies outside the box gives nothing and gets no relevance."""

    def __init__(self, inner: LinearMap, source: Grid, box: Grid) -> None:
        self._inner, self._source, self._box = inner, source, box
        self.inside = inner.inside

    def forward(self, volume: Tensor) -> Tensor:
        return self._inner.forward(placed(volume, self._source, self._box))

    def adjoint(self, values: Tensor) -> Tensor:
        return placed(self._inner.adjoint(values), self._box, self._source)


class Reframed:
    """A map whose target has been cut or grown to a frame by whole voxels; what was added is outside, and 0."""

    def __init__(self, inner: LinearMap, target: Grid, frame: Grid) -> None:
        self._inner, self._target, self._frame = inner, target, frame
        self.inside = placed(inner.inside, target, frame)

    def forward(self, volume: Tensor) -> Tensor:
        return placed(self._inner.forward(volume), self._target, self._frame)

    def adjoint(self, values: Tensor) -> Tensor:
        return self._inner.adjoint(placed(values, self._frame, self._target))


class Replicated:
    """A map whose target has been grown to a frame by repeating its outermost voxels.

    What was added is outside the field of view, but its relevance is that of the voxels it repeats.

    Attributes:
        kept: bool [D, H, W]: the target voxels whose values `adjoint` carries back.
    """

    def __init__(self, inner: LinearMap, target: Grid, frame: Grid) -> None:
        self._inner, self._shape = inner, target.shape
        start = _whole_steps(target, frame)
        self._repeats = [
            (torch.arange(frame.size[axis]) + start[axis]).clamp(0, target.size[axis] - 1) for axis in (2, 1, 0)
        ]
        self.inside = placed(inner.inside, target, frame)
        self.kept = self.grown(inner.inside)

    def grown(self, values: Tensor) -> Tensor:
        """An array on the target, on the frame."""
        for dim, index in enumerate(self._repeats):
            values = values.index_select(dim, index)
        return values

    def forward(self, volume: Tensor) -> Tensor:
        return self.grown(self._inner.forward(volume))

    def adjoint(self, values: Tensor) -> Tensor:
        for dim, index in enumerate(self._repeats):
            shape = list(values.shape)
            shape[dim] = self._shape[dim]
            values = torch.zeros(shape, dtype=values.dtype).index_add_(dim, index, values)
        return self._inner.adjoint(values)


def placed(values: Tensor, grid: Grid, frame: Grid) -> Tensor:
    """An array on `grid`, on another box of the same voxels; 0 where it was not known. The adjoint swaps the two."""
    if grid == frame:
        return values
    start = _whole_steps(grid, frame)
    there, here = [], []
    for axis in (2, 1, 0):
        begin = max(0, -start[axis])
        end = max(begin, min(frame.size[axis], grid.size[axis] - start[axis]))
        there.append(slice(begin, end))
        here.append(slice(begin + start[axis], end + start[axis]))
    result = torch.zeros(frame.shape, dtype=values.dtype)
    result[tuple(there)] = values[tuple(here)]
    return result


def overlap(grid: Grid, other: Grid) -> Grid:
    """The voxels that two boxes of the same voxels have in common (there are some)."""
    start = _whole_steps(grid, other)
    first = [max(0, n) for n in start]
    last = [min(own, n + size) for own, n, size in zip(grid.size, start, other.size, strict=True)]
    return cut(grid, first, [end - begin for begin, end in zip(first, last, strict=True)])


def _whole_steps(grid: Grid, other: Grid) -> list[int]:
    """The index (i, j, k) on `grid` of the other's first voxel."""
    return [round(step) for step in index_map(grid, other)[1].tolist()]
