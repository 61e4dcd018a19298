"""Through a linear layer term by term: the formula in :mod:`.rules` as it is written there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import inf

import torch
from torch import Tensor

from .flow import Passage
from .linear import RAW, LinearMap, modify
from .precision import HALF
from .rules import PLAIN, Part, Stabilizer, Term, lengths
from .sums import in_memory_order, pieces


def by_terms(passage: Passage, share: Tensor, part: Part) -> None:
    """Hand on what goes through one part of the passage's rule."""
    layer = passage.layer
    terms = [term for term in part.terms if _counts(layer, term)]
    inputs = [[_input(passage, x, term) for x in layer.inputs] for term in terms]
    bias = None if layer.bias is None or part.bias == "zero" else modify(layer.bias, part.bias)
    z, scale = layer.output, None
    if part.terms != PLAIN:
        z = _denominator(layer, terms, inputs, share)
        if layer.mean_term is not None:
            z = z + modify(layer.mean_term, part.bias)
        if bias is not None and not layer.fresh:
            z = z + bias
        look = Look(passage.rule.stabilizer, part.sign if part.otherwise is not None else None)
        added = dense(bias, z) if bias is not None and layer.fresh else None
        for r, d, b in pieces(share, z, added):
            look.at(r, d if b is None else d.add_(b))
        share = share if part.otherwise is None else handed_over(passage, part.otherwise, share, look)
        scale = look.scale(z)
    heirs = part.heirs if bias is not None else ()
    first_without = layer.mean is not None or bool(heirs)  # the quotient is asked for without the layer's scale
    spare = part.terms != PLAIN and layer.fresh
    factor = None if first_without else layer.scale
    s = passage.divided(share, z, part.sign, None if heirs else bias, spare, scale, factor)
    if bias is not None and heirs:
        _inherit(passage, part, bias * s)
    if layer.mean is not None:
        _through_mean(passage, layer.mean, part.bias, s)
    _hand_on(passage, terms, inputs, passage.scaled(s) if first_without else s)


class Look:
    """What is seen of a denominator, piece by piece while it is at hand: its scale, and where too little of it is left.

    Args:
        sign: that z has by its making, where outputs without a z of this sign are looked for.
        least: the share of the output (without a bias that does not count) that z must be more than.
        unit: what z is multiplied by beside the output.
    """

    def __init__(self, stabilizer: Stabilizer, sign: int | None = None, least: float = 0.0, unit: float = 1.0) -> None:
        self.empty: list[Tensor | None] = []  # per piece: where relevance has no z to go by
        self._stabilizer, self._sign, self._least, self._unit = stabilizer, sign, least, unit
        self._lengths: list[Tensor] = []

    def at(self, r: Tensor, d: Tensor, y: Tensor | None = None, bias: Tensor | None = None) -> None:
        """Look at a piece of z, and make it no less than zero; r and y are those of relevance and output."""
        if self._sign is not None:
            self.empty.append(self._without(r, d, y, bias))
        if self._stabilizer.relative and d.dim() > 1:
            self._lengths.append(lengths(d))

    def scale(self, z: Tensor) -> Tensor | None:
        """The stabiliser's; None where each value is its own."""
        if not self._stabilizer.relative:
            return self._stabilizer.scale(z) * self._unit
        if not self._lengths:
            return None
        parts = self._lengths
        length = parts[0] if len(parts) == 1 else torch.linalg.vector_norm(torch.stack(parts), dim=0)
        return self._stabilizer.scale(z, length)

    def _without(self, r: Tensor, d: Tensor, y: Tensor | None, bias: Tensor | None) -> Tensor | None:
        sign, least = self._sign, self._least * self._unit
        assert sign is not None
        if _certainly_above(d, sign, least, y, bias):
            return None
        above = d if sign > 0 else -d
        if y is not None:
            above = above.sub((y if bias is None else y - bias).abs(), alpha=least)
            if bias is not None:  # where it is large, little of what it is subtracted from is left exact
                rounding = torch.finfo(y.dtype).eps / self._least * self._unit
                above = above.sub(y.abs() + bias.abs(), alpha=rounding)
        if in_memory_order(above).amin() > 0:
            return None
        if y is not None:
            d.clamp_(min=0) if sign > 0 else d.clamp_(max=0)
        return (above <= 0).logical_and_(r != 0)


