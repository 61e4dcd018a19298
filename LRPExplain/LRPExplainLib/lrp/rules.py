"""LRP's rules as data.

A rule for a linear layer is a few :class:`Part` s. Each part has a denominator

    z' = sum over its terms of  W'(x')  + bias'

made of modified inputs x', weights W' and bias, and hands on its share of the layer's relevance in proportion to the
contributions to z':

    R_i = sum over parts, terms:  x'_i * W'^T ( share * R / (z' + stabiliser) )_i

That one formula is LRP-0/epsilon (Bach et al. 2015, eq. 58), gamma (Montavon et al. 2019; generalised to signed
inputs, Andeol et al. 2021), alpha-beta (Bach 2015, eq. 60; z+ is alpha 1, beta 0), z-box and w-square (Montavon et al.
2017) and flat (Lapuschkin et al. 2019); :mod:`.layerwise` is its only implementation.

The rules for what is not linear in one signal (gates, products, attention, softmax) are names; the operators know
what each means.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor

from .errors import LRPError
from .linear import modify
from .optimizations import on

# Modifications of inputs and weights whose values all have one sign
SIGNS = {"+": 1, "-": -1, "|.|": 1, "one": 1, "squared": 1}
_NEGLIGIBLE = 1e-5  # as a share of a denominator
LARGEST = torch.finfo(torch.float32).max  # what float32 takes for infinite is no number of a rule
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

    @cache  # noqa: B019 - a handful of parts live as long as the process
    def factors(self) -> tuple[float, float] | None:
        """(a, b) when each contribution x w counts as a (x w + b |x w|), by its sign alone, and the bias likewise or
        not at all; None for other parts.
        """
        by_input = {term.input: term.weight for term in self.terms if term.sign == 1}
        if set(by_input) != {"+", "-"} or len(self.terms) != 2:
            return None
        (p, n), (m, q) = (_both_signs(by_input["+"]), _both_signs(by_input["-"]))  # a negative x turns the signs round
        if p + n <= 0 or (p, n) != (q, m) or (self.bias != "zero" and _both_signs(self.bias) != (p, n)):
            return None
        return (p + n) / 2, (p - n) / (p + n)

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


def _both_signs(modification: str) -> tuple[float, float]:
    """What a modification multiplies a positive and a negative weight by."""
    plus, minus = modify(torch.tensor([1.0, -1.0], dtype=torch.float64, device="cpu"), modification).tolist()
    return plus, -minus


@dataclass(frozen=True)
class Stabilizer:
    """What keeps a denominator from zero: epsilon with the sign of z, times the layer's own scale if relative."""

    epsilon: float = 1e-6
    relative: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.epsilon <= LARGEST:
            raise LRPError(f"An epsilon is 0 or more and finite, but got {self.epsilon:g}; write for example 1e-6.")

    def __call__(self, z: Tensor, scale: Tensor | None = None, sign: int | None = None) -> Tensor:
        """The signed amount to add to z, broadcastable to it.

        `scale` is that of z, or of what z is a part of; `sign` that of all of z, where it is known.
        """
        if self.relative and z.dim() < 2:  # one value per sample is its own scale
            return z * self.epsilon + torch.copysign(torch.full_like(z, FLOOR), z)
        unit = self.scale(z) if scale is None else scale
        if sign is not None:
            return unit * (self.epsilon * sign) + FLOOR * sign
        return torch.copysign(unit * self.epsilon + FLOOR, z)

    def scale(self, z: Tensor, length: Tensor | None = None) -> Tensor:
        """What epsilon is multiplied by: 1, or if relative the root mean square over everything but the batch axis.

        `length` is the Euclidean norm of each sample (see :func:`lengths`), where it is known.
        """
        if not self.relative:
            return z.new_ones(())
        return (lengths(z) if length is None else length) / max(1, z[:1].numel()) ** 0.5

    def local(self) -> bool:
        """Whether it hardly matters of which part of a layer the scale is: no more than the little it takes changes."""
        return not self.relative or self.epsilon <= _NEGLIGIBLE


def lengths(z: Tensor) -> Tensor:
    """The Euclidean norm of each sample, broadcastable to z."""
    return torch.linalg.vector_norm(z, dim=list(range(1, z.dim())), keepdim=True)


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

    def by_sign(self) -> bool:
        """Whether contributions count by their sign alone, which x w and |x w| tell (see :mod:`.magnitudes`)."""
        return on("magnitudes") and all(part.factors() for part in self.parts)

    def reads_output(self, by_sign: bool) -> bool:
        """Whether the layer's output is needed: plain epsilon divides by it, and signs are told by it."""
        return by_sign or any(part.terms == PLAIN or part.where != "all" for part in self.parts)

    def weights(self) -> set[str]:
        """The modifications of the layer's weight that the rule asks for."""
        parts = [*self.parts, *(part.otherwise for part in self.parts if part.otherwise is not None)]
        return {term.weight for part in parts for term in (*part.terms, *part.heirs)}


