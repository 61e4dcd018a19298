"""Peak memory of a piece of work, on CUDA and (Linux) on the CPU."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch

_RESET_PEAK = "5"  # proc(5), clear_refs: set the peak resident size to the current one
# mallopt(3): what is larger than this comes from the system and goes back to it at once. Otherwise glibc keeps up to
# 32 MiB of each freed tensor, and the peak says more about its heap than about the work. Slow: not for what is timed.
_TRIM, _MMAP = -1, -3
_WHILE_MEASURED, _USUAL = ((_MMAP, 1 << 16), (_TRIM, 1 << 16)), ((_MMAP, 32 << 20), (_TRIM, 64 << 20))


@dataclass
class Peak:
    """Filled when the work is done; None where it cannot be measured."""

    bytes: int | None = None


@contextmanager
def peak_memory(device: str) -> Iterator[Peak]:
    """Measure the peak within: all that PyTorch allocated on CUDA, or the rise of this process's resident memory."""
    peak = Peak()
    gc.collect()
    if device != "cpu":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        yield peak
        peak.bytes = torch.cuda.max_memory_allocated()
        return
    before = _reset()
    try:
        yield peak
    finally:
        _allocate(_USUAL)
    if before is not None:
        peak.bytes = _status("VmHWM") - before


def _reset() -> int | None:
    """Give freed memory back, forget the peak; the resident size now."""
    try:
        _allocate(_WHILE_MEASURED)
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text(_RESET_PEAK)
        return _status("VmRSS")
    except (OSError, AttributeError):
        return None


def _allocate(options: tuple[tuple[int, int], ...]) -> None:
    with suppress(OSError, AttributeError):
        for option in options:
            ctypes.CDLL("libc.so.6").mallopt(*option)


def _status(field: str) -> int:
    """A size from /proc/self/status in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}")
