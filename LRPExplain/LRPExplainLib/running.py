"""The surroundings in which a network runs: full precision, a lack of memory in plain words, and all versions."""

import platform
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import SimpleITK as sitk
import torch

from . import __version__
from .errors import UserError
from .memory import short_of_memory


def versions() -> dict[str, str]:
    """Of what a result depends on."""
    return {
        "lrpexplain": __version__,
        "torch": str(torch.__version__),
        "SimpleITK": sitk.Version.VersionString(),
        "numpy": np.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
    }


@contextmanager
def running() -> Iterator[None]:
    """Within it a network runs with full precision, and a lack of memory is a `UserError`."""
    with _memory_said_plainly(), _full_precision():
        yield


@contextmanager
def _memory_said_plainly() -> Iterator[None]:
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not short_of_memory(error):
            raise
        raise UserError(
            "There is not enough memory for this volume: crop it, use smaller windows, or a device with more."
        ) from error


@contextmanager
def _full_precision() -> Iterator[None]:
    """No TF32 in CUDA convolutions and products: its 10 bits of mantissa would not let the ledger close."""
    matmul = torch.backends.cuda.matmul
    before = matmul.allow_tf32
    matmul.allow_tf32 = False
    try:
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            yield
    finally:
        matmul.allow_tf32 = before
