"""Values that are not kept but made again, in a pass or a few over them, when the walk reads them.

An activation is made from its input, a concatenation from its pieces, a residual sum from its summands: where a rule
reads these as well, keeping both would be keeping the same twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import fx

from .optimizations import on

_MOST = 4  # passes over a value: more would cost more time than the memory is worth
_DEEPEST = 4 * _MOST  # steps in a row, views included


class _Answer(Protocol):
    light: bool
    silent: bool


@dataclass(frozen=True)
class Recipe:
    """The steps that make a value, and the values from which they begin."""

    steps: tuple[fx.Node, ...]
    sources: tuple[fx.Node, ...]


def recipes(
    steps: Sequence[fx.Node], saves: Mapping[fx.Node, Sequence[fx.Node]], answers: Mapping[fx.Node, _Answer]
) -> dict[fx.Node, Recipe]:
    """For values that the walk reads: how they are made from others that it reads and that are kept."""
    found: dict[fx.Node, Recipe] = {}
    if not on("remaking"):
        return found
    read = {node for saved in saves.values() for node in saved}
    for node in steps:
        if node in read:
            recipe = _recipe(node, read, answers, found)
            if recipe is not None:
                found[node] = recipe
    return found


def _recipe(
    wanted: fx.Node, read: set[fx.Node], answers: Mapping[fx.Node, _Answer], known: Mapping[fx.Node, Recipe]
) -> Recipe | None:
    steps: dict[fx.Node, None] = {}
    sources: dict[fx.Node, None] = {}

    def follow(node: fx.Node, depth: int) -> bool:
        if node in steps:
            return True
        if depth > _DEEPEST:
            return False
        if node in known:
            steps.update(dict.fromkeys(known[node].steps))
            sources.update(dict.fromkeys(known[node].sources))
        elif node.op == "placeholder" or (node in read and node is not wanted):
            sources[node] = None
        elif node in answers:
            if not answers[node].light or not all(follow(source, depth + 1) for source in node.all_input_nodes):
                return False
            steps[node] = None  # after what it reads
        return sum(not answers[step].silent for step in steps) <= _MOST

    return Recipe(tuple(steps), tuple(sources)) if follow(wanted, 0) else None
