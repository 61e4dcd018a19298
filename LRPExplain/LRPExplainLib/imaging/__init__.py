"""Volumes in and out: files, geometry and intensity, and the adjoint of the way in.

`prepare` brings volumes into a model's space; `Prepared.relevance_to_source` carries relevance back into the
geometry of each volume so that sums agree, and names what fell outside the field of view.

Names are looked up on first use: Slicer's own process reads explanations through this package and must not load torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .grid import Grid
    from .intensity import INTENSITY
    from .markups import read_markups
    from .preparation import Prepared, prepare
    from .preprocessing import Preprocessing
    from .reading import check_volume, read_volume
    from .recorded import region_of
    from .regions import Box, Everywhere, Points, Region, Segment
    from .segmentation import read_segment, read_segments
    from .windows import Windows, least_size

_HOME = {
    "Box": "regions",
    "Everywhere": "regions",
    "Grid": "grid",
    "INTENSITY": "intensity",
    "Points": "regions",
    "Prepared": "preparation",
    "Preprocessing": "preprocessing",
    "Region": "regions",
    "Segment": "regions",
    "check_volume": "reading",
    "prepare": "preparation",
    "read_markups": "markups",
    "read_segment": "segmentation",
    "read_segments": "segmentation",
    "read_volume": "reading",
    "Windows": "windows",
    "least_size": "windows",
    "region_of": "recorded",
}

__all__ = [
    "INTENSITY",
    "Box",
    "Everywhere",
    "Grid",
    "Points",
    "Prepared",
    "Preprocessing",
    "Region",
    "Segment",
    "Windows",
    "check_volume",
    "least_size",
    "prepare",
    "read_markups",
    "read_segment",
    "read_segments",
    "read_volume",
    "region_of",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
