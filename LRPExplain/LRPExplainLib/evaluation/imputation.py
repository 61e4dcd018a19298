"""Noisy linear imputation's linear system (Rong 2022, ROAD), solved on volumes of any size.

Conjugate gradients, preconditioned by a multigrid V-cycle (Briggs 2000; McAdams 2010 for voxels in any shape): how many
steps are needed hardly depends on how large a hole is, and no matrix is ever made.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

Array = np.ndarray
_TOLERANCE, _MOST_ITERATIONS = 1e-6, 200
_SWEEPS, _DAMPING = 2, 0.95  # of Jacobi's smoothing, before and after each coarser grid
_LAST_SWEEPS, _SMALLEST = 16, 4  # the coarsest grid has at most so many voxels along an axis


def imputed(x: Array, mask: Array) -> Array:
    """Every masked voxel as the weighted mean of its neighbours, masked ones included.

    Neighbours are the 26 (in a single slice the 8) around a voxel; a shared face weighs twice a shared edge and four
    times a shared corner, which in a slice are the weights of Rong 2022. Where nothing is known, all get the channel's
    mean.

    Args:
        x: float32 [C, D, H, W].
        mask: bool [D, H, W].
    """
    result = x.copy()
    if mask.all():
        result[:] = x.mean(axis=(1, 2, 3), keepdims=True)
    elif mask.any():
        box = _box_around(mask)
        system = _System(torch.from_numpy(mask[box]))
        for channel, solved in zip(x, result, strict=True):
            found = system.solved(torch.from_numpy(channel[box]), float(channel[box][~mask[box]].mean()))
            solved[box][mask[box]] = found.numpy()[mask[box]]
    return result


class _System:
    """The equations of the masked voxels of a box, w u - sum of the neighbours' u = what the known neighbours give."""

    def __init__(self, mask: Tensor) -> None:
        self._mask = mask
        self._weights = _of_neighbours(torch.ones(mask.shape, dtype=torch.float64))
        self._levels = list(_levels(mask))

    def solved(self, x: Tensor, start: float) -> Tensor:
        """[D, H, W] in float64: x with its masked voxels replaced; `start` is a first guess of them."""
        known = x.double().masked_fill(self._mask, 0)
        given = _of_neighbours(known).masked_fill_(~self._mask, 0)
        u = torch.full_like(given, start).masked_fill_(~self._mask, 0)
        residual = given - self._applied(u)
        step, before = torch.zeros_like(u), torch.zeros_like(u)
        energy = 1.0
        for _ in range(_MOST_ITERATIONS):
            if residual.norm() <= _TOLERANCE * given.norm():
                break
            better = _cycle(self._levels, residual.float()).double()
            product = _dot(residual, better)
            # Polak and Ribiere's, since the cycle rounds in float32 and is not quite the same matrix each time
            step.mul_((product - _dot(before, better)) / energy).add_(better)
            applied = self._applied(step)
            length = _dot(step, residual) / _dot(step, applied)
            u.add_(step, alpha=length)
            before, energy = residual, product
            residual = torch.add(residual, applied, alpha=-length)
        return known + u

    def _applied(self, u: Tensor) -> Tensor:
        return _of_neighbours(u).neg_().addcmul_(self._weights, u).mul_(self._mask)


class _Level:
    """A grid: where its unknown voxels are, and Jacobi's step there (0 elsewhere)."""

    def __init__(self, mask: Tensor) -> None:
        self.mask = mask
        weights = _of_neighbours(torch.ones(mask.shape))
        self.weights = weights.masked_fill(~mask, 0)
        self.jacobi = (_DAMPING / weights.clamp(min=1)).masked_fill_(~mask, 0)

    def residual(self, right: Tensor, u: Tensor) -> Tensor:
        """Of w u - sum of the neighbours' u = right, at the unknown voxels."""
        return _of_neighbours(u).addcmul_(self.weights, u, value=-1).add_(right).mul_(self.mask)


def _levels(mask: Tensor) -> Iterator[_Level]:
    """The grid and coarser ones, whose voxels are unknown where all that they are made of are."""
    while mask.any():
        yield _Level(mask)
        if max(mask.shape) <= _SMALLEST:
            return
        for axis, n in enumerate(mask.shape):
            first, second = torch.arange(0, n, 2), torch.arange(1, n + n % 2, 2).clamp(max=n - 1)
            mask = mask.index_select(axis, first) & mask.index_select(axis, second)


def _cycle(levels: list[_Level], right: Tensor) -> Tensor:
    """An approximate solution of the first level's equations: symmetric in `right`, as conjugate gradients want it."""
    level, *coarser = levels
    u = level.jacobi * right
    for _ in range((_SWEEPS if coarser else _LAST_SWEEPS) - 1):
        u.addcmul_(level.jacobi, level.residual(right, u))
    if not coarser:
        return u
    halved = [axis for axis, n in enumerate(right.shape) if n > 1]
    left = level.residual(right, u)
    for axis in halved:
        left = _gathered(left, axis)
    # the stencil of a grid twice as wide weighs a slope four times as much
    error = _cycle(coarser, left * (4 / 2 ** len(halved)))
    for axis in reversed(halved):
        error = _spread(error, axis, right.shape[axis])
    u.add_(error.mul_(level.mask))
    for _ in range(_SWEEPS):
        u.addcmul_(level.jacobi, level.residual(right, u))
    return u


def _dot(a: Tensor, b: Tensor) -> float:
    return float(torch.dot(a.flatten(), b.flatten()))


def _spread(coarse: Tensor, axis: int, n: int) -> Tensor:
    """Linear interpolation along an axis to n voxels of half the size."""
    near, count = coarse * 0.75, coarse.shape[axis]
    far = coarse * 0.25
    even, odd = near.clone(), near
    even.narrow(axis, 1, count - 1).add_(far.narrow(axis, 0, count - 1))
    odd.narrow(axis, 0, count - 1).add_(far.narrow(axis, 1, count - 1))
    return torch.stack([even, odd], axis + 1).flatten(axis, axis + 1).narrow(axis, 0, n)


def _gathered(fine: Tensor, axis: int) -> Tensor:
    """The transpose of `_spread`."""
    n = fine.shape[axis]
    if n % 2:
        fine = torch.cat([fine, torch.zeros_like(fine.narrow(axis, 0, 1))], axis)
    even, odd = fine.unflatten(axis, (-1, 2)).unbind(axis + 1)
    count = even.shape[axis]
    coarse = (even + odd) * 0.75
    coarse.narrow(axis, 0, count - 1).add_(even.narrow(axis, 1, count - 1), alpha=0.25)
    coarse.narrow(axis, 1, count - 1).add_(odd.narrow(axis, 0, count - 1), alpha=0.25)
    return coarse


def _of_neighbours(u: Tensor) -> Tensor:
    """The weighted sum over each voxel's neighbours: faces 1, edges 1/2, corners 1/4."""
    total = u
    for axis, n in enumerate(u.shape):
        if n > 1:
            before = total
            total = before.clone()
            total.narrow(axis, 1, n - 1).add_(before.narrow(axis, 0, n - 1), alpha=0.5)
            total.narrow(axis, 0, n - 1).add_(before.narrow(axis, 1, n - 1), alpha=0.5)
    return (total - u).mul_(2)


def _box_around(mask: Array) -> tuple[slice, ...]:
    """The mask's bounding box and one voxel around it."""
    box = []
    for axis in range(3):
        found = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        box.append(slice(max(0, int(found[0]) - 1), int(found[-1]) + 2))
    return tuple(box)
