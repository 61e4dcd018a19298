"""Numbers about a map that are worth keeping while its voxels stay the same."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from ..findings.magnitudes import Magnitudes
from .nodes import array_of

_MOST = 4
_kept: OrderedDict[tuple[Any, ...], Magnitudes] = OrderedDict()


def voxels_key(node: Any) -> tuple[Any, ...]:
    """Changes when the voxels of a volume node do."""
    data = node.GetImageData()
    return (
        id(node.GetScene()),
        node.GetID(),
        data.GetMTime() if data else 0,
        data.GetPointData().GetMTime() if data else 0,
    )


def magnitudes_of(maps: Sequence[Any]) -> Magnitudes:
    """The distribution of relevance in the maps of one explanation together."""
    key = tuple(voxels_key(node) for node in maps)
    if key not in _kept:
        _kept[key] = Magnitudes([array_of(node) for node in maps])
        while len(_kept) > _MOST:
            _kept.popitem(last=False)
    _kept.move_to_end(key)
    return _kept[key]


def forget() -> None:
    """Let go of everything, as when a scene is closed."""
    _kept.clear()
