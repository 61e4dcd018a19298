"""The record: what an explanation says and how far to trust it, as one value, one HTML file and one JSON file.

NAME.html  for people: self-contained, with the facts inside
NAME.json  the same facts, as record.schema.json says
"""

import base64
import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from ..errors import UserError, reason
from ..evaluation import Evaluation, evaluation_problem
from ..explanation import Explanation
from ..folders import check_writable, write_whole
from ..running import versions
from ..schemas import read_schema, schema_problem
from .aliases import Aliases, Verbatim, last_part
from .commands import explain_command, verify_command
from .findings import findings_facts
from .fingerprint import fingerprint
from .page import page
from .patients import patient_of

FORMAT, VERSION = "lrpexplain-record", 1
SCHEMA = Path(__file__).with_name("record.schema.json")
HTML, JSON = ".html", ".json"
_GIVE = "give the .html or .json that 'lrpexplain record' wrote"
_FACTS_IN_PAGE = re.compile(r'<script type="application/json" id="record">(.*?)</script>', re.DOTALL)
_PICTURE_IN_PAGE = re.compile(r'<img data-view="([^"]*)" alt="[^"]*" src="data:image/png;base64,([^"]*)">')


@dataclass(frozen=True)
class Record:
    """An explanation's record.

    Attributes:
        facts: what the JSON file holds, whose schema is record.schema.json.
        pictures: name -> PNG, as the views drew them; empty where the record was read from its JSON file.
        read: the page that the record was read from, if it was.
    """

    facts: dict[str, Any]
    pictures: Mapping[str, bytes] = field(default_factory=dict)
    read: str | None = field(default=None, compare=False, repr=False)

    def html(self) -> str:
        """The page."""
        return page(self.facts, self.pictures)

    def save(self, file: str | os.PathLike[str]) -> None:
        """Write FILE.html and FILE.json, both or none. An earlier record of this name is replaced.

        Raises:
            UserError: see `check_place`; or the facts are not as the schema says.
        """
        path = Path(file)
        check_place(path)
        problem = _problem(self.facts)
        if problem is not None:
            raise UserError(f"This would be no record ({problem}): explain the volume again and record that.")
        text = json.dumps(self.facts, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        try:
            write_whole({path: self.html(), path.with_suffix(JSON): text})
        except OSError as error:
            raise UserError(f"The record cannot be written ({error.strerror}): choose another place.") from error

    @classmethod
    def load(cls, file: str | os.PathLike[str]) -> "Record":
        """Read either of the two files.

        Raises:
            UserError: it is no record, or not as the schema says.
        """
        path = Path(file)
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise UserError(f"There is no record '{path}': check the path.") from None
        except (IsADirectoryError, ValueError):
            raise UserError(f"'{path}' is no record of LRPExplain: {_GIVE}.") from None
        except OSError as error:
            raise UserError(f"The record '{path}' cannot be read ({reason(error)}): check the path.") from error
        pictures, whole = {}, None
        if path.suffix.lower() == HTML:
            inside = _FACTS_IN_PAGE.search(text)
            if inside is None:
                raise UserError(f"'{path}' is no record of LRPExplain: {_GIVE}.")
            pictures = {name: _png(data) for name, data in _PICTURE_IN_PAGE.findall(text)}
            whole, text = text, inside.group(1)
        try:
            facts = json.loads(text, parse_constant=_refuse)
        except (ValueError, RecursionError) as error:
            raise UserError(f"The record '{path}' is damaged ({reason(error)}): make it again.") from error
        if not isinstance(facts, dict) or facts.get("format") != FORMAT:
            raise UserError(f"'{path}' is no record of LRPExplain: {_GIVE}.")
        problem = _problem(facts)
        if problem is not None:
            raise UserError(f"'{path}' is no record ({problem}): make it again.")
        return cls(facts, pictures, whole)


def _problem(facts: Any) -> str | None:
    """Where and why these are not the facts of a record; None: they are."""
    problem = schema_problem(facts, read_schema(SCHEMA))
    if problem is None and facts["evaluation"] is not None:
        problem = evaluation_problem(facts["evaluation"])
    return problem


def check_place(file: Path) -> None:
    """Refuse a place for the record before anything is computed.

    Raises:
        UserError: not named .html, a folder, one of the two files is there and no record, or nothing can be written.
    """
    if file.suffix.lower() != HTML:
        raise UserError(f"The record is an HTML file, but '{file}' is not named so: give a name that ends in .html.")
    check_writable(file)
    for path in (file, file.with_suffix(JSON)):
        if path.is_dir():
            raise UserError(f"'{path}' is a folder: choose another name for the record.")
        if path.exists() and FORMAT.encode() not in path.read_bytes():
            raise UserError(f"'{path}' is there and no record: choose another name.")


def make_record(
    explanation: Explanation,
    name: str,
    evaluation: Evaluation | None = None,
    pictures: Mapping[str, bytes] | None = None,
    missing: str | None = None,
    remarks: Sequence[str] = (),
    with_names: bool = False,
    numbered: bool = False,
) -> Record:
    """The record of an explanation.

    Args:
        name: of the HTML file, for the command that verifies it.
        evaluation: of this explanation.
        pictures: name -> PNG.
        missing: why there are none.
        remarks: on the evaluation, such as that what it was made with is another one now.
        with_names: keep whole paths, and for DICOM the patient's name and ID, which tell whose volume it is.
        numbered: hide the names of the volumes' files, too, as of those that Slicer wrote: they are called after its
            nodes, and these often after patients. Not together with `with_names`.

    Raises:
        UserError: the evaluation is of another explanation, or this one is a part of another.
    """
    if "concept" in explanation.target:
        raise UserError("A record is of a whole explanation: give the folder above, of which this map is a part.")
    if evaluation is not None:
        _check_same(explanation, evaluation)
    aliases = Verbatim() if with_names else Aliases.of(explanation, numbered)
    volumes = [dict(entry) for entry in explanation.volumes]
    if with_names:
        volumes = [entry | {"patient": patient_of(entry["path"])} for entry in volumes]
    source = {
        "target": explanation.target, "composite": explanation.composite, "ledger": explanation.ledger,
        "model": explanation.model, "volumes": volumes, "provenance": explanation.provenance,
    }  # fmt: skip
    told = aliases(source)
    shown, said = pictures or {}, explanation.prediction
    facts = {
        "format": FORMAT,
        "version": VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "made_with": versions(),
        "with_names": with_names,
        **told,
        "prediction": {"classes": said.sizes(), "values": {} if said.segmentation is not None else said.probabilities},
        "relevance": [fingerprint(sitk.GetArrayViewFromImage(image)) for image in explanation.relevance],
        "findings": aliases(findings_facts(explanation, [entry["name"] for entry in told["volumes"]])),
        "evaluation": None if evaluation is None else _told(evaluation, aliases, with_names),
        **({"remarks": list(remarks)} if remarks else {}),
        "pictures": {
            "views": [{"name": key, "sha256": hashlib.sha256(png).hexdigest()} for key, png in shown.items()],
            "missing": aliases(missing) if not shown else None,
        },
        "commands": {"explain": explain_command(told), "verify": verify_command(last_part(name))},
    }
    return Record(facts, shown)


def _told(evaluation: Evaluation, aliases: Aliases, with_names: bool) -> dict[str, Any]:
    """evaluation.json; where it was made for lies in a folder that may bear a name."""
    facts: dict[str, Any] = aliases(evaluation.facts)
    if not with_names:
        facts["explanation"] = facts["explanation"] | {"folder": None}
    return facts


def _check_same(explanation: Explanation, evaluation: Evaluation) -> None:
    about = evaluation.facts["explanation"]
    mine = [entry["sha256"] for entry in explanation.volumes]
    same = (
        about["model"]["sha256"] == explanation.model["sha256"]
        and [entry["sha256"] for entry in about["volumes"]] == mine
        and about["target"] == explanation.target
        and about["composite"] == explanation.composite["name"]
        and about.get("created", explanation.provenance["created"]) == explanation.provenance["created"]
    )
    if not same:
        raise UserError("The evaluation is of another explanation: evaluate this one, or give its own evaluation.")


def _refuse(constant: str) -> None:
    """NaN and infinity are no JSON, and would compare with nothing."""
    raise ValueError(f"it holds {constant}")


def _png(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return b""  # a damaged picture, which no SHA-256 fits
