"""LRP's rules as data.

A rule for a linear layer is a few :class:`Part` s. Each part has a denominator

    z' = sum over its terms of  W'(x')  + bias'

made of modified inputs x', weights W' and bias, and hands on its share of the layer's relevance in proportion to the
contributions to z':

    R_i = sum over parts, terms:  x'_i * W'^T ( share * R / (z' + stabiliser) )_i

That one formula is LRP-0/epsilon (Bach et al. 2015, eq. 58), gamma (Montavon et al. 2019; generalised to signed
inputs, Andeol et al. 2021), alpha-beta (Bach 2015, eq. 60; z+ is alpha 1, beta 0), z-box and w-square (Montavon et al.
2017) and flat (Lapuschkin et al. 2019); :meth:`LinearRule.flow` is its only implementation.

The rules for what is not linear in one signal (gates, products, attention, softmax) are names; the operators know
what each means.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from .boxes import Box, cut
from .errors import LRPError
from .linear import RAW, LinearMap, modify

# Modifications of inputs and weights whose values all have one sign
SIGNS = {"+": 1, "-": -1, "|.|": 1, "one": 1, "squared": 1}
_PIECE = 1 << 20  # floats that are summed at once
_NEGLIGIBLE = 1e-5  # as a share of a denominator
FLOOR = 1e-19  # keeps 0/0 at zero; far below any activation and safe to divide by in float32


@dataclass(frozen=True)
class Term:
    """One product of a modified input and a modified weight: names of :func:`~.linear.modify`, or `low`, `high`."""

    input: str
    weight: str
    sign: float = 1.0


@dataclass(frozen=True)
class Part:
    """One denominator and the share of relevance that goes through it.

    Attributes:
        terms: whose contributions the denominator sums.
        bias: the modification of the bias in it.
        share: of the layer's relevance.
        where: `all`, or only where the output is `positive` or `negative`.
        heirs: terms among whose contributions goes what the bias received; none: the bias keeps (absorbs) it.
        otherwise: the part that takes the relevance of outputs that have no contribution here (z+ where nothing speaks
            for the output), so that it is handed on and not lost in the stabiliser.
    """

    terms: tuple[Term, ...]
    bias: str = "zero"
    share: float = 1.0
    where: str = "all"
    heirs: tuple[Term, ...] = ()
    otherwise: Part | None = None

    @property
    def sign(self) -> int | None:
        """The sign that all contributions have by the terms' own making; None where it depends on their values."""
        signs = {int(term.sign) * SIGNS.get(term.input, 0) * SIGNS.get(term.weight, 0) for term in self.terms}
        return signs.pop() or None if len(signs) == 1 else None

    def sharing_bias(self) -> Part:
        """This part with nothing left to the bias: its share goes to the contributions in proportion to their size.

        Where all contributions have one sign, that is the part without its bias.
        """
        if self.bias == "zero":
            return self
        if self.sign is not None:
            without = None if self.otherwise is None else self.otherwise.sharing_bias()
            return replace(self, bias="zero", otherwise=without)
        return replace(self, heirs=tuple(Term(f"|{term.input}|", f"|{term.weight}|") for term in self.terms))


@dataclass(frozen=True)
class Stabilizer:
    """What keeps a denominator from zero: epsilon with the sign of z, times the layer's own scale if relative."""

    epsilon: float = 1e-6
    relative: bool = True

    def __call__(self, z: Tensor, scale: Tensor | None = None) -> Tensor:
        """The signed amount to add to z; `scale` is that of z, or of what z is a part of."""
        if not self.relative:
            return torch.copysign(torch.full_like(z, self.epsilon + FLOOR), z)
        if z.dim() < 2:  # one value per sample is its own scale
            return z * self.epsilon + torch.copysign(torch.full_like(z, FLOOR), z)
        return torch.copysign((self.scale(z) if scale is None else scale) * self.epsilon + FLOOR, z)

    @staticmethod
    def scale(z: Tensor) -> Tensor:
        """The root mean square over everything but the first axis, the batch."""
        axes = list(range(1, z.dim()))
        return torch.linalg.vector_norm(z, dim=axes, keepdim=True) / max(1, z[:1].numel()) ** 0.5

    def local(self) -> bool:
        """Whether it hardly matters of which part of a layer the scale is: no more than the little it takes changes."""
        return not self.relative or self.epsilon <= _NEGLIGIBLE


