"""oneDNN's convolutions of images and volumes, and how it likes them to lie in memory: channels last."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .optimizations import on, without

CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}  # by the number of axes
VECTORISED = {torch.float32}  # precisions that it has fast kernels for on this processor
if torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported():
    VECTORISED.add(torch.bfloat16)
# Dilation from which oneDNN 3.12 (AMX) is slower in bfloat16 than in float32: at 16, by ten times
_FAR = 8


def laid_out(x: Tensor) -> Tensor:
    """The tensor as kernels like it best: channels last for images and volumes on the CPU, else as it is."""
    if x.device.type != "cpu" or x.dim() not in CHANNELS_LAST or x.dtype not in VECTORISED:
        return x
    axes = list(range(x.dim() - 1, 0, -1))  # from the innermost on
    if on("channels-last"):
        axes = [1, *axes[:-1]]
    x = x.contiguous(memory_format=CHANNELS_LAST[x.dim()] if on("channels-last") else torch.contiguous_format)
    # Of a single sample or channel any stride will do; the usual ones tell whoever reads it which way is meant.
    strides, step = [1] * x.dim(), 1
    for axis in (*axes, 0):
        strides[axis], step = step, step * x.shape[axis]
    return x if list(x.stride()) == strides else x.as_strided(x.shape, strides)


def plain(w: Tensor) -> Tensor:
    """A weight as ATen expects it, contiguous by its strides as well."""
    with without("channels-last"):
        return laid_out(w).contiguous()


def better_in_float32(x: Tensor, dilation: Sequence[int]) -> bool:
    """Whether a convolution of what is in bfloat16 is done in float32 all the same."""
    return x.dtype == torch.bfloat16 and max(dilation) >= _FAR and on("far")


def _lifted(kernel: Callable[..., Tensor], x: Tensor, w: Tensor, bias: Tensor | None, *geometry: Any) -> Tensor:
    return kernel(x.float(), w.float(), None if bias is None else bias.float(), *geometry).to(x.dtype)


def convolution(
    x: Tensor,
    w: Tensor,
    bias: Tensor | None,
    padding: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    """An ordinary convolution."""
    if better_in_float32(x, dilation):
        return _lifted(convolution, x, w, bias, padding, stride, dilation, groups)
    width = x.shape[-1] + 2 * padding[-1] - dilation[-1] * (w.shape[-1] - 1)
    if x.shape[1] == 1 and width <= stride[-1]:  # oneDNN 3.12 misreads one channel where a stride leaves a width of one
        x, w = plain(x), plain(w)
    else:
        x, w = laid_out(x), laid_out(w)
    return laid_out(torch.mkldnn_convolution(x, w, bias, padding, stride, dilation, groups))


def transposed_convolution(
    x: Tensor,
    w: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    output_padding: Sequence[int],
    groups: int,
) -> Tensor:
    """A transposed one; the operator is that which TorchInductor calls."""
    if better_in_float32(x, dilation):
        return _lifted(transposed_convolution, x, w, bias, stride, padding, dilation, output_padding, groups)
    x, w = laid_out(x), laid_out(w)
    return torch.ops.mkldnn._convolution_transpose_pointwise(
        x, w, bias, padding, output_padding, stride, dilation, groups, "none", [], ""
    )
