"""What a record tells against what was computed again, one `Check` for each part of it."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from .. import __version__
from ..errors import UserError
from ..explanation import Explanation
from ..lrp.composites import COMPOSITES
from ..models import ModelCard, default_card
from .commands import explain_command, verify_command
from .findings_again import findings_problem
from .fingerprint import distance, fingerprint

_PARTS = ("in_volume", "in_volume_positive", "in_volume_negative", "absorbed", "outside", "gap")
# Figures of the ledger that records of earlier versions may lack, and lists of them by input.
_MORE, _BY_INPUT = (
    ("absorbed_bias", "absorbed_stabiliser", "changed", "unseen_relevance"),
    (
        "in_volume_by_input",
        "outside_by_input",
        "unseen_voxels_by_input",
    ),
)
_ROW_FIGURES = ("relevance_out", "relevance_in", "absorbed_bias", "absorbed_stabiliser", "changed", "gap")
_ROW_WORDS = ("layer", "operator", "role", "rule")
_TARGET = ("class", "index", "rather_than", "rather_than_index", "where", "value", "start", "activation", "left_out")
_GEOMETRY_MM = 1e-4
_FEW = 3  # voxels that rounding may move over a class' border, however small the class is
_SHARE = 1e-6  # by which a share may differ from the quotient that it is


@dataclass(frozen=True)
class Check:
    """One comparison.

    Attributes:
        name: of what is compared.
        agrees: whether it does.
        said: how it compares, in words.
    """

    name: str
    agrees: bool
    said: str


def scale_of(ledger: Mapping[str, Any]) -> float:
    """The largest figure of a ledger: what its differences are shares of."""
    return max(abs(ledger[key]) for key in ("target_value", *_PARTS)) or 1.0


def by_this_version(facts: Mapping[str, Any]) -> bool:
    """Whether the record's wording can be compared: another version of LRPExplain may say the same in other words."""
    return bool(facts["made_with"]["lrpexplain"] == __version__)


def compared(facts: Mapping[str, Any], again: Explanation, tolerance: float) -> list[Check]:
    """Everything that is the same whoever computes it."""
    maps, same = _maps(facts, again, tolerance)
    checks = [
        *_target(facts, again, tolerance),
        Check("model's name", facts["model"]["name"] == again.model["name"], "in the card"),
        *_composite(facts, again),
        *_geometry(facts, again),
        *_ledger(facts["ledger"], again.ledger, tolerance, by_this_version(facts)),
        *maps,
        _prediction(facts["prediction"], again, tolerance),
    ]
    if by_this_version(facts):
        problem = findings_problem(facts, again, same)
        checks += [
            Check("hot spots and warnings", problem is None, problem or "found again"),
            _commands(facts),
        ]
    return checks


def class_names(facts: Mapping[str, Any], own: ModelCard | None) -> Check | None:
    """Whether classes are called what the model's own card, or for want of any card LRPExplain, calls them.

    Args:
        own: what is said of the model besides its weights.

    Returns:
        None where nothing says how they are called.
    """
    card = facts["model"]["card"]
    told = [entry["name"] for entry in card["output"]["classes"]]
    if not card.get("stated", True):
        own = default_card(Path(facts["model"]["path"]))
    if own is None:
        return None
    try:
        found = [entry.name for entry in own.completed((1, len(told))).output.classes]
    except UserError:
        found = [entry.name for entry in own.output.classes]
    return Check("class names", told == found, f"{_listed(told)}{_instead(told, found)}")


