"""What a network makes of its last scores: a softmax or a sigmoid, before which an explanation had better start.

The engine's rule for elementwise functions hands relevance through unchanged (:class:`.answers.Unchanged`). A
probability p > 0 of a logit x < 0 would then be relevance of the wrong sign: R / x turns what speaks for the class into
what speaks against it. The score before the softmax is what is explained since Simonyan 2014 (sec. 2). Where more than
another layout follows, so that there is no one score (the mean of several networks' probabilities, say), softmax and
sigmoid are expanded around their scores instead (:class:`.answers.ClosingSigmoid`), which keeps signs as well.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import torch
from torch import fx

from .affine import channel_affine
from .edit import call_like, packet
from .graph import Graph, arguments, function_of, shape_of
from .kinds import PROBABILITIES, SOFTMAX
from .origins import gates_of

aten = torch.ops.aten
# What only lays the same values out in another way, or some of them
_LAYS_OUT = {
    aten.reshape, aten.permute, aten.transpose, aten.t, aten.squeeze, aten.unsqueeze, aten._to_copy, aten.slice,
    aten.select, aten.flip,
}  # fmt: skip
# What only puts values at other places, or leaves some out
_MOVES = _LAYS_OUT | {
    aten.cat, aten.stack, aten.index, aten.index_select, aten.expand, aten.repeat, aten.split, aten.split_with_sizes,
    aten.unsafe_split, aten.unbind, operator.getitem,
}  # fmt: skip
_SAME = 1e-3
_FEW = 8  # steps of views in which a score is read twice
_RESAMPLES = {aten.upsample_linear1d, aten.upsample_bilinear2d, aten.upsample_trilinear3d}


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
    """The softmaxes or sigmoids that the network's (first) output is made of, and of nothing else; None: of neither."""
    if graph.taken_off is not None:
        return Ending(graph.taken_off, True)
    kinds = {packet(node) for node in _closing(graph)}
    return Ending(next(name for name in PROBABILITIES if kinds & PROBABILITIES[name]), False) if kinds else None


def _closing(graph: Graph) -> frozenset[fx.Node]:
    known = set().union(*PROBABILITIES.values())
    return frozenset(node for node in gates_of(graph.outputs[0], graph) if packet(node) in known)


def to_scores(graph: Graph, resampled: bool = False) -> Graph:
    """Let the (first) output be the scores of which the network's last softmax, log-softmax or sigmoid makes
    probabilities, in place; returns the graph.

    A softmax has to go over axis 1, and no more than a change of layout may follow. Sigmoids, and softmaxes over two
    classes, may be several whose results are put together, and some of them 1 - p. Where more is made of probabilities
    (a resampling, a mean over several networks, a second softmax), the output stays, and what they are made by is
    expanded around its scores.

    Args:
        resampled: a linear resampling that the network's output may end with is none of its own, but would be done to
            scores just as well.
    """
    open_to = _RESAMPLES if resampled else set()
    graph.take_off(lambda calls: _before_softmax(graph, calls, open_to) or _before_sigmoids(graph, calls, open_to))
    graph.closing = _closing(graph)
    return graph


def _before_softmax(graph: Graph, calls: fx.Graph, open_to: set[Any]) -> tuple[str, fx.Node] | None:
    """The scores of a softmax over all classes, laid out as its result is."""
    layout: list[fx.Node] = []
    last = graph.outputs[0]
    while packet(last) in _LAYS_OUT | open_to:
        open_to = set() if packet(last) in open_to else open_to
        layout.append(last)
        last = arguments(last)[0]
    if packet(last) not in SOFTMAX | {aten._log_softmax} or not _has_scores(last, graph):
        return None
    if not _over_classes(last, layout):
        return None
    score, axis = arguments(last)[:2]
    while packet(score) is aten._log_softmax and arguments(score)[1] == axis:  # which softmax does not change
        score = arguments(score)[0]
    for node in reversed(layout):
        score = calls.node_copy(node, {arguments(node)[0]: score}.__getitem__)
    return "softmax", score


