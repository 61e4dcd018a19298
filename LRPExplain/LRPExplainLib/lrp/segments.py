"""Less memory for more arithmetic: which values a run keeps, which it computes again, and which it puts away.

The backward walk goes through the steps in segments, last one first. Of the last segment the forward pass keeps what
the walk will read; of an earlier one only what lets the segment be run again when the walk reaches it (Chen et al.
2016, "Training deep nets with sublinear memory cost"). What is kept can wait in the CPU's memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx
from torch.utils import _pytree as pytree

from .errors import LRPError
from .remaking import Recipe


@dataclass(frozen=True)
class Schedule:
    """How a run keeps within memory; the result is the same, to rounding.

    Attributes:
        starts: the positions among the plan's steps at which segments begin; (0,) keeps everything that is read.
        offload: what the forward pass keeps waits in the CPU's memory until it is read.
        slab: the most elements of a layer's output that the walk works on at once; None: as is fastest.
        remaking: what a pass or a few make of kept values is not kept but made again; of little cost to one question,
            but of some to each.
    """

    starts: tuple[int, ...] = (0,)
    offload: bool = False
    slab: int | None = None
    remaking: bool = True

    def __post_init__(self) -> None:
        if list(self.starts[:1]) != [0] or list(self.starts) != sorted(self.starts):
            raise LRPError(f"The segments of a schedule start at 0 and at later steps in order, not at {self.starts}.")
        if self.slab is not None and self.slab < 1:
            raise LRPError(f"A schedule's slab is a number of elements, at least 1, but got {self.slab}.")


class Segments:
    """What a schedule means for the steps of a plan.

    Attributes:
        needs: for each step the kept values that its backward step reads, or makes what it reads from.
        made_of: per step how some of what it reads is made from these.
        kept: the nodes whose values the forward pass keeps.
        of: the segment of each step.
        again: per segment the steps that are run again when the walk reaches it; none for the last.
        reads: per segment the kept values from which they are run.
        made: per segment the values that running them again brings back.
    """

    def __init__(
        self,
        steps: Sequence[fx.Node],
        saves: Mapping[fx.Node, Sequence[fx.Node]],
        recipes: Mapping[fx.Node, Recipe],
        schedule: Schedule,
    ) -> None:
        starts = schedule.starts
        bounds = list(zip(starts, [*starts[1:], len(steps)], strict=True))
        self.of = {node: number for number, (begin, end) in enumerate(bounds) for node in steps[begin:end]}
        self.made_of: dict[fx.Node, dict[fx.Node, Recipe]] = {}
        self.needs: dict[fx.Node, list[fx.Node]] = {}
        for step, saved in saves.items():
            # what comes from another segment had better be kept than all that it is made of
            near = {node: recipes[node] for node in saved if node in recipes and self._within(step, recipes[node])}
            made = self.made_of[step] = near if schedule.remaking else {}
            begins = [made[node].sources if node in made else (node,) for node in saved]
            self.needs[step] = list(dict.fromkeys(node for several in begins for node in several))
        self.again: list[list[fx.Node]] = [[] for _ in bounds]
        self.reads: list[list[fx.Node]] = [[] for _ in bounds]
        self.made: list[set[fx.Node]] = [set() for _ in bounds]
        self.kept: set[fx.Node] = set()
        for number, (begin, end) in reversed(list(enumerate(bounds))):
            read = {node for step in steps[begin:end] for node in self.needs[step]}
            # the last one is not run again, and a value from before or after a segment cannot be made again with it
            self.kept |= {node for node in read if number == len(bounds) - 1 or self.of.get(node) != number}
            self.made[number] = read - self.kept
            self.again[number], sources = self._leading_to(self.made[number], steps[begin:end])
            # what does not depend on the input is at hand at all times
            self.reads[number] = [node for node in sources if node in self.of or node.op == "placeholder"]
            self.kept.update(self.reads[number])

    def _leading_to(self, wanted: set[fx.Node], steps: Sequence[fx.Node]) -> tuple[list[fx.Node], set[fx.Node]]:
        """The steps of a segment that bring these values back, and the values from which they do."""
        missing, begins = set(wanted), set[fx.Node]()
        again = []
        for step in reversed(steps):
            if step in missing:
                again.append(step)
                for source in step.all_input_nodes:
                    (begins if source in self.kept or self.of.get(source) != self.of[step] else missing).add(source)
        return again[::-1], begins

    def _within(self, step: fx.Node, recipe: Recipe) -> bool:
        return all(source.op == "placeholder" or self.of[source] == self.of[step] for source in recipe.sources)


class Away:
    """A value that waits in the CPU's memory."""

    def __init__(self, value: Any) -> None:
        self._devices = pytree.tree_map(lambda leaf: leaf.device if isinstance(leaf, Tensor) else None, value)
        self._value = pytree.tree_map(lambda leaf: leaf.cpu() if isinstance(leaf, Tensor) else leaf, value)

    def back(self) -> Any:
        """The value where it was."""
        return pytree.tree_map(
            lambda leaf, device: leaf.to(device) if isinstance(leaf, Tensor) else leaf, self._value, self._devices
        )


def at_hand(value: Any) -> Any:
    """A value on its own device, wherever it waits."""
    return value.back() if isinstance(value, Away) else value
