"""Loading PyTorch in a process of its own."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def loading() -> Iterator[None]:
    """Within it what is imported is left alone by Python's cyclic collector, then and later: it stays to the end, and
    looking through its half a million objects again and again took a fifth of the time to the first map.

    Does nothing where PyTorch is there already, as it may be in somebody else's process.
    """
    if "torch" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()
