"""PyTorch's switches that a caller may have set around the engine, and that must not reach into what it computes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def switched_off() -> Iterator[None]:
    """Inference mode, in which nothing could be derived as adjoints are, and autocast: a graph has its own precision.

    A decorator, too.
    """
    with torch.inference_mode(False), torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
        yield
