"""Convolutions and their adjoints by the fastest kernel there is for where the tensors are.

On CUDA and for precisions that oneDNN is not asked for that is ATen's own choice; half precision that the processor
does not know is widened to float32 first. On the CPU ATen sends a single sample with few
channels or slices to a kernel that is up to 14 times slower than oneDNN (`use_mkldnn` in ATen's Convolution.cpp), and
takes volumes as they lie, which oneDNN has to reorder before and after. Here oneDNN is called by its own name, and
volumes lie channels last.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch._prims_common import suggest_memory_format

from . import phases
from .onednn import (
    CHANNELS_LAST,
    better_in_float32,
    convolution,
    laid_out,
    plain,
    transposed_convolution,
    vectorised,
)
from .optimizations import on
from .precision import widened

aten = torch.ops.aten
# Without phases: oneDNN needs some channels to fill its vectors with; below, ATen's product of matrices is faster.
_FEW_CHANNELS = 3
_ZEROS = 16  # per weight
_FAR_FROM_ZERO = 3.0  # in standard deviations
Geometry = Sequence[Any]  # stride, padding, dilation, transposed, output_padding, groups


def convolve(x: Tensor, w: Tensor, bias: Tensor | None, *geometry: Any) -> Tensor:
    """`aten.convolution`."""
    stride, padding, dilation, transposed, output_padding, groups = geometry
    if better_in_float32(x, dilation):
        return widened(x.dtype, convolve, x, w, bias, *geometry)
    few = transposed and by_phases(w.shape[1], groups, dilation)
    if beyond(*geometry) or not direct(x, w.shape[1] * groups if transposed and not few else None):
        return aten.convolution(x, plain(w), bias, *geometry)
    if few:
        sides = zip(x.shape[2:], w.shape[2:], stride, padding, dilation, output_padding, strict=True)
        sizes = [(n - 1) * s - 2 * p + d * (k - 1) + o + 1 for n, k, s, p, d, o in sides]
        y = phases.spread(x, w, sizes, stride, padding, dilation)
        return y if bias is None else y.add_(bias.view(-1, *[1] * len(sizes)))
    if transposed:
        return transposed_convolution(x, w, bias, stride, padding, dilation, output_padding, groups)
    return convolution(x, w, bias, padding, stride, dilation, groups)


def convolve_adjoint(r: Tensor, shape: Sequence[int], w: Tensor, *geometry: Any) -> Tensor:
    """The adjoint of `convolve` without bias for an input of that shape, applied to r."""
    stride, padding, dilation, transposed, _, groups = geometry
    if better_in_float32(r, dilation):
        return widened(r.dtype, convolve_adjoint, r, shape, w, *geometry)
    few = not transposed and by_phases(w.shape[1], groups, dilation)
    if beyond(*geometry) or not direct(r, None if transposed or few else shape[1]):
        # the same kernel of cuDNN's, which asks for no input here
        if r.device.type == "cuda" and groups == 1 and not beyond(*geometry):
            return aten.convolution(r, w, None, *turned(r, shape, w, *geometry))
        x = r.new_empty(shape)  # whose values are not read
        return aten.convolution_backward(r, x, plain(w), None, *geometry, [True, False, False])[0]
    if transposed:
        return convolution(r, w, None, padding, stride, dilation, groups)
    if few:
        return phases.spread(r, w, shape[2:], stride, padding, dilation)
    return transposed_convolution(r, w, None, stride, padding, dilation, turned(r, shape, w, *geometry)[4], groups)


def beyond(*geometry: Any) -> bool:
    """Whether a transposed convolution pads its output by a stride or more: its adjoint gives more than there is, which
    ATen alone leaves out.
    """
    stride, _, _, _, output_padding, _ = geometry
    return any(o >= s for o, s in zip(output_padding, stride, strict=True))


def turned(r: Tensor, shape: Sequence[int], w: Tensor, *geometry: Any) -> Geometry:
    """The geometry of the convolution, with the same weight, that is the adjoint for an input of that shape."""
    stride, padding, dilation, transposed, _, groups = geometry
    sizes = zip(shape[2:], r.shape[2:], w.shape[2:], stride, padding, dilation, strict=True)
    rest = [0 if transposed else n - ((m - 1) * s - 2 * p + d * (k - 1) + 1) for n, m, k, s, p, d in sizes]
    return stride, padding, dilation, not transposed, rest, groups


def group_norm(x: Tensor, *args: Any) -> tuple[Tensor, Tensor, Tensor]:
    """`aten.native_group_norm`, which takes what lies without gaps alone (copies made for that are not in a graph), and
    returns odd strides for a single sample.

    Channels last it has the variance from the difference of two sums, of which nothing is left where the mean is far
    from zero: then the mean is taken off first.
    """
    lying = suggest_memory_format(x) if x.device.type == "cpu" else torch.contiguous_format
    x = x.contiguous(memory_format=lying)
    y, mean, rstd = aten.native_group_norm(x, *args)
    if lying != torch.contiguous_format and bool((mean.abs() * rstd > _FAR_FROM_ZERO).any()):
        batch, channels, groups = x.shape[0], x.shape[1], args[5]
        centre = x.mean(list(range(2, x.dim()))).view(batch, groups, -1).mean(2)
        spread = centre.repeat_interleave(channels // groups, 1).view(batch, channels, *[1] * (x.dim() - 2))
        y, mean, rstd = aten.native_group_norm((x - spread).contiguous(memory_format=lying), *args)
        mean = mean + centre
    return laid_out(y), mean, rstd


def direct(x: Tensor, spread_to: int | None = None) -> bool:
    """Whether oneDNN is called by its name for an input like this.

    Args:
        spread_to: the channels that come out, for a transposed convolution (or the adjoint of an ordinary one).
    """
    return (
        x.device.type == "cpu"
        and vectorised(x.dtype)
        and x.dim() in CHANNELS_LAST
        and x.numel() > 0
        and (spread_to is None or spread_to >= _FEW_CHANNELS)
        and on("onednn")
        and torch.backends.mkldnn.is_available()
        and bool(torch.backends.mkldnn.enabled)
    )


def by_phases(channels: int, groups: int, dilation: Sequence[int]) -> bool:
    """Whether what goes back to so few channels is computed for neighbouring voxels at once."""
    # the zeros that a dilation puts between weights are multiplied, too: worth it for a single channel alone, and few
    zeros = prod(dilation)
    return groups == 1 and channels <= (phases.FEW if zeros == 1 else 1) and zeros <= _ZEROS and on("phases")
