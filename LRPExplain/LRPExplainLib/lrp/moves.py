"""Answers that move relevance whole: views, selections, padding, choices; and decisions, where it ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx

from .call import Answer, Call, Sources, handed_out, is_value
from .flow import Flow
from .graph import arguments, is_index, shape_of
from .rules import Rule
from .sums import total

aten = torch.ops.aten


class View(Answer):
    """Views whose adjoint is a view or a copy of the relevance."""

    source = "adjoint; nothing is added or lost"
    silent = True
    light = True

    def __init__(self, adjoint: Callable[[Call, Tensor, torch.Size], Tensor]) -> None:
        self._adjoint = adjoint

    def propagate(self, call: Call, relevance: Tensor, rule: Rule) -> tuple[Sources, Flow]:
        source = call.args[0]
        return [source], Flow([self._adjoint(call, relevance, shape_of(source))])


class Selection(Answer):
    """Each output element is a copy of one input element or of a constant: relevance returns to where it came from.

    The adjoint is PyTorch's own derivative. What lies on constants (padding, class tokens) is absorbed like a bias.
    Where an index or a mask is computed from the input, or is one, it is held fixed.
    """

    source = "adjoint of the selection; constants absorb like a bias"

    def __init__(self, framed: bool = False) -> None:
        self._framed = framed  # it may select from a frame of zeros around its signal

    def saves(self, node: fx.Node, rule: Rule, by_sign: bool) -> list[fx.Node]:
        return [source for source in node.all_input_nodes if is_index(source, node)]

    def propagate(self, call: Call, relevance: Tensor, rule: Rule) -> tuple[Sources, Flow]:
        fixed = [node for node in call.node.all_input_nodes if call.is_constant(node) or is_index(node, call.node)]
        signals = [node for node in call.node.all_input_nodes if node not in fixed]
        if not signals:
            return [], Flow([], bias=[total(relevance)])
        leaves = {node: relevance.new_zeros(shape_of(node)).requires_grad_() for node in signals}
        with torch.enable_grad():
            y = self._run(call, leaves, relevance)
        flow = Flow(list(torch.autograd.grad(y, list(leaves.values()), relevance)))
        constants = [node for node in call.node.all_input_nodes if call.is_constant(node)]
        if self._framed or any(is_value(call.values[node]) for node in constants):
            # ones for signals and zeros for constants tell which outputs are copies of which
            with torch.no_grad():
                ones = {node: torch.ones_like(leaf) for node, leaf in leaves.items()}
                from_signal = self._run(call, ones, relevance)
            flow.bias.append(total(relevance * (1 - from_signal)))
        return signals, flow

    @staticmethod
    def _run(call: Call, signals: Mapping[fx.Node, Tensor], relevance: Tensor) -> Tensor:
        def load(node: fx.Node) -> Any:
            value = call.values[node] if node not in signals else signals[node]
            return relevance.new_zeros(value.shape) if node not in signals and is_value(value) else value

        args, kwargs = fx.node.map_arg((call.args, call.node.kwargs), load)
        return call.run(*args, **kwargs)


class Placing(Answer):
    """Values written to places among others: each place's relevance goes to what was written there last, or, where
    nothing was, to what was there before. PyTorch's derivative would give it to all that was written there.

    Args:
        named: from the numbers of all places, those to which a call writes.
        values: the position of what it writes among its arguments.
    """

    source = "adjoint of the selection; constants absorb like a bias"

    def __init__(self, named: Callable[[Call, Tensor], Tensor], values: int) -> None:
        self._named, self._values = named, values

    def saves(self, node: fx.Node, rule: Rule, by_sign: bool) -> list[fx.Node]:
        return [source for source in node.all_input_nodes if is_index(source, node)]

    def propagate(self, call: Call, relevance: Tensor, rule: Rule) -> tuple[Sources, Flow]:
        flat = relevance.flatten()
        places = self._named(call, torch.arange(len(flat), device=flat.device).reshape(relevance.shape))
        order = torch.arange(places.numel(), device=flat.device).reshape(places.shape)
        last = torch.full_like(flat, -1, dtype=torch.int64).scatter(0, places.flatten(), order.flatten())
        before = flat.masked_fill(last >= 0, 0.0).reshape(relevance.shape)
        written = flat[places].masked_fill(last[places] != order, 0.0)
        return handed_out(call, [call.args[0], call.args[self._values]], [before, written])


class Concatenation(Answer):
    """`cat`: each piece takes its own relevance back."""

    source = "adjoint; constants absorb like a bias"
    light = True

    def propagate(self, call: Call, relevance: Tensor, rule: Rule) -> tuple[Sources, Flow]:
        pieces = [piece for piece in call.args[0] if shape_of(piece) != (0,)]  # which joins whatever its axes are
        axis = call.args[1] if len(call.args) > 1 else 0
        sizes = [shape_of(piece)[axis] for piece in pieces]
        return handed_out(call, pieces, relevance.split(sizes, axis))


class Padding(Answer):
    """Constant padding: the frame's relevance is absorbed like a bias."""

    source = "adjoint; the padded frame absorbs like a bias"
    light = True

    def propagate(self, call: Call, relevance: Tensor, rule: Rule) -> tuple[Sources, Flow]:
        source, pads = call.args[:2]
        inner = aten.constant_pad_nd(relevance, [-p for p in pads], 0.0)
        bias, rest = [], relevance
        for i in range(0, len(pads), 2):  # one slab before and one after along each padded axis, then go inwards
            axis = relevance.dim() - 1 - i // 2
            before, after = max(pads[i], 0), max(pads[i + 1], 0)
            n = rest.shape[axis]
            bias += [total(rest.narrow(axis, 0, before)), total(rest.narrow(axis, n - after, after))]
            rest = rest.narrow(axis, before, n - before - after)
        return [source], Flow([inner], bias=bias)


