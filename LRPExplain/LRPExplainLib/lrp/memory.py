"""How much memory a run will need, reckoned from the graph's shapes, and the schedule that keeps it within bounds.

The reckoning plays the run through: what is alive after each step of the forward pass and of the backward walk, and
what a step needs while it works. Views are not counted twice. It leaves out what PyTorch itself occupies.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, fx

from .answers import Unchanged
from .boxes import slab
from .composites import Composite, composite_named
from .edit import packet
from .graph import PRODUCTS, Graph, arguments, last_uses, require_graph, shape_of
from .kernels import direct
from .linear import RAW, Convolution, Sum
from .moves import Concatenation
from .onednn import as_ordinary, better_in_float32
from .operators import CONVOLUTION, DENSE, SUM
from .planning import Plan, make_plan
from .precision import better_widened, relevance_type
from .rules import PLAIN, LinearRule
from .segments import Schedule, Segments
from .sizes import Meter, Sizes, bytes_of, leaf_bytes, leaves

aten = torch.ops.aten
_FAST_FROM = 20480  # elements of the first four axes above which ATen's CPU convolution is oneDNN's
_PLACES = 40  # at which a network may be cut
# Elements of a slab where memory is short; larger ones keep a GPU busy.
_SLAB = {"cpu": 1 << 18, "cuda": 1 << 23}


@dataclass(frozen=True)
class Estimate:
    """Bytes that a run needs on its device at its height, and how it is scheduled.

    Attributes:
        forward: during the forward pass alone, keeping nothing for an explanation.
        kept: what the forward pass keeps for the walk, on the device.
        peak: of the whole run: values, relevance, what single steps work with, weights.
        weights: the part of it that does not depend on the input: parameters, and what rules make of them.
    """

    schedule: Schedule
    forward: int
    kept: int
    peak: int
    weights: int

    def times(self, batch: int) -> Estimate:
        """What so many inputs at once need of a graph that was captured for one."""
        forward, peak = (self.weights + batch * (bytes_ - self.weights) for bytes_ in (self.forward, self.peak))
        return replace(self, forward=forward, kept=batch * self.kept, peak=peak)


def estimates(
    graph: Graph, composite: str | Composite, *, output: int = 0, offload: bool = False, remaking: bool = True
) -> Iterator[Estimate]:
    """Ways to run it, the fastest first, each of which needs less memory than the one before.

    Keeping all, remaking some (if it is not the walk of another method, which cannot), in slabs, with one cut after the
    other where it helps most, and (`offload`) keeping on the CPU as well.

    Raises:
        LRPError: as :func:`~.propagation.attribute`, before anything is computed.
    """
    require_graph(graph)
    plan = make_plan(graph, composite_named(composite), graph.outputs[output])
    sizes = Sizes(graph)
    thrifty = _SLAB["cpu" if leaves(graph.inputs[0])[0].device.type == "cpu" else "cuda"]
    places = _places(plan, sizes)
    bare = Meter(sizes)
    _forward(bare, graph.inputs, graph.steps, set(graph.outputs))
    reckoned = partial(_estimate, graph, plan, sizes, bare.peak)
    best = reckoned(Schedule(remaking=False))
    yield best
    if (following := reckoned(Schedule(remaking=remaking))).peak < best.peak:
        best = following
        yield best
    for away in (False, True) if offload else (False,):
        ways = [reckoned(Schedule((0,), away, thrifty, remaking))]
        while ways:
            following = min(ways, key=lambda way: way.peak)
            starts = following.schedule.starts
            if following.peak < best.peak:
                best = following
                yield best
            elif len(starts) > 1:
                break
            further = [tuple(sorted((*starts, cut))) for cut in places if cut not in starts]
            ways = [reckoned(Schedule(cuts, away, thrifty, remaking)) for cuts in further]


def products(graph: Graph, composite: str | Composite, *, output: int = 0) -> float:
    """How long the backward walk takes, in forward passes: counted by the products that its layers need."""
    require_graph(graph)
    plan = make_plan(graph, composite_named(composite), graph.outputs[output])
    forward = backward = 0.0
    for node, rule, weight in _weighted(graph, plan):
        work = leaves(node)[0].numel() * weight / max(1, shape_of(node)[1 if plan.answers[node] is CONVOLUTION else -1])
        forward += work
        if node in plan.by_sign:  # |W| |x|, and the adjoints of W and |W|
            backward += 3 * work
            continue
        signed = any(s not in plan.non_negative for s in node.all_input_nodes if s not in graph.constants)
        for part in rule.parts:
            heirs = [term for term in part.heirs if signed or term.input != "-"]
            terms = [term for term in part.terms if signed or term.input != "-"]
            backward += work * ((1 if part.terms == PLAIN else 2 * len(terms)) + 2 * len(heirs))
    return backward / forward if forward else 1.0


def _weighted(graph: Graph, plan: Plan) -> Iterator[tuple[fx.Node, LinearRule, int]]:
    """The convolutions and dense layers with a linear rule, and how many weights each has."""
    for node in plan.steps:
        rule = plan.rules[node]
        if plan.answers[node] in (CONVOLUTION, DENSE) and isinstance(rule, LinearRule):
            constants = [graph.constants[source] for source in node.all_input_nodes if source in graph.constants]
            yield node, rule, max(value.numel() for value in constants)


def _estimate(graph: Graph, plan: Plan, sizes: Sizes, forward: int, schedule: Schedule) -> Estimate:
    """`forward`: the height of the forward pass that keeps nothing, without weights."""
    segments = Segments(plan.steps, plan.saves, plan.recipes, schedule)
    meter = Meter(sizes)
    on_device = set() if schedule.offload else segments.kept
    _forward(meter, graph.inputs, graph.steps, on_device | set(graph.outputs))
    _backward(meter, plan, graph, segments, sizes, schedule)
    weights = _weights(graph, plan, schedule)
    return Estimate(schedule, forward + weights, sizes.union(on_device), meter.peak + weights, weights)


def _forward(meter: Meter, given: Iterable[fx.Node], steps: list[fx.Node], keep: set[fx.Node]) -> None:
    """Play steps forward; `given` are values that come alive with it."""
    for node in given:
        meter.hold(node)
    last = last_uses(steps)
    mine = {*given, *steps}
    for node in steps:
        meter.hold(node)
        meter.working(_workspace(node, adjoint=False))
        for dead in last.get(node, ()):
            if dead in mine and dead not in keep:
                meter.drop(dead)


def _backward(meter: Meter, plan: Plan, graph: Graph, segments: Segments, sizes: Sizes, schedule: Schedule) -> None:
    """Play the walk through, as :class:`~.propagation._Walk` does it."""
    readers = Counter(node for saved in (*segments.needs.values(), *segments.reads) for node in saved)
    pending: dict[fx.Node, int] = {}
    here = set() if schedule.offload else set(segments.kept)
    segment = len(segments.again) - 1

    def fetch(nodes: list[fx.Node]) -> list[fx.Node]:
        fetched = [node for node in nodes if node not in here and node not in graph.outputs]
        for node in fetched:
            meter.hold(node)
        return fetched

    def release(nodes: list[fx.Node], fetched: list[fx.Node]) -> None:
        for node in fetched:
            meter.drop(node)
        for node in nodes:
            readers[node] -= 1
            if not readers[node] and node in here and node not in graph.outputs:
                here.remove(node)
                meter.drop(node)

    def waiting() -> int:
        return sum(pending.values())

    for output in graph.outputs:
        pending[output] = 2 * _relevance_bytes(output, graph)  # the start relevance is kept beside its copy that walks
    for node in reversed(plan.steps):
        if segments.of[node] != segment:
            segment = segments.of[node]
            fetched = fetch(segments.reads[segment])
            meter.now += waiting()
            _forward(meter, (), segments.again[segment], segments.made[segment])
            meter.now -= waiting()
            here |= segments.made[segment]
            release(segments.reads[segment], fetched)
        fetched = fetch(segments.needs[node])
        made = sizes.union(segments.made_of[node])
        meter.working(waiting() + made + _needs(node, plan, graph, schedule.slab))
        own = pending.pop(node, 0)
        for source in node.all_input_nodes:
            if own and sizes.root(source) is not None:
                pending[source] = _relevance_bytes(source, graph)
        release(segments.needs[node], fetched)


def _needs(node: fx.Node, plan: Plan, graph: Graph, most: int | None) -> int:
    """What a step of the walk works with, besides what it reads and the relevance that reaches it."""
    signals = [source for source in node.all_input_nodes if source in plan.answers or source.op == "placeholder"]
    entering, leaving = sum(_relevance_bytes(source, graph) for source in signals), _relevance_bytes(node, graph)
    rule, answer = plan.rules[node], plan.answers[node]
    if isinstance(answer, (Unchanged, Concatenation)) or node in plan.folded:
        return 0  # what is handed on is the relevance itself, or a piece of it
    if answer.silent:
        return entering
    if not isinstance(rule, LinearRule):
        return 2 * (entering + leaving)
    terms = max((len(part.terms) + len(part.heirs) for part in rule.parts), default=1)
    plain = all(part.terms == PLAIN for part in rule.parts)
    several = len(rule.parts) > 1
    modified = 0 if plain else terms * entering
    # relevance, gradient and contribution of the inputs; share, denominator, stabiliser and quotient of the output
    work = modified + (2 + several) * entering + 5 * leaving + _workspace(node, adjoint=True)
    share = _slab_share(node, plan, graph, most)
    return work if share == 1.0 else entering + int(share * work)


def _slab_share(node: fx.Node, plan: Plan, graph: Graph, most: int | None) -> float:
    """How much of a layer its walk works on at once."""
    value, shape = leaves(node)[0], shape_of(node)
    broadcast = any(shape_of(source) != shape for source in node.all_input_nodes)
    if plan.answers[node] not in (CONVOLUTION, SUM) or len(shape) < 4 or (plan.answers[node] is SUM and broadcast):
        return 1.0
    kind = Sum if plan.answers[node] is SUM else Convolution
    most = slab(kind, value.device, relevance_type(value.dtype, graph.precision), most)
    return 1.0 if most is None else min(1.0, max(most / shape.numel(), 1 / shape[2]))


def _workspace(node: fx.Node, adjoint: bool) -> int:
    """What products lay out beside their input and output.

    Nothing where :mod:`.kernels` calls oneDNN on what lies channels last, in its own precision. ATen's fast kernels
    reorder both; on the CPU its small or single-channel inputs go through a matrix with a column per output voxel
    instead (the conditions are those of `use_mkldnn` in ATen's Convolution.cpp). What is widened to float32 is
    copied for it.
    """
    if packet(node) in PRODUCTS and better_widened(leaves(node)[0]):
        return 2 * sum(bytes_of(beside) for beside in (node, *node.all_input_nodes))
    if packet(node) is not aten.convolution:
        return 0
    source, weight = arguments(node)[:2]
    x, y = leaves(source)[0], leaves(node)[0]
    widened = better_in_float32(x, arguments(node)[5])
    x = x.float() if widened else x
    both = (x.numel() + y.numel()) * x.element_size()
    copies = both if widened else 0
    spreads = arguments(node)[6] != adjoint
    if direct(x, shape_of(source if adjoint else node)[1] if spreads else None):
        ordinary = spreads and as_ordinary(shape_of(weight), arguments(node)[3], arguments(node)[8])
        spaced = max(x.numel(), y.numel()) if ordinary and max(arguments(node)[3]) > 1 else 0
        return copies + spaced * x.element_size()
    kernel = leaves(weight)[0].shape[2:]
    grouped, wide = arguments(node)[8] > 1, all(n > 3 for n in kernel[-2:])
    slow = x.dtype != torch.float32 or not (grouped or wide or len(x) > 1 or x.shape[:4].numel() > _FAST_FROM)
    if x.device.type == "cuda" or not slow:
        return copies + both
    columns = y.shape[1] * x.shape[2:].numel() if arguments(node)[6] else x.shape[1] * y.shape[2:].numel()
    return copies + kernel.numel() * columns * x.element_size()


def _weights(graph: Graph, plan: Plan, schedule: Schedule) -> int:
    """Bytes of the constants, and of the modified weights that rules keep beside them, or make for one step."""
    weights = sum(leaf_bytes(value) for value in graph.constants.values() if isinstance(value, Tensor))
    itemsize, made = relevance_type(torch.float32, graph.precision).itemsize, []
    for node, rule, weight in _weighted(graph, plan):
        modified = {"|.|"} if node in plan.by_sign else rule.weights() - {RAW, "same"}
        made.append(itemsize * len(modified) * weight)
    return weights + (sum(made) if schedule.slab is None else max(made, default=0))


def _places(plan: Plan, sizes: Sizes) -> list[int]:
    """Where the steps may be cut: in each stretch of the network where the fewest bytes cross the cut."""
    steps = plan.steps
    position = {node: index for index, node in enumerate(steps)}
    until: dict[fx.Node, int] = {}
    for index, node in enumerate(steps):
        for source in node.all_input_nodes:
            until[source] = index
    crossing = [0] * (len(steps) + 1)
    for node, index in until.items():
        if node in position:
            for cut in range(position[node] + 1, index + 1):
                crossing[cut] += sizes.of(node)
    length = max(1, -(-len(steps) // _PLACES))
    stretches = [range(max(1, begin), min(len(steps), begin + length)) for begin in range(0, len(steps), length)]
    return [min(stretch, key=lambda cut: crossing[cut]) for stretch in stretches if stretch]


def _relevance_bytes(node: fx.Node, graph: Graph) -> int:
    """Relevance of the first output of a call."""
    return sum(leaf.numel() * relevance_type(leaf.dtype, graph.precision).itemsize for leaf in leaves(node)[:1])
