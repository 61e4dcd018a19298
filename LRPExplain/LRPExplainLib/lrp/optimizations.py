"""Ways to be faster, each with a name by which it can be switched off, so that a difference can be traced to it.

    with optimizations.without("onednn", "channels-last"):
        lrp.attribute(...)

or, for a whole process, LRPEXPLAIN_WITHOUT=onednn,channels-last in its environment. None of them changes a result by
more than rounding, but that `box` and `slabs` take the scale of a relative stabiliser from the part that they work on
(see the README). `benchmarks/peers.py --without NAME` measures what one is worth.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from .errors import LRPError

OPTIMIZATIONS = {
    "onednn": "on the CPU, convolutions go straight to oneDNN where ATen would choose a slower kernel of its own",
    "channels-last": "on the CPU, images and volumes lie channels last, which oneDNN need not reorder",
    "phases": "on the CPU, what a convolution gives back to few channels is computed for neighbouring voxels at once",
    "grouped": "on the CPU, transposed convolutions of groups are ordinary ones of the kernel turned around",
    "far": "on the CPU, bfloat16 convolutions of wide dilation are done in float32, in which oneDNN is faster",
    "widened": "where a processor has no arithmetic for half precision, its products are done in float32",
    "magnitudes": "rules that go by the sign of contributions find them from x w and |x| |w|: three products, not four",
    "collapsed": "convolutions with weights one (flat rule) are done on a single channel, which is the same for all",
    "slabs": "sums, and on the CPU convolutions, are walked slab by slab, which needs less memory beside them",
    "runs": "sums for the ledger are of runs of 64 numbers, summed in float32, which saves a float64 copy of a tensor",
    "remaking": "what is made of kept values in a pass or a few is not kept itself, but made again where it is read",
    "box": "on the CPU, but in float64, layers are walked only in the box of voxels that relevance has reached",
}


def _checked(names: Collection[str]) -> frozenset[str]:
    for name in names:
        if name not in OPTIMIZATIONS:
            raise LRPError(f"There is no optimization '{name}': choose among {', '.join(OPTIMIZATIONS)}.")
    return frozenset(names)


_off: ContextVar[frozenset[str] | None] = ContextVar("off", default=None)


def on(name: str) -> bool:
    """Whether an optimization may be used here and now."""
    return name not in _switched_off()


def _switched_off() -> frozenset[str]:
    off = _off.get()
    if off is None:
        off = _checked([word.strip() for word in os.environ.get("LRPEXPLAIN_WITHOUT", "").split(",") if word.strip()])
        _off.set(off)
    return off


@contextmanager
def without(*names: str) -> Iterator[None]:
    """Within it these optimizations are off.

    Raises:
        LRPError: there is none of that name.
    """
    token = _off.set(_switched_off() | _checked(names))
    try:
        yield
    finally:
        _off.reset(token)
