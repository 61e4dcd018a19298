"""How long a piece of work takes, a GPU's own work included."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch


def seconds(run: Callable[[], Any], device: str = "cpu") -> float:
    """Seconds of one run."""
    _wait(device)
    begin = time.perf_counter()
    run()
    _wait(device)
    return time.perf_counter() - begin


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()