PLAIN = (Term("same", "same"),)
POSITIVE = (Term("+", "+"), Term("-", "-"))
NEGATIVE = (Term("+", "-"), Term("-", "+"))


def epsilon(epsilon: float = 1e-6, relative: bool = True) -> LinearRule:
    """LRP-epsilon (Bach 2015, eq. 58): in proportion to x w; a larger epsilon damps what cancels.

    Raises:
        LRPError: epsilon is negative (it would work against z instead of away from 0) or not finite.
    """
    return LinearRule(f"epsilon({epsilon:g})", (Part(PLAIN, "same"),), Stabilizer(epsilon, relative))


def norm(stabilizer: Stabilizer = Stabilizer()) -> LinearRule:
    """LRP-0 (Bach 2015, eq. 56): each contribution's share of z as it is, with the stabiliser that every rule has.

    What Zennit calls Norm and takes for average pooling and sums. By default it is `epsilon(1e-6)` by another name;
    `epsilon(0)`, or `norm(Stabilizer(0))`, has no more than what keeps 0/0 away, and is input x gradient to rounding
    where a network has no biases.
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
        LRPError: alpha - beta is not 1 or beta is negative, which would create or lose relevance; or not finite.
    """
    if not (beta >= 0 and abs(alpha - beta - 1) <= 1e-9):  # so that NaN is refused as well
        raise LRPError(f"Alpha-beta needs alpha - beta = 1 and beta >= 0, but got {alpha:g} and {beta:g}.")
    parts = (Part(POSITIVE, "+", alpha), Part(NEGATIVE, "-", -beta))
    return LinearRule(f"alpha-beta({alpha:g},{beta:g})", parts, stabilizer)


def gamma(gamma: float = 0.25, stabilizer: Stabilizer = Stabilizer()) -> LinearRule:
    """LRP-gamma (Montavon 2019), generalised to signed inputs and outputs (Andeol 2021): favours what agrees with z.

    Raises:
        LRPError: gamma is negative (it would favour what contradicts z) or not finite.
    """
    if not 0 <= gamma <= LARGEST:
        raise LRPError(f"A gamma is 0 or more and finite, but got {gamma:g}; write for example gamma(0.25).")
    plus, minus = f"same+{gamma:g}*+", f"same+{gamma:g}*-"
    parts = (
        Part((Term("+", plus), Term("-", minus)), plus, where="positive"),
        Part((Term("+", minus), Term("-", plus)), minus, where="negative"),
    )
    return LinearRule(f"gamma({gamma:g})", parts, stabilizer)


def z_box(
    low: float | Tensor | None = None, high: float | Tensor | None = None, stabilizer: Stabilizer = Stabilizer()
) -> LinearRule:
    """z-box (Montavon 2017): x w - low w+ - high w-, for inputs that lie in [low, high] (None: their own range).

    Raises:
        LRPError: bounds that are numbers and no range: low is above high, or one of them is not finite.
    """
    bounds = [bound for bound in (low, high) if isinstance(bound, int | float)]
    if not all(abs(bound) <= LARGEST for bound in bounds) or bounds != sorted(bounds):
        told = ",".join(f"{bound:g}" for bound in bounds)
        raise LRPError(f"A z-box has finite bounds, the lower one first, but got {told}; write for example z-box(0,1).")
    terms = (Term("same", "same"), Term("low", "+", -1.0), Term("high", "-", -1.0))
    # so that a record of it tells the bounds; a tensor, or the highest alone, has no words
    written = isinstance(low, int | float) and not isinstance(high, Tensor)
    name = f"z-box({','.join(f'{bound:g}' for bound in bounds)})" if written else "z-box"
    return LinearRule(name, (Part(terms),), stabilizer, low=low, high=high)


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


# How many numbers may stand behind a rule's name; none where it is not listed.
_NUMBERS = {"epsilon": 1, "alpha-beta": 2, "gamma": 1, "z-box": 2}


def rule_named(text: str) -> Rule:
    """A rule as people write it in cards and on the command line: `z+`, `gamma(0.25)`, `alpha-beta(2, 1)`, `pass`.

    Raises:
        LRPError: no rule of that name, or its numbers are wrong.
    """
    text = text.strip()
    name, _, inside = (text, "", "") if text in _NAMED else text.partition("(")
    name = name.strip()
    if name not in _NAMED:
        raise LRPError(f"There is no rule '{text}'; write one of {', '.join(_NAMED)}.")
    wrong = LRPError(f"The rule '{text}' has the wrong numbers; write for example gamma(0.25).")
    try:
        numbers = [float(number) for number in inside.rstrip(")").split(",") if number.strip()]
        if len(numbers) > _NUMBERS.get(name, 0):
            raise wrong
        return _NAMED[name](*numbers)
    except LRPError:
        raise
    except (TypeError, ValueError):
        raise wrong from None
