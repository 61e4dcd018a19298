"""A call of the forward pass as the backward walk sees it, and what an answer to it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx

from .flow import Flow
from .graph import Graph, arguments, kernel_of, results_of, shape_of
from .linear import unbroadcast
from .precision import HALF, as_relevance
from .rules import LinearRule, Rule
from .sums import total

Sources = list[fx.Node]


@dataclass(frozen=True)
class Call:
    """One call of the forward pass, seen from the backward walk.

    Attributes:
        node: the call.
        values: values of constants and of what the plan kept.
        graph: the captured network.
        non_negative: nodes whose values are never negative.
        norm: the normalisation that is folded into this layer, or None.
        mean: whether the sample mean in a norm is held `fixed` or treated as the `linear` function it is.
        slab: the most elements of a layer's output that are worked on at once; None: all.
    """

    node: fx.Node
    values: Mapping[fx.Node, Any]
    graph: Graph
    non_negative: frozenset[fx.Node]
    norm: fx.Node | None = None
    mean: str = "fixed"
    slab: int | None = None

    def value(self, argument: Any) -> Any:
        """An argument as the call got it; floating tensors in the precision in which relevance is computed."""
        value = self.values[argument] if isinstance(argument, fx.Node) else argument
        return as_relevance(value, self.graph.precision) if isinstance(value, Tensor) else value

    @property
    def args(self) -> tuple[Any, ...]:
        return arguments(self.node)

    @property
    def run(self) -> Callable[..., Any]:
        return kernel_of(self.node)

    @property
    def output(self) -> Tensor:
        return self.value(self.node)

    @property
    def rounded(self) -> bool:
        """Whether the output (of the norm that is folded into the layer, if any) was kept in less than the precision
        in which relevance is computed.
        """
        value = self.values.get(self.node if self.norm is None else results_of(self.norm)[0])
        return isinstance(value, Tensor) and value.dtype in HALF and value.dtype != self.graph.precision

    def is_constant(self, argument: Any) -> bool:
        return self.graph.is_constant(argument)


class Answer(ABC):
    """How relevance passes through a kind of operator.

    Attributes:
        role: what composites call it.
        source: where the answer is from.
        rules: names of the choices it understands; `linear` stands for every :class:`LinearRule`.
        silent: moves relevance one to one, so that a line in the ledger would say nothing.
        many: the call returns several tensors, and :meth:`propagate` gets a dict of their relevances by position.
        light: running the call again takes a pass over its values, or nothing.
    """

    role: str = "move"
    source: str = ""
    rules: tuple[str, ...] = ("pass",)
    silent: bool = False
    many: bool = False
    light: bool = False

    def saves(self, node: fx.Node, rule: Rule, by_sign: bool) -> list[fx.Node]:
        """The nodes whose values :meth:`propagate` will read; `by_sign` is the plan's."""
        return []

    def accepts(self, rule: Rule) -> bool:
        return "linear" in self.rules if isinstance(rule, LinearRule) else rule.name in self.rules

    @abstractmethod
    def propagate(self, call: Call, relevance: Tensor, rule: Rule) -> tuple[Sources, Flow]:
        """Nodes that get relevance, and the flow whose `relevance` list goes with them."""


def handed_out(call: Call, sharers: Sequence[Any], parts: Sequence[Tensor]) -> tuple[Sources, Flow]:
    """Each signal among those that share gets its part of the relevance; what a constant would get is absorbed."""
    signals, flow = [], Flow([])
    for sharer, part in zip(sharers, parts, strict=True):
        if call.is_constant(sharer):
            flow.bias.append(total(part))
        else:
            signals.append(sharer)
            flow.relevance.append(unbroadcast(part, shape_of(sharer)))
    return signals, flow


def is_value(value: Any) -> bool:
    """A constant that carries numbers into the signal, as opposed to an index or a mask."""
    return isinstance(value, Tensor) and value.is_floating_point()