def _target(facts: Mapping[str, Any], again: Explanation, tolerance: float) -> list[Check]:
    told, found = facts["target"], _as_json(again.target)
    others = [key for key in _TARGET if told.get(key) != found.get(key)]
    for key in ("voxels", "predicted"):
        now = found.get(key, 0)  # earlier versions did not tell how many are predicted
        apart = abs(told.get(key, now if key == "predicted" else 0) - now)
        if apart > tolerance * found.get("voxels", 0) + _FEW:
            others.append(key)
    mine, theirs = told.get("region") or {}, found.get("region") or {}
    # where no segment was chosen it may be called after the file, which may have another name now
    free = {"file"} if mine.get("chosen") is not None else {"file", "segment"}
    free |= {"sha256"} if mine.get("sha256") is None else set()  # of one that was given from memory
    if {**mine, **dict.fromkeys(free)} != {**theirs, **dict.fromkeys(free)}:
        others.append("region")
    text = found["text"]
    if "voxels" in told and "voxels" in found:
        text = text.replace(f" {found['voxels']} voxels", f" {told['voxels']} voxels", 1)
    if "segment" in free and "segment" in mine and "segment" in theirs:
        text = text.replace(f"segment '{theirs['segment']}'", f"segment '{mine['segment']}'", 1)
    found["text"] = text
    if by_this_version(facts) and told["text"] != text:
        others.append("text")
    said = "".join(f"; {key}: {told.get(key)!r}, not {found.get(key)!r}" for key in others if key != "region")
    said += "; another region" if "region" in others else ""
    return [Check("question", not others, f"about {found['class']}{said}")]


def _composite(facts: Mapping[str, Any], again: Explanation) -> list[Check]:
    """Whether what was computed with is called what it is: rules decide, names and descriptions are for the reader."""
    told = facts["composite"]
    if not by_this_version(facts):
        return []
    if "method" in told:
        return [Check("method", told == _as_json(again.composite), again.composite["name"])]
    preset = COMPOSITES.get(told["name"].rstrip("*"))
    if preset is None:
        return []
    rows, own = [(row["match"], row["rule"]) for row in told["rules"]], preset.as_rows()
    same = (
        (told["description"], told["normalization"]) == (preset.description, preset.normalization)
        and rows[-len(own) :] == own
        and (len(rows) > len(own)) == told["name"].endswith("*")
    )
    return [Check("composite", same, preset.name + ("" if same else " is another one"))]


def _geometry(facts: Mapping[str, Any], again: Explanation) -> list[Check]:
    checks = []
    for told, entry in zip(facts["volumes"], again.volumes, strict=True):
        pairs = [(told["geometry"][key], entry["geometry"][key]) for key in ("size", "spacing", "origin", "direction")]
        same = all(np.allclose(a, b, rtol=0, atol=_GEOMETRY_MM) for a, b in pairs)
        checks.append(Check(f"geometry of {told['name']}", same, "size, spacing, origin, direction"))
    return checks


def _ledger(told: Mapping[str, Any], found: Mapping[str, Any], tolerance: float, words: bool) -> list[Check]:
    scale = scale_of(told)

    def figure(name: str, pairs: Sequence[tuple[float, float]], said: str) -> Check:
        apart = max((abs(a - b) for a, b in pairs), default=0.0) / scale
        return Check(name, apart <= tolerance, f"{said}; differs by {apart:.1e}")

    lists = [key for key in _BY_INPUT if key in told]
    parts = [key for key in (*_PARTS, *_MORE) if key in told]
    if any(len(told[key]) != len(found[key]) for key in lists):
        whole = Check("ledger", False, "figures of another number of volumes")
    else:
        pairs = [(told[key], found[key]) for key in parts]
        pairs += [pair for key in lists for pair in zip(told[key], found[key], strict=True)]
        whole = figure("ledger", pairs, f"{len(pairs)} figures")
    checks = [
        figure("target value", [(told["target_value"], found["target_value"])],
               f"{told['target_value']:.6g} told, {found['target_value']:.6g} found"),
        whole,
        _shares(told, found, tolerance),
    ]  # fmt: skip
    if words and (told.get("conserves"), told.get("note")) != (found.get("conserves"), found.get("note")):
        checks.append(Check("what the map sums to", False, found.get("note") or "the target value"))
    mine, theirs = told["by_layer"], found["by_layer"]
    same = _ROW_WORDS if words else _ROW_WORDS[:1]
    if [[row[key] for key in same] for row in mine] == [[row[key] for key in same] for row in theirs]:
        pairs = [(a[key], b[key]) for a, b in zip(mine, theirs, strict=True) for key in _ROW_FIGURES if key in a]
        checks.append(figure("ledger by layer", pairs, f"{len(mine)} layers"))
    else:
        checks.append(Check("ledger by layer", False, f"{len(mine)} layers told, {len(theirs)} other ones found"))
    return checks


