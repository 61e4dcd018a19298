"""Sums for the books, in float64: rounding of single sums would show where large relevances cancel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

PIECE = 1 << 17  # floats that, a few tensors of them at a time, stay in a core's own cache


def total(x: Tensor) -> Tensor:
    """Sum in float64, as a tensor, so that a GPU is not stopped for it.

    PyTorch makes a float64 copy first; on the CPU a large one costs as much as a convolution, so it goes in pieces, all
    through the same memory.
    """
    flat = in_memory_order(x)
    if x.device.type != "cpu" or x.dtype == torch.float64 or x.numel() <= PIECE:
        return flat.sum(dtype=torch.float64)
    copy = x.new_empty(2 * PIECE, dtype=torch.float64)
    return torch.stack([copy[: len(piece)].copy_(piece).sum() for piece in flat.split(len(copy))]).sum()


def in_memory_order(x: Tensor) -> Tensor:
    """The values in a row as they lie in memory, which saves PyTorch a copy."""
    return x.permute(sorted(range(x.dim()), key=x.stride, reverse=True)).reshape(-1)


def dots(s: Tensor, *factors: Tensor) -> list[Tensor]:
    """Sums in float64 of s times each of the factors, which are expanded to its shape; without making the products."""
    axes = [i for i in range(s.dim()) if all(factor.stride(i) == 0 or s.shape[i] == 1 for factor in factors)]
    reduced = s.sum(axes, keepdim=True, dtype=torch.float64) if axes else s.double()
    first = tuple(slice(0, 1) if i in axes else slice(None) for i in range(s.dim()))
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
