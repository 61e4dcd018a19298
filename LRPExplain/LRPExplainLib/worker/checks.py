"""What the worker does with an explanation that it made: checks, comparison with other methods, record, DICOM.

Each function takes a request's message and progress, and returns what its event "done" tells. "explanation" is the
explanation's folder everywhere, and "trust" the SHA-256 that was agreed to, as for `Answers`.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..comparison import compare
from ..errors import UserError
from ..evaluation import Evaluation
from ..evaluation import evaluate as evaluated
from ..explain import explain
from ..explanation import FACTS, Explanation
from ..folders import read_json
from ..imaging import read_segment
from ..imaging.reading import volume_digest
from ..models import trust_request
from ..models.loading import load_recorded
from ..progress import Progress
from ..recorded import recorded_question
from ..reporting import export_dicom as exported
from ..reporting import make_record
from .answers import ask_for_trust
from .writing import WRITING

Message = dict[str, Any]


def evaluate(message: Message, progress: Progress) -> Message:
    """Make "checks" against the "references" ({"file", "name", "shown"}); they join those that "out" has already."""
    with trusting(message) as trust:
        made = evaluated(
            message["explanation"],
            [
                replace(read_segment(entry["file"], entry["name"]), name=entry["shown"])
                for entry in message.get("references") or ()
            ],
            message["checks"],
            device=message.get("device") or "auto",
            memory=message.get("memory"),
            trust=trust,
            progress=lambda stage, share: progress(_word(stage), share),
        )
    out = Path(message["out"])
    if out.exists():
        earlier = Evaluation.load(out).checks
        made = Evaluation(made.facts | {"checks": earlier | made.checks})
    with WRITING:
        made.save(out)
    return {"facts": made.facts}


def compare_with(message: Message, progress: Progress) -> Message:
    """Explain the same answer by "method", and compare; maps and facts go into "out"."""
    out, first = Path(message["out"]), Explanation.load(message["explanation"])
    with trusting(message) as trust:
        other = explain(
            load_recorded(first.model, trust),
            [entry["path"] for entry in first.volumes[: first.given]],
            recorded_question(first.target),
            device=message.get("device") or "auto",
            memory=message.get("memory"),
            method=message["method"],
            progress=progress,
        )
    with WRITING:
        other.save(out / "method", compressed=False)
    evaluation = message.get("evaluation")
    found = compare([message["explanation"], out / "method"], evaluations=[evaluation] if evaluation else [])
    with WRITING:
        found.save(out / "comparison")
    folders = [out / "method", out / "comparison" / "consensus", out / "comparison" / "combined"]
    return {"facts": found.facts, "folders": [str(folder) for folder in folders]}


def record(message: Message, progress: Progress) -> Message:
    """Write the record to the file "out", with "pictures" (view -> PNG file) and, if any, the folder "evaluation" and
    "remarks" on it."""
    out, evaluation = Path(message["out"]), message.get("evaluation")
    progress("writing", 0.2)
    named = bool(message.get("with_names"))
    made = make_record(
        Explanation.load(message["explanation"]),
        out.name,
        Evaluation.load(evaluation) if evaluation else None,
        {view: Path(file).read_bytes() for view, file in message["pictures"].items()},
        message.get("missing"),
        message.get("remarks") or (),
        with_names=named,
        numbered=not named,
    )
    with WRITING:
        made.save(out)
    return {"files": [str(out), str(out.with_suffix(".json"))]}


def export_dicom(message: Message, progress: Progress) -> Message:
    """Write DICOM objects to the folder "out"; "series" has the files of each volume's slices, or none."""
    explanation, together = Explanation.load(message["explanation"]), Path(message["together"])
    with WRITING:
        return {"files": [str(path) for path in _exported(explanation, together, message, progress)]}


def _exported(explanation: Explanation, together: Path, message: Message, progress: Progress) -> list[Path]:
    """The DICOM objects; each series is brought together as one folder meanwhile, which is how it can be read."""
    volumes = []
    try:
        for n, (entry, files) in enumerate(zip(explanation.volumes, message["series"], strict=False)):
            progress("reading", n / len(explanation.volumes))
            if files:
                folder = together / str(n)
                folder.mkdir(parents=True)
                for number, file in enumerate(files):
                    shutil.copyfile(file, folder / f"{number:05d}.dcm")
                entry = entry | {"path": str(folder), "sha256": volume_digest(folder)}
            volumes.append(entry)
        volumes += explanation.volumes[len(volumes) :]
        return exported(replace(explanation, volumes=volumes), message["out"])
    except OSError as error:
        raise UserError(f"The DICOM files cannot be read ({error}): load the series again.") from error
    finally:
        shutil.rmtree(together, ignore_errors=True)


VERBS = {"evaluate": evaluate, "compare": compare_with, "record": record, "export-dicom": export_dicom}


@contextmanager
def trusting(message: Message) -> Iterator[bool]:
    """Whether the explanation's model may run code; where it must and may not, the user is asked."""
    agreed = message.get("trust")
    facts = read_json(Path(message["explanation"]) / FACTS, "the folder of an explanation", "explain once more")
    path = Path(facts["model"]["path"])
    try:
        yield agreed is not None and trust_request(path).sha256 == agreed
    except UserError as error:
        ask_for_trust(path, agreed, error)
        raise


def _word(stage: str) -> str:
    """ "perturbing, about 3 s left" without what the server tells by itself."""
    return stage.partition(",")[0].replace(" ", "-")
