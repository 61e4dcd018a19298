"""The walk: forward with what must be kept, then backward, layer by layer, in one visible loop."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import isfinite
from typing import Any

import torch
from torch import Tensor, fx

from .call import Call
from .composites import DEFAULT_COMPOSITE, Composite, composite_named
from .errors import LRPError
from .flow import Flow
from .graph import Graph, Progress, arguments, first_of, is_decision, layer_of, no_progress, require_graph, shape_of
from .inner import layers_named, only, require_channels
from .ledger import Bookkeeper, Ledger
from .onednn import laid_out
from .operators import operator_name
from .planning import Plan, make_plan
from .precision import as_relevance, relevance_type
from .remaking import Recipe
from .segments import Away, Schedule, Segments, at_hand
from .sums import total
from .switches import switched_off
from .target import Target, start_relevance
from .writes import Unwritten


@dataclass(frozen=True)
class Attribution:
    """What :func:`attribute` returns.

    Attributes:
        relevance: of the input's shape, float32 (float64 for a float64 model); a tuple for several inputs.
        output: the model's output, in its own structure.
        ledger: where the relevance went.
        at: relevance of the outputs of the inner layers that were asked for, by name.
    """

    relevance: Tensor | tuple[Tensor, ...]
    output: Any
    ledger: Ledger
    at: dict[str, Tensor]


def attribute(
    graph: Graph,
    inputs: Tensor | Sequence[Tensor],
    target: Tensor | Target | int,
    composite: str | Composite = DEFAULT_COMPOSITE,
    *,
    output: int = 0,
    at: Iterable[str] = (),
    channels: Mapping[str, Sequence[int]] | None = None,
) -> Attribution:
    """Run the network forward and propagate relevance from its output to its inputs.

    Args:
        graph: from :func:`~.capture.capture`.
        inputs: the input tensor, or one per input.
        target: the start relevance (of the output's shape), a :class:`~.target.Target` or just a class index.
        composite: a preset's name or a :class:`~.composites.Composite`.
        output: which output tensor to explain, by position in the flattened output.
        at: names of inner layers whose output relevance is wanted as well.
        channels: for inner layers by name, the channels (axis 1) through which relevance may pass; what the others
            hold is taken out and booked as `changed` (concept relevance propagation, Achtibat 2023).

    Returns:
        Relevance of the inputs, the output and the ledger.

    Raises:
        LRPError: what is given is no graph or no tensor, the input does not fit the graph or is not finite, an operator
            has no answer, or the composite no fitting rule, all before anything is computed; the target does not fit
            the output, or the relevance leaves the range of its precision.
    """
    evaluation = evaluate(graph, inputs, composite, output=output)
    return evaluation.attribute(target, at=at, channels=channels, last=True)


@switched_off()
def evaluate(
    graph: Graph,
    inputs: Tensor | Sequence[Tensor],
    composite: str | Composite = DEFAULT_COMPOSITE,
    *,
    output: int = 0,
    progress: Progress = no_progress,
    schedule: Schedule = Schedule(),
) -> Evaluation:
    """Run the network forward and keep what the backward walk will read, so that questions can follow.

    Arguments and errors as for :func:`attribute`; `progress` is told the share of the network that has run, `schedule`
    says what is kept (see :mod:`.memory`).
    """
    composite = composite_named(composite)
    require_graph(graph)
    given = graph.checked([inputs] if isinstance(inputs, Tensor) else inputs)
    if not all(bool(x.isfinite().all()) for x in given):
        raise LRPError("The input holds NaN or infinite values, which would spread over all relevance; replace them.")
    if not 0 <= output < len(graph.outputs):
        raise LRPError(f"The model has outputs 0 to {len(graph.outputs) - 1}; there is no output {output}.")
    plan = make_plan(graph, composite, graph.outputs[output])
    segments = Segments(plan.steps, plan.saves, plan.recipes, schedule)
    values = graph.run(given, segments.kept | set(graph.outputs), progress, Away if schedule.offload else None)
    return Evaluation(graph, plan, composite, segments, values, given, output, schedule.slab)


class Evaluation:
    """A network's forward pass, held open for questions.

    Attributes:
        output: the network's output, in its own structure.
    """

    def __init__(
        self,
        graph: Graph,
        plan: Plan,
        composite: Composite,
        segments: Segments,
        values: dict[fx.Node, Any],
        inputs: list[Tensor],
        output: int,
        slab: int | None,
    ) -> None:
        self._slab = slab
        self._graph, self._plan, self._composite, self._segments = graph, plan, composite, segments
        self._values, self._inputs, self._given = values, inputs, Unwritten(inputs)
        self._explained = graph.outputs[output]
        self.output = graph.result([at_hand(values[node]) for node in graph.outputs])

    @switched_off()
    def attribute(
        self,
        target: Tensor | Target | int,
        *,
        at: Iterable[str] = (),
        channels: Mapping[str, Sequence[int]] | None = None,
        layer: str | None = None,
        last: bool = False,
        progress: Progress = no_progress,
    ) -> Attribution:
        """Propagate relevance for one question; arguments as for :func:`attribute`.

        `layer` names an inner layer at whose output the walk begins, with the tensor `target` as its relevance; `last`
        says that no further question follows: each activation is released as soon as the walk has read it.
        """
        at, channels = list(at), channels or {}
        if not isinstance(channels, Mapping):
            raise LRPError(f"Channels are told by a dict from a layer's name to a list, but got {channels!r}.")
        named = layers_named(self._plan.steps, {*at, *channels, *([layer] if layer else [])})
        conditions = {named[name]: require_channels(kept, shape_of(named[name])) for name, kept in channels.items()}
        begin = named[layer] if layer else self._explained
        walk = self._walk(self._start(target, begin), begin, last)
        with torch.no_grad():
            found = walk.run(begin, conditions, {named[name] for name in at}, progress)
        dtype = walk.start.dtype
        relevance = tuple(
            walk.pending.get(node, torch.zeros_like(x)).to(dtype).contiguous()
            for node, x in zip(self._graph.inputs, self._inputs, strict=True)
        )
        ledger = walk.books.close(list(relevance))
        if not isfinite(ledger.gap):
            raise LRPError(
                "The relevance leaves the range of its precision with this composite; scale the input, choose another"
                " composite, or capture model and input in float64."
            )
        return Attribution(
            relevance if len(relevance) > 1 else relevance[0],
            self.output,
            ledger,
            {name: found[named[name]].to(dtype) for name in at},
        )

    @switched_off()
    def held(self, target: Tensor | Target | int, layer: str, progress: Progress = no_progress) -> Tensor:
        """Relevance of the output of an inner layer, where the walk ends; arguments as for :func:`attribute`."""
        node = layers_named(self._plan.steps, {layer})[layer]
        walk = self._walk(self._start(target, self._explained), self._explained, last=False)
        with torch.no_grad():
            return walk.run(self._explained, {}, {node}, progress, end=node)[node].to(walk.start.dtype)

    def _start(self, target: Tensor | Target | int, begin: fx.Node) -> Tensor:
        if begin is self._explained:
            return laid_out(start_relevance(target, as_relevance(at_hand(self._values[begin]), None)))
        if not isinstance(target, Tensor) or target.shape != shape_of(begin):
            raise LRPError(f"The relevance of {layer_of(begin)} has its output's shape, {list(shape_of(begin))}.")
        return laid_out(target)

    def _walk(self, start: Tensor, begin: fx.Node, last: bool) -> _Walk:
        self._graph.require_weights()
        if not self._given.holds():
            raise LRPError("The input has been written to since it was evaluated; evaluate it again, or a copy of it.")
        values = self._values if last else dict(self._values)
        mean = self._composite.normalization
        return _Walk(self._graph, self._plan, self._segments, mean, self._slab, values, start, begin)


class _Walk:
    """The backward walk: relevance waiting at each node, and the books."""

    def __init__(
        self,
        graph: Graph,
        plan: Plan,
        segments: Segments,
        mean: str,
        slab: int | None,
        values: dict[fx.Node, Any],
        start: Tensor,
        begin: fx.Node,
    ) -> None:
        self.graph, self.plan, self.segments, self.values = graph, plan, segments, values
        self._steps = plan.steps[: plan.steps.index(begin) + 1] if begin in segments.of else []
        waiting = [node for node, value in values.items() if isinstance(value, Away)]
        self.away: dict[fx.Node, Away] = {node: values.pop(node) for node in waiting}
        self.mean, self.slab = mean, slab
        self.books = Bookkeeper(start)
        self.pending: dict[fx.Node, Any] = {}
        self.start = start
        walked = [segments.needs[node] for node in self._steps]
        self._readers = Counter(node for saved in (*walked, *segments.reads) for node in saved)

    def run(
        self,
        output: fx.Node,
        conditions: Mapping[fx.Node, list[int]],
        watched: set[fx.Node],
        progress: Progress,
        end: fx.Node | None = None,
    ) -> dict[fx.Node, Tensor]:
        """Propagate to the inputs, or to the node `end` alone; returns the relevance of the watched nodes."""
        self.pending[output] = as_relevance(self.start, self.graph.precision)
        found: dict[fx.Node, Tensor] = {}
        segment = len(self.segments.again) - 1
        for done, node in enumerate(reversed(self._steps), 1):
            if self.segments.of[node] != segment:
                segment = self.segments.of[node]
                self._run_again(segment)
            relevance = self.pending.pop(node, None)
            if relevance is not None and node in conditions:
                relevance = self._only(node, relevance, conditions[node])
            if node in watched:
                found[node] = self.start.new_zeros(shape_of(node)) if relevance is None else relevance
            if node is end:
                break
            with self._fetched(self.segments.needs[node]):
                if relevance is not None:
                    with self._made(self.segments.made_of[node]):
                        self._step(node, relevance)
            progress(done / len(self._steps))
        return found

    def _step(self, node: fx.Node, relevance: Any) -> None:
        answer, rule = self.plan.answers[node], self.plan.rules[node]
        if node.target is operator.getitem and not is_decision(node):
            parent, index = arguments(node)
            if self.plan.answers[parent].many:
                self.pending.setdefault(parent, {})[index] = relevance
            elif index == 0:  # of norms and max pooling only the first output is a signal
                self._send(parent, relevance)
            return
        if node in self.plan.folded:
            self._send(arguments(node)[0], relevance)
            return
        norm = self.plan.norms.get(node)
        call = Call(node, self.values, self.graph, self.plan.non_negative, norm, self.mean, self.slab)
        sources, flow = answer.propagate(call, relevance, rule)
        if not answer.silent:
            reached = list(relevance.values()) if answer.many else [relevance]
            self.books.enter((layer_of(node), operator_name(node), answer.role, str(rule)), reached, flow)
        for source, part in zip(sources, flow.relevance, strict=True):
            self._send(source, part)

    def _send(self, node: fx.Node, relevance: Tensor) -> None:
        dtype = first_of(node).dtype
        if dtype.is_floating_point:  # in mixed precision each layer has relevance in its own
            relevance = relevance.to(relevance_type(dtype, self.graph.precision))
        waiting = self.pending.get(node)
        self.pending[node] = relevance if waiting is None else waiting + relevance

    def _only(self, node: fx.Node, relevance: Tensor, kept: list[int]) -> Tensor:
        through = only(relevance, kept)
        removed = Flow([through], changed=[total(relevance - through)])
        self.books.enter((layer_of(node), "condition", "condition", f"channels {kept}"), [relevance], removed)
        return through

    def _run_again(self, segment: int) -> None:
        """Bring back what the walk will read in a segment."""
        again, made = self.segments.again[segment], self.segments.made[segment]
        with self._fetched(self.segments.reads[segment]):
            self.values.update(self.graph.run_again(again, self.values, made))

    @contextmanager
    def _made(self, recipes: Mapping[fx.Node, Recipe]) -> Iterator[None]:
        """Within it these values are at hand, made from what is kept."""
        missing = [node for node in recipes if node not in self.values]
        for node in missing:
            self.values.update(self.graph.run_again(recipes[node].steps, self.values, {node}))
        yield
        for node in missing:
            del self.values[node]

    @contextmanager
    def _fetched(self, nodes: list[fx.Node]) -> Iterator[None]:
        """Within it these values are at hand; afterwards those that nobody else will read are released."""
        fetched = [node for node in nodes if node in self.away]
        self.values.update((node, self.away[node].back()) for node in fetched)
        yield
        for node in fetched:
            self.values.pop(node, None)
        for node in nodes:
            self._readers[node] -= 1
            if not self._readers[node] and node not in self.graph.outputs:
                self.values.pop(node, None)
                self.away.pop(node, None)
