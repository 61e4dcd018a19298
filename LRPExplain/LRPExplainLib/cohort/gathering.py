"""Explanations read one after another, of which no more is kept than their maps in the common space."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from ..errors import UserError
from ..explanation import Explanation
from ..progress import Progress
from .collect import Found, check_alike
from .space import Blocks, Space

FEWEST = 4  # fewer maps have no groups


@dataclass(frozen=True)
class Used:
    """What is kept of an explanation.

    Attributes:
        maps: of its inputs, in the common space.
        changed: what of the preprocessing is not as in the first of them.
    """

    found: Found
    target_value: float
    maps: list[Blocks]
    changed: list[str]


def gather(
    places: Sequence[Found], align: str, edge: float | None, tell: Progress
) -> tuple[list[Used], list[dict[str, str]], Explanation, Space]:
    """One explanation after another, of which no more is kept than its blocks; what cannot be used, and why."""
    used: list[Used] = []
    left_out: list[dict[str, str]] = []
    first: tuple[Explanation, str] | None = None
    space: Space | None = None
    compared: Explanation | None = None
    for n, found in enumerate(places):
        tell("reading", 0.95 * n / len(places))
        try:
            explanation = Explanation.load(found.folder)
        except UserError as error:
            if found.given:
                raise
            left_out.append({"name": found.name, "why": str(error).replace(str(found.folder), found.name)})
            continue
        first = first or (explanation, found.name)
        check_alike(*first, explanation, found.name)
        try:
            _check_map(explanation)
            space = space or Space(explanation, align, edge)
            blocks = space.blocks(explanation)
            if not any(one.values.any() for one in blocks):
                raise UserError("Its relevance cancels in every block: choose smaller ones.")
        except UserError as error:
            left_out.append({"name": found.name, "why": str(error)})
            continue
        compared = compared or explanation
        changed = compared.prepared_differently(explanation)
        used.append(Used(found, float(explanation.ledger["target_value"]), blocks, changed))
    if len(used) < FEWEST or first is None or space is None:
        why = f" Of '{left_out[0]['name']}': {left_out[0]['why']}" if left_out else ""
        raise UserError(
            f"{len(used)} of {len(places)} explanations can be grouped, but a cohort has {FEWEST} at least: explain"
            f" more volumes.{why}"
        )
    return used, left_out, first[0], space


def _check_map(explanation: Explanation) -> None:
    """Raises UserError where there is no map to compare."""
    arrays = [sitk.GetArrayViewFromImage(image) for image in explanation.relevance]
    if not all(np.isfinite(values).all() for values in arrays):
        raise UserError("Its map holds NaN or infinite values.")
    if not any(values.any() for values in arrays):
        raise UserError("Its map is empty.")
