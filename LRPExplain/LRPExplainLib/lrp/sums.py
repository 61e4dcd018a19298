"""Sums for the books, in float64: rounding of single sums would show where large relevances cancel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from .optimizations import on

PIECE = 1 << 17  # floats that, a few tensors of them at a time, stay in a core's own cache
# Neighbours that may be summed in float32: that rounds them about as much as they were rounded when they were made.
_RUN = 64
_LARGE = 1 << 15  # elements from which that pays


def total(x: Tensor) -> Tensor:
    """Sum in float64, as a tensor, so that a GPU is not stopped for it."""
    return _summed(in_memory_order(x))


def _summed(rows: Tensor) -> Tensor:
    """The sums [...] of rows [n, ...] in float64.

    PyTorch makes a float64 copy first, of twice the size, which costs as much as a convolution: of what is large, runs
    are summed before.
    """
    runs = len(rows) // _RUN
    if rows.dtype == torch.float64 or rows.numel() < _LARGE or runs < 2 or not on("runs"):
        return rows.sum(0, dtype=torch.float64)
    inside, rest = rows.tensor_split([runs * _RUN])
    found = inside.unflatten(0, (runs, _RUN)).sum(1, dtype=torch.float32).sum(0, dtype=torch.float64)
    return found + rest.sum(0, dtype=torch.float64) if len(rest) else found


def in_memory_order(x: Tensor) -> Tensor:
    """The values in a row as they lie in memory, which saves PyTorch a copy."""
    return x.permute(sorted(range(x.dim()), key=x.stride, reverse=True)).reshape(-1)


def dots(s: Tensor, *factors: Tensor) -> list[Tensor]:
    """Sums in float64 of s times each of the factors, which are expanded to its shape; without making the products."""
    axes = [i for i in range(s.dim()) if all(factor.stride(i) == 0 or s.shape[i] == 1 for factor in factors)]
    kept = [i for i in range(s.dim()) if i not in axes]
    if axes:
        rows = s.permute(*sorted(axes, key=s.stride, reverse=True), *kept).flatten(0, len(axes) - 1)
        reduced = _summed(rows)
    else:
        reduced = s.double()
    first = tuple(0 if i in axes else slice(None) for i in range(s.dim()))
    return [(factor[first] * reduced).sum() for factor in factors]


def pieces(first: Tensor, *others: Tensor | None, on_cuda: int | None = None) -> Iterator[tuple[Any, ...]]:
    """Tensors cut along the first spatial axis of the first, so that a chain of steps works within a core's cache.

    What is small stays whole, and so does all on CUDA, where a step costs what starting it costs, unless it is said
    how many elements a piece has there. What is to be broadcast along that axis is the same in each; None stays None.
    """
    size = first.shape[2] if first.dim() > 3 else 1
    piece = PIECE if first.device.type == "cpu" else on_cuda
    count = min(size, first.numel() // piece) if piece else 1
    if count <= 1:
        yield first, *others
        return
    step, axis = -(-size // count), 2 - first.dim()
    parts = first.split(step, axis)

    def cut(other: Tensor | None) -> Sequence[Tensor | None]:
        if other is None or other.dim() < -axis or other.shape[axis] == 1:
            return [other] * len(parts)
        return other.split(step, axis)

    yield from zip(parts, *map(cut, others), strict=True)