@dataclass
class Flow:
    """What became of the relevance that reached a layer: per input, and what did not get there (float64 sums).

    Attributes:
        relevance: one tensor per input signal.
        bias: taken by biases and other constants.
        stabiliser: taken by the stabiliser.
        changed: lost (positive) or created (negative) by a rule that does not conserve relevance by nature.
    """

    relevance: list[Tensor]
    bias: list[Tensor] = field(default_factory=list)
    stabiliser: list[Tensor] = field(default_factory=list)
    changed: list[Tensor] = field(default_factory=list)


class Rule:
    """Base of all rules; `name` is what users, cards and tables call it."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Choice(Rule):
    """A rule that is a decision between documented ways (`pass`, `signal`, `uniform`, `taylor`, `winner`)."""

    name: str


@dataclass(frozen=True)
class LinearRule(Rule):
    """A rule for linear layers.

    Args:
        name: with its parameters, as in the literature.
        parts: see the module's text.
        stabilizer: added to each denominator.
        low, high: bounds of the input for z-box: a number, a tensor broadcastable to the input, or None for the
            lowest and highest value of the sample itself.
    """

    name: str
    parts: tuple[Part, ...]
    stabilizer: Stabilizer = Stabilizer()
    low: float | Tensor | None = None
    high: float | Tensor | None = None

    def sharing_bias(self) -> LinearRule:
        """The same rule with each bias shared among the contributions it was added to, in proportion to their size.

        As residual sums are shared in most composites: bounded, and conserving. z+ becomes what it is in Montavon 2017.
        Of two parts of opposite sign (alpha-beta) an empty one hands its share to the other.
        """
        parts = [part.sharing_bias() for part in self.parts]
        if {part.sign for part in parts} == {1, -1}:
            one, other = parts
            parts = [replace(a, otherwise=replace(b, share=1.0)) for a, b in ((one, other), (other, one))]
        return replace(self, parts=tuple(parts))

    def reads_output(self) -> bool:
        """Whether the layer's output is needed: plain epsilon divides by it, and signs are told by it."""
        return any(part.terms == PLAIN or part.where != "all" for part in self.parts)

    def reads_input(self) -> bool:
        """Whether the layer's input values matter."""
        return any(term.input not in ("one", "low", "high") for part in self.parts for term in part.terms)

    def weights(self) -> set[str]:
        """The modifications of the layer's weight that the rule asks for."""
        parts = [*self.parts, *(part.otherwise for part in self.parts if part.otherwise is not None)]
        return {term.weight for part in parts for term in (*part.terms, *part.heirs)}

    def flow(self, layer: LinearMap, relevance: Tensor) -> Flow:
        """Propagate the relevance of a layer's output to its inputs."""
        flow = Flow([])
        for part in self.parts:
            self._through(part, layer, relevance, flow)
        if not flow.relevance:
            flow.relevance.extend(torch.zeros_like(x) for x in layer.inputs)
        return flow

    def _through(self, part: Part, layer: LinearMap, relevance: Tensor, flow: Flow) -> None:
        share = _where(relevance, layer.output, part)
        if part.where != "all" and not share.any():
            return  # behind a ReLU nothing reaches negative outputs: half of gamma's work
        cut_down = cut(layer, share) if self._local(part) else None
        if cut_down is None:
            self._terms_of(part, layer, share, flow)
            return
        small, box, source = cut_down
        inner = Flow([])
        scale = self.stabilizer.scale(layer.output) if part.terms == PLAIN else None
        self._terms_of(part, small, share[box], inner, scale)
        _paste(flow, inner, layer, source)

    def _local(self, part: Part) -> bool:
        """Whether what happens at a voxel needs no look at the whole layer, as z-box's bounds and scales may."""
        blind = all(term.input not in ("low", "high") for term in part.terms)
        return blind and (part.terms == PLAIN or self.stabilizer.local())

    def _terms_of(self, part: Part, layer: LinearMap, share: Tensor, flow: Flow, scale: Tensor | None = None) -> None:
        terms = [term for term in part.terms if self._counts(term, layer)]
        inputs = [[self._input(x, term, layer) for x in layer.inputs] for term in terms]
        bias = None if layer.bias is None or part.bias == "zero" else modify(layer.bias, part.bias)
        if part.terms == PLAIN:
            z = layer.output
        else:
            z = _denominator(layer, terms, inputs, bias, share)
            if layer.mean_term is not None:
                z = z + modify(layer.mean_term, part.bias)
        if part.otherwise is not None and part.sign is not None:
            empty = (z * part.sign <= 0) & (share != 0)
            if empty.any():
                self._through(part.otherwise, layer, share.masked_fill(~empty, 0.0), flow)
                share = share.masked_fill(empty, 0.0)
        extra = self.stabilizer(z, scale)
        divisor = z + extra
        s = torch.div(share, divisor, out=divisor) if divisor.shape == share.shape else share / divisor
        flow.stabiliser.append(total(extra.mul_(s) if extra.shape == s.shape else extra * s))
        if bias is not None and part.heirs:
            self._inherit(part, layer, bias * s, flow)
        elif bias is not None:
            flow.bias.append(dot(bias, s))
        if layer.mean is not None:
            _through_mean(layer, layer.mean, part.bias, s, flow)
        if layer.scale is not None:
            s = s * layer.scale
        _hand_on(layer, terms, inputs, s, flow)

    def _inherit(self, part: Part, layer: LinearMap, received: Tensor, flow: Flow) -> None:
        """Give what a part's bias received to the heirs; where there are none of any size, the bias absorbs it."""
        terms = [heir for heir, term in zip(part.heirs, part.terms, strict=True) if self._counts(term, layer)]
        inputs = [[self._input(x, term, layer) for x in layer.inputs] for term in terms]
        sizes = _denominator(layer, terms, inputs, None, received)
        alone = sizes <= FLOOR
        flow.bias.append(total(received.masked_fill(~alone, 0.0)))
        s = (received / sizes).masked_fill(alone, 0.0)
        _hand_on(layer, terms, inputs, s if layer.scale is None else s * layer.scale, flow)

    def _counts(self, term: Term, layer: LinearMap) -> bool:
        """Whether a term can be other than zero: not for the negative part of what is never negative."""
        negative_input = term.input == "-" and layer.non_negative
        return not (negative_input or (term.weight == "-" and not layer.weighted))

    def _input(self, x: Tensor, term: Term, layer: LinearMap) -> Tensor:
        if term.input == "+" and layer.non_negative:
            return x
        if term.input == "low":
            value = _bound(x, self.low, torch.amin)
        elif term.input == "high":
            value = _bound(x, self.high, torch.amax)
        else:
            value = modify(x, term.input)
        blind = term.input in ("low", "high", "one")
        return value * layer.frame() if blind and layer.frame is not None else value


