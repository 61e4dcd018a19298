"""What a value is known to be by how it was made: never negative, a gate, a decision, a divisor, a probability."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from functools import partial
from math import isclose
from typing import Any

import torch
from torch import fx

from .edit import packet
from .errors import LRPError
from .graph import Graph, arguments, is_decision, keywords, shape_of
from .kinds import (
    DECISIONS,
    DIVISORS,
    GATE_KEEPING,
    GATES,
    NON_NEGATIVE,
    POINTWISE,
    SCALINGS,
    SIGN_KEEPING,
    TRANSPARENT,
)

aten = torch.ops.aten
_FEW = 16  # steps of an activation that is spelled out


def non_negative(graph: Graph) -> frozenset[fx.Node]:
    """Nodes that cannot be negative whatever the input."""
    found: set[fx.Node] = set()
    for node in graph.steps:
        kind = packet(node)
        signals = [source for source in node.all_input_nodes if source not in graph.constants]
        keeps = (kind in SIGN_KEEPING and len(signals) == len(node.all_input_nodes)) or (
            kind in (aten.add, aten.mul) and len(signals) == 2 and keywords(node).get("alpha", 1) >= 0
        )
        floor = (
            arguments(node)[1]
            if kind in (aten.clamp, aten.clamp_min, aten.hardtanh) and len(arguments(node)) > 1
            else None
        )
        frame = arguments(node)[2] if len(arguments(node)) > 2 else 0.0
        if (
            kind in NON_NEGATIVE
            or (keeps and all(source in found for source in signals))
            or (isinstance(floor, (int, float)) and floor >= 0)
            or (kind is aten.constant_pad_nd and signals[0] in found and frame >= 0)
        ):
            found.add(node)
    return frozenset(found)


def require_scores(output: fx.Node, graph: Graph) -> None:
    """LRPError where there is nothing to share out: the network returns decisions (relevance cannot cross the last
    argmax of a segmentation), or the same whatever it is given.
    """
    if graph.is_constant(output):
        raise LRPError(
            "The model's output is the same whatever its input, so there is nothing to explain; ask about another"
            " output, or give the model all inputs that it answers to."
        )
    if _seen(output, DECISIONS):
        raise LRPError(
            "The model returns decisions (such as an argmax), which relevance cannot cross; give it without its last"
            " step, so that it returns the scores that were compared."
        )


def gate_among(factors: Sequence[Any], graph: Graph) -> int | None:
    """Which of two factors says how much of the other passes, if just one does: made of gates and constants alone."""
    return _only(factors, partial(gates_of, graph=graph))


def decision_among(factors: Sequence[Any], graph: Graph) -> int | None:
    """Which of two factors is made of decisions and constants alone, if just one is: constant almost everywhere."""
    return _only(factors, partial(gates_of, graph=graph, kinds=DECISIONS))


def held_among(factors: Sequence[Any], graph: Graph) -> int | None:
    """Which of two factors is held fixed: one over a signal, a decision, or a function of the other, which the product
    then is as well.
    """
    held = _only(factors, partial(_is_divisor, graph=graph))
    held = decision_among(factors, graph) if held is None else held
    if held is not None:
        return held
    whole = [_unscaled(factor, graph) for factor in factors]
    return next((i for i in (1, 0) if _is_function_of(factors[i], whole[1 - i], graph)), None)


def _only(factors: Sequence[Any], condition: Callable[[Any], object]) -> int | None:
    found = [i for i, factor in enumerate(factors) if condition(factor)]
    return found[0] if len(found) == 1 else None


def gates_of(value: Any, graph: Graph, kinds: Set[Any] = GATES) -> set[fx.Node]:
    """The gates (or decisions alone) of which, and of constants, a value is made; empty if of anything else."""
    seen: set[Any] = set()
    found: set[fx.Node] = set()
    waiting = [value]
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        if not isinstance(node, fx.Node) or node.op != "call_function":
            return set()
        kind = packet(node)
        if kind in kinds or is_decision(node) or (kinds is GATES and _reaches_one(node)):
            found.add(node)
            continue
        signals = [source for source in node.all_input_nodes if not graph.is_constant(source)]
        if not signals or not (kind in TRANSPARENT or kind in GATE_KEEPING):
            return set()
        waiting += signals[:1] if kind in TRANSPARENT else signals
    return found


def _unscaled(node: Any, graph: Graph) -> Any:
    """What a value is a constant multiple of."""
    while isinstance(node, fx.Node) and packet(node) in SCALINGS:
        signals = [arg for arg in arguments(node) if not graph.is_constant(arg)]
        if len(signals) != 1 or signals[0] is not arguments(node)[0]:
            return node
        node = signals[0]
    return node


def _is_function_of(value: Any, x: Any, graph: Graph) -> bool:
    """Whether each element is made of the element of x at its place alone, in a few steps."""
    seen: set[Any] = set()
    waiting = [value]
    while waiting:
        node = waiting.pop()
        if node is x or node in seen:
            continue
        seen.add(node)
        if len(seen) > _FEW or not isinstance(node, fx.Node) or node.op != "call_function":
            return False
        if packet(node) not in POINTWISE or shape_of(node) != shape_of(x):
            return False
        waiting += [source for source in node.all_input_nodes if not graph.is_constant(source)]
    return True


def _reaches_one(node: fx.Node) -> bool:
    """A hard sigmoid that is spelled out: something cut to 0..1, or to 0..c and divided by c, as `relu6(x + 3) / 6`."""
    if packet(node) in (aten.mul, aten.div):
        x, factor = arguments(node)[:2]
        if not isinstance(x, fx.Node) or isinstance(factor, fx.Node):
            return False
        most = factor if packet(node) is aten.div else 1 / factor if factor else 0.0
    else:
        x, most = node, 1.0
    bounds = (*arguments(x)[1:3], None, None)[:2] if packet(x) in (aten.clamp, aten.hardtanh) else (None, None)
    bounds = (0.0, 6.0) if packet(x) is aten.relu6 else bounds
    return bounds[0] == 0 and isinstance(bounds[1], (int, float)) and isclose(bounds[1], most, rel_tol=1e-6)


def _is_divisor(node: Any, graph: Graph) -> bool:
    """Whether a factor is one over a signal, times a constant perhaps."""
    while isinstance(node, fx.Node) and node.op == "call_function":
        kind = packet(node)
        args = arguments(node)
        if kind in DIVISORS or (kind is aten.div and graph.is_constant(args[0])):
            return True
        if kind is aten.pow:
            return isinstance(args[1], (int, float)) and args[1] < 0
        signals = [source for source in node.all_input_nodes if not graph.is_constant(source)]
        if kind not in SCALINGS | TRANSPARENT or (kind in SCALINGS and len(signals) != 1):
            return False
        node = signals[0] if signals else None
    return False


def _seen(argument: Any, kinds: set[Any]) -> bool:
    """Whether a signal comes from one of these operators, seen through views."""
    node = argument
    while isinstance(node, fx.Node) and node.op == "call_function":
        kind = packet(node)
        if kind in kinds:
            return True
        if kind not in TRANSPARENT:
            return False
        node = arguments(node)[0]
    return False
