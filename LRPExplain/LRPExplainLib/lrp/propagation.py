"""The walk: forward with what must be kept, then backward, layer by layer, in one visible loop."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from .answers import Answer, Call
from .composites import DEFAULT_COMPOSITE, ROLES, Composite, composite_named
from .edit import packet
from .errors import LRPError
from .flow import Flow
from .graph import Graph, Progress, arguments, layer_of, no_progress, require_graph, results_of, shape_of
from .inner import only, steps_to
from .ledger import Bookkeeper, Ledger
from .onednn import laid_out
from .operators import CONVOLUTION, DENSE, NORM, non_negative, operator_name, require_answers
from .passes import NORMS
from .precision import as_relevance
from .remaking import Recipe, recipes
from .rules import PASS, LinearRule, Rule
from .segments import Away, Schedule, Segments, at_hand
from .sums import total
from .target import Target, start_relevance

aten = torch.ops.aten


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


@dataclass(frozen=True)
class Plan:
    """What a run will do, decided before anything is computed.

    Attributes:
        steps: the calls that the chosen output depends on, in forward order.
        answers, rules: what each operator does and the rule it does it with.
        norms: for a layer the normalisation folded into it.
        folded: the folded normalisations.
        saves: for each step the nodes whose values its backward step reads.
        recipes: how some of these are made from the others.
        non_negative: nodes whose values are never negative.
        by_sign: layers whose contributions count by their sign alone, and have both.
    """

    steps: list[fx.Node]
    answers: dict[fx.Node, Answer]
    rules: dict[fx.Node, Rule]
    norms: dict[fx.Node, fx.Node]
    folded: frozenset[fx.Node]
    saves: dict[fx.Node, list[fx.Node]]
    recipes: dict[fx.Node, Recipe]
    non_negative: frozenset[fx.Node]
    by_sign: frozenset[fx.Node]


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
            has no answer, the composite no fitting rule, or the target does not fit the output; all but the last before
            anything is computed.
    """
    evaluation = evaluate(graph, inputs, composite, output=output)
    return evaluation.attribute(target, at=at, channels=channels, last=True)


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
        self._values, self._inputs = values, inputs
        self._explained = graph.outputs[output]
        self.output = graph.result([at_hand(values[node]) for node in graph.outputs])

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
        named = _layers(self._plan, {*at, *channels, *([layer] if layer else [])})
        begin = named[layer] if layer else self._explained
        walk = self._walk(self._start(target, begin), begin, last)
        conditions = {named[name]: list(kept) for name, kept in channels.items()}
        with torch.no_grad():
            found = walk.run(begin, conditions, {named[name] for name in at}, progress)
        dtype = walk.start.dtype
        relevance = tuple(
            walk.pending.get(node, torch.zeros_like(x)).to(dtype).contiguous()
            for node, x in zip(self._graph.inputs, self._inputs, strict=True)
        )
        ledger = walk.books.close(list(relevance))
        return Attribution(
            relevance if len(relevance) > 1 else relevance[0],
            self.output,
            ledger,
            {name: found[named[name]].to(dtype) for name in at},
        )

    def held(self, target: Tensor | Target | int, layer: str, progress: Progress = no_progress) -> Tensor:
        """Relevance of the output of an inner layer, where the walk ends; arguments as for :func:`attribute`."""
        node = _layers(self._plan, {layer})[layer]
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
        values = self._values if last else dict(self._values)
        mean = self._composite.normalization
        return _Walk(self._graph, self._plan, self._segments, mean, self._slab, values, start, begin)


def make_plan(graph: Graph, composite: Composite, output: fx.Node) -> Plan:
    """Decide every operator's answer and rule, which norms fold, and which values the backward walk will read."""
    steps = steps_to(graph, output)
    answers = require_answers(graph, steps)
    norms = {} if composite.normalization == "identity" else _foldable(answers)
    folded = frozenset(norms.values())
    first, last = _first_layers(steps, answers), _last_layers(steps, answers)
    _require_layers(composite, answers)
    never_negative = non_negative(graph)
    rules: dict[fx.Node, Rule] = {}
    saves: dict[fx.Node, list[fx.Node]] = {}
    by_sign: set[fx.Node] = set()
    for node, answer in answers.items():
        special = ("input",) if node in first else ("head",) if node in last else ()
        roles = (*special, answer.role)
        rule = composite.rule_for(roles, layer_of(node), answer.accepts)
        if answer is NORM and composite.normalization == "identity":
            rule = PASS
        if not answer.accepts(rule):
            raise _does_not_apply(rule, node, answer)
        rules[node] = rule
        if _goes_by_sign(node, answer, rule, never_negative | graph.constants.keys()):
            by_sign.add(node)
        saved = [] if node in folded else answer.saves(node, rule, node in by_sign)
        norm = node if packet(node) in NORMS else norms.get(node)
        if norm is not None and saved:  # its output stands for that of the layer it is folded into
            results = results_of(norm)
            saved = [results[0] if source is node else source for source in saved] + [results[1], results[2]]
        saves[node] = [source for source in saved if source not in graph.constants]
    again = recipes(steps, saves, answers)
    return Plan(steps, answers, rules, norms, folded, saves, again, never_negative, frozenset(by_sign))


