"""Weights from what `lrpexplain evaluate` found out about how faithful a map is."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import UserError, reason
from ..folders import read_json

EVALUATION = "evaluation.json"
_NEARBY = (EVALUATION, f"evaluation/{EVALUATION}")


def faithfulness_of(folder: Path, method: str, created: str, evaluations: Sequence[Path]) -> float | None:
    """Mean ABPC (area between the curves of the least and the most relevant first) over the baselines of an evaluation.

    Args:
        folder: of the explanation, in which an evaluation may lie.
        method: the name of its composite or method.
        created: when it was made, by which it is known again after it was moved.
        evaluations: folders of evaluations, in any order.

    Returns:
        None where none of them is about this explanation, or it did not look at faithfulness.

    Raises:
        UserError: an evaluation cannot be read.
    """
    files = [path / EVALUATION for path in evaluations] + [p for name in _NEARBY if (p := folder / name).is_file()]
    for file in files:
        facts = _read(file)
        try:
            about = facts["explanation"]
            here = about["folder"] == str(folder.resolve())
            if about["composite"] != method or not (here or about.get("created") == created):
                continue
            baselines = facts["checks"].get("faithfulness", {"baselines": {}})["baselines"]
            figures = [float(found["abpc"]) for found in baselines.values()]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UserError(f"'{file}' is incomplete or damaged ({reason(error)}): evaluate again.") from error
        if figures:
            return sum(figures) / len(figures)
    return None


def _read(file: Path) -> dict[str, Any]:
    facts = read_json(file, "folders that 'lrpexplain evaluate' wrote", "evaluate again")
    if not isinstance(facts, dict) or facts.get("format") != "lrpexplain-evaluation":
        raise UserError(f"'{file}' is no evaluation: give folders that 'lrpexplain evaluate' wrote.")
    return facts
