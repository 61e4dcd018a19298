"""What is worth keeping while voxels or segments stay the same: the newest few of each kind, until the scene closes."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

from ..findings.clusters import Clusters, find_clusters
from ..findings.field import Field
from ..findings.magnitudes import Magnitudes
from ..findings.selection import Selection
from .geometry import matrix_of
from .nodes import array_of

T = TypeVar("T")
_MOST = 4  # of each kind
_kept: defaultdict[str, OrderedDict[Hashable, Any]] = defaultdict(OrderedDict)


def kept(kind: str, key: Hashable, make: Callable[[], T]) -> T:
    """What ``make`` made for this key; made once, as long as it is among the newest of its kind."""
    known = _kept[kind]
    if key not in known:
        known[key] = make()
        while len(known) > _MOST:
            known.popitem(last=False)
    known.move_to_end(key)
    found: T = known[key]
    return found


def forget() -> None:
    """Let go of everything, when a scene is closed."""
    _kept.clear()


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
    return kept("magnitudes", key, lambda: Magnitudes([array_of(node) for node in maps]))


def clusters_of(relevance: Any, level: float, selection: Selection) -> Clusters:
    """The regions of a map: the overlay, the hot spots and the findings all ask for the same ones."""
    field = Field(array_of(relevance), matrix_of(relevance, world=True))
    sign, minimum = selection.sign, selection.minimum_cluster_ml
    key = (voxels_key(relevance), field.voxel_ml, level, sign)
    every = kept("clusters", (*key, 0.0), lambda: find_clusters(field, level, sign))
    return kept("clusters", (*key, minimum), lambda: every.of_at_least(minimum, field.voxel_ml))
