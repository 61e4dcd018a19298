"""The kinds of answer an operator can give to "how does relevance pass through you?".

:mod:`.operators` gives every ATen operator one of these. An answer gets the call (values of its arguments and output),
the relevance of its output and the rule the composite chose for it, and returns where the relevance went.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from .edit import packet
from .errors import LRPError
from .flow import Flow, flow_through
from .graph import Graph, arguments, is_decision, kernel_of, keywords, layer_of, results_of, shape_of
from .linear import Average, LinearMap, Sum, unbroadcast
from .precision import HALF, as_relevance
from .rules import LinearRule, Rule, Stabilizer
from .sums import total

aten = torch.ops.aten
_OUT_OF_SIGHT = 50.0  # below the highest of a row: exp(-50) is 2e-22


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


Sources = list[fx.Node]


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


class Unchanged(Answer):
    """Elementwise functions of one signal: each element's relevance is its input's (identity rule).

    Bach 2015 for activations; Achtibat 2024, prop. 3.2 for any elementwise non-linearity.
    """

    source = "identity rule: Bach 2015; Achtibat 2024"
    light = True

    def __init__(self, role: str = "activation") -> None:
        self.role = role

    def propagate(self, call: Call, relevance: Tensor, rule: Rule) -> tuple[Sources, Flow]:
        source = next(arg for arg in call.args if not call.is_constant(arg))
        return [source], Flow([unbroadcast(relevance, shape_of(source))])


class Normalised(Answer):
    """A signal over a signal, `x / norm(x)` or `x * rsqrt(...)`: the divisor is held fixed, the dividend gets all."""

    source = "identity rule for normalisation: Achtibat 2024, prop. 3.4"
    role = "scale"
    light = True

    def __init__(self, signal: int) -> None:
        self._signal = signal

    def propagate(self, call: Call, relevance: Tensor, rule: Rule) -> tuple[Sources, Flow]:
        source = call.args[self._signal]
        return [source], Flow([unbroadcast(relevance, shape_of(source))])


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
    Where an index or a mask is computed from the input, it is held fixed.
    """

    source = "adjoint of the selection; constants absorb like a bias"

    def __init__(self, framed: bool = False) -> None:
        self._framed = framed  # it may select from a frame of zeros around its signal

    def saves(self, node: fx.Node, rule: Rule, by_sign: bool) -> list[fx.Node]:
        return [source for source in node.all_input_nodes if is_decision(source)]

    def propagate(self, call: Call, relevance: Tensor, rule: Rule) -> tuple[Sources, Flow]:
        signals = [node for node in call.node.all_input_nodes if not (call.is_constant(node) or is_decision(node))]
        if not signals:
            return [], Flow([], bias=[total(relevance)])
        leaves = {node: relevance.new_zeros(shape_of(node)).requires_grad_() for node in signals}
        with torch.enable_grad():
            y = self._run(call, leaves, relevance)
        flow = Flow(list(torch.autograd.grad(y, list(leaves.values()), relevance)))
        constants = [node for node in call.node.all_input_nodes if call.is_constant(node)]
        if self._framed or any(_is_value(call.values[node]) for node in constants):
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
            return relevance.new_zeros(value.shape) if node not in signals and _is_value(value) else value

        args, kwargs = fx.node.map_arg((call.args, call.node.kwargs), load)
        return call.run(*args, **kwargs)


class Concatenation(Answer):
    """`cat`: each piece takes its own relevance back."""

    source = "adjoint; constants absorb like a bias"
    light = True

    def propagate(self, call: Call, relevance: Tensor, rule: Rule) -> tuple[Sources, Flow]:
        pieces = [piece for piece in call.args[0] if shape_of(piece) != (0,)]  # which joins whatever its axes are
        axis = call.args[1] if len(call.args) > 1 else 0
        sizes = [shape_of(piece)[axis] for piece in pieces]
        return _handed_out(call, pieces, relevance.split(sizes, axis))


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


