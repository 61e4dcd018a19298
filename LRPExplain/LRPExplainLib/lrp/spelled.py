"""Functions of several steps spelled out as those steps, so that each step has its answer in the table.

A norm (GRN, cosine heads), a standard deviation, a gated linear unit and a bilinear layer are sums and products of
signals; relevance crosses them as it does when an author writes the arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten
Axes = Sequence[int] | int | None


def vector_norm(
    x: Tensor, order: float = 2, dim: Axes = None, keepdim: bool = False, *, dtype: torch.dtype | None = None
) -> Tensor:
    """`aten.linalg_vector_norm`: over all elements if `dim` is None."""
    x = x if dtype is None else x.to(dtype)
    axes = _axes(x, dim)
    if order == 2:
        return (x * x).sum(axes, keepdim).sqrt()
    size = x.abs()
    if order == float("inf"):
        return size.amax(axes, keepdim)
    if order == float("-inf"):
        return size.amin(axes, keepdim)
    if order == 0:
        return (x != 0).to(x.dtype).sum(axes, keepdim)
    return size.sum(axes, keepdim) if order == 1 else size.pow(order).sum(axes, keepdim).pow(1 / order)


def variance(x: Tensor, dim: Axes = None, *, correction: float | None = None, keepdim: bool = False) -> Tensor:
    """`aten.var.correction`, unbiased (correction 1) unless told otherwise."""
    axes = _axes(x, dim)
    centred = x - x.mean(axes, keepdim=True)
    count = torch.Size(x.shape[axis] for axis in axes).numel()
    return (centred * centred).sum(axes, keepdim) / (count - (1 if correction is None else correction))


def deviation(x: Tensor, dim: Axes = None, *, correction: float | None = None, keepdim: bool = False) -> Tensor:
    """`aten.std.correction`."""
    return variance(x, dim, correction=correction, keepdim=keepdim).sqrt()


def variance_and_mean(
    x: Tensor, dim: Axes = None, *, correction: float | None = None, keepdim: bool = False
) -> tuple[Tensor, Tensor]:
    """`aten.var_mean.correction`."""
    return variance(x, dim, correction=correction, keepdim=keepdim), x.mean(_axes(x, dim), keepdim)


def gated_linear_unit(x: Tensor, dim: int = -1) -> Tensor:
    """`aten.glu`: the first half times the sigmoid of the second."""
    signal, gate = x.chunk(2, dim)
    return signal * gate.sigmoid()


def matrix_vector(matrix: Tensor, vector: Tensor) -> Tensor:
    """`aten.mv`: a product of matrices."""
    return (matrix @ vector[:, None])[:, 0]


def trilinear(
    a: Tensor,
    b: Tensor,
    c: Tensor,
    expand_a: Sequence[int],
    expand_b: Sequence[int],
    expand_c: Sequence[int],
    summed: Sequence[int],
    unroll_dim: int = 1,
) -> Tensor:
    """`aten._trilinear`, the sum of products in `nn.Bilinear`; `unroll_dim` says how, not what."""
    for axis_a in expand_a:
        a = a.unsqueeze(axis_a)
    for axis_b in expand_b:
        b = b.unsqueeze(axis_b)
    for axis_c in expand_c:
        c = c.unsqueeze(axis_c)
    product = a * b * c
    return product.sum(list(summed)) if summed else product


def _axes(x: Tensor, dim: Axes) -> list[int]:
    axes = [dim] if isinstance(dim, int) else list(dim or range(x.dim()))
    return [axis % x.dim() for axis in axes]


STEPS: dict[Any, Callable[..., Any]] = {
    aten.linalg_vector_norm.default: vector_norm,
    aten.var.correction: variance,
    aten.std.correction: deviation,
    aten.var_mean.correction: variance_and_mean,
    aten.glu.default: gated_linear_unit,
    aten.mv.default: matrix_vector,
    aten._trilinear.default: trilinear,
}
