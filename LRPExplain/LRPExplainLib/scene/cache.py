"""What is worth keeping while voxels or segments stay the same: the newest few of each kind, until the scene closes."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Generator, Hashable, Sequence
from typing import Any, TypeVar

from ..findings.clusters import Clusters, regions_in_steps
from ..findings.field import Field
from ..findings.magnitudes import Magnitudes
from ..findings.selection import Selection
from ..findings.steps import finished
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
    return finished(clusters_in_steps(relevance, level, selection))


def clusters_in_steps(relevance: Any, level: float, selection: Selection) -> Generator[None, None, Clusters]:
    """`clusters_of` in steps; those of any size are found once, and cut for each smallest size that is asked for."""
    field = Field(array_of(relevance), matrix_of(relevance, world=True))
    key, least = (voxels_key(relevance), field.voxel_ml, level, selection.sign), selection.minimum_cluster_ml
    known: Clusters | None = _kept["clusters"].get((*key, 0.0))
    found = known or (yield from regions_in_steps(field, level, selection.sign))
    every = kept("clusters", (*key, 0.0), lambda: found)
    return kept("clusters", (*key, least), lambda: every.of_at_least(least, field.voxel_ml))
