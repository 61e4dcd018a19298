"""The memory of this machine: how much is free, and what says that there is too little."""

from __future__ import annotations

import sys
from math import inf
from pathlib import Path

import psutil
import torch

from .errors import UserError

GIB = 1 << 30
_CGROUP = Path("/sys/fs/cgroup")
# Of the memory that is free, what a run plans with. The rest is for the volumes themselves, for other programs, and for
# what allocators waste: on the CPU the resident size was seen at 0.9 to 1.3 times the estimate.
_USABLE = 0.7
# What says so: PyTorch's allocators and vendors' status codes, CUDA itself, and cuDNN, which finds no way that fits.
_SHORT = ("alloc", "out of memory", "unable to find an engine")


def check_memory(memory: float | None) -> None:
    """UserError unless this is an amount in GiB, or None."""
    if memory is not None and not 0 < memory < inf:
        raise UserError(f"{memory:g} GiB of memory are no amount: give a number above 0.")


def free_memory(device: torch.device) -> int:
    """Bytes that are free on a device; on CUDA those that PyTorch holds in reserve as well."""
    if device.type == "cuda":
        reserve = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + reserve
    return min(int(psutil.virtual_memory().available), _container_memory())


def usable_memory(device: torch.device) -> int:
    """Bytes of a device that a run plans with."""
    return int(free_memory(device) * _USABLE)


def refuse_more_than_there_is(window: int, answer: int) -> None:
    """UserError where the system would end the process: it gives out more memory than it has.

    Args:
        window: bytes that a run needs on the CPU for one window.
        answer: bytes that the answer of all windows takes there besides.
    """
    there_is = free_memory(torch.device("cpu")) + psutil.swap_memory().free
    if window + answer > there_is:
        wanted = (window, "of memory for one window"), (answer, "of the CPU's memory for the answer of all windows")
        needed = " and ".join(
            f"{n / GIB:.1f} GiB {what}" for n, what in wanted if n >= min(0.05 * GIB, max(window, answer))
        )
        raise UserError(
            f"The network needs about {needed}, but {there_is / GIB:.1f} GiB are free: use smaller windows (--window),"
            " a smaller volume, or a computer with more."
        )


def _container_memory() -> int:
    """Bytes that are left of a container's own limit (Linux cgroup v2), where there is one.

    What it has read from files stays in its memory until that is wanted, and counts as used meanwhile.
    """
    try:
        limit, used = (int((_CGROUP / name).read_text()) for name in ("memory.max", "memory.current"))
    except (OSError, ValueError):  # no such container, or its limit is the word "max"
        return sys.maxsize
    return max(0, limit - used + _given_up_at_once())


def _given_up_at_once() -> int:
    """Bytes of files that the kernel keeps for a container and lets go first, as Kubernetes and Docker reckon them."""
    try:
        lines = (_CGROUP / "memory.stat").read_text().splitlines()
        return next((int(line.split()[1]) for line in lines if line.startswith("inactive_file ")), 0)
    except (OSError, ValueError, IndexError):
        return 0


def short_of_memory(error: BaseException) -> bool:
    """Whether an error says that there is not enough memory."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _SHORT)
