"""Layers cut down to boxes of voxels: to the one that relevance has reached, and that into slabs.

A question about a lesion, or about the voxel under the crosshair, touches a small part of the late layers; what lies
outside it has no relevance and gets none. The walk then costs what the box costs, not what the volume costs. Slabs are
worked on one after the other, so that what a rule needs beside a layer's input and output is no larger than a slab; of
sums they are small enough to stay within a core's cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .linear import RAW, Convolution, LinearMap, Sum
from .optimizations import on
from .sums import PIECE

Box = tuple[slice, ...]  # along all axes; batch and channels whole
# Elements of a slab; smaller ones take longer: a convolution for what slabs have in common, a GPU for starting.
_SLAB: dict[str, dict[type, int]] = {"cpu": {Convolution: 1 << 22, Sum: PIECE}, "cuda": {Sum: 1 << 23}}
_WORTHWHILE = 0.6  # of the voxels: a box that holds more of them saves less than cutting costs


@dataclass(frozen=True)
class Cut:
    """A layer as it is in one box of its output, and the box of its inputs that this box comes from."""

    layer: LinearMap
    box: Box
    source: Box


def cuts(layer: LinearMap, relevance: Tensor) -> list[Cut]:
    """The layer in the boxes of its output, one after the other, that hold what relevance has reached.

    None at all where that does not pay: relevance has reached most of the layer, and there is no reason for slabs.
    The box is not looked for on CUDA (which would be waited for), nor in float64, which is for exactness: a relative
    stabiliser takes its scale from the box.
    """
    if (
        type(layer) not in (Convolution, Sum)
        or relevance.dim() < 4
        or layer.mean is not None
        or layer.frame is not None
    ):
        return []
    sought = relevance.device.type == "cpu" and relevance.dtype != torch.float64 and isinstance(layer, Convolution)
    inside = reached(relevance) if sought and on("box") else None
    most = slab(type(layer), relevance.device, relevance.dtype, layer.slab)
    whole = (slice(None), slice(None), *(slice(0, n) for n in relevance.shape[2:]))
    boxes = _slabs(inside or whole, relevance.shape, most)
    if inside is None and len(boxes) == 1:
        return []
    found = [_boxed(layer, relevance.shape, box) for box in boxes]
    whole_cut = [cut for cut in found if cut is not None]
    return whole_cut if len(whole_cut) == len(found) else []


def reached(relevance: Tensor) -> Box | None:
    """The smallest box along the spatial axes outside which relevance [N, C, ...] is zero; None: not worth cutting."""
    axes = range(2, relevance.dim())
    corners: list[tuple[Any, ...]] = [(..., *[end] * len(axes)) for end in (0, -1)]  # these two are on all sides
    sides = (relevance.select(axis, end) for axis in axes for end in (0, -1))
    if all(bool(relevance[corner].any()) for corner in corners) or all(bool(side.any()) for side in sides):
        return None
    anywhere = (relevance != 0).any(1).any(0)
    ranges: list[slice] = []
    kept = 1.0
    for axis in range(anywhere.dim()):
        along = anywhere.movedim(axis, 0).flatten(1).any(1).nonzero()
        low, high = (int(along[0]), int(along[-1]) + 1) if len(along) else (0, 1)
        kept *= (high - low) / anywhere.shape[axis]
        ranges.append(slice(low, high))
    return (slice(None), slice(None), *ranges) if kept <= _WORTHWHILE else None


def slab(kind: type[LinearMap], device: torch.device, dtype: torch.dtype, asked: int | None) -> int | None:
    """The most elements of such a layer's output that are worked on at once; None: all.

    Args:
        asked: what the schedule asks for.
    """
    usual = _SLAB.get(device.type, {}).get(kind) if dtype != torch.float64 and on("slabs") else None
    return min((most for most in (asked, usual) if most is not None), default=None)


def _slabs(box: Box, shape: torch.Size, most: int | None) -> list[Box]:
    """The box cut along its first axis into slabs of about so many elements at most."""
    first = box[2]
    size = first.stop - first.start
    elements = shape[:2].numel() * torch.Size(side.stop - side.start for side in box[2:]).numel()
    step = -(-size // min(size, -(-elements // most))) if most else size
    starts = range(first.start, first.stop, step)
    return [(*box[:2], slice(start, min(start + step, first.stop)), *box[3:]) for start in starts]


def _boxed(layer: LinearMap, output: torch.Size, box: Box) -> Cut | None:
    """The layer of this output in one box of it; None where that cannot be."""
    if isinstance(layer, Sum):
        return _boxed_sum(layer, output, box)
    assert isinstance(layer, Convolution)
    ranges = _read(layer, output, box)
    if ranges is None:
        return None
    source = (slice(None), slice(None), *(slice(read.low, read.high) for read in ranges))
    return Cut(_BoxedConvolution(layer, output, box, source, ranges), box, source)


def _boxed_sum(layer: Sum, output: torch.Size, box: Box) -> Cut | None:
    if any(x.shape != output for x in layer.inputs):
        return None
    kept = layer.output[box] if layer.output.numel() else layer.output
    bias = layer.bias
    if bias is not None and bias.shape[2:].numel() != 1:
        bias = bias.expand(output)[box]
    inputs = [x[box] for x in layer.inputs]
    small = Sum(inputs, kept, inputs[0].shape, bias)
    small.non_negative, small.rounded = layer.non_negative, layer.rounded
    return Cut(small, box, box)


@dataclass(frozen=True)
class _Read:
    """What a box needs along one axis: this range of the input, and zeros before and after it.

    An ordinary convolution gets a padded input, of a transposed one the output is padded (or, if negative, cropped).
    Where the box is as long as the output, `padding` and `output_padding` are the convolution's own, and there is
    nothing before and after.
    """

    low: int
    high: int
    before: int
    after: int
    padding: int = 0
    output_padding: int = 0


def _read(layer: Convolution, output: torch.Size, box: Box) -> list[_Read] | None:
    """Per spatial axis what an output box reads; None where a range would be empty."""
    stride, padding, dilation, transposed, extra = layer.geometry[:5]
    kernel, sizes = layer.weights(RAW).shape[2:], layer.inputs[0].shape[2:]
    ranges = []
    axes = zip(box[2:], output[2:], sizes, kernel, stride, padding, dilation, extra, strict=True)
    for b, whole, n, k, s, p, d, e in axes:
        reach = d * (k - 1)
        if (b.start, b.stop) == (0, whole):
            ranges.append(_Read(0, n, 0, 0, p, e))
            continue
        if transposed:  # without padding, input i writes to s i ... s i + reach, and the box begins at b.start + p
            low, high = max(0, -((reach - b.start - p) // s)), min(n, (b.stop - 1 + p) // s + 1)
            before = low * s - b.start - p
            after = b.stop - b.start - before - ((high - low - 1) * s + reach + 1)
        else:
            first, last = b.start * s - p, (b.stop - 1) * s - p + reach + 1
            low, high = max(first, 0), min(last, n)
            before, after = low - first, last - high
        if low >= high:
            return None
        ranges.append(_Read(low, high, before, after))
    return ranges


class _BoxedConvolution(Convolution):
    """A convolution of which only a box of the output is wanted, and so only a box of the input is read."""

    def __init__(self, layer: Convolution, output: torch.Size, box: Box, source: Box, ranges: Sequence[_Read]) -> None:
        stride, _, dilation, transposed, _, groups = layer.geometry
        padding, extra = [read.padding for read in ranges], [read.output_padding for read in ranges]
        kept = layer.output[box] if layer.output.shape == output else layer.output
        geometry = (stride, padding, dilation, transposed, extra, groups)
        super().__init__(layer.inputs[0][source], layer.weights, geometry, kept)
        self.bias, self.scale = layer.bias, layer.scale
        self.non_negative, self.rounded = layer.non_negative, layer.rounded
        self._pads = [pad for read in reversed(ranges) for pad in (read.before, read.after)]  # F.pad: last axis first
        self._transposed = transposed

    def apply(self, inputs: Sequence[Tensor], weight: str) -> Tensor:
        if self._transposed:
            return _padded(self.forward(inputs[0], weight), self._pads)
        return self.forward(_padded(inputs[0], self._pads), weight)

    def given_back(self, r: Tensor, shape: torch.Size, w: Tensor) -> Tensor:
        back = [-pad for pad in self._pads]
        if self._transposed:
            return super().given_back(_padded(r, back), shape, w)
        sides = [n + low + high for n, low, high in zip(shape[:1:-1], self._pads[::2], self._pads[1::2], strict=True)]
        return _padded(super().given_back(r, torch.Size((*shape[:2], *sides[::-1])), w), back)


def _padded(x: Tensor, pads: Sequence[int]) -> Tensor:
    return F.pad(x, pads) if any(pads) else x
