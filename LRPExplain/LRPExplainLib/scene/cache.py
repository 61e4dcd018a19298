"""Numbers about a map that are worth keeping while its voxels stay the same."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from ..findings.clusters import Clusters, find_clusters
from ..findings.field import Field
from ..findings.magnitudes import Magnitudes
from ..findings.selection import Selection
from .geometry import matrix_of
from .nodes import array_of

_MOST = 4
_kept: OrderedDict[tuple[Any, ...], Magnitudes] = OrderedDict()
_clusters: OrderedDict[tuple[Any, ...], Clusters] = OrderedDict()


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


def clusters_of(relevance: Any, level: float, selection: Selection) -> Clusters:
    """The regions of a map: the overlay, the hot spots and the findings all ask for the same ones."""
    field = Field(array_of(relevance), matrix_of(relevance, world=True))
    key = (voxels_key(relevance), field.voxel_ml, level, selection.sign, selection.minimum_cluster_ml)
    if key not in _clusters:
        _clusters[key] = find_clusters(field, level, selection.sign, selection.minimum_cluster_ml)
        while len(_clusters) > _MOST:
            _clusters.popitem(last=False)
    _clusters.move_to_end(key)
    return _clusters[key]


def forget() -> None:
    """Let go of everything, when a scene is closed."""
    _kept.clear()
    _clusters.clear()
