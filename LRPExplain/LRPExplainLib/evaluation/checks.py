"""The checks by name, and what they need of an explanation."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..errors import UserError
from ..explanation import Explanation
from ..imaging import Grid, Segment, read_volume
from ..imaging.grid import same_grid
from ..memory import check_memory
from ..progress import Progress
from ..seeds import check_seed
from .agreement import SHIFTS, TOLERANCE_MM, TOP_ML, agreement
from .clock import part
from .complexity import complexity_facts
from .faithfulness import Perturbation, Perturbed, faithfulness
from .localisation import Array
from .sanity import sanity
from .subject import Subject


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


@dataclass(frozen=True, eq=False)
class Case:
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


def _agreement(case: Case, progress: Progress) -> list[dict[str, Any]]:
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


def _faithfulness(case: Case, progress: Progress) -> dict[str, Any]:
    progress("perturbing", 0.0)
    return faithfulness(case.perturbed, case.maps, progress)


def _sanity(case: Case, progress: Progress) -> dict[str, Any]:
    progress("explaining again", 0.0)
    return sanity(case.subject, case.subject.relevance(), case.settings.seed, progress)


def _complexity(case: Case, progress: Progress) -> list[dict[str, Any]]:
    progress("complexity", 0.0)
    return [{"volume": name, **complexity_facts(values, grid.spacing)} for name, values, grid in case.each()]


CHECKS: dict[str, Callable[[Case, Progress], Any]] = {
    "agreement": _agreement,
    "faithfulness": _faithfulness,
    "sanity": _sanity,
    "complexity": _complexity,
}


def wanted_checks(checks: Sequence[str] | None, references: Sequence[Segment]) -> list[str]:
    """The names of the checks to make, in their order; None: all that can be made.

    Raises:
        UserError: there is no such check, none at all, or agreement without a reference.
    """
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
