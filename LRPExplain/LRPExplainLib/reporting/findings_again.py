"""Whether a record's hot spots and warnings are those of the map that was made again."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ..explanation import Explanation
from .findings import findings_facts

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*(?:e[+-]?\d+)?")
_FIGURES = ("share", "relevance", "ml", "mean", "peak", "overlap")
_EXACT = 1e-6
# Another device moves single voxels over the threshold, which changes small regions: of a map that is not the same in
# every bit only regions with this share of the relevance are looked at, and figures may differ by this part.
_LARGE, _ALIKE = 0.02, 0.1
_NEAR_MM = 1e-3


def findings_problem(facts: Mapping[str, Any], again: Explanation, exactly: bool) -> str | None:
    """What differs, in words; None: nothing.

    Args:
        exactly: the maps are the same in every bit, so that the findings must be too.
    """
    told, unseen = facts["findings"], set(facts["findings"]["unseen"])
    names = [entry["name"] for entry in facts["volumes"]]
    # what was not at hand when the record was made has no part in its warnings
    volumes = [
        entry | {"path": None} if name in unseen else entry for name, entry in zip(names, again.volumes, strict=True)
    ]
    found = findings_facts(replace(again, volumes=volumes), names)
    if told["unseen"] != found["unseen"] or told["selection"] != found["selection"]:
        return "another selection, or other volumes that were not at hand"
    if _words(told["warnings"], exactly) != _words(found["warnings"], exactly):
        return f"other warnings ({len(told['warnings'])} told, {len(found['warnings'])} found)"
    mine, theirs = told["hot_spots"], found["hot_spots"]
    if exactly:
        same = told["regions"] == found["regions"] and len(mine) == len(theirs)
        same = same and all(_same(a, b, _EXACT, _NEAR_MM) for a, b in zip(mine, theirs, strict=True))
        return None if same else f"other hot spots ({told['regions']} regions told, {found['regions']} found)"
    near = {name: 2 * max(entry["geometry"]["spacing"]) for name, entry in zip(names, again.volumes, strict=True)}
    for some, rest in ((mine, theirs), (theirs, mine)):
        for spot in some:
            if spot["share"] >= _LARGE and not any(_same(spot, b, _ALIKE, near.get(spot["volume"], 0)) for b in rest):
                return "a large region is told and not found again" if some is mine else "a large region is not told"
    return None


def _words(warnings: list[str], exactly: bool) -> list[str]:
    return warnings if exactly else [_NUMBER.sub("N", warning) for warning in warnings]


def _same(a: Mapping[str, Any], b: Mapping[str, Any], share: float, near: float) -> bool:
    return (
        (a["volume"], a["predicted"]) == (b["volume"], b["predicted"])
        and (share > _EXACT or a["rank"] == b["rank"])
        and bool(np.allclose([a[key] for key in _FIGURES], [b[key] for key in _FIGURES], rtol=share, atol=share * 1e-3))
        and float(np.linalg.norm(np.subtract(a["place_ras"], b["place_ras"]))) <= near
    )