class Split(Answer):
    """`split`, `unbind`, `chunk`: the inverse of concatenation."""

    source = "adjoint"
    silent = True
    many = True

    def propagate(self, call: Call, relevance: Any, rule: Rule) -> tuple[Sources, Flow]:
        source = call.args[0]
        indices = sorted(relevance)
        leaf = relevance[indices[0]].new_zeros(shape_of(source)).requires_grad_()
        with torch.enable_grad():
            pieces = call.run(leaf, *call.args[1:], **call.node.kwargs)
        (gradient,) = torch.autograd.grad([pieces[i] for i in indices], leaf, [relevance[i] for i in indices])
        return [source], Flow([gradient])


class Choose(Answer):
    """`where`, `masked_fill`: each element's relevance goes to the side that was chosen; constants absorb.

    Args:
        condition, chosen, other: the positions of a call's arguments that say where, what is taken there and elsewhere.
    """

    source = "adjoint of the selection; constants absorb like a bias"
    light = True

    def __init__(self, condition: int, chosen: int, other: int) -> None:
        self._condition, self._sides = condition, (chosen, other)

    def saves(self, node: fx.Node, rule: Rule, by_sign: bool) -> list[fx.Node]:
        return [arguments(node)[self._condition]]

    def propagate(self, call: Call, relevance: Tensor, rule: Rule) -> tuple[Sources, Flow]:
        chosen = call.values[call.args[self._condition]].expand_as(relevance)
        parts = [relevance.masked_fill(~chosen, 0.0), relevance.masked_fill(chosen, 0.0)]
        return handed_out(call, [call.args[side] for side in self._sides], parts)


class Switch(Answer):
    """Comparisons and the like: decisions, not signals. What relevance a product hands them is absorbed."""

    source = "a decision carries no signal; absorbs like a bias"
    role = "switch"
    light = True

    def propagate(self, call: Call, relevance: Tensor, rule: Rule) -> tuple[Sources, Flow]:
        return [], Flow([], bias=[total(relevance)])
