"""Convolutions and their adjoints by the fastest kernel there is for where the tensors are.

On CUDA and for other precisions than float32 that is ATen's own choice. On the CPU ATen sends a single sample with few
channels or slices to a kernel that is up to 14 times slower than oneDNN (`use_mkldnn` in ATen's Convolution.cpp), and
takes volumes as they lie, which oneDNN has to reorder before and after. Here oneDNN is called by its own name, and
volumes lie channels last.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .optimizations import on, without

aten = torch.ops.aten
# oneDNN needs some channels to fill its vectors with; below, ATen's product of matrices is faster (16 channels to one,
# 64^3, 3^3: 2.0 against 5.7 ms on one core).
_FEW_CHANNELS = 3
_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
Geometry = Sequence[Any]  # stride, padding, dilation, transposed, output_padding, groups


def convolve(x: Tensor, w: Tensor, bias: Tensor | None, *geometry: Any) -> Tensor:
    """`aten.convolution`."""
    stride, padding, dilation, transposed, output_padding, groups = geometry
    if not direct(x, w.shape[1] * groups if transposed else None):
        return aten.convolution(x, plain(w), bias, *geometry)
    x, w = laid_out(x), laid_out(w)
    if transposed:
        return _transposed(x, w, bias, stride, padding, dilation, output_padding, groups)
    return torch.mkldnn_convolution(x, w, bias, padding, stride, dilation, groups)


def convolve_adjoint(r: Tensor, x: Tensor, w: Tensor, *geometry: Any) -> Tensor:
    """The adjoint of `convolve` without bias, applied to r: of the shape of x, whose values are not read."""
    stride, padding, dilation, transposed, _, groups = geometry
    if not direct(r, None if transposed else x.shape[1]):
        return aten.convolution_backward(r, x, plain(w), None, *geometry, [True, False, False])[0]
    r, w = laid_out(r), laid_out(w)
    if transposed:
        return torch.mkldnn_convolution(r, w, None, padding, stride, dilation, groups)
    sizes = zip(x.shape[2:], r.shape[2:], w.shape[2:], stride, padding, dilation, strict=True)
    rest = [n - ((m - 1) * s - 2 * p + d * (k - 1) + 1) for n, m, k, s, p, d in sizes]
    return _transposed(r, w, None, stride, padding, dilation, rest, groups)


def group_norm(*args: Any) -> tuple[Tensor, Tensor, Tensor]:
    """`aten.native_group_norm`, which returns odd strides for a single sample."""
    y, mean, rstd = aten.native_group_norm(*args)
    return laid_out(y), mean, rstd


def laid_out(x: Tensor) -> Tensor:
    """The tensor as kernels like it best: channels last for images and volumes on the CPU, else as it is."""
    if x.device.type != "cpu" or x.dim() not in _CHANNELS_LAST or x.dtype != torch.float32:
        return x
    axes = list(range(x.dim() - 1, 0, -1))  # from the innermost on
    if on("channels-last"):
        axes = [1, *axes[:-1]]
    x = x.contiguous(memory_format=_CHANNELS_LAST[x.dim()] if on("channels-last") else torch.contiguous_format)
    # Of a single sample or channel any stride will do; the usual ones tell whoever reads it which way is meant.
    strides, step = [1] * x.dim(), 1
    for axis in (*axes, 0):
        strides[axis], step = step, step * x.shape[axis]
    return x if list(x.stride()) == strides else x.as_strided(x.shape, strides)


def plain(w: Tensor) -> Tensor:
    """A weight as ATen expects it, contiguous by its strides as well."""
    with without("channels-last"):
        return laid_out(w).contiguous()


def direct(x: Tensor, spread_to: int | None = None) -> bool:
    """Whether oneDNN is called by its name for an input like this.

    Args:
        spread_to: the channels that come out, for a transposed convolution (or the adjoint of an ordinary one).
    """
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and x.dim() in _CHANNELS_LAST
        and x.numel() > 0
        and (spread_to is None or spread_to >= _FEW_CHANNELS)
        and on("onednn")
        and torch.backends.mkldnn.is_available()
        and bool(torch.backends.mkldnn.enabled)
    )


def _transposed(
    x: Tensor,
    w: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    output_padding: Sequence[int],
    groups: int,
) -> Tensor:
    """Transposed convolution by oneDNN; the operator is the one that TorchInductor calls."""
    return torch.ops.mkldnn._convolution_transpose_pointwise(
        x, w, bias, padding, output_padding, stride, dilation, groups, "none", [], ""
    )
