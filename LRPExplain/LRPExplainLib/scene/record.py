"""How the nodes of one explanation know each other, also after a scene was saved, loaded, merged or partly deleted.

The first relevance map is the record: the other nodes are MRML node references of it, facts and settings its
attributes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from .nodes import ROLE_ATTRIBUTE, by_role

PREFIX = "LRPExplain."
FACTS = PREFIX + "Facts"
DISPLAY = PREFIX + "Display"
SHOWN = PREFIX + "Shown"
LIMIT = PREFIX + "Limit"
FOCUS = PREFIX + "Focus"
NAME = PREFIX + "Name"
PREDICTION = PREFIX + "Prediction"  # what the model predicted, as JSON
VERDICT = PREFIX + "Verdict"  # what checks found of the map, a sentence a line
REFERENCE = PREFIX + "Reference"  # what the reference that agreement was checked with held of the map
INPUT = PREFIX + "Input"  # on a relevance map: the number of its input, of those that the model takes
_FIRST = PREFIX + "first"
# nodes that were not made for it, and the map that is shown, which is one of those that were
_OTHERS = {PREFIX + role for role in ("source", "whole", "shared", "chosen", "checked")} | {_FIRST}
# what people look for in the node's attributes; the rest is in FACTS
_READABLE = {
    "Model": ("model", "name"),
    "ModelSHA256": ("model", "sha256"),
    "Target": ("target", "text"),
    "Class": ("target", "class"),
    "Composite": ("composite", "name"),
    "Created": ("provenance", "created"),
    "Device": ("provenance", "device"),
}


@contextmanager
def together(node: Any) -> Iterator[None]:
    """What is changed of a node meanwhile is one change: views and selectors look at a volume anew for each."""
    modifying = node.StartModify()
    try:
        yield
    finally:
        node.EndModify(modifying)


def link(record: Any, role: str, nodes: Sequence[Any]) -> None:
    """Make ``nodes`` those of ``role`` in the explanation whose first relevance map is ``record``."""
    with together(record):
        record.RemoveNodeReferenceIDs(PREFIX + role)
        for n, node in enumerate(nodes):
            record.SetNthNodeReferenceID(PREFIX + role, n, node.GetID())
            if role == "relevance" and node is not record:
                node.SetNodeReferenceID(_FIRST, record.GetID())


def linked(record: Any, role: str) -> list[Any]:
    """The nodes of ``role``. MRML forgets references to nodes that are deleted, so the others move up."""
    count = record.GetNumberOfNodeReferences(PREFIX + role)
    return [record.GetNthNodeReference(PREFIX + role, n) for n in range(count)]


def linked_one(record: Any, role: str) -> Any | None:
    """The one node of ``role``; None if there is none any more."""
    return next(iter(linked(record, role)), None)


def sources(first: Any) -> list[Any]:
    """For each relevance map of an explanation the volume that was explained; None for one that has gone."""
    return [linked_one(node, "source") for node in linked(first, "relevance")]


def map_of(first: Any, number: int) -> Any | None:
    """The relevance map of the input with this number; None where it was deleted."""
    maps = enumerate(linked(first, "relevance"))
    return next((node for n, node in maps if int(node.GetAttribute(INPUT) or n) == number), None)


def record_of(node: Any) -> Any:
    """The first relevance map of the explanation that a relevance map belongs to."""
    return node.GetNodeReference(_FIRST) or node


def records(scene: Any) -> list[Any]:
    """The explanations in a scene, each as its first relevance map."""
    maps = by_role(scene, "relevance", "vtkMRMLScalarVolumeNode")
    return [node for node in maps if record_of(node) is node]


def every_node(record: Any) -> list[Any]:
    """All nodes that were made for the explanation (not its input volumes), as far as they are still there."""
    roles = [record.GetNthNodeReferenceRole(n) for n in range(record.GetNumberOfNodeReferenceRoles())]
    ours = [role for role in roles if (role or "").startswith(PREFIX) and role not in _OTHERS]
    found = [
        record.GetNthNodeReference(role, n) for role in ours for n in range(record.GetNumberOfNodeReferences(role))
    ]
    return [record, *dict.fromkeys(node for node in found if node is not None and node is not record)]


def write_facts(record: Any, facts: dict[str, Any]) -> None:
    """Keep provenance with the node: the whole as JSON, and what people look for in attributes of its own."""
    record.SetAttribute(FACTS, json.dumps(facts, ensure_ascii=True))
    for name, (part, key) in _READABLE.items():
        value = facts.get(part, {}).get(key)
        if value is not None:
            record.SetAttribute(PREFIX + name, str(value))


def read_facts(record: Any) -> dict[str, Any]:
    """What `write_facts` kept; empty if it is not there."""
    return read_json(record, FACTS)


def read_json(node: Any, attribute: str) -> dict[str, Any]:
    """A JSON attribute; empty if it is missing or damaged."""
    try:
        content = json.loads(node.GetAttribute(attribute) or "{}")
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def mark(node: Any, role: str) -> Any:
    """Give a node its role; returned for chaining."""
    node.SetAttribute(ROLE_ATTRIBUTE, role)
    return node