def _hand_on(
    layer: LinearMap, terms: Sequence[Term], inputs: Sequence[Sequence[Tensor]], s: Tensor, flow: Flow
) -> None:
    for term, xs in zip(terms, inputs, strict=True):
        gradients = layer.adjoint(s if term.sign > 0 else -s, term.weight)
        contributions = [g.mul_(x) if layer.fresh else g * x for x, g in zip(xs, gradients, strict=True)]
        _add(flow.relevance, contributions)


def _paste(flow: Flow, inner: Flow, layer: LinearMap, source: Box) -> None:
    """Add what became of the relevance in a box of the layer's one input."""
    if not flow.relevance:
        flow.relevance.append(torch.zeros_like(layer.inputs[0]))
    if inner.relevance:
        flow.relevance[0][source].add_(inner.relevance[0])
    flow.bias += inner.bias
    flow.stabiliser += inner.stabiliser


def _bound(x: Tensor, bound: float | Tensor | None, extreme: Callable[..., Tensor]) -> Tensor:
    if bound is None:
        return extreme(x, dim=tuple(range(1, x.dim())), keepdim=True).expand_as(x)
    return torch.as_tensor(bound, dtype=x.dtype, device=x.device).expand_as(x)


def _where(relevance: Tensor, output: Tensor, part: Part) -> Tensor:
    if part.where == "positive":
        relevance = relevance.masked_fill(output < 0, 0.0)
    elif part.where == "negative":
        relevance = relevance.masked_fill(output >= 0, 0.0)
    return relevance if part.share == 1.0 else relevance * part.share


