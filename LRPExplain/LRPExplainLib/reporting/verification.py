"""verify(record) -> Verification: everything is computed again, and compared with what the record says."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..digests import sha256_of
from ..errors import UserError, reason
from ..explain import explain
from ..explanation import Explanation, given_volumes
from ..imaging.reading import volume_digest
from ..models import ExplainableModel
from ..models.loading import load_recorded, stated_card, weights_of
from ..question import Question
from ..recorded import recorded_composite, recorded_method, recorded_precision, recorded_question
from .aliases import last_part
from .checks import Check, by_this_version, class_names, compared, scale_of
from .fingerprint import block_sums
from .patients import patient_of
from .places import Places
from .record import Record

# Another device, another order of sums: float32 differs by some 1e-5; another model or volume by far more than this.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Verification:
    """What was compared.

    Attributes:
        explanation: the one that was made again; None where none could be.
        why: none was made.
        left_out: what the record tells that nothing was compared with.
    """

    checks: tuple[Check, ...]
    explanation: Explanation | None
    why: str = ""
    left_out: tuple[str, ...] = ()

    @property
    def agrees(self) -> bool:
        """Whether everything does."""
        return self.explanation is not None and all(check.agrees for check in self.checks)

    def table(self) -> str:
        """For people."""
        width = max(len(check.name) for check in self.checks)
        rows = [f"{'agrees ' if check.agrees else 'DIFFERS'}  {check.name.ljust(width)}  {check.said}"
                for check in self.checks]  # fmt: skip
        if self.explanation is None:
            return "\n".join([*rows, f"The record DOES NOT AGREE: {self.why}, so nothing was computed again."])
        if self.left_out:
            rows.append(f"Not compared: {', '.join(self.left_out)}.")
        agrees = "agrees" if self.agrees else "DOES NOT AGREE"
        return "\n".join([*rows, f"The record {agrees} with what was computed again."])


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
        UserError, lrp.LRPError: a file is not here, or cannot be read; the map is made of others and not computed; or
            the record is incomplete.
    """
    if not 0 <= tolerance < 1:
        raise UserError(f"A tolerance is a share from 0 to below 1, not {tolerance:g}.")
    facts = record.facts
    try:
        method = recorded_method(facts["composite"])
        composite = recorded_composite(facts["composite"]) if method is None else None
        precision = recorded_precision(facts["provenance"])
        damage = _damage(facts)
        if damage is not None:
            return Verification((damage,), None, "it is damaged")
        given, volumes, segment = places.model_of(facts), places.volumes_of(facts), places.segment_of(facts)
        question = _question(facts["target"], segment)
        checks = [_adds_up(facts, tolerance), *_page(record)]
        files = []
        for entry, path in zip(given_volumes(facts["volumes"]), volumes, strict=True):
            files += _same_file(f"volume {entry['name']}", entry["sha256"], volume_digest(path, entry["sha256"]))
        checks += _patients(facts, volumes)
        if segment is not None:
            files += _same_file("segmentation", facts["target"]["region"]["sha256"], volume_digest(segment))
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise UserError(f"The record is incomplete or damaged ({reason(error)}): make it again.") from error
    weights, card = weights_of(given), places.card_of(facts)
    model, found = _load(weights, facts["model"], trust)
    files += _same_file(f"model {facts['model']['name']}", facts["model"]["sha256"], found)
    checks += files
    if model is None or not all(check.agrees for check in files):
        return Verification(tuple(checks), None, "these are other files")
    gone = card is None and "card_file" in facts["model"] and given == weights  # what lies beside it is another card
    named = None if gone else class_names(facts, stated_card(given, trust, card))
    again = explain(
        model, volumes, question, composite, device, progress, memory=memory, precision=precision, method=method
    )
    checks += [*([] if named is None else [named]), *compared(facts, again, tolerance)]
    return Verification(tuple(checks), again, left_out=tuple(_left_out(record, named is not None)))