class LinearLayer(Answer):
    """A layer that is linear in its signals: the composite's rule decides."""

    rules = ("linear", "pass")

    def __init__(
        self, role: str, build: Callable[[Call], tuple[Sources, LinearMap]], source: str, light: bool = False
    ) -> None:
        self.role = role
        self.source = source
        self.light = light
        self._build = build

    def saves(self, node: fx.Node, rule: Rule, by_sign: bool) -> list[fx.Node]:
        if not isinstance(rule, LinearRule):
            return []
        # Weightless sums read their inputs for z anyway; a folded norm's output stands in for the layer's own.
        nodes = list(node.all_input_nodes)
        has_statistics = self.role == "norm"  # a norm's mean and deviation are outputs of its call
        return [*nodes, node] if rule.reads_output(by_sign) or has_statistics else nodes

    def propagate(self, call: Call, relevance: Tensor, rule: Rule) -> tuple[Sources, Flow]:
        if not isinstance(rule, LinearRule):
            return self._pass(call, relevance)
        sources, layer = self._build(call)
        layer.non_negative = all(source in call.non_negative for source in sources)
        layer.rounded = call.rounded
        layer.slab = call.slab
        return sources, flow_through(rule, layer, relevance)

    def _pass(self, call: Call, relevance: Tensor) -> tuple[Sources, Flow]:
        sources = [node for node in call.node.all_input_nodes if not call.is_constant(node)]
        if len(sources) != 1:
            raise LRPError(
                f"The rule 'pass' does not fit {layer_of(call.node)}, which has {len(sources)} signals to share among."
            )
        if shape_of(sources[0]) != relevance.shape:
            raise LRPError(f"The rule 'pass' does not fit {layer_of(call.node)}, which changes its input's shape.")
        return sources, Flow([relevance])


class Product(Answer):
    """Elementwise product of two signals; if one of them is a gate (sigmoid, softmax, comparison), that is known.

    `signal`: all relevance to what the gate lets through (Arras 2017). `uniform`: half each (Achtibat 2024, prop. 3.3).
    """

    source = "signal: Arras 2017; uniform: Achtibat 2024, prop. 3.3"
    rules = ("signal", "uniform")
    light = True

    def __init__(self, role: str, gate: int | None = None) -> None:
        self.role = role
        self._gate = gate

    def propagate(self, call: Call, relevance: Tensor, rule: Rule) -> tuple[Sources, Flow]:
        factors = list(call.args[:2])
        if rule.name == "signal" and self._gate is not None:
            signal = factors[1 - self._gate]
            return [signal], Flow([unbroadcast(relevance, shape_of(signal))])
        half = relevance * 0.5
        return factors, Flow([unbroadcast(half, shape_of(factor)) for factor in factors])


class SignalMatmul(Answer):
    """Product of two signals as matrices (attention scores, attention times values).

    `uniform`: epsilon with half of the relevance to each factor (Achtibat 2024, prop. 3.3); `signal`: attention weights
    are held fixed and the values get all (Ali 2022), scores pass half to each.
    """

    source = "uniform: Achtibat 2024, prop. 3.3; signal: Ali 2022"
    rules = ("signal", "uniform")
    role = "matmul"

    def __init__(self, gate: int | None) -> None:
        self._gate = gate

    def saves(self, node: fx.Node, rule: Rule, by_sign: bool) -> list[fx.Node]:
        return [*node.all_input_nodes, node]

    def propagate(self, call: Call, relevance: Tensor, rule: Rule) -> tuple[Sources, Flow]:
        a, b = call.args[:2]
        x, y = call.value(a), call.value(b)
        z = call.output
        extra = Stabilizer()(z)
        s = relevance / (z + extra)
        flow = Flow([], stabiliser=[total(extra * s)])
        if rule.name == "signal" and self._gate is not None:
            if self._gate == 0:
                flow.relevance.append(y * (x.mT @ s))
                return [b], flow
            flow.relevance.append(x * (s @ y.mT))
            return [a], flow
        s = s * 0.5
        flow.relevance += [x * (s @ y.mT), y * (x.mT @ s)]
        return [a, b], flow