def _denominator(
    layer: LinearMap, terms: Sequence[Term], inputs: Sequence[Sequence[Tensor]], bias: Tensor | None, like: Tensor
) -> Tensor:
    z: Tensor | None = None
    for term, xs in zip(terms, inputs, strict=True):
        piece = layer.apply(xs, term.weight)
        if z is None:
            z = piece if term.sign > 0 else -piece
        else:
            z = z.add_(piece, alpha=term.sign) if layer.fresh else torch.add(z, piece, alpha=term.sign)
    if z is None:
        z = torch.zeros_like(like)
    if layer.scale is not None:
        z = z.mul_(layer.scale) if layer.fresh else z * layer.scale
    if bias is not None:
        z = z.add_(bias) if layer.fresh else z + bias
    return z


def _through_mean(layer: LinearMap, mean: Callable[[Tensor], Tensor], modification: str, s: Tensor, flow: Flow) -> None:
    """The sample's mean is a contribution like another: what it receives goes on to all that it is the mean of."""
    term = layer.mean_term
    assert term is not None
    # 0, 1 or 1 + gamma: how much this part counts it
    kept = modify(term, modification) / torch.where(term == 0, 1.0, term)
    received = mean(s * kept * layer.mean_factor * (1.0 if layer.scale is None else layer.scale)).neg()
    gradients = layer.adjoint(received.expand_as(s).contiguous(), RAW)
    _add(flow.relevance, [x * g for x, g in zip(layer.inputs, gradients, strict=True)])


def _add(sums: list[Tensor], more: list[Tensor]) -> None:
    if not sums:
        sums.extend(more)
    else:
        for a, b in zip(sums, more, strict=True):
            a.add_(b)  # what was summed before is this flow's own


def total(x: Tensor) -> Tensor:
    """Sum in float64, as a tensor, so that a GPU is not stopped for it.

    PyTorch makes a float64 copy first; on the CPU one that is larger than what the allocator keeps at hand costs as
    much as a convolution, so it goes in pieces.
    """
    if x.device.type != "cpu" or x.dtype != torch.float32 or x.numel() <= _PIECE:
        return x.sum(dtype=torch.float64)
    flat = x.permute(sorted(range(x.dim()), key=x.stride, reverse=True)).reshape(-1)  # in the order of the memory
    return torch.stack([piece.sum(dtype=torch.float64) for piece in flat.split(_PIECE)]).sum()


def dot(bias: Tensor, s: Tensor) -> Tensor:
    """Sum of bias * s in float64 for a bias that is broadcast to s, without making their product."""
    axes = [i for i in range(s.dim()) if i >= s.dim() - bias.dim() and bias.shape[i - s.dim()] == 1]
    axes = [*range(s.dim() - bias.dim()), *axes]
    reduced = s.sum(axes, keepdim=True, dtype=torch.float64) if axes else s.double()
    return (reduced * bias).sum()


PLAIN = (Term("same", "same"),)
POSITIVE = (Term("+", "+"), Term("-", "-"))
NEGATIVE = (Term("+", "-"), Term("-", "+"))


def epsilon(epsilon: float = 1e-6, relative: bool = True) -> LinearRule:
    """LRP-epsilon (Bach 2015, eq. 58): in proportion to x w; a larger epsilon damps what cancels."""
    return LinearRule(f"epsilon({epsilon:g})", (Part(PLAIN, "same"),), Stabilizer(epsilon, relative))


def norm(stabilizer: Stabilizer = Stabilizer()) -> LinearRule:
    """LRP-0 (Bach 2015, eq. 56): each contribution's share of z as it is, with no more than what keeps 0/0 away.

    What Zennit calls Norm and takes for average pooling and sums.
    """
    return LinearRule("norm", (Part(PLAIN, "same"),), stabilizer)


def z_plus(stabilizer: Stabilizer = Stabilizer(), absorb_bias: bool = True) -> LinearRule:
    """z+ or alpha1-beta0 (Bach 2015, eq. 60): in proportion to the positive contributions alone.

    An output with no positive contribution at all hands its relevance to the negative ones (relevance conserved;
    it happens behind activations other than ReLU, and at residual sums).

    Args:
        absorb_bias: count a positive bias among the contributions (Bach 2015), or share all relevance among the
            inputs (the z+ rule of Montavon 2017, which has no bias).
    """
    rule = LinearRule("z+", (Part(POSITIVE, "+", otherwise=Part(NEGATIVE, "-")),), stabilizer)
    return rule if absorb_bias else replace(rule.sharing_bias(), name="z+(no bias)")