def _shares(told: Mapping[str, Any], found: Mapping[str, Any], tolerance: float) -> Check:
    """Whether shares are the quotients of what they are shares of; of absolute values the map has to be asked."""
    whole = told["in_volume"]
    pairs = [(told["relative_gap"], abs(told["gap"] / told["target_value"]) if told["target_value"] else 0.0, _SHARE)]
    for share, part in zip(told.get("share_by_input", ()), told["in_volume_by_input"], strict=False):
        pairs.append((share, part / whole if whole else 0.0, _SHARE))
    for a, b in zip(told.get("absolute_share_by_input", ()), found["absolute_share_by_input"], strict=False):
        pairs.append((a, b, tolerance))
    lengths = {len(told[key]) for key in told if key.endswith("_by_input")}
    same = lengths == {len(found["in_volume_by_input"])}
    return Check("shares", same and all(abs(a - b) <= most * max(1.0, abs(b)) for a, b, most in pairs), "gap, by input")


def _maps(facts: Mapping[str, Any], again: Explanation, tolerance: float) -> tuple[list[Check], bool]:
    """The checks, and whether all maps are the same in every bit."""
    checks, same = [], True
    for entry, mark, image in zip(facts["volumes"], facts["relevance"], again.relevance, strict=True):
        seen = fingerprint(sitk.GetArrayViewFromImage(image))
        apart, alike = distance(mark, seen), mark["sha256"] == seen["sha256"]
        said = "the same in every bit" if alike else f"differs by {apart:.1e}"
        checks.append(Check(f"relevance map of {entry['name']}", apart <= tolerance, said))
        same = same and alike
    return checks, same


def _prediction(told: Mapping[str, Any], again: Explanation, tolerance: float) -> Check:
    said, rows = again.prediction, again.prediction.sizes()
    if [row["name"] for row in told["classes"]] != [row["name"] for row in rows]:
        return Check("prediction", False, "other classes")
    if said.segmentation is not None:
        if told["values"]:
            return Check("prediction", False, "values for the whole volume, of which there are none")
        unit = float(np.prod(said.segmentation.GetSpacing())) / 1000
        whole = sum(row["voxels"] for row in rows)
        apart = sum(abs(a["voxels"] - b["voxels"]) for a, b in zip(told["classes"], rows, strict=True)) / whole
        other = [
            f"{b['name']} has {b['voxels']} voxels"
            for a, b in zip(told["classes"], rows, strict=True)
            if abs(a["voxels"] - b["voxels"]) > tolerance * b["voxels"] + _FEW
            or abs(a["ml"] - a["voxels"] * unit) > tolerance * a["voxels"] * unit
        ]
        said_of = f"; {_listed(other)}" if other else ""
        return Check("prediction", apart <= tolerance and not other, f"{apart:.1e} of the voxels change class{said_of}")
    values = told["values"]
    if list(values) != list(said.probabilities):
        return Check("prediction", False, "other classes")
    scale = max([1.0, *(abs(value) for value in values.values())])
    apart = max(abs(values[name] - said.probabilities[name]) for name in values) / scale
    return Check("prediction", apart <= tolerance, f"differs by {apart:.1e}")


def _commands(facts: Mapping[str, Any]) -> Check:
    """Whether the commands are those that its facts ask for; the record's file may have been renamed."""
    told = facts["commands"]
    try:
        name = shlex.split(told["verify"])[-1:]
    except ValueError:  # quotes that nobody closes
        name = []
    same = told["explain"] == explain_command(facts) and [told["verify"]] == [verify_command(each) for each in name]
    return Check("commands", same, "against the facts")


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"


def _instead(told: Sequence[str], found: Sequence[str]) -> str:
    return "" if list(told) == list(found) else f", but the model's card says {_listed(found) or 'none'}"


def _as_json(value: Any) -> Any:
    return json.loads(json.dumps(value))