class Softmax(Answer):
    """`taylor`: R_i = x_i (R_i - p_i sum_j R_j), whose constant term takes the rest; `pass`: unchanged."""

    source = "taylor: Achtibat 2024, prop. 3.1"
    rules = ("taylor", "pass")
    role = "softmax"

    def saves(self, node: fx.Node, rule: Rule, by_sign: bool) -> list[fx.Node]:
        return [node, *node.all_input_nodes] if rule.name == "taylor" else []

    def propagate(self, call: Call, relevance: Tensor, rule: Rule) -> tuple[Sources, Flow]:
        source, axis = call.args[:2]
        if rule.name == "pass":
            return [source], Flow([relevance])
        x, p = call.value(source), call.output
        together = relevance.sum(axis, keepdim=True)
        # masked positions are -inf with p = 0 and no relevance; they get none
        x = torch.where(torch.isinf(x), torch.zeros_like(x), x)
        taken = total(relevance * (1 - x)) + total((x * p).sum(axis, keepdim=True) * together)
        return [source], Flow([x * (relevance - p * together)], changed=[taken])


class Winner(Answer):
    """Maximum: the winner takes all (Montavon 2019); adjoint of the selection that the forward pass made.

    What a constant wins is absorbed like a bias.
    """

    source = "winner takes all: Montavon 2019, sec. 10.3"
    role = "max"
    rules = ("winner",)

    def saves(self, node: fx.Node, rule: Rule, by_sign: bool) -> list[fx.Node]:
        return list(node.all_input_nodes)

    def propagate(self, call: Call, relevance: Any, rule: Rule) -> tuple[Sources, Flow]:
        rivals = [node for node in call.node.all_input_nodes if _is_value(call.values[node])]
        leaves = {node: call.value(node).detach().requires_grad_() for node in rivals}
        args, kwargs = fx.node.map_arg((call.args, call.node.kwargs), lambda n: leaves.get(n, call.values[n]))
        with torch.enable_grad():
            y = call.run(*args, **kwargs)
        values = y[0] if isinstance(y, (tuple, list)) else y
        return _handed_out(call, rivals, torch.autograd.grad(values, list(leaves.values()), relevance))


class SoftWinner(Answer):
    """`logsumexp`: exp, a sum and log in steps, without their overflow: R_i = softmax(x)_i R."""

    source = "identity rule for exp and log, a sum's relevance in proportion to its summands: Bach 2015"
    role = "max"
    rules = ("winner",)

    def saves(self, node: fx.Node, rule: Rule, by_sign: bool) -> list[fx.Node]:
        return list(node.all_input_nodes)

    def propagate(self, call: Call, relevance: Tensor, rule: Rule) -> tuple[Sources, Flow]:
        source = call.args[0]
        leaf = call.value(source).detach().requires_grad_()
        with torch.enable_grad():
            y = call.run(leaf, *call.args[1:], **call.node.kwargs)
        return [source], Flow(list(torch.autograd.grad(y, [leaf], relevance)))  # whose derivative is the softmax


class Choose(Answer):
    """`where`: each element's relevance goes to the side that was chosen; a constant side absorbs like a bias."""

    source = "adjoint of the selection; constants absorb like a bias"
    light = True

    def saves(self, node: fx.Node, rule: Rule, by_sign: bool) -> list[fx.Node]:
        return [arguments(node)[0]]

    def propagate(self, call: Call, relevance: Tensor, rule: Rule) -> tuple[Sources, Flow]:
        condition, *sides = call.args[:3]
        chosen = call.values[condition].expand_as(relevance)
        return _handed_out(call, sides, [relevance.masked_fill(~chosen, 0.0), relevance.masked_fill(chosen, 0.0)])


class Masking(Answer):
    """`masked_fill`: what was overwritten goes to what it was overwritten with; a constant absorbs like a bias."""

    source = "adjoint of the selection; constants absorb like a bias"
    light = True

    def saves(self, node: fx.Node, rule: Rule, by_sign: bool) -> list[fx.Node]:
        return [arguments(node)[1]]

    def propagate(self, call: Call, relevance: Tensor, rule: Rule) -> tuple[Sources, Flow]:
        source, mask, value = call.args[:3]
        filled = call.values[mask].expand_as(relevance)
        sides = [relevance.masked_fill(filled, 0.0), relevance.masked_fill(~filled, 0.0)]
        return _handed_out(call, [source, value], sides)


