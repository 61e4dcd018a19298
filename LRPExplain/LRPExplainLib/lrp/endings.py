"""What a network makes of its last scores: a softmax or a sigmoid, before which an explanation had better start.

The engine's rule for elementwise functions hands relevance through unchanged (:class:`.answers.Unchanged`). A
probability p > 0 of a logit x < 0 would then be relevance of the wrong sign: R / x turns what speaks for the class into
what speaks against it. The score before the softmax is what is explained since Simonyan 2014 (sec. 2). Where more than
another layout follows, so that there is no one score (the mean of several networks' probabilities, say), softmax and
sigmoid are expanded around their scores instead (:class:`.answers.ClosingSigmoid`), which keeps signs as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from .edit import packet
from .graph import Graph, arguments, shape_of
from .kinds import PROBABILITIES, SOFTMAX
from .origins import gates_of

aten = torch.ops.aten
_SCORED_BY = PROBABILITIES | {"softmax": {*SOFTMAX, aten._log_softmax}, "sigmoid": {aten.sigmoid}}
# What only lays the same values out in another way, or some of them
_LAYS_OUT = {
    aten.reshape, aten.permute, aten.transpose, aten.t, aten.squeeze, aten.unsqueeze, aten._to_copy, aten.slice,
    aten.select, aten.flip,
}  # fmt: skip
_SAME = 1e-3
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

    The output stays where there is none, where it does not go over axis 1, or where more than a change of layout
    follows (a resampling of probabilities is none of scores); what probabilities are made by is then expanded.

    Args:
        resampled: a linear resampling that the network's output may end with is none of its own, but would be done to
            scores just as well.
    """
    layout: list[fx.Node] = []
    last, open_to = graph.outputs[0], _LAYS_OUT | (_RESAMPLES if resampled else set())
    while packet(last) in open_to:
        open_to = _LAYS_OUT if packet(last) in _RESAMPLES else open_to
        layout.append(last)
        last = arguments(last)[0]
    if packet(last) is aten.exp and packet(arguments(last)[0]) is aten._log_softmax:
        last = arguments(last)[0]
    name = next((name for name, kinds in _SCORED_BY.items() if packet(last) in kinds), None)
    known = name is not None and not graph.is_constant(last) and arguments(last)[0].op == "call_function"
    if name is not None and known and (name == "sigmoid" or _over_classes(last, layout)):
        score = arguments(last)[0]
        graph.take_off(name, last, layout[::-1])
        if name == "softmax" and packet(score) is aten._log_softmax:
            return to_scores(graph, resampled)  # which a softmax over the same classes does not change
    graph.closing = _closing(graph)
    return graph


def _over_classes(softmax: fx.Node, layout: list[fx.Node]) -> bool:
    """Whether what a softmax goes over is axis 1 when all is laid out: seen by where each of its places ends up."""
    shape = shape_of(softmax)
    axis = arguments(softmax)[1] % len(shape)
    first = torch.arange(float(shape[axis]))  # which a resampling can take, too
    places: Any = first.reshape([-1 if n == axis else 1 for n in range(len(shape))]).expand(shape)
    for node in reversed(layout):
        if packet(node) is not aten._to_copy:
            places = node.target(places, *arguments(node)[1:])  # type: ignore[operator]
    wanted = first.reshape([-1 if n == 1 else 1 for n in range(places.dim())])
    return places.dim() > 1 and places.shape[1] == shape[axis] and bool((places - wanted).abs().max() < _SAME)
