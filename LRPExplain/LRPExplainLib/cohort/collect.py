"""Which explanations belong to a cohort: found in folders, and of one model and one kind of question."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import UserError
from ..explanation import CONCEPTS, FACTS, Explanation

# What has to be the same for maps to be answers of one kind; regions may differ, as patients do.
_QUESTION = ("index", "rather_than_index", "where", "value", "start")
_METHOD = ("name", "biases", "parameters")


@dataclass(frozen=True)
class Found:
    """An explanation's folder.

    Attributes:
        name: what it is called in the cohort: its path from where all of them lie.
        given: whether it was named itself rather than found in a folder.
    """

    folder: Path
    name: str
    given: bool


def find(folders: Sequence[str | os.PathLike[str]]) -> list[Found]:
    """The explanations that lie in folders, at any depth, sorted by path; a folder may be an explanation itself.

    Raises:
        UserError: a folder does not exist, or no explanation is in any of them.
    """
    given: dict[Path, bool] = {}
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise UserError(f"There is no folder '{folder}': give folders that hold explanations.")
        itself = (folder / FACTS).is_file()
        for place in [folder] if itself else _within(folder):
            given[place.resolve()] = given.get(place.resolve(), False) or itself
    if not given:
        raise UserError(
            f"No explanation was found in {', '.join(repr(str(folder)) for folder in folders)}: give folders that hold"
            f" what 'lrpexplain explain' wrote."
        )
    places = sorted(given)
    return [Found(place, name, given[place]) for place, name in zip(places, _names(places), strict=True)]


def _names(places: Sequence[Path]) -> list[str]:
    try:
        common = os.path.commonpath([place.parent for place in places])
    except ValueError:  # on several drives of Windows
        return [Path(*place.parts[1:]).as_posix() for place in places]
    return [place.relative_to(common).as_posix() for place in places]


def _within(folder: Path) -> list[Path]:
    """Folders that hold an explanation's facts; half-written ones have hidden names, and parts of one are none."""
    found = (path for path in folder.rglob(FACTS) if not (path.parents[1] / CONCEPTS).exists())
    files = (path.relative_to(folder) for path in found)
    return [folder / file.parent for file in files if not any(part.startswith(".") for part in file.parts)]


def check_alike(first: Explanation, name: str, other: Explanation, other_name: str) -> None:
    """Refuse maps that do not belong together.

    Raises:
        UserError: of another model, question, method or number of inputs.
    """
    if first.model["sha256"] != other.model["sha256"]:
        raise UserError(
            f"'{other_name}' explains another model ('{other.model['name']}') than '{name}' ('{first.model['name']}'):"
            " make one cohort of each model."
        )
    if any(first.target.get(key) != other.target.get(key) for key in _QUESTION):
        raise UserError(
            f"'{other_name}' explains '{other.target['text']}' and '{name}' '{first.target['text']}': a cohort is of"
            " one kind of question."
        )
    if any(first.composite.get(key) != other.composite.get(key) for key in _METHOD):
        raise UserError(
            f"'{other_name}' was made by '{other.composite['name']}' and '{name}' by '{first.composite['name']}', or"
            " with other parameters: a cohort is of one method."
        )
    if len(first.relevance) != len(other.relevance):
        raise UserError(
            f"'{other_name}' has {len(other.relevance)} inputs and '{name}' {len(first.relevance)}: give"
            " explanations of as many."
        )
