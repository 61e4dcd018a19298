"""What a network makes of its last scores: a softmax or a sigmoid, before which an explanation had better start.

The engine's rule for elementwise functions hands relevance through unchanged (:class:`.answers.Unchanged`). A
probability p > 0 of a logit x < 0 would then be relevance of the wrong sign: R / x turns what speaks for the class into
what speaks against it. The score before the softmax is what is explained since Simonyan 2014 (sec. 2).
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from .affine import channel_affine
from .edit import call_like, packet
from .graph import Graph, arguments, shape_of
from .kinds import PROBABILITIES, SOFTMAX
from .origins import sources_of

aten = torch.ops.aten
# What only lays the same values out in another way
_LAYS_OUT = {aten.reshape, aten.permute, aten.transpose, aten.t, aten.squeeze, aten.unsqueeze, aten._to_copy}
# What only puts values at other places, or leaves some out
_MOVES = _LAYS_OUT | {
    aten.cat, aten.stack, aten.slice, aten.select, aten.index, aten.index_select, aten.flip, aten.expand, aten.repeat,
    aten.split, aten.split_with_sizes, aten.unsafe_split, aten.unbind, operator.getitem,
}  # fmt: skip


@dataclass(frozen=True)
class Ending:
    """How a network makes probabilities itself.

    Attributes:
        activation: "softmax" or "sigmoid".
        scores: whether the graph returns the scores before it (see :func:`to_scores`), and no probabilities.
    """

    activation: str
    scores: bool


def ending(graph: Graph) -> Ending | None:
    """The softmax or sigmoid that the network's (first) output is made by, or of whose results alone it is made (a mean
    over several networks, say); None: neither."""
    if graph.taken_off is not None:
        return Ending(graph.taken_off, True)
    kinds = {packet(node) for node in _probabilities(graph)}
    found = next((name for name, of_name in PROBABILITIES.items() if kinds & of_name), None)
    return None if found is None else Ending(found, False)


def to_scores(graph: Graph) -> Graph:
    """Let the (first) output be the scores of which the network's last softmax, log-softmax or sigmoid makes
    probabilities, in place; returns the graph.

    A softmax has to go over axis 1, and no more than a change of layout may follow. Sigmoids, and softmaxes over two
    classes, may be several whose results are put together, and some of them 1 - p. Where more is made of probabilities
    (a resampling, a mean over several networks, a second softmax), relevance crosses them by their expansion around
    their scores.
    """
    graph.take_off(lambda calls: _before_softmax(graph, calls))
    if graph.taken_off is None:
        graph.take_off(lambda calls: _before_sigmoids(graph, calls))
    graph.expanded = frozenset(node for node in _probabilities(graph) if _has_scores(node, graph))
    return graph


def _probabilities(graph: Graph) -> list[fx.Node]:
    """The softmaxes and sigmoids of whose results alone the first output is made."""
    found = sources_of(graph.outputs[0], graph, set().union(*PROBABILITIES.values()))
    return [node for node in found or () if any(packet(node) in kinds for kinds in PROBABILITIES.values())]


def _before_softmax(graph: Graph, calls: fx.Graph) -> tuple[str, fx.Node] | None:
    """The scores of a softmax over all classes, laid out as its result is."""
    layout, last = [], graph.outputs[0]
    while packet(last) in _LAYS_OUT:
        layout.append(last)
        last = arguments(last)[0]
    if packet(last) not in SOFTMAX | {aten._log_softmax} or not _has_scores(last, graph):
        return None
    if not _over_classes(last, layout):
        return None
    score = arguments(last)[0]
    for node in reversed(layout):
        score = calls.node_copy(node, {arguments(node)[0]: score}.__getitem__)
    return "softmax", score


def _before_sigmoids(graph: Graph, calls: fx.Graph) -> tuple[str, fx.Node] | None:
    """The scores that the first output is the sigmoids of. Of 1 - p and p, the classes exclude each other, as they do
    under a softmax: of -x / 2 and x / 2."""
    score = _before_sigmoid(graph.outputs[0], graph, calls, {})
    if score is None:
        return None
    parts = _moved(score) if packet(score) in (aten.cat, aten.stack) else []
    opposite = len(parts) == 2 and any(_negated(*pair) for pair in (parts, parts[::-1]))
    if not opposite or shape_of(score)[1] != 2:
        return "sigmoid", score
    return "softmax", call_like(calls, score, shape_of(score), aten.mul.Tensor, score, 0.5)


def _before_sigmoid(node: fx.Node, graph: Graph, calls: fx.Graph, made: dict[fx.Node, fx.Node]) -> fx.Node | None:
    """What a value is the sigmoid of, element by element.

    1 - sigmoid(x) is sigmoid(-x), the softmax over two classes x and y is sigmoid(x - y) and sigmoid(y - x), and what
    is done to probabilities by moving them may be done to their scores.

    Args:
        made: the scores of values that were met before.
    """
    if node in made:
        return made[node]
    score: fx.Node | None = None
    if node.op != "call_function" or graph.is_constant(node):
        return None
    kind, signals = packet(node), [source for source in node.all_input_nodes if not graph.is_constant(source)]
    if kind is aten.sigmoid:
        score = arguments(node)[0] if _has_scores(node, graph) else None
    elif kind in SOFTMAX and shape_of(node)[arguments(node)[1]] == 2 and _has_scores(node, graph):
        x, axis = arguments(node)[:2]
        other = call_like(calls, node, shape_of(node), aten.flip.default, x, [axis])
        score = call_like(calls, node, shape_of(node), aten.sub.Tensor, x, other)
    elif _one_minus(node, graph):
        positive = _before_sigmoid(signals[0], graph, calls, made)
        score = positive and call_like(calls, node, shape_of(node), aten.neg.default, positive)
    elif kind in _MOVES and len(signals) == len(_moved(node)):
        found = {source: _before_sigmoid(source, graph, calls, made) for source in signals}
        if None not in found.values():
            score = calls.node_copy(node, lambda source: found.get(source) or source)
    if score is not None:
        made[node] = score
    return score


def _negated(a: fx.Node, b: fx.Node) -> bool:
    """Whether a is -b, as the calls say that make them."""
    return packet(a) is aten.neg and _alike(arguments(a)[0], b)


def _alike(a: Any, b: Any) -> bool:
    """Whether two arguments are the same, or made in the same way."""
    if not (isinstance(a, fx.Node) and isinstance(b, fx.Node)) or a is b:
        return bool(a == b)
    same = a.op == b.op == "call_function" and (a.target, a.kwargs) == (b.target, b.kwargs)
    return same and len(a.args) == len(b.args) and all(map(_alike, a.args, b.args))


def _has_scores(activation: fx.Node, graph: Graph) -> bool:
    """Whether a network, and not the input itself, is what an activation reads."""
    return not graph.is_constant(activation) and arguments(activation)[0].op == "call_function"


def _moved(move: fx.Node) -> list[fx.Node]:
    """What a call moves: its first argument, or all that this lists."""
    first = arguments(move)[0]
    return list(dict.fromkeys(first if isinstance(first, (list, tuple)) else [first]))


def _one_minus(node: fx.Node, graph: Graph) -> bool:
    """Whether this is 1 - p."""
    kind, args = packet(node), arguments(node)
    if kind is channel_affine:
        return _is(args[1], -1, graph) and _is(args[2], 1, graph)
    if kind not in (aten.sub, aten.rsub) or node.kwargs or len(args) != 2:
        return False
    one, p = args if kind is aten.sub else args[::-1]
    return _is(one, 1, graph) and not graph.is_constant(p) and shape_of(p) == shape_of(node)


def _is(argument: Any, number: float, graph: Graph) -> bool:
    """Whether an argument is this number, everywhere."""
    value = graph.constants.get(argument, argument) if isinstance(argument, fx.Node) else argument
    return bool((value == number).all()) if isinstance(value, torch.Tensor) else bool(value == number)


def _over_classes(softmax: fx.Node, layout: list[fx.Node]) -> bool:
    """Whether what a softmax goes over is axis 1 when all is laid out: seen by where each of its places ends up."""
    shape = shape_of(softmax)
    axis = arguments(softmax)[1] % len(shape)
    places: Any = torch.arange(shape[axis]).reshape([-1 if n == axis else 1 for n in range(len(shape))]).expand(shape)
    for node in reversed(layout):
        if packet(node) is not aten._to_copy:
            places = node.target(places, *arguments(node)[1:])  # type: ignore[operator]
    wanted = torch.arange(shape[axis]).reshape([-1 if n == 1 else 1 for n in range(places.dim())])
    return places.dim() > 1 and places.shape[1] == shape[axis] and bool((places == wanted).all())
