"""The explanations of a cohort, each reduced to the common grid as soon as it has been read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..explanation import FACTS, Explanation
from .common import Space

LEAST = 6  # explanations: of fewer no groups can be told


@dataclass(frozen=True, eq=False)
class Member:
    """One explanation.

    Attributes:
        name: its folder below the one that was given.
        folder: where it is.
        cells: relevance, [inputs, K, J, I] on the common grid.
        target_value: of its ledger.
    """

    name: str
    folder: Path
    cells: np.ndarray
    target_value: float


@dataclass(frozen=True, eq=False)
class Collected:
    """What was found.

    Attributes:
        space: the common grid, over the first explanation's field of view.
        model, target: what all of them explain: "name" and "sha256"; "class" and "index".
        left_out: folder and reason, for those that could not be used.
    """

    members: tuple[Member, ...]
    space: Space
    model: dict[str, Any]
    target: dict[str, Any]
    left_out: tuple[tuple[str, str], ...]


def collect(folders: Sequence[Path], edge_mm: float, align: str, progress: Callable[[str, float], None]) -> Collected:
    """Read every explanation in these folders and below.

    Raises:
        UserError: there are fewer than `LEAST`, or they are of different models, classes or numbers of inputs.
    """
    found = list(_found(folders))
    members, left_out = [], []
    first: Explanation | None = None
    space: Space | None = None
    for n, (name, folder) in enumerate(found):
        progress("reading", n / max(1, len(found)))
        try:
            explanation = Explanation.load(folder)
        except UserError as error:
            left_out.append((str(folder), str(error)))
            continue
        if first is None or space is None:
            first, space = explanation, Space.over(explanation.relevance[0], edge_mm, align)
        _check_alike(first, explanation, name)
        cells = np.stack([space.sums(image) for image in explanation.relevance])
        if not np.abs(cells).sum() > 0:
            left_out.append((str(folder), "The map is empty."))
            continue
        members.append(Member(name, folder, cells, float(explanation.ledger["target_value"])))
    if first is None or space is None or len(members) < LEAST:
        raise UserError(
            f"{len(members)} explanations are too few to find groups: give folders that hold {LEAST} of them at least."
        )
    model = {"name": first.model["name"], "sha256": first.model["sha256"]}
    target = {"class": first.target["class"], "index": first.target["index"]}
    return Collected(tuple(members), space, model, target, tuple(left_out))


def _found(folders: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    """Explanation folders with their names, in order; one that is given itself too."""
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"There is no folder '{folder}': give one that holds explanations.")
        for facts in sorted(folder.rglob(FACTS)):
            name = facts.parent.relative_to(folder).as_posix()
            yield (folder.name if name == "." else name if len(folders) == 1 else f"{folder.name}/{name}"), facts.parent


def _check_alike(first: Explanation, other: Explanation, name: str) -> None:
    if other.model["sha256"] != first.model["sha256"]:
        raise UserError(
            f"'{name}' explains '{other.model['name']}' and others '{first.model['name']}': a cohort is of one model."
        )
    if other.target["index"] != first.target["index"]:
        raise UserError(
            f"'{name}' explains '{other.target['class']}' and others '{first.target['class']}': a cohort is of one"
            " class."
        )
    if len(other.relevance) != len(first.relevance):
        raise UserError(f"'{name}' has {len(other.relevance)} inputs and others {len(first.relevance)}: use like ones.")
