"""Peak memory of a piece of work: the most bytes that PyTorch's allocator had given out at once, on CUDA and the CPU.

What the work began with is not counted on the CPU (the model, say), and what kernels take besides is not (oneDNN's
reordered weights). The resident size of the process would have both, but says more about the C library's heap.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile


@dataclass
class Peak:
    """Filled when the work is done."""

    bytes: int | None = None


@contextmanager
def peak_memory(device: str) -> Iterator[Peak]:
    """Measure the peak within. On the CPU by PyTorch's profiler, which takes time: not for what is timed."""
    peak = Peak()
    gc.collect()
    if device != "cpu":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        yield peak
        peak.bytes = torch.cuda.max_memory_allocated()
        return
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        yield peak
    now = most = 0
    for _, size in sorted(_allocations(found), key=lambda event: event[0]):
        now += size
        most = max(most, now)
    peak.bytes = most


def _allocations(found: profile) -> list[tuple[int, int]]:
    """When, and how many bytes; negative where they were given back."""
    events: list[tuple[int, int]] = []
    assert found.profiler is not None
    waiting: list[Any] = list(found.profiler.kineto_results.experimental_event_tree())
    while waiting:
        node = waiting.pop()
        if node.tag.name == "Allocation":
            events.append((node.start_time_ns, node.extra_fields.alloc_size))
        waiting.extend(node.children)
    return events
