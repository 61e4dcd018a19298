"""How slow this machine is, so that limits of time that were measured on one machine hold on another."""

from __future__ import annotations

import time

import numpy as np

# What `_yardstick` takes on the machine for which limits are stated: two cores of an Intel Xeon of 2023, idle.
YARDSTICK = 0.018  # s


def slowness() -> float:
    """How many times as long as on the machine of the limits this one takes, and never less than 1."""
    return max(1.0, min(_yardstick() for _ in range(3)) / YARDSTICK)


def _yardstick() -> float:
    """Seconds of processor time for some Python and some NumPy, as presenting a map is."""
    values = np.random.default_rng(0).random((64, 64, 64), dtype=np.float32)
    before = time.thread_time()
    for _ in range(4):
        np.sort(values, axis=2)
    for number in range(100_000):
        str(number)
    return time.thread_time() - before
