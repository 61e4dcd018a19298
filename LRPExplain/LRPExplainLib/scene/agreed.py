"""What agreement of a map was checked with, to tell when the segments are others now than those that it is about."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from . import record
from .examination import held_by

_CHECKED = "checked"  # the role of the segmentations that were checked
Held = frozenset[tuple[str, ...]]


def held(references: Sequence[tuple[Any, str]], relevance: Any) -> Held:
    """What segments (each a segmentation node and the segment's ID or name) hold of a map."""
    rows: set[tuple[str, ...]] = set()
    for node, segment in references:
        found = node.GetSegmentation().GetSegment(segment)
        name = found.GetName() if found is not None else segment
        rows.update(row for row in held_by(node, relevance) if row[0] == name)
    return frozenset(rows)


def keep(first: Any, nodes: Sequence[Any], rows: Held) -> None:
    """Note on the first map that agreement with segments of ``nodes`` was checked when they held ``rows`` of it."""
    first.SetAttribute(record.REFERENCE, json.dumps(sorted(rows)))
    record.link(first, _CHECKED, [node for node in nodes if node.GetScene() is first.GetScene()])


def kept(first: Any) -> Held | None:
    """What was noted; None where agreement was not checked."""
    text = first.GetAttribute(record.REFERENCE)
    return frozenset(tuple(row) for row in json.loads(text)) if text else None


def changed(first: Any) -> bool:
    """Whether segments that agreement was checked with were edited since; what was deleted cannot be told."""
    before, nodes = kept(first), record.linked(first, _CHECKED)
    now = frozenset[tuple[str, ...]]().union(*(held_by(node, first) for node in nodes if node is not None))
    return bool(nodes) and before is not None and not before <= now


def forget(first: Any) -> None:
    """Nothing has been checked of the map as it is now."""
    first.RemoveAttribute(record.REFERENCE)
    first.RemoveNodeReferenceIDs(record.PREFIX + _CHECKED)