def _left_out(record: Record, named: bool) -> list[str]:
    """What nothing was compared with."""
    facts = record.facts
    parts = ["dates, versions, times, device and run", "what volumes and files are called"]
    parts.append("what the card says besides the names of classes")
    if not named:
        file = facts["model"].get("card_file")
        why = "there is none with the model" if file is None else f"'{last_part(file)}' is not here (--card)"
        parts[-1:] = [f"what the card says, with the names of classes, for {why}"]
    if facts["evaluation"] is not None:
        parts.append("the evaluation")
    if facts["pictures"]["views"]:
        parts.append("what the pictures show" if record.read is not None else "the pictures")
    elif facts["pictures"]["missing"] is not None:
        parts.append("why there are no pictures")
    if not by_this_version(facts):
        page = [] if record.read is None else ["what the page shows"]
        why = "for another version of LRPExplain made the record"
        parts.append(f"{', '.join([*page, 'hot spots'])}, warnings and wording, {why}")
    given = (*given_volumes(facts["volumes"]), facts["target"].get("region") or {})
    if any(entry.get("sha256", "") is None for entry in given):
        parts.append("the SHA-256 of what was given from memory")
    return parts


def _load(path: Path, facts: dict[str, Any], trust: bool) -> tuple[ExplainableModel | None, str]:
    """The model, and its SHA-256; another file may not fit the recorded card, which is then no error of the user's."""
    try:
        model = load_recorded(facts, trust, path)
    except UserError:
        if path.is_file() and (digest := sha256_of(path)) != facts["sha256"]:
            return None, digest
        raise
    return model, model.sha256


def _question(target: Mapping[str, Any], segment: Path | None) -> Question:
    place = dict(target)
    if segment is not None:
        told = target["region"]
        place["region"] = {**told, "file": str(segment), "sha256": told["sha256"] or volume_digest(segment)}
    return recorded_question(place)


def _patients(facts: Mapping[str, Any], volumes: Sequence[Path]) -> list[Check]:
    """Whether the volumes are of the patients whom the record names; of one that had gone by then it names nobody."""
    checks = []
    for entry, path in zip(given_volumes(facts["volumes"]), volumes, strict=True):
        if told := entry.get("patient"):
            found = patient_of(str(path))
            said = "name, ID and date of the study" if told == found else "not whom the volume's files name"
            checks.append(Check(f"patient of {entry['name']}", told == found, said))
    return checks


def _same_file(name: str, told: str | None, found: str) -> list[Check]:
    """Of a file; of what was given from memory no SHA-256 is known."""
    if told is None:
        return []
    return [Check(name, told == found, f"SHA-256 {found[:12]}…" + ("" if told == found else f", not {told[:12]}…"))]


def _damage(facts: Mapping[str, Any]) -> Check | None:
    """Whether the record holds what every record does, so that it can be compared at all; None: it does."""
    try:
        sums = [block_sums(mark) for mark in facts["relevance"]]
    except (ValueError, TypeError):
        return Check("the record itself", False, "the fingerprint of its map is damaged")
    if not len(sums) == len(facts["ledger"]["in_volume_by_input"]) == len(facts["volumes"]):
        return Check("the record itself", False, "its volumes, maps and ledger are not as many")
    return None


def _adds_up(facts: Mapping[str, Any], tolerance: float) -> Check:
    """Whether the record agrees with itself: its ledger, and the map's sums with the ledger."""
    ledger = facts["ledger"]
    parts = ledger["in_volume"] + ledger["absorbed"] + ledger["outside"] + ledger["gap"]
    sums = [block_sums(mark) for mark in facts["relevance"]]
    pairs = [(ledger["target_value"], parts), (ledger["in_volume"], sum(ledger["in_volume_by_input"]))]
    pairs += list(zip(ledger["in_volume_by_input"], [float(each.sum()) for each in sums], strict=True))
    for n, key in enumerate(("in_volume_positive", "in_volume_negative")):
        pairs.append((ledger[key], sum(float(each[n].sum()) for each in sums)))
    worst = max(abs(told - found) for told, found in pairs) / scale_of(ledger)
    return Check("the record itself", worst <= tolerance, f"its figures add up to {worst:.1e}")


def _page(record: Record) -> list[Check]:
    """Of an HTML file: whether it shows what its facts say, and the pictures that it was made with."""
    if record.read is None:
        return []
    checks = []
    if by_this_version(record.facts):
        checks.append(Check("page", record.html() == record.read, "what it shows, against the facts inside"))
    told = {view["name"]: view["sha256"] for view in record.facts["pictures"]["views"]}
    found = {name: hashlib.sha256(png).hexdigest() for name, png in record.pictures.items()}
    return [*checks, Check("pictures", told == found, f"SHA-256 of {len(found)} views")]


__all__ = ["TOLERANCE", "Check", "Places", "Verification", "verify"]
