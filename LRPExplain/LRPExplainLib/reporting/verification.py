"""verify(record) -> Verification: everything is computed again, and compared with what the record says."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from .. import __version__
from ..digests import sha256_of
from ..errors import UserError
from ..evaluation.subject import recorded_composite, recorded_method, recorded_precision, recorded_question
from ..explain import explain
from ..explanation import Explanation
from ..imaging.reading import volume_digest
from ..models import ExplainableModel
from ..models.loading import load_recorded
from ..question import Question
from .fingerprint import block_sums, distance, fingerprint
from .places import Places
from .record import Record, class_sizes

# Another device, another order of sums: float32 differs by some 1e-5; another model or volume by far more than this.
TOLERANCE = 1e-3
_PARTS = ("in_volume", "in_volume_positive", "in_volume_negative", "absorbed", "outside", "gap")


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


@dataclass(frozen=True)
class Verification:
    """What was compared; `explanation` is the one that was made again (None where the files are others)."""

    checks: tuple[Check, ...]
    explanation: Explanation | None

    @property
    def agrees(self) -> bool:
        """Whether everything does."""
        return self.explanation is not None and all(check.agrees for check in self.checks)

    def table(self) -> str:
        """For people."""
        width = max(len(check.name) for check in self.checks)
        rows = [f"{'agrees ' if check.agrees else 'DIFFERS'}  {check.name.ljust(width)}  {check.said}"
                for check in self.checks]  # fmt: skip
        end = "The record agrees with what was computed again."
        if self.explanation is None:
            end = "The record DOES NOT AGREE: these are other files, so nothing was computed again."
        elif not self.agrees:
            end = "The record DOES NOT AGREE with what was computed again."
        return "\n".join([*rows, end])


def verify(
    record: Record,
    places: Places = Places(),
    tolerance: float = TOLERANCE,
    *,
    device: str = "auto",
    memory: float | None = None,
    trust: bool = False,
    progress: Callable[[str, float], None] | None = None,
) -> Verification:
    """Compute a record's explanation again and compare.

    Args:
        places: where its files are.
        tolerance: of the target value and the ledger, as a share of the largest of its figures; of the map, as the sum
            of |differences| over blocks as a share of the whole |relevance|.
        device, memory, trust, progress: as for `explain`.

    Raises:
        UserError, lrp.LRPError: a file is not here, or cannot be read; or the map is made of others and not computed.
    """
    if not 0 <= tolerance < 1:
        raise UserError(f"A tolerance is a share from 0 to below 1, not {tolerance:g}.")
    facts = record.facts
    method = recorded_method(facts["composite"])
    checks = [_adds_up(facts, tolerance), *_page(record)]
    model_path, volumes, segment = places.model_of(facts), places.volumes_of(facts), places.segment_of(facts)
    for entry, path in zip(facts["volumes"], volumes, strict=True):
        checks.append(_same_file(f"volume {entry['name']}", entry["sha256"], volume_digest(path)))
    if segment is not None:
        checks.append(_same_file("segmentation", facts["target"]["region"]["sha256"], sha256_of(segment)))
    model, found = _load(model_path, facts["model"], trust)
    checks.append(_same_file(f"model {facts['model']['name']}", facts["model"]["sha256"], found))
    files_agree = all(check.agrees for check in checks[-1 - len(volumes) - (segment is not None) :])
    if model is None or not files_agree:
        return Verification(tuple(checks), None)
    again = explain(
        model, volumes, _question(facts["target"], segment),
        recorded_composite(facts["composite"]) if method is None else None, device, progress,
        memory=memory, precision=recorded_precision(facts["provenance"]), method=method,
    )  # fmt: skip
    return Verification((*checks, *_compared(facts, again, tolerance)), again)


def _load(path: Path, facts: dict[str, Any], trust: bool) -> tuple[ExplainableModel | None, str]:
    """The model, and its SHA-256; another file may not fit the recorded card, which is then no error of the user's."""
    try:
        model = load_recorded(path, facts["card"], trust)
    except UserError:
        if path.is_file() and (digest := sha256_of(path)) != facts["sha256"]:
            return None, digest
        raise
    return model, model.sha256


def _question(target: Mapping[str, Any], segment: Path | None) -> Question:
    place = dict(target)
    if segment is not None:
        place["region"] = {**target["region"], "file": str(segment)}
    return recorded_question(place)


def _same_file(name: str, told: str | None, found: str) -> Check:
    if told is None:
        return Check(name, False, "was given from memory when it was explained: no SHA-256 is known")
    return Check(name, told == found, f"SHA-256 {found[:12]}…" + ("" if told == found else f", not {told[:12]}…"))


