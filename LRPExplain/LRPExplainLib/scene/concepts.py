"""The channels of an inner layer as maps beside the map that they are parts of (see `LRPExplainLib.concepts`)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import UserError
from ..explanation import Explanation, Prediction
from . import parts, record
from .examination import reference_on
from .geometry import matrix_of, to_local, to_world
from .host import tr as _
from .presented import PresentedNodes, presented_of
from .presenting import present_in_steps, remove

if TYPE_CHECKING:
    from ..findings.field import Point

_CONCEPTS = record.PREFIX + "Concepts"


@dataclass(frozen=True)
class Row:
    """One channel.

    Attributes:
        rank: 1 carries most.
        channel: counted from 0.
        share: of the target value.
        place: of its strongest voxel (RAS of the world, mm).
        segments: of the reference that hold this voxel.
        node: its (first) relevance map.
    """

    rank: int
    channel: int
    share: float
    place: Point
    segments: tuple[str, ...]
    node: Any


def show_in_steps(whole: PresentedNodes, folder: Path, facts: Mapping[str, Any]) -> Generator[None, None, None]:
    """Make the maps of a folder that `concepts` wrote nodes in the folder of the whole map; earlier ones go.

    In steps as `present_in_steps`; the folder is removed in any case. Whoever gives up leaves no map behind.

    Raises:
        UserError: the map or its volume has gone meanwhile.
    """
    first = whole.relevance[0]
    try:
        yield from forget_in_steps(whole)
        for entry in facts["concepts"]:
            found = yield from Explanation.load_in_steps(folder / entry["folder"])
            yield
            if any(node is None or node.GetScene() is None for node in (first, *whole.volumes)):
                raise UserError(_("The map was removed while its concepts were being found: explain the volume again."))
            # what the model says, and where it was asked, is shown with the whole map already
            target = found.target | {"where": "output"}
            part = replace(found, prediction=Prediction(None, {}, found.prediction.classes), target=target)
            yield from present_in_steps(part, whole.volumes, whole=whole)
            yield
        kept = {key: value for key, value in facts.items() if key != "relevance_by_channel"}
        first.SetAttribute(_CONCEPTS, json.dumps(kept))
    except BaseException:
        if first.GetScene() is not None:
            forget(whole)
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def forget(whole: PresentedNodes) -> None:
    """Remove the maps of its channels."""
    for _step in forget_in_steps(whole):
        pass


def forget_in_steps(whole: PresentedNodes) -> Generator[None, None, None]:
    """The same, one map a step; what is told of them goes with the first."""
    first = whole.relevance[0]
    first.RemoveAttribute(_CONCEPTS)
    for part in parts.parts_of(first):
        if part.GetScene() is not None:
            remove(presented_of(part))
            yield


def facts_of(whole: Any) -> dict[str, Any]:
    """What `concepts` found of the explanation with this first relevance map; empty if it was not asked."""
    return record.read_json(whole, _CONCEPTS)


def rows_of(whole: Any, reference: Any = None, segment: str | None = None) -> list[Row]:
    """The channels whose maps are still in the scene, the strongest first.

    Args:
        whole: the first relevance map of the whole.
        reference, segment: a segmentation node, and the ID of the only segment of it that counts.
    """
    facts = facts_of(whole)
    nodes = {record.read_facts(part)["target"]["concept"]["channel"]: part for part in parts.parts_of(whole)}
    named = reference_on(reference, whole, segment or None) if reference is not None and nodes else None
    rows = []
    for entry in facts.get("concepts", ()):
        node = nodes.get(entry["channel"])
        if node is None:
            continue
        place = to_world(record.map_of(node, entry["peak"]["input"]) or node, entry["peak"]["ras"])
        segments = tuple(named.names_at(_index(whole, place))) if named is not None else ()
        rows.append(Row(entry["rank"], entry["channel"], entry["share"], place, segments, node))
    return rows


def _index(node: Any, place: Point) -> tuple[int, int, int]:
    """The voxel (i, j, k) of a volume node that is nearest to a point of the world."""
    at = np.linalg.inv(matrix_of(node)) @ [*to_local(node, place), 1.0]
    i, j, k = (int(n) for n in np.clip(np.rint(at[:3]), 0, np.array(node.GetImageData().GetDimensions()) - 1))
    return i, j, k
