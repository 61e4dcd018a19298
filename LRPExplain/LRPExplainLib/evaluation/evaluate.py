"""evaluate(explanation, references, checks) -> Evaluation: how far to trust an explanation.

evaluation.json  every figure, as evaluation.schema.json says
evaluation.md    the same as tables for people
"""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..explanation import Explanation
from ..folders import check_replaceable, read_json, whole_folder, write_json
from ..imaging import Segment
from ..progress import Progress, nobody
from ..running import running, versions
from ..schemas import read_schema, schema_problem
from .checks import CHECKS, Case, Settings, wanted_checks
from .clock import part
from .sanity import runs as sanity_runs
from .tables import tables

FORMAT, VERSION = "lrpexplain-evaluation", 1
FACTS, TABLES = "evaluation.json", "evaluation.md"
OWN = (FACTS, TABLES)
SCHEMA = Path(__file__).with_name("evaluation.schema.json")


@dataclass(frozen=True)
class Evaluation:
    """What the checks found; `facts` is evaluation.json, whose schema is evaluation.schema.json."""

    facts: dict[str, Any]

    @property
    def checks(self) -> dict[str, Any]:
        """What each check that was made found."""
        found: dict[str, Any] = self.facts["checks"]
        return found

    def table(self) -> str:
        """All figures for people, as Markdown."""
        return tables(self.facts)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the folder, whole or not at all. An empty folder or an earlier evaluation is replaced.

        Raises:
            UserError: the folder holds other things, or cannot be written.
        """
        with whole_folder(Path(folder), OWN) as partial:
            write_json(self.facts, partial / FACTS)
            (partial / TABLES).write_text(self.table() + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> "Evaluation":
        """Read a folder back.

        Raises:
            UserError: it holds no evaluation, or one that is not as the schema says.
        """
        path = Path(folder) / FACTS
        facts = read_json(path, "a folder that 'lrpexplain evaluate' wrote", "evaluate again")
        problem = evaluation_problem(facts)
        if problem is not None:
            raise UserError(f"'{path}' is no evaluation ({problem}): evaluate again.")
        return cls(facts)


def evaluation_problem(facts: Any) -> str | None:
    """Where and why these are not the facts of an evaluation; None: they are."""
    return schema_problem(facts, read_schema(SCHEMA)) or _curves_problem(facts["checks"].get("faithfulness"))


def _curves_problem(found: dict[str, Any] | None) -> str | None:
    """What no schema can say of the faithfulness that was found: the curves of a baseline go side by side."""
    for name, row in ({} if found is None else found["baselines"]).items():
        if len({len(row[curve]) for curve in ("most_relevant_first", "least_relevant_first", "insertion")}) > 1:
            return f"at checks/faithfulness/baselines/{name}: curves of several lengths"
    return None


def check_output(folder: str | os.PathLike[str]) -> None:
    """Refuse an output folder before anything is computed.

    Raises:
        UserError: it exists and is neither empty nor an evaluation.
    """
    check_replaceable(Path(folder), OWN)


def evaluate(
    explanation: Explanation | str | os.PathLike[str],
    references: Sequence[Segment] = (),
    checks: Sequence[str] | None = None,
    settings: Settings = Settings(),
    *,
    device: str = "auto",
    memory: float | None = None,
    trust: bool = False,
    progress: Progress = nobody,
) -> Evaluation:
    """Evaluate an explanation.

    Args:
        explanation: a value, or the folder of one.
        references: an expert's segments, of any geometry; agreement is told for each and for all of them together.
        checks: of "agreement", "faithfulness", "sanity" and "complexity"; None: all, agreement where there are
            references.
        device, memory: as for `explain`; for faithfulness and sanity, which run the model.
        trust: let a bundle run what it asks for (see `models.trust_request`).
        progress: told the stage, with how long it will still take, and the share done (0..1). It may raise an
            exception, which cancels.

    Raises:
        UserError, lrp.LRPError: one sentence on what is wrong and what to do.
    """
    folder = None if isinstance(explanation, Explanation) else Path(explanation)
    value = explanation if isinstance(explanation, Explanation) else Explanation.load(explanation)
    wanted = wanted_checks(checks, references)
    case = Case(value, references, settings, device, memory, trust)
    found, timings = {}, {}
    with running():
        for n, name in enumerate(wanted):
            begin = time.perf_counter()
            found[name] = CHECKS[name](case, part(progress, n / len(wanted), (n + 1) / len(wanted)))
            timings[name] = round(time.perf_counter() - begin, 3)
    progress("done", 1.0)
    return Evaluation({
        "format": FORMAT,
        "version": VERSION,
        "explanation": {
            "folder": None if folder is None else str(folder.resolve()),
            "target": value.target,
            "composite": value.composite["name"],
            "model": {key: value.model[key] for key in ("name", "path", "sha256")},
            "volumes": [{key: entry[key] for key in ("name", "path", "sha256")} for entry in value.volumes],
            "created": value.provenance["created"],
        },
        "checks": found,
        "settings": {
            "tolerance_mm": settings.tolerance_mm, "top_ml": settings.top_ml, "shifts": settings.shifts,
            "seed": settings.seed, "references": [segment.as_dict() for segment in references],
        },
        "provenance": {
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": versions(),
            "timings": timings,
        },
    })  # fmt: skip


def plan(
    explanation: Explanation | str | os.PathLike[str],
    references: Sequence[Segment] = (),
    checks: Sequence[str] | None = None,
    settings: Settings = Settings(),
    *,
    device: str = "auto",
    memory: float | None = None,
    trust: bool = False,
) -> dict[str, Any]:
    """What `evaluate` would do, arguments and errors as there; of each step some are done, for the time.

    Returns:
        JSON-ready: "checks" (names), "predictions" and "explanations" (how many), and "seconds" (about; that of
        agreement and complexity, which is short, is left out).
    """
    value = explanation if isinstance(explanation, Explanation) else Explanation.load(explanation)
    wanted = wanted_checks(checks, references)
    case = Case(value, references, settings, device, memory, trust)
    predictions = explanations = 0
    seconds = 0.0
    with running():
        if "faithfulness" in wanted:
            predictions += case.perturbed.runs
            seconds += case.perturbed.seconds()
        if "sanity" in wanted:
            more, explanations = sanity_runs(case.subject)
            predictions += more
        if predictions:
            one_prediction, one_explanation = case.subject.seconds()
            seconds += predictions * one_prediction + explanations * one_explanation
    return {"checks": wanted, "predictions": predictions, "explanations": explanations, "seconds": seconds}
