"""Layers cut down to the box of voxels that relevance has reached.

A question about a lesion, or about the voxel under the crosshair, touches a small part of the late layers; what lies
outside it has no relevance and gets none. The walk then costs what the box costs, not what the volume costs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .linear import RAW, Convolution, LinearMap
from .optimizations import on

Box = tuple[slice, ...]  # along all axes; batch and channels whole
_WORTHWHILE = 0.6  # of the voxels: a box that holds more of them saves less than cutting costs


def reached(relevance: Tensor) -> Box | None:
    """The smallest box along the spatial axes outside which relevance [N, C, ...] is zero; None: not worth cutting."""
    ends = (relevance.select(axis, end) for axis in range(2, relevance.dim()) for end in (0, -1))
    if all(bool(end.any()) for end in ends):
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


def cut(layer: LinearMap, relevance: Tensor) -> tuple[LinearMap, Box, Box] | None:
    """The layer as it is in the box of its output that relevance has reached; that box, and the box of its input.

    None where that does not pay: for layers other than convolutions of images and volumes, on CUDA (which would be
    waited for), or when relevance has reached most of it; and in float64, which is for exactness: a relative
    stabiliser takes its scale from the box.
    """
    if not isinstance(layer, Convolution) or isinstance(layer, _BoxedConvolution) or not on("box"):
        return None
    if relevance.device.type != "cpu" or relevance.dtype != torch.float32 or relevance.dim() < 4:
        return None
    if layer.mean is not None or layer.frame is not None:
        return None
    if any(t is not None and t.shape[2:].numel() != 1 for t in (layer.bias, layer.scale)):
        return None
    box = reached(relevance)
    ranges = None if box is None else _read(layer, box)
    if box is None or ranges is None:
        return None
    source = (slice(None), slice(None), *(slice(low, high) for low, high, _, _ in ranges))
    pads = [pad for _, _, before, after in reversed(ranges) for pad in (before, after)]  # F.pad begins with the last
    return _BoxedConvolution(layer, relevance.shape, box, source, pads), box, source


def _read(layer: Convolution, box: Box) -> list[tuple[int, int, int, int]] | None:
    """Per spatial axis the range of the input that an output box reads, and what is padded before and after it.

    An ordinary convolution gets a padded input, of a transposed one the output is padded (or, if negative, cropped).
    None where a range would be empty.
    """
    stride, padding, dilation, transposed = layer.geometry[:4]
    kernel, sizes = layer.weights(RAW).shape[2:], layer.inputs[0].shape[2:]
    ranges = []
    for b, n, k, s, p, d in zip(box[2:], sizes, kernel, stride, padding, dilation, strict=True):
        reach = d * (k - 1)
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
        ranges.append((low, high, before, after))
    return ranges


class _BoxedConvolution(Convolution):
    """A convolution of which only a box of the output is wanted, and so only a box of the input is read."""

    def __init__(self, layer: Convolution, output: torch.Size, box: Box, source: Box, pads: list[int]) -> None:
        stride, _, dilation, transposed, _, groups = layer.geometry
        none = [0] * len(stride)
        kept = layer.output[box] if layer.output.shape == output else layer.output
        super().__init__(
            layer.inputs[0][source], layer.weights, (stride, none, dilation, transposed, none, groups), kept
        )
        self.bias, self.scale = layer.bias, layer.scale
        self.non_negative, self.rounded = layer.non_negative, layer.rounded
        self._pads, self._back = pads, [-pad for pad in pads]
        self._transposed = transposed

    def apply(self, inputs: Sequence[Tensor], weight: str) -> Tensor:
        if self._transposed:
            return F.pad(self.forward(inputs[0], weight), self._pads)
        return self.forward(F.pad(inputs[0], self._pads), weight)

    def given_back(self, r: Tensor, shape: torch.Size, w: Tensor) -> Tensor:
        if self._transposed:
            return super().given_back(F.pad(r, self._back), shape, w)
        sides = [n + low + high for n, low, high in zip(shape[:1:-1], self._pads[::2], self._pads[1::2], strict=True)]
        return F.pad(super().given_back(r, torch.Size((*shape[:2], *sides[::-1])), w), self._back)