class Switch(Answer):
    """Comparisons and the like: decisions, not signals. What relevance a product hands them is absorbed."""

    source = "a decision carries no signal; absorbs like a bias"
    role = "switch"
    light = True

    def propagate(self, call: Call, relevance: Tensor, rule: Rule) -> tuple[Sources, Flow]:
        return [], Flow([], bias=[total(relevance)])


def _handed_out(call: Call, sharers: Sequence[Any], parts: Sequence[Tensor]) -> tuple[Sources, Flow]:
    """Each signal among those that share gets its part of the relevance; what a constant would get is absorbed."""
    signals, flow = [], Flow([])
    for sharer, part in zip(sharers, parts, strict=True):
        if call.is_constant(sharer):
            flow.bias.append(total(part))
        else:
            signals.append(sharer)
            flow.relevance.append(unbroadcast(part, shape_of(sharer)))
    return signals, flow


def averaging(call: Call) -> tuple[Sources, LinearMap]:
    """Pooling, resampling and sums as a linear map of their one signal."""
    args = call.args
    (source,) = (arg for arg in args if not (call.is_constant(arg) or is_decision(arg)))

    def run(x: Tensor) -> Tensor:
        return call.run(*(x if arg is source else call.value(arg) for arg in args), **call.node.kwargs)

    output = call.values.get(call.node)
    return [source], Average(call.value(source), run, run(call.value(source)) if output is None else call.output)


def summing(call: Call) -> tuple[Sources, LinearMap]:
    """`add`, `sub`, `rsub` with factors as a sum of signals; what is constant is the bias."""
    a, b = call.args[:2]
    alpha = keywords(call.node).get("alpha", call.args[2] if len(call.args) > 2 else 1)
    kind = packet(call.node)
    factors = (-alpha, 1) if kind is aten.rsub else (1, -alpha if kind is aten.sub else alpha)
    signals = {arg: f for arg, f in zip((a, b), factors, strict=True) if not call.is_constant(arg)}
    sources = [arg for arg in (a, b) if arg in signals]
    inputs = [_scaled(call.value(arg), f) for arg, f in zip((a, b), factors, strict=True) if arg in signals]
    bias = None
    for arg, factor in zip((a, b), factors, strict=True):
        if arg not in signals:
            bias = torch.as_tensor(call.value(arg), dtype=inputs[0].dtype, device=inputs[0].device) * factor
    output = call.output if call.node in call.values else inputs[0].new_empty(0)
    if bias is not None:  # what an attention mask hides gets no relevance: it is no part of the scale of the sum
        hidden = _hidden(bias, call.node)
        bias = bias.masked_fill(hidden, 0.0)
        output = torch.where(hidden, inputs[0], output) if output.numel() else output
    return sources, Sum(inputs, output, shape_of(call.node), bias)


def _hidden(mask: Tensor, node: fx.Node) -> Tensor:
    """Where a constant summand is so low that the softmax that follows it gives nothing to its element.

    Networks write such masks as -inf, -100, -1e9 or the lowest number there is; rows of padding are low as a whole.
    """
    hidden = torch.isinf(mask)
    if mask.dim() == 0 or not _before_softmax(node):
        return hidden
    top = mask.amax(-1, keepdim=True)
    padding = (mask.amin(-1, keepdim=True) == top) & (top <= mask.amax() - _OUT_OF_SIGHT)
    return hidden | (mask <= top - _OUT_OF_SIGHT) | padding


def _before_softmax(node: fx.Node) -> bool:
    """Whether a softmax along the last axis follows, at once or through views that keep that axis."""
    while len(node.users) == 1:
        (user,) = node.users
        if packet(user) in (aten._softmax, aten._safe_softmax):
            return arguments(user)[1] % len(shape_of(user)) == len(shape_of(user)) - 1
        if packet(user) is not aten.reshape or shape_of(user)[-1:] != shape_of(node)[-1:]:
            return False
        node = user
    return False


def _scaled(x: Tensor, factor: Any) -> Tensor:
    return x if factor == 1 else x * factor


def _is_value(value: Any) -> bool:
    """A constant that carries numbers into the signal, as opposed to an index or a mask."""
    return isinstance(value, Tensor) and value.is_floating_point()