def _goes_by_sign(node: fx.Node, answer: Answer, rule: Rule, never_negative: Set[fx.Node]) -> bool:
    """Whether a layer's contributions are told apart by x w and |x w|: of signed inputs that are not in groups."""
    if answer not in (CONVOLUTION, DENSE) or not isinstance(rule, LinearRule) or not rule.by_sign():
        return False
    grouped = packet(node) is aten.convolution and arguments(node)[8] > 1
    return not grouped and any(source not in never_negative for source in node.all_input_nodes)


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
                found[node] = torch.zeros(shape_of(node)).to(self.start) if relevance is None else relevance
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
        if node.target is operator.getitem:
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


def _foldable(answers: Mapping[fx.Node, Answer]) -> dict[fx.Node, fx.Node]:
    """Layer -> the normalisation that alone reads it."""
    norms = {}
    for node in answers:
        if packet(node) not in NORMS:
            continue
        layer = arguments(node)[0]
        if answers.get(layer) not in (CONVOLUTION, DENSE) or sum(user in answers for user in layer.users) != 1:
            continue
        by_rows = packet(node) is aten.native_layer_norm
        if by_rows == (answers[layer] is DENSE):
            norms[layer] = node
    return norms


def _first_layers(steps: list[fx.Node], answers: Mapping[fx.Node, Answer]) -> set[fx.Node]:
    """Weighted layers that no other weighted layer precedes."""
    after: set[fx.Node] = set()
    first: set[fx.Node] = set()
    for node in steps:
        if any(source in after for source in node.all_input_nodes):
            after.add(node)
        elif answers[node] in (CONVOLUTION, DENSE):
            first.add(node)
            after.add(node)
    return first


def _last_layers(steps: list[fx.Node], answers: Mapping[fx.Node, Answer]) -> set[fx.Node]:
    """Weighted layers that no other weighted layer follows on the way to the output."""
    before: set[fx.Node] = set()
    last: set[fx.Node] = set()
    for node in reversed(steps):
        weighted = answers[node] in (CONVOLUTION, DENSE)
        if weighted and node not in before:
            last.add(node)
        if weighted or node in before:
            before.update(node.all_input_nodes)
    return last


def _require_layers(composite: Composite, answers: Mapping[fx.Node, Answer]) -> None:
    """LRPError when a row names layers that the network has not: a typing mistake would silently do nothing."""
    for row in composite.rows:
        if row.match in ROLES:
            continue
        named = [(node, answer) for node, answer in answers.items() if row.matches((), layer_of(node))]
        if named and not any(answer.accepts(row.rule) for _, answer in named):
            raise _does_not_apply(row.rule, *named[0])
        if not named:
            raise LRPError(
                f"No layer of the model is named '{row.match}'; write a name or pattern that `lrpexplain inspect` "
                f"shows, or a role ({', '.join(ROLES)})."
            )


def _does_not_apply(rule: Rule, node: fx.Node, answer: Answer) -> LRPError:
    return LRPError(
        f"The rule {rule} does not apply to {layer_of(node)} ({operator_name(node)}), which knows "
        f"{', '.join(answer.rules)}; change that row of the composite."
    )


def _layers(plan: Plan, names: set[str]) -> dict[str, fx.Node]:
    """The last call of each named layer, whose output is the layer's output."""
    table = {layer_of(node): node for node in plan.steps} | {node.name: node for node in plan.steps}
    for name in names:
        if name not in table:
            raise LRPError(
                f"The model has no layer '{name}' before this output; `lrpexplain inspect` lists the layers."
            )
    return {name: table[name] for name in names}
