"""evaluate(explanation, references, checks) -> Evaluation: how far to trust an explanation.

evaluation.json  every figure, as evaluation.schema.json says
evaluation.md    the same as tables for people
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..errors import UserError
from ..explanation import Explanation
from ..folders import check_replaceable, read_json, whole_folder, write_json
from ..imaging import Grid, Segment, read_volume
from ..imaging.grid import same_grid
from ..memory import check_memory
from ..progress import Progress, nobody
from ..running import running, versions
from ..schemas import read_schema, schema_problem
from ..seeds import check_seed
from .agreement import SHIFTS, TOLERANCE_MM, TOP_ML, agreement
from .clock import part
from .complexity import complexity_facts
from .faithfulness import Perturbation, Perturbed, faithfulness
from .localisation import Array
from .sanity import runs as sanity_runs
from .sanity import sanity
from .subject import Subject
from .tables import tables

FORMAT, VERSION = "lrpexplain-evaluation", 1
FACTS, TABLES = "evaluation.json", "evaluation.md"
OWN = (FACTS, TABLES)
SCHEMA = Path(__file__).with_name("evaluation.schema.json")


@dataclass(frozen=True)
class Settings:
    """How the checks are made.

    Attributes:
        tolerance_mm: how far from a segment the map's largest value may lie and still be a hit.
        top_ml: the volume of the most relevant voxels that are looked for in a segment.
        shifts: of the map, for the null; 0: none.
        perturbation: of the volume.
        seed: of everything that is random.
    """

    tolerance_mm: float = TOLERANCE_MM
    top_ml: float = TOP_ML
    shifts: int = SHIFTS
    perturbation: Perturbation = field(default_factory=Perturbation)
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed(self.seed)
        if not (self.tolerance_mm >= 0 and self.top_ml > 0 and self.shifts >= 0):
            raise UserError("Tolerance and shifts are 0 or more, and the volume of the top voxels is above 0.")


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
        problem = schema_problem(facts, read_schema(SCHEMA))
        if problem is not None:
            raise UserError(f"'{path}' is no evaluation ({problem}): evaluate again.")
        return cls(facts)


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
    wanted = _wanted(checks, references)
    case = _Case(value, references, settings, device, memory, trust)
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
    """What `evaluate` would do, arguments and errors as there; the model is run twice, for the time.

    Returns:
        JSON-ready: "checks" (names), "predictions" and "explanations" (how many), and "seconds" (about; that of
        agreement and complexity, which is short, is left out).
    """
    value = explanation if isinstance(explanation, Explanation) else Explanation.load(explanation)
    wanted = _wanted(checks, references)
    case = _Case(value, references, settings, device, memory, trust)
    predictions = explanations = 0
    seconds = 0.0
    with running():
        if "faithfulness" in wanted:
            predictions += case.perturbed.runs
        if "sanity" in wanted:
            more, explanations = sanity_runs(case.subject)
            predictions += more
        if predictions:
            one_prediction, one_explanation = case.subject.seconds()
            seconds = predictions * one_prediction + explanations * one_explanation
    return {"checks": wanted, "predictions": predictions, "explanations": explanations, "seconds": seconds}


@dataclass(frozen=True, eq=False)
class _Case:
    """An explanation, and what the checks need of it."""

    explanation: Explanation
    references: Sequence[Segment]
    settings: Settings
    device: str
    memory: float | None
    trust: bool

    def __post_init__(self) -> None:
        check_memory(self.memory)  # also where no check runs the model

    @cached_property
    def maps(self) -> list[Array]:
        return [sitk.GetArrayFromImage(image) for image in self.explanation.relevance]

    @cached_property
    def grids(self) -> list[Grid]:
        return [Grid.of(image) for image in self.explanation.relevance]

    @cached_property
    def subject(self) -> Subject:
        return Subject.of(self.explanation, self.trust, self.device, self.memory)

    @cached_property
    def perturbed(self) -> Perturbed:
        how, voxels = self.settings.perturbation, None
        subject = self.subject  # which sees to it that the volumes are there
        if how.pieces != "blocks":
            voxels = sitk.GetArrayFromImage(read_volume(Path(self.explanation.volumes[0]["path"])))
        return Perturbed(subject, how, voxels)

    @property
    def speaks(self) -> str:
        """Whether the answer is for the target, or against it: a target value below 0."""
        return "against" if self.explanation.ledger["target_value"] < 0 else "for"

    def each(self) -> list[tuple[str | None, Array, Grid]]:
        """The map on each volume, and their sum (None) where several volumes share one grid; what speaks for the answer
        as it is, for the target or against it, is positive."""
        names = [entry["name"] for entry in self.explanation.volumes]
        maps = [-values for values in self.maps] if self.speaks == "against" else self.maps
        rows: list[tuple[str | None, Array, Grid]] = list(zip(names, maps, self.grids, strict=True))
        if len(rows) > 1 and all(same_grid(self.grids[0], grid) for grid in self.grids):
            rows.append((None, np.sum(maps, axis=0), self.grids[0]))
        return rows


def _agreement(case: _Case, progress: Progress) -> list[dict[str, Any]]:
    rows, each, settings = [], case.each(), case.settings
    masks: dict[Grid, Mapping[str, Array]] = {}
    for n, (name, relevance, grid) in enumerate(each):
        told = part(progress, n / len(each), (n + 1) / len(each))
        if grid not in masks:
            masks[grid] = _named(case.references, grid)
        segments = []
        if (relevance > 0).any():
            segments = agreement(
                relevance, masks[grid], grid.spacing[::-1], tolerance_mm=settings.tolerance_mm, top_ml=settings.top_ml,
                shifts=settings.shifts, seed=settings.seed, progress=told,
            )  # fmt: skip
        rows.append({"volume": name, "speaks": case.speaks, "segments": segments})
    return rows


def _named(references: Sequence[Segment], grid: Grid) -> dict[str, Array]:
    """The segments on a grid, by names that differ."""
    masks: dict[str, Array] = {}
    everywhere = np.ones(grid.shape, dtype=bool)
    for segment in references:
        name, n = segment.name, 2
        while name in masks:
            name, n = f"{segment.name} ({n})", n + 1
        masks[name] = segment.mask(grid, everywhere)
    return masks


def _faithfulness(case: _Case, progress: Progress) -> dict[str, Any]:
    progress("perturbing", 0.0)
    return faithfulness(case.perturbed, case.maps, progress)


def _sanity(case: _Case, progress: Progress) -> dict[str, Any]:
    progress("explaining again", 0.0)
    return sanity(case.subject, case.subject.relevance(), case.settings.seed, progress)


def _complexity(case: _Case, progress: Progress) -> list[dict[str, Any]]:
    progress("complexity", 0.0)
    return [{"volume": name, **complexity_facts(values, grid.spacing)} for name, values, grid in case.each()]


CHECKS: dict[str, Callable[[_Case, Progress], Any]] = {
    "agreement": _agreement,
    "faithfulness": _faithfulness,
    "sanity": _sanity,
    "complexity": _complexity,
}


def _wanted(checks: Sequence[str] | None, references: Sequence[Segment]) -> list[str]:
    if checks is None:
        return [name for name in CHECKS if references or name != "agreement"]
    for name in checks:
        if name not in CHECKS:
            raise UserError(f"There is no check '{name}': choose from {', '.join(CHECKS)}.")
    if not checks:
        raise UserError(f"No check is asked for: choose from {', '.join(CHECKS)}.")
    if "agreement" in checks and not references:
        raise UserError("Agreement is with an expert's segments: give them with --reference, or leave that check out.")
    return [name for name in CHECKS if name in checks]
