"""The kinds of answer an operator can give to "how does relevance pass through you?".

:mod:`.operators` gives every ATen operator one of these. An answer gets the call (values of its arguments and output),
the relevance of its output and the rule the composite chose for it, and returns where the relevance went.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from .call import Answer, Call, Sources, handed_out, is_value
from .errors import LRPError
from .flow import Flow
from .graph import layer_of, shape_of
from .layerwise import flow_through
from .linear import LinearMap, unbroadcast
from .precision import product
from .rules import LinearRule, Rule, Stabilizer
from .sums import total


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


class Held(Answer):
    """A factor or divisor is held fixed, and the other signal gets all: the divisor of `x / norm(x)`, a decision, what
    an elementwise function of x such as `x * relu6(x + 3) / 6` multiplies x by.
    """

    source = "identity rule: Achtibat 2024, prop. 3.2 and 3.4; decisions are constant almost everywhere"
    role = "scale"
    light = True

    def __init__(self, signal: int) -> None:
        self._signal = signal

    def propagate(self, call: Call, relevance: Tensor, rule: Rule) -> tuple[Sources, Flow]:
        source = call.args[self._signal]
        return [source], Flow([unbroadcast(relevance, shape_of(source))])


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
    are held fixed and the values get all (Ali 2022), scores pass half to each. A gate of decisions is always held.
    """

    source = "uniform: Achtibat 2024, prop. 3.3; signal: Ali 2022"
    rules = ("signal", "uniform")
    role = "matmul"

    def __init__(self, gate: int | None, decided: bool) -> None:
        self._gate, self._decided = gate, decided

    def saves(self, node: fx.Node, rule: Rule, by_sign: bool) -> list[fx.Node]:
        return [*node.all_input_nodes, node]

    def propagate(self, call: Call, relevance: Tensor, rule: Rule) -> tuple[Sources, Flow]:
        a, b = call.args[:2]
        x, y = call.value(a), call.value(b)
        z = call.output
        extra = Stabilizer()(z)
        s = relevance / (z + extra)
        flow = Flow([], stabiliser=[total(extra * s)])
        if self._decided or (rule.name == "signal" and self._gate is not None):
            if self._gate == 0:
                flow.relevance.append(y * product(torch.matmul, x.mT, s))
                return [b], flow
            flow.relevance.append(x * product(torch.matmul, s, y.mT))
            return [a], flow
        s = s * 0.5
        flow.relevance += [x * product(torch.matmul, s, y.mT), y * product(torch.matmul, x.mT, s)]
        return [a, b], flow


class Softmax(Answer):
    """`taylor`: R_i = x_i (R_i - p_i sum_j R_j), whose constant term takes the rest; `pass`: unchanged."""

    source = "taylor: Achtibat 2024, prop. 3.1"
    rules: tuple[str, ...] = ("taylor", "pass")
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


class ClosingSoftmax(Softmax):
    """One that a network's probabilities are made by (see :mod:`.endings`), whatever becomes of those within."""

    role = "ending"
    rules = ("taylor",)


class ClosingSigmoid(Answer):
    """The same of a sigmoid, the softmax over a score and a fixed 0: R_i x_i p'_i / p_i = R_i x_i (1 - p_i)."""

    source = "as softmax: Achtibat 2024, prop. 3.1"
    role = "ending"
    rules = ("taylor",)

    def saves(self, node: fx.Node, rule: Rule, by_sign: bool) -> list[fx.Node]:
        return [node, *node.all_input_nodes]

    def propagate(self, call: Call, relevance: Tensor, rule: Rule) -> tuple[Sources, Flow]:
        source, p = call.args[0], call.output
        (slope,) = _derived(call, [source], torch.ones_like(p))
        share = torch.where(p > 0, call.value(source) * slope / p, 0)
        return [source], Flow([relevance * share], changed=[total(relevance * (1 - share))])


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
        rivals = [node for node in call.node.all_input_nodes if is_value(call.values[node])]
        return handed_out(call, rivals, _derived(call, rivals, relevance))


class SoftWinner(Answer):
    """`logsumexp`: exp, a sum and log in steps, without their overflow: R_i = softmax(x)_i R."""

    source = "identity rule for exp and log, a sum's relevance in proportion to its summands: Bach 2015"
    role = "max"
    rules = ("winner",)

    def saves(self, node: fx.Node, rule: Rule, by_sign: bool) -> list[fx.Node]:
        return list(node.all_input_nodes)

    def propagate(self, call: Call, relevance: Tensor, rule: Rule) -> tuple[Sources, Flow]:
        source = call.args[0]
        return [source], Flow(list(_derived(call, [source], relevance)))  # the derivative is the softmax


def _derived(call: Call, sources: Sequence[fx.Node], relevance: Any) -> tuple[Tensor, ...]:
    """The adjoint of a call's (first) result, at its arguments' values, for each of these arguments."""
    leaves = {node: call.value(node).detach().requires_grad_() for node in sources}
    args, kwargs = fx.node.map_arg((call.args, call.node.kwargs), lambda n: leaves.get(n, call.values[n]))
    with torch.enable_grad():
        y = call.run(*args, **kwargs)
    return torch.autograd.grad(y[0] if isinstance(y, (tuple, list)) else y, list(leaves.values()), relevance)
