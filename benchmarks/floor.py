"""What an explanation cannot go below: the forward pass and one data gradient of each convolution.

Each of them takes at least its operations at the rate that this machine reaches in a convolution, and at least its
bytes (input, weights and output, moved once) at the rate at which it copies. Both rates are measured.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import torch
from LRPExplainLib.lrp import Graph
from LRPExplainLib.lrp.edit import packet
from LRPExplainLib.lrp.graph import arguments, shape_of
from LRPExplainLib.lrp.kernels import convolve
from LRPExplainLib.lrp.onednn import laid_out

from .clock import seconds

_CHANNELS = (16, 32, 64, 128)  # of the convolutions that are tried for the rate
_BYTES = {"cpu": 1 << 28, "cuda": 1 << 30}  # of what is copied: more than caches hold


@dataclass(frozen=True)
class Rates:
    """Of a device: operations (a multiplication and an addition are two) and bytes, read or written, per second."""

    operations: float
    bytes: float

    def __str__(self) -> str:
        return f"{self.operations / 1e9:.0f} GFLOP/s in convolutions, {self.bytes / 1e9:.0f} GB/s in copies"


def rates(device: str) -> Rates:
    """Measure the best of some convolutions, and a copy."""
    best = 0.0
    for channels in _CHANNELS:
        edge = (64 if device == "cpu" else 256) * 16 // channels
        x = laid_out(torch.randn(1, channels, edge, edge, edge, device=device))
        w = laid_out(torch.randn(channels, channels, 3, 3, 3, device=device))
        geometry = ([1] * 3, [1] * 3, [1] * 3, False, [0] * 3, 1)
        best = max(best, 2 * x.numel() * w[0].numel() / _fastest(lambda: convolve(x, w, None, *geometry), device))  # noqa: B023
    source = torch.ones(_BYTES["cpu" if device == "cpu" else "cuda"] // 4, device=device)
    target = torch.empty_like(source)
    return Rates(best, 2 * 4 * source.numel() / _fastest(lambda: target.copy_(source), device))


def floor(graph: Graph, rates: Rates) -> float:
    """Seconds for the network's convolutions forward and the gradient of their data."""
    least = 0.0
    for node in graph.steps:
        if packet(node) is not torch.ops.aten.convolution:
            continue
        source, weight = arguments(node)[:2]
        spreads = arguments(node)[6]
        kernel = shape_of(weight)
        operations = 2 * prod(shape_of(source if spreads else node)) * prod(kernel[1:])
        moved = 4 * sum(prod(shape) for shape in (shape_of(source), kernel, shape_of(node)))
        least += 2 * max(operations / rates.operations, moved / rates.bytes)
    return least


def _fastest(run: Callable[[], object], device: str, count: int = 7) -> float:
    run()
    return min(seconds(run, device) for _ in range(count))
