"""What a network makes of its last scores: a softmax or a sigmoid, before which an explanation had better start.

The engine's rule for elementwise functions hands relevance through unchanged (:class:`.answers.Unchanged`). A
probability p > 0 of a logit x < 0 would then be relevance of the wrong sign: R / x turns what speaks for the class into
what speaks against it. The score before the softmax is what is explained since Simonyan 2014 (sec. 2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from .edit import packet
from .graph import Graph, arguments, function_of, shape_of
from .kinds import PROBABILITIES, SOFTMAX
from .origins import made_by

aten = torch.ops.aten
_SCORED_BY = PROBABILITIES | {"softmax": {*SOFTMAX, aten._log_softmax}, "sigmoid": {aten.sigmoid}}
# What only lays the same values out in another way
_LAYS_OUT = {aten.reshape, aten.permute, aten.transpose, aten.t, aten.squeeze, aten.unsqueeze, aten._to_copy}


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
    """The softmax or sigmoid that the network's (first) output is made by, seen through views; None: neither."""
    if graph.taken_off is not None:
        return Ending(graph.taken_off, True)
    found = next((name for name, kinds in PROBABILITIES.items() if made_by(graph.outputs[0], kinds)), None)
    return None if found is None else Ending(found, False)


def to_scores(graph: Graph) -> Graph:
    """Let the (first) output be the scores of which the network's last softmax, log-softmax or sigmoid makes
    probabilities, in place; returns the graph.

    Nothing happens where there is none, where it does not go over axis 1, or where more than a change of layout follows
    (a resampling of probabilities is none of scores).
    """
    layout, last = [], graph.outputs[0]
    while packet(last) in _LAYS_OUT:
        layout.append(last)
        last = arguments(last)[0]
    name = next((name for name, kinds in _SCORED_BY.items() if packet(last) in kinds), None)
    if name is None or arguments(last)[0].op != "call_function":
        return graph
    if name == "softmax" and not _over_classes(last, layout):
        return graph
    graph.take_off(name, last, layout[::-1])
    return graph


def _over_classes(softmax: fx.Node, layout: list[fx.Node]) -> bool:
    """Whether what a softmax goes over is axis 1 when all is laid out: seen by where each of its places ends up."""
    shape = shape_of(softmax)
    axis = arguments(softmax)[1] % len(shape)
    places: Any = torch.arange(shape[axis]).reshape([-1 if n == axis else 1 for n in range(len(shape))]).expand(shape)
    for node in reversed(layout):
        places = function_of(node)(places, *arguments(node)[1:])
    if places.dim() < 2 or places.shape[1] != shape[axis]:
        return False
    wanted = torch.arange(shape[axis]).reshape([-1 if n == 1 else 1 for n in range(places.dim())])
    return bool((places == wanted).all())
