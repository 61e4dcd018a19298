"""The commands that make an explanation again."""

import shlex
from collections.abc import Mapping
from typing import Any

from ..explanation import given_volumes
from ..lrp.composites import COMPOSITES
from ..methods import METHODS
from ..recorded import recorded_precision

_UPRIGHT = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]


def explain_command(facts: Mapping[str, Any]) -> str | None:
    """`lrpexplain explain ...` for what explanation.json tells.

    None where the command line has no words for it: a volume or segment from memory, a rotated box, a composite that
    was put together in Python, or a map that is made of others.
    """
    region, composite = _region(facts["target"]), _composite(facts["composite"])
    paths = [entry["path"] for entry in given_volumes(facts["volumes"])]
    if region is None or composite is None or None in paths:
        return None
    target, card = facts["target"], facts["model"]["card"]
    names = [entry["name"] for entry in card["output"]["classes"]]
    words = ["lrpexplain", "explain", "--model", facts["model"]["path"]]
    words += ["--card", facts["model"]["card_file"]] if "card_file" in facts["model"] else []
    words += ["--volume", *paths]
    words += ["--target", _class(names, target["index"])]
    if "rather_than_index" in target:
        words += ["--rather-than", _class(names, target["rather_than_index"])]
    words += [*region, "--value", target["value"], "--start", target["start"], *composite]
    words += _window(card["preprocessing"].get("window"))
    precision = recorded_precision(facts["provenance"])
    words += [] if precision == "float32" else ["--precision", precision]
    words += ["--device", "cpu" if facts["provenance"]["device"] == "cpu" else "cuda", "--out", "again"]
    return shlex.join(words)


def verify_command(name: str) -> str:
    """`lrpexplain verify ...` for the record of this name."""
    return shlex.join(["lrpexplain", "verify", name])


def _class(names: list[str], index: int) -> str:
    name = names[index] if index < len(names) else str(index)
    folded = [each.casefold() for each in names]
    return name if folded.count(name.casefold()) == 1 and not name.strip().isdecimal() else str(index)


def _region(target: Mapping[str, Any]) -> list[str] | None:
    where, region = target["where"], target.get("region") or {}
    if where == "everywhere":
        return ["--everywhere"]
    if where == "segment":
        if region["file"] is None:
            return None
        return ["--segment", region["file"] + ("" if region["chosen"] is None else f":{region['chosen']}")]
    if where == "box":
        upright = list(region["axes_ras"]) == _UPRIGHT
        return ["--roi", _triple(region["centre_ras"]), _triple(region["size_mm"])] if upright else None
    if where == "points":
        return [word for point in region["points_ras"] for word in ("--point", _triple(point))]
    return []


def _triple(values: list[float]) -> str:
    return ",".join(repr(float(value)) for value in values)


def _composite(facts: Mapping[str, Any]) -> list[str] | None:
    """The preset, and the rules that were put before its own; or the method that is not LRP."""
    if "method" in facts:
        given = [word for key, value in facts["parameters"].items() for word in ("--parameter", f"{key}={value}")]
        return ["--method", facts["method"], *given] if facts["method"] in METHODS else None
    preset = COMPOSITES.get(facts["name"].rstrip("*"))
    rows = [(row["match"], row["rule"]) for row in facts["rules"]]
    if preset is None or preset.normalization != facts["normalization"]:
        return None
    own = preset.as_rows()
    if rows[len(rows) - len(own) :] != own:
        return None
    before: dict[str, str] = {}
    for match, rule in rows[: len(rows) - len(own)]:
        before.setdefault(match, rule)  # the first one holds
    rules = [word for match, rule in before.items() for word in ("--rule", f"{match}={rule}")]
    return ["--composite", preset.name, *rules, "--biases", facts["biases"]]


def _window(window: Mapping[str, Any] | None) -> list[str]:
    if not window or not window.get("size"):
        return ["--window", "none"]
    words = ["--window", "x".join(str(n) for n in window["size"])]
    for key in ("overlap", "blending"):
        if window.get(key) is not None:
            words += [f"--{key}", str(window[key])]
    return words
