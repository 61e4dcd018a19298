"""Maps that are parts of another map: they lie in its folder, are shown like it, and go with it.

The whole's record has them as its "parts"; each has the whole, and what it shares with it: prediction and region.
"""

from __future__ import annotations

import json
from typing import Any

from . import hierarchy, record

_OWN = ("hot_spots", "volume_rendering")  # of the settings: what the whole alone is shown with


def join(part: Any, whole: Any) -> None:
    """Make an explanation part of another one, both given by their first relevance map."""
    record.link(part, "whole", [whole])
    shared = (record.linked_one(whole, role) for role in ("prediction", "region"))
    record.link(part, "shared", [node for node in shared if node is not None])
    record.link(whole, "parts", [*parts_of(whole), part])
    settings = record.read_json(whole, record.DISPLAY) | dict.fromkeys(_OWN, False)
    part.SetAttribute(record.DISPLAY, json.dumps(settings))
    own = hierarchy.folder_of(part)
    hierarchy.put_in_folder(whole, record.linked(part, "relevance"))
    hierarchy.remove_empty(part.GetScene(), own)


def parts_of(whole: Any) -> list[Any]:
    """The first relevance maps of the parts of an explanation that are still there."""
    return [node for node in record.linked(whole, "parts") if node is not None]


def whole_of(first: Any) -> Any:
    """The first relevance map of the explanation that this one is part of; itself if it is none."""
    return record.linked_one(first, "whole") or first