def _before_sigmoids(graph: Graph, calls: fx.Graph, open_to: set[Any]) -> tuple[str, fx.Node] | None:
    """The scores that the first output is the sigmoids of. Of 1 - p and p, the classes exclude each other, as they do
    under a softmax: of -x / 2 and x / 2."""
    score = _before_sigmoid(graph.outputs[0], graph, calls, open_to, {})
    if score is None:
        return None
    parts = _moved(score) if packet(score) in (aten.cat, aten.stack) else []
    opposite = len(parts) == 2 and any(_negated(*pair) for pair in (parts, parts[::-1]))
    if not opposite or shape_of(score)[1] != 2:
        return "sigmoid", score
    return "softmax", call_like(calls, score, shape_of(score), aten.mul.Tensor, score, 0.5)


def _before_sigmoid(
    node: fx.Node, graph: Graph, calls: fx.Graph, open_to: set[Any], made: dict[fx.Node, fx.Node]
) -> fx.Node | None:
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
    elif (p := _rest(node, graph)) is not None:
        positive = _before_sigmoid(p, graph, calls, open_to, made)
        score = positive and call_like(calls, node, shape_of(node), aten.neg.default, positive)
    elif kind in _MOVES | open_to and len(signals) == len(_moved(node)):
        open_to = set() if kind in open_to else open_to
        found = {source: _before_sigmoid(source, graph, calls, open_to, made) for source in signals}
        if None not in found.values():
            score = calls.node_copy(node, lambda source: found.get(source) or source)
    if score is not None:
        made[node] = score
    return score


def _negated(a: fx.Node, b: fx.Node) -> bool:
    """Whether a is -b, as the calls say that make them."""
    return packet(a) is aten.neg and _alike(arguments(a)[0], b)


def _alike(a: Any, b: Any, steps: int = _FEW) -> bool:
    """Whether two arguments are the same, or made of the same in the same few steps."""
    if not (isinstance(a, fx.Node) and isinstance(b, fx.Node)) or a is b:
        return bool(a == b)
    same = steps > 0 and a.op == b.op == "call_function" and (a.target, a.kwargs) == (b.target, b.kwargs)
    return same and len(a.args) == len(b.args) and all(map(_alike, a.args, b.args, repeat(steps - 1)))


def _has_scores(activation: fx.Node, graph: Graph) -> bool:
    """Whether a network, and not the input itself, is what an activation reads."""
    return not graph.is_constant(activation) and arguments(activation)[0].op == "call_function"


def _moved(move: fx.Node) -> list[fx.Node]:
    """What a call moves: its first argument, or all that this lists."""
    first = arguments(move)[0]
    return list(dict.fromkeys(first if isinstance(first, (list, tuple)) else [first]))


def _rest(node: fx.Node, graph: Graph) -> fx.Node | None:
    """What this is 1 minus of, as shaped; TorchScript says -p + 1."""
    kind, args = packet(node), arguments(node)
    p: Any = None
    if kind is channel_affine and _is(args[1], -1, graph) and _is(args[2], 1, graph):
        p = args[0]
    elif kind in (aten.sub, aten.rsub, aten.add) and not node.kwargs and len(args) == 2:
        one, p = args if kind is aten.sub else args[::-1]
        if kind is aten.add:
            one, negative = (one, p) if graph.is_constant(one) else (p, one)
            p = arguments(negative)[0] if isinstance(negative, fx.Node) and packet(negative) is aten.neg else None
        p = p if _is(one, 1, graph) else None
    return p if isinstance(p, fx.Node) and not graph.is_constant(p) and shape_of(p) == shape_of(node) else None


def _is(argument: Any, number: float, graph: Graph) -> bool:
    """Whether an argument is this number, everywhere."""
    value = graph.constants.get(argument, argument) if isinstance(argument, fx.Node) else argument
    return bool((value == number).all()) if isinstance(value, torch.Tensor) else bool(value == number)


def _over_classes(softmax: fx.Node, layout: list[fx.Node]) -> bool:
    """Whether what a softmax goes over is axis 1 when all is laid out: seen by where each of its places ends up."""
    shape = shape_of(softmax)
    axis = arguments(softmax)[1] % len(shape)
    first = torch.arange(float(shape[axis]))  # which a resampling can take, too
    places: Any = first.reshape([-1 if n == axis else 1 for n in range(len(shape))]).expand(shape)
    for node in reversed(layout):
        places = function_of(node)(places, *arguments(node)[1:])
    if places.dim() < 2 or places.shape[1] != shape[axis]:
        return False
    others = [n for n in range(places.dim()) if n != 1]  # nothing as large as many classes of a volume is made
    return all(bool((ends - first).abs().max() < _SAME) for ends in (places.amin(others), places.amax(others)))
