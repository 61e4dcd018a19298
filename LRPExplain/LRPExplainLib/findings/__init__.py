"""What a relevance map says, in numbers: hot spots, profiles, shares, warnings. NumPy and SimpleITK only, no MRML.

Everything is computed from the relevance voxels themselves; how they are displayed decides only what counts as a hot
spot. Names are looked up on first use: what Slicer loads at start-up must not bring SimpleITK with it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .clusters import Clusters, find_clusters
    from .examination import Findings, HotSpot, Readout
    from .field import Field
    from .magnitudes import Magnitudes
    from .profiles import Profile, profiles_of
    from .reference import Layer, Reference, Share
    from .selection import MASS, PEAK, SIGNS, Selection

_HOME = {
    "Clusters": "clusters",
    "Field": "field",
    "Findings": "examination",
    "HotSpot": "examination",
    "Layer": "reference",
    "MASS": "selection",
    "Magnitudes": "magnitudes",
    "PEAK": "selection",
    "Profile": "profiles",
    "Readout": "examination",
    "Reference": "reference",
    "SIGNS": "selection",
    "Selection": "selection",
    "Share": "reference",
    "find_clusters": "clusters",
    "profiles_of": "profiles",
}

__all__ = [
    "MASS",
    "PEAK",
    "SIGNS",
    "Clusters",
    "Field",
    "Findings",
    "HotSpot",
    "Layer",
    "Magnitudes",
    "Profile",
    "Readout",
    "Reference",
    "Selection",
    "Share",
    "find_clusters",
    "profiles_of",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
