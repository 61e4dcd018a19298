"""oneDNN's convolutions of images and volumes, and how it likes them to lie in memory: channels last."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .optimizations import on, without
from .precision import better_widened, multiplied

CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}  # by the number of axes
_KNOWN = (torch.float32, torch.bfloat16)  # precisions that it is asked for
# Dilation from which oneDNN 3.12 (AMX) is slower in bfloat16 than in float32: at 16, by ten times
_FAR = 8


def laid_out(x: Tensor) -> Tensor:
    """The tensor as kernels like it best: channels last for images and volumes on the CPU, else as it is."""
    if x.device.type != "cpu" or x.dim() not in CHANNELS_LAST or x.dtype not in _KNOWN:
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


def vectorised(dtype: torch.dtype) -> bool:
    """Whether it has fast kernels for a precision on this processor."""
    return dtype == torch.float32 or (dtype in _KNOWN and dtype in multiplied("cpu"))


def plain(w: Tensor) -> Tensor:
    """A weight as ATen expects it, contiguous by its strides as well."""
    with without("channels-last"):
        return laid_out(w).contiguous()


def better_in_float32(x: Tensor, dilation: Sequence[int]) -> bool:
    """Whether a convolution of what is in half precision is done in float32 all the same."""
    far = x.dtype == torch.bfloat16 and x.device.type == "cpu" and max(dilation) >= _FAR and on("far")
    return far or better_widened(x)


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
    around = [d * (k - 1) - p for k, p, d in zip(w.shape[2:], padding, dilation, strict=True)]
    if min(around) >= 0 and as_ordinary(w.shape, stride, groups):
        kernel = w.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1).flip(*range(2, w.dim()))
        x = _spaced(x, stride, output_padding)
        return convolution(x, kernel, bias, around, [1] * len(stride), dilation, groups)
    x, w = laid_out(x), laid_out(w)
    return torch.ops.mkldnn._convolution_transpose_pointwise(
        x, w, bias, padding, output_padding, stride, dilation, groups, "none", [], ""
    )


def as_ordinary(weight: Sequence[int], stride: Sequence[int], groups: int) -> bool:
    """Whether a transposed convolution with a weight of this shape is an ordinary one of the kernel turned around.

    oneDNN has no vectors for transposed ones of volumes by channel (depthwise), and ordinary ones are up to 25 times
    as fast, even of volumes that zeros space out to undo a stride. Other groups gain where there is no stride.
    """
    in_volumes_by_channel = len(stride) == 3 and groups == weight[0] and weight[1] == 1
    return groups > 1 and (max(stride) == 1 or in_volumes_by_channel) and on("grouped")


def _spaced(x: Tensor, stride: Sequence[int], more: Sequence[int]) -> Tensor:
    """With zeros between its voxels, and so many more at the ends."""
    if max(stride) == 1 and max(more) == 0:
        return x
    inner = [(n - 1) * s + 1 for n, s in zip(x.shape[2:], stride, strict=True)]
    sizes = [n + o for n, o in zip(inner, more, strict=True)]
    spaced = laid_out(x.new_zeros(*x.shape[:2], *sizes))
    places = [slice(0, n, s) for n, s in zip(inner, stride, strict=True)]
    spaced[(slice(None), slice(None), *places)] = x
    return spaced
