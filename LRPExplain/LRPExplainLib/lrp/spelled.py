"""Functions of several steps spelled out as those steps, so that each step has its answer in the table.

A norm (GRN, cosine heads), a standard deviation, a gated linear unit and a bilinear layer are sums and products of
signals; relevance crosses them as it does when an author writes the arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .kinds import known

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


def norm(x: Tensor, order: float | None, dim: Axes, keepdim: bool = False) -> Tensor:
    """`aten.norm`, an older name of it that distances still call."""
    return vector_norm(x, 2 if order is None else order, dim, keepdim)


def distances(a: Tensor, b: Tensor, order: float, how: int | None) -> Tensor:
    """`aten._cdist_forward`: from each row of a to each of b; `how` says by which kernel."""
    return vector_norm(a.unsqueeze(-2) - b.unsqueeze(-3), order, -1)


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


def deviation_and_mean(
    x: Tensor, dim: Axes = None, *, correction: float | None = None, keepdim: bool = False
) -> tuple[Tensor, Tensor]:
    """`aten.std_mean.correction`."""
    return deviation(x, dim, correction=correction, keepdim=keepdim), x.mean(_axes(x, dim), keepdim)


def gated_linear_unit(x: Tensor, dim: int = -1) -> Tensor:
    """`aten.glu`: the first half times the sigmoid of the second."""
    signal, gate = x.chunk(2, dim)
    return signal * gate.sigmoid()


def matrix_vector(matrix: Tensor, vector: Tensor) -> Tensor:
    """`aten.mv`: a product of matrices."""
    return (matrix @ vector[:, None])[:, 0]


def biased_matrix_vector(bias: Tensor, matrix: Tensor, vector: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """`aten.addmv`: a product of matrices with a bias."""
    return torch.addmm(bias.reshape(-1, 1), matrix, vector[:, None], beta=beta, alpha=alpha)[:, 0]


def dot(a: Tensor, b: Tensor) -> Tensor:
    """`aten.dot` and `vdot`: a product of matrices."""
    return (a[None] @ b[:, None])[0, 0]


def minimum_and_maximum(x: Tensor, *, dim: int | None = None, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    """`aten.aminmax`."""
    axes = _axes(x, dim)
    return x.amin(axes, keepdim), x.amax(axes, keepdim)


def interpolated(a: Tensor, b: Tensor, weight: Tensor | float) -> Tensor:
    """`aten.lerp`: from a to b."""
    return a * (1 - weight) + b * weight


def plus_product(x: Tensor, a: Tensor, b: Tensor, *, value: float = 1) -> Tensor:
    """`aten.addcmul`."""
    return x + _times(a * b, value)


def plus_quotient(x: Tensor, a: Tensor, b: Tensor, *, value: float = 1) -> Tensor:
    """`aten.addcdiv`."""
    return x + _times(a / b, value)


def scattered_sum(x: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    """`aten.scatter_add`: what is there, and a sum of what goes to each place."""
    return x + torch.zeros_like(x).scatter_reduce(dim, index, _named(index, source), "sum")


def indexed_sum(x: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: float = 1) -> Tensor:
    """`aten.index_add`: likewise, by slices."""
    return scattered_sum(x, dim, _along(x, dim, index).expand_as(source), _times(source, alpha))


def indexed_fill(x: Tensor, dim: int, index: Tensor, value: float) -> Tensor:
    """`aten.index_fill` with a number, which is a constant of its own."""
    filled = x.new_zeros(x.shape[dim], dtype=torch.bool).index_put((index,), torch.ones_like(index, dtype=torch.bool))
    return x.masked_fill(_along(x, dim, filled), value)


def scattered(x: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    """`aten.scatter` of what the index names, which may be smaller than the source."""
    return NotImplemented if source.shape == index.shape else x.scatter(dim, index, _named(index, source))


def indexed_copy(x: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    """`aten.index_copy`: likewise, by slices."""
    return x.scatter(dim, _along(x, dim, index).expand_as(source), source)


def placed(x: Tensor, indices: Sequence[Tensor | None], values: Tensor, accumulate: bool = False) -> Tensor:
    """`aten.index_put` that accumulates: what is there, and a sum of what goes to each place."""
    if not accumulate:
        return NotImplemented
    if any(index is not None and index.dtype == torch.bool for index in indices):  # which names no place twice
        return x + aten.index_put(torch.zeros_like(x), indices, values)
    places = aten.index(torch.arange(x.numel(), device=x.device).reshape(x.shape), indices)
    source = values.expand(places.shape).flatten()
    return scattered_sum(x.flatten(), 0, places.flatten(), source).reshape(x.shape)


def scattered_number(x: Tensor, dim: int, index: Tensor, value: float) -> Tensor:
    """`aten.scatter` of a number, which is a constant of its own."""
    return x.scatter(dim, index, x.new_full(index.shape, value))


def unpooled(x: Tensor, indices: Tensor, size: Sequence[int], *how: Any) -> Tensor:
    """`aten.max_unpool2d` and `3d`: each value at its place among zeros."""
    axes = range(x.dim() - len(size), x.dim())
    flat = x.new_zeros((*x.shape[: axes[0]], torch.Size(size).numel()))
    return flat.scatter(-1, indices.flatten(axes[0]), x.flatten(axes[0])).unflatten(-1, list(size))


def lower_triangle(x: Tensor, diagonal: int = 0) -> Tensor:
    """`aten.tril`: zeros above the diagonal."""
    return x.masked_fill(_above(x) > diagonal, 0)


def upper_triangle(x: Tensor, diagonal: int = 0) -> Tensor:
    """`aten.triu`: zeros below the diagonal."""
    return x.masked_fill(_above(x) < diagonal, 0)


def shuffled(x: Tensor, groups: int) -> Tensor:
    """`aten.channel_shuffle`, whatever its name."""
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


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


def _times(x: Tensor, factor: float) -> Tensor:
    return x if factor == 1 else x * factor


def _named(index: Tensor, source: Tensor) -> Tensor:
    """What of a source is scattered: the index may be smaller."""
    return source[tuple(map(slice, index.shape))]


def _along(x: Tensor, dim: int, values: Tensor) -> Tensor:
    """A vector as one that lies along an axis of x."""
    return values.reshape([-1 if axis == dim % x.dim() else 1 for axis in range(x.dim())])


def _above(x: Tensor) -> Tensor:
    """How far each element of the last two axes lies above the diagonal."""
    rows, columns = (torch.arange(n, device=x.device) for n in x.shape[-2:])
    return columns - rows[:, None]


def leaking(
    x: Tensor, noise: Tensor, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False, generator: Any = None
) -> Any:
    """`aten.rrelu_with_noise`, which leaks by the mean of its slopes where the network does not train."""
    return NotImplemented if training else F.leaky_relu(x, (lower + upper) / 2)


def leaking_beside(x: Tensor, noise: Tensor, *how: Any) -> Any:
    """The same where writing in place was undone: with the noise, that only training writes to."""
    y = leaking(x, noise, *how)
    return y if y is NotImplemented else (y, noise)


STEPS: dict[Any, Callable[..., Any]] = {
    aten.linalg_vector_norm.default: vector_norm,
    aten.var.correction: variance,
    aten.std.correction: deviation,
    aten.var_mean.correction: variance_and_mean,
    aten.glu.default: gated_linear_unit,
    aten.std_mean.correction: deviation_and_mean,
    aten.aminmax.default: minimum_and_maximum,
    aten.norm.ScalarOpt_dim: norm,
    aten._cdist_forward.default: distances,
    aten.mv.default: matrix_vector,
    aten.addmv.default: biased_matrix_vector,
    aten.vdot.default: dot,
    aten.dot.default: dot,
    aten.lerp.Scalar: interpolated,
    aten.lerp.Tensor: interpolated,
    aten.addcmul.default: plus_product,
    aten.addcdiv.default: plus_quotient,
    aten.scatter_add.default: scattered_sum,
    aten.index_add.default: indexed_sum,
    aten.index_fill.int_Scalar: indexed_fill,
    aten.scatter.src: scattered,
    aten.scatter.value: scattered_number,
    aten.index_copy.default: indexed_copy,
    aten.index_put.default: placed,
    aten.channel_shuffle.default: shuffled,  # which PyTorch 2.4 leaves as it is
    aten.native_channel_shuffle.default: shuffled,
    aten.max_unpool2d.default: unpooled,
    aten.max_unpool3d.default: unpooled,
    aten.tril.default: lower_triangle,
    aten.triu.default: upper_triangle,
    aten._trilinear.default: trilinear,
    aten.rrelu_with_noise.default: leaking,
    **{kernel.default: leaking_beside for kernel in known("rrelu_with_noise_functional")},  # since PyTorch 2.6
    aten._unsafe_index.Tensor: aten.index.Tensor,
    aten._unsafe_index_put.default: aten.index_put.default,
}