def _scale(ledger: Mapping[str, Any]) -> float:
    """The largest figure of a ledger: what its differences are shares of."""
    return max(abs(ledger[key]) for key in ("target_value", *_PARTS)) or 1.0


def _adds_up(facts: Mapping[str, Any], tolerance: float) -> Check:
    """Whether the record agrees with itself: its ledger, and the map's sums with the ledger."""
    ledger = facts["ledger"]
    parts = ledger["in_volume"] + ledger["absorbed"] + ledger["outside"] + ledger["gap"]
    try:
        sums = [block_sums(mark) for mark in facts["relevance"]]
    except ValueError:
        return Check("the record itself", False, "the fingerprint of its map is damaged")
    pairs = [(ledger["target_value"], parts), (ledger["in_volume"], sum(ledger["in_volume_by_input"]))]
    pairs += list(zip(ledger["in_volume_by_input"], [float(each.sum()) for each in sums], strict=False))
    for n, key in enumerate(("in_volume_positive", "in_volume_negative")):
        pairs.append((ledger[key], sum(float(each[n].sum()) for each in sums)))
    worst = max(abs(told - found) for told, found in pairs) / _scale(ledger)
    whole = len(sums) == len(ledger["in_volume_by_input"]) == len(facts["volumes"])
    return Check("the record itself", whole and worst <= tolerance, f"its figures add up to {worst:.1e}")


def _page(record: Record) -> list[Check]:
    """Of an HTML file: whether it shows what its facts say, and the pictures that it was made with."""
    if record.read is None:
        return []
    if record.facts["made_with"]["lrpexplain"] == __version__:
        text = Check("page", record.html() == record.read, "what it shows, against the facts inside")
    else:
        text = Check("page", True, "not compared: another version of LRPExplain made it")
    told = {view["name"]: view["sha256"] for view in record.facts["pictures"]["views"]}
    found = {name: hashlib.sha256(png).hexdigest() for name, png in record.pictures.items()}
    return [text, Check("pictures", told == found, f"SHA-256 of {len(found)} views")]


def _compared(facts: Mapping[str, Any], again: Explanation, tolerance: float) -> list[Check]:
    told, found = facts["ledger"], again.ledger
    scale = _scale(told)

    def figure(name: str, pairs: list[tuple[float, float]], said: str) -> Check:
        apart = max((abs(a - b) for a, b in pairs), default=0.0) / scale
        return Check(name, apart <= tolerance, f"{said}; differs by {apart:.1e}")

    checks = [
        figure("target value", [(told["target_value"], found["target_value"])],
               f"{told['target_value']:.6g} told, {found['target_value']:.6g} found"),
        figure("ledger", [(told[key], found[key]) for key in _PARTS], ", ".join(_PARTS)),
    ]  # fmt: skip
    mine, theirs = told["by_layer"], found["by_layer"]
    if [row["layer"] for row in mine] == [row["layer"] for row in theirs]:
        keys = ("relevance_out", "relevance_in", "absorbed_bias", "absorbed_stabiliser", "changed")
        pairs = [(a[key], b[key]) for a, b in zip(mine, theirs, strict=True) for key in keys]
        checks.append(figure("ledger by layer", pairs, f"{len(mine)} layers"))
    else:
        checks.append(Check("ledger by layer", False, f"{len(mine)} layers told, {len(theirs)} other ones found"))
    for entry, mark, image in zip(facts["volumes"], facts["relevance"], again.relevance, strict=True):
        seen = fingerprint(sitk.GetArrayViewFromImage(image))
        apart = distance(mark, seen)
        same = "the same in every bit" if mark["sha256"] == seen["sha256"] else f"differs by {apart:.1e}"
        checks.append(Check(f"relevance map of {entry['name']}", apart <= tolerance, same))
    return [*checks, _prediction(facts["prediction"], again, tolerance)]


def _prediction(told: Mapping[str, Any], again: Explanation, tolerance: float) -> Check:
    said = again.prediction
    if said.segmentation is not None:
        a = {row["name"]: row["voxels"] for row in told["classes"]}
        b = {row["name"]: row["voxels"] for row in class_sizes(said)}
        apart = sum(abs(a.get(name, 0) - b.get(name, 0)) for name in {*a, *b}) / max(1, sum(b.values()))
        return Check("prediction", list(a) == list(b) and apart <= tolerance, f"{apart:.1e} of the voxels change class")
    values = told["values"]
    if list(values) != list(said.probabilities):
        return Check("prediction", False, "other classes")
    scale = max([1.0, *(abs(value) for value in values.values())])
    apart = max(abs(values[name] - said.probabilities[name]) for name in values) / scale
    return Check("prediction", apart <= tolerance, f"differs by {apart:.1e}")


__all__ = ["TOLERANCE", "Check", "Places", "Verification", "verify"]
