"""Whether a volume still has the voxels that were explained: another frame of a sequence, and an edit, have others."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

from . import record
from .cache import kept, voxels_key
from .nodes import array_of, has_grid_like

_VOXELS = record.PREFIX + "Voxels"  # on a relevance map: a checksum of those that were explained


def remember(relevance: Any, volume: Any) -> None:
    """The map is of the voxels that the volume has now."""
    relevance.SetAttribute(_VOXELS, _checksum(volume))


def altered(relevance: Any, volume: Any) -> bool:
    """Whether the map is of other voxels than those that the volume has now, or of another grid."""
    if volume.GetImageData() is None:
        return False
    known = relevance.GetAttribute(_VOXELS)  # none on a map of an earlier version
    return not has_grid_like(volume, relevance) or (known is not None and known != _checksum(volume))


def _checksum(volume: Any) -> str:
    """As float32, since a file that a scene was saved to may hold another type; slice by slice, to save memory."""

    def make() -> str:
        found = 0
        for plane in array_of(volume):
            found = zlib.crc32(np.ascontiguousarray(plane, np.float32).data, found)
        return str(found)

    return kept("checksums", voxels_key(volume), make)
