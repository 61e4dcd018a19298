"""The adjoint of a convolution to an image of few channels, which leaves a vector unit nearly empty.

ATen's kernel for it goes through a matrix with a row per weight, oneDNN's computes a handful of channels with vectors
of sixteen. Here neighbouring voxels take the place of channels: voxel `P j + c` of the image (c = 0 ... P - 1, its
phase) is channel c at place j of one ordinary convolution of the relevance, whose kernel holds the layer's own, shifted
by c. Zeros widen that kernel; full vectors more than repay them.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from .onednn import convolution, laid_out

_VECTOR = 16  # floats
FEW = 4  # channels; with more, the plain kernels are as fast


def spread(
    r: Tensor, w: Tensor, sizes: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
) -> Tensor:
    """Transposed convolution of r [N, O, ...] with w [O, C, ...] to an image [N, C, *sizes]; no groups."""
    phases = _phases(w, stride, dilation)
    kernel, before, after, step = w.movedim(0, 1), [], [], []
    for axis, (n, m, k, s, p, d, count) in enumerate(
        zip(sizes, r.shape[2:], w.shape[2:], stride, padding, dilation, phases, strict=True)
    ):
        # voxel i gets from output o through weight t where i = s o + d t - p; with i = count j + c and o = q j + u
        low, high = -((d * (k - 1) - p) // s), (count - 1 + p) // s
        placed = [[[c == s * u + d * t - p for t in range(k)] for u in range(low, high + 1)] for c in range(count)]
        shifted = torch.tensor(placed, dtype=w.dtype, device=w.device)
        # [phases so far, C, O, ..., weights, ...] -> one axis of phases more, offsets in the place of weights
        kernel = torch.tensordot(shifted, kernel, ([2], [kernel.dim() - w.dim() + 2 + axis]))
        kernel = kernel.movedim(1, kernel.dim() - w.dim() + 2 + axis)
        step.append(count // s)
        before.append(-low)
        after.append(step[-1] * (-(-n // count) - 1) + high + 1 - m)
    y = _correlated(r, kernel.flatten(0, -w.dim()), before, after, step)
    places = [-(-n // count) for n, count in zip(sizes, phases, strict=True)]
    y = _first(y, places).unflatten(1, (*reversed(phases), w.shape[1]))
    dims = len(phases)  # [N, phases from the last axis on, C, places] -> [N, C, place, phase, place, phase, ...]
    y = y.permute(0, dims + 1, *(axis for i in range(dims) for axis in (dims + 2 + i, dims - i)))
    filled = [places_ * count for places_, count in zip(places, phases, strict=True)]
    return laid_out(_first(y.reshape(len(y), w.shape[1], *filled), sizes))


def _phases(w: Tensor, stride: Sequence[int], dilation: Sequence[int]) -> list[int]:
    """Phases along each axis: as many as fill a vector, and where they widen the kernel least.

    Of a strided convolution each phase has its own share of the kernel, and no zeros.
    """
    phases = list(stride)
    while w.shape[1] * prod(phases) * 2 <= _VECTOR:
        width = [k * (d == 1) / p for k, d, p in zip(w.shape[2:], dilation, phases, strict=True)]
        phases[width.index(max(width))] *= 2
    return phases


def _first(y: Tensor, sizes: Sequence[int]) -> Tensor:
    """The first values along each spatial axis."""
    return y[(slice(None), slice(None), *map(slice, sizes))]


def _correlated(r: Tensor, kernel: Tensor, before: list[int], after: list[int], step: list[int]) -> Tensor:
    """The convolution with so many zeros (or, if negative, so many values less) before and after; may be longer."""
    both = [max(0, low) for low in before]  # the convolution pads both ends alike; only what is missing is copied
    rest = [pad for low, high, n in zip(before, after, both, strict=True) for pad in (max(0, high - n), min(0, low))]
    if any(rest):
        r = F.pad(r, rest[::-1])
    return convolution(r, kernel, None, both, step, [1] * len(step), 1)