def alpha_beta(alpha: float, beta: float, stabilizer: Stabilizer = Stabilizer()) -> LinearRule:
    """Alpha-beta (Bach 2015, eq. 60): positive contributions carry alpha, negative ones -beta.

    Raises:
        LRPError: alpha - beta is not 1 or beta is negative, which would create or lose relevance.
    """
    if beta < 0 or abs(alpha - beta - 1) > 1e-9:
        raise LRPError(f"Alpha-beta needs alpha - beta = 1 and beta >= 0, but got {alpha:g} and {beta:g}.")
    parts = (Part(POSITIVE, "+", alpha), Part(NEGATIVE, "-", -beta))
    return LinearRule(f"alpha-beta({alpha:g},{beta:g})", parts, stabilizer)


def gamma(gamma: float = 0.25, stabilizer: Stabilizer = Stabilizer()) -> LinearRule:
    """LRP-gamma (Montavon 2019), generalised to signed inputs and outputs (Andeol 2021): favours what agrees with z."""
    plus, minus = f"same+{gamma:g}*+", f"same+{gamma:g}*-"
    parts = (
        Part((Term("+", plus), Term("-", minus)), plus, where="positive"),
        Part((Term("+", minus), Term("-", plus)), minus, where="negative"),
    )
    return LinearRule(f"gamma({gamma:g})", parts, stabilizer)


def z_box(
    low: float | Tensor | None = None, high: float | Tensor | None = None, stabilizer: Stabilizer = Stabilizer()
) -> LinearRule:
    """z-box (Montavon 2017): x w - low w+ - high w-, for inputs that lie in [low, high] (None: their own range)."""
    terms = (Term("same", "same"), Term("low", "+", -1.0), Term("high", "-", -1.0))
    return LinearRule("z-box", (Part(terms),), stabilizer, low=low, high=high)


def w_square(stabilizer: Stabilizer = Stabilizer()) -> LinearRule:
    """w-square (Montavon 2017): in proportion to squared weights, whatever the input."""
    return LinearRule("w-square", (Part((Term("one", "squared"),)),), stabilizer)


def flat(stabilizer: Stabilizer = Stabilizer()) -> LinearRule:
    """Flat (Lapuschkin 2019): evenly over the receptive field, whatever input and weights."""
    return LinearRule("flat", (Part((Term("one", "one"),)),), stabilizer)


def magnitude(stabilizer: Stabilizer = Stabilizer()) -> LinearRule:
    """In proportion to |x w|: bounded and conserving where contributions cancel; ours, for residual sums."""
    return LinearRule("magnitude", (Part((Term("|.|", "|.|"),), "|.|"),), stabilizer)


PASS = Choice("pass")  # relevance goes through unchanged
SIGNAL = Choice("signal")  # the signal gets all, its gate or attention weight nothing (Arras 2017; Ali 2022)
UNIFORM = Choice("uniform")  # each factor of a product gets half (Achtibat 2024, prop. 3.3)
TAYLOR = Choice("taylor")  # softmax: x_i (R_i - p_i sum R) (Achtibat 2024, prop. 3.1)
WINNER = Choice("winner")  # max pooling: the winner takes all (Montavon 2019)

_NAMED: dict[str, Callable[..., Rule]] = {
    "epsilon": epsilon,
    "norm": norm,
    "z+": z_plus,
    "z+(no bias)": lambda: z_plus(absorb_bias=False),
    "alpha-beta": alpha_beta,
    "gamma": gamma,
    "z-box": z_box,
    "w-square": w_square,
    "flat": flat,
    "magnitude": magnitude,
    **{rule.name: (lambda rule=rule: rule) for rule in (PASS, SIGNAL, UNIFORM, TAYLOR, WINNER)},
}


def rule_named(text: str) -> Rule:
    """A rule as people write it in cards and on the command line: `z+`, `gamma(0.25)`, `alpha-beta(2, 1)`, `pass`.

    Raises:
        LRPError: no rule of that name, or its numbers are wrong.
    """
    text = text.strip()
    name, _, numbers = (text, "", "") if text in _NAMED else text.partition("(")
    try:
        return _NAMED[name.strip()](*(float(number) for number in numbers.rstrip(")").split(",") if number.strip()))
    except LRPError:
        raise
    except KeyError:
        raise LRPError(f"There is no rule '{text}'; write one of {', '.join(_NAMED)}.") from None
    except (TypeError, ValueError):
        raise LRPError(f"The rule '{text}' has the wrong numbers; write for example gamma(0.25).") from None