def handed_over(passage: Passage, part: Part, share: Tensor, look: Look) -> Tensor:
    """Let what reaches outputs with too little of a denominator go through another part; returns the rest."""
    if not any(some is not None and bool(some.any()) for some in look.empty):
        return share
    mask = torch.zeros_like(share, dtype=torch.bool)
    for (into,), some in zip(pieces(mask), look.empty, strict=True):
        if some is not None:
            into.copy_(some)
    aside = share.masked_fill(~mask, 0.0)
    passage.where_it_is(aside, (part,), partial(by_terms, part=part))
    return share.masked_fill(mask, 0.0)


def _through_mean(passage: Passage, mean: Callable[[Tensor], Tensor], modification: str, s: Tensor) -> None:
    """The sample's mean is a contribution like another: what it receives goes on to all that it is the mean of."""
    layer, term = passage.layer, passage.layer.mean_term
    assert term is not None
    # 0, 1 or 1 + gamma: how much this part counts it
    kept = modify(term, modification) / torch.where(term == 0, 1.0, term)
    received = mean(s * kept * layer.mean_factor * (1.0 if layer.scale is None else layer.scale)).neg()
    passage.receive(layer.inputs, layer.adjoint(received.expand_as(s).contiguous(), RAW))


def _inherit(passage: Passage, part: Part, received: Tensor) -> None:
    """Give what a part's bias received to the heirs; where there are none of any size, the bias absorbs it."""
    layer = passage.layer
    terms = [heir for heir, term in zip(part.heirs, part.terms, strict=True) if _counts(layer, term)]
    inputs = [[_input(passage, x, term) for x in layer.inputs] for term in terms]
    s = passage.inherited(received, _denominator(layer, terms, inputs, received))
    _hand_on(passage, terms, inputs, passage.scaled(s))


def _counts(layer: LinearMap, term: Term) -> bool:
    """Whether a term can be other than zero: not for the negative part of what is never negative."""
    negative_input = term.input == "-" and layer.non_negative
    return not (negative_input or (term.weight == "-" and not layer.weighted))


def _input(passage: Passage, x: Tensor, term: Term) -> Tensor:
    layer, rule = passage.layer, passage.rule
    if term.input in ("+", "|.|") and layer.non_negative:
        return x
    if term.input == "low":
        value = _bound(layer, x, rule.low, torch.amin, inf)
    elif term.input == "high":
        value = _bound(layer, x, rule.high, torch.amax, -inf)
    else:
        value = modify(x, term.input)
    blind = term.input in ("low", "high", "one")
    return value * layer.frame() if blind and layer.frame is not None else value


def _bound(
    layer: LinearMap, x: Tensor, bound: float | Tensor | None, extreme: Callable[..., Tensor], none: float
) -> Tensor:
    """A bound of the layer's input, else the extreme value of each sample, of which a frame of zeros is no part."""
    if bound is not None:
        return torch.as_tensor(bound, dtype=x.dtype, device=x.device).expand_as(x)
    if layer.frame is not None:
        x = x.masked_fill(layer.frame() == 0, none)
    samples = layer.samples or len(x)
    found = extreme(x.reshape(samples, -1), dim=1).repeat_interleave(len(x) // samples)
    return found.view(-1, *(1,) * (x.dim() - 1)).expand_as(x)


def _denominator(layer: LinearMap, terms: Sequence[Term], inputs: Sequence[Sequence[Tensor]], like: Tensor) -> Tensor:
    """What the terms sum to, without a bias."""
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
    return z


def _hand_on(passage: Passage, terms: Sequence[Term], inputs: Sequence[Sequence[Tensor]], s: Tensor) -> None:
    """Contributions times the quotient, which has the layer's scale in it."""
    for term, xs in zip(terms, inputs, strict=True):
        passage.receive(xs, passage.layer.adjoint(s if term.sign > 0 else -s, term.weight))


def _certainly_above(d: Tensor, sign: int, least: float, y: Tensor | None, bias: Tensor | None) -> bool:
    """Whether all of d, times its sign, is above zero and `least` of what y is without the bias.

    A look at the extremes, which costs less than a mask, and may miss that it is.
    """
    low, high = torch.aminmax(in_memory_order(d))
    nearest = low if sign > 0 else -high
    if y is None:
        return bool(nearest > 0)
    lowest, highest = torch.aminmax(in_memory_order(y))
    most = torch.maximum(-lowest, highest)
    return bool(nearest > least * (most if bias is None else most + bias.abs().amax()))


def dense(value: Tensor, like: Tensor) -> Tensor:
    """A value per channel, to be added; in half precision written out, which PyTorch adds 20 times faster."""
    if like.dtype not in HALF or like.device.type != "cpu" or value.shape[2:].numel() != 1:
        return value
    return torch.empty_like(like).copy_(value)
