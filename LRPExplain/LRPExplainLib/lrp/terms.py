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
from .rules import PLAIN, Part, Term
from .sums import in_memory_order, pieces


def by_terms(passage: Passage, share: Tensor, part: Part) -> None:
    """Hand on what goes through one part of the passage's rule."""
    layer = passage.layer
    terms = [term for term in part.terms if _counts(layer, term)]
    inputs = [[_input(passage, x, term) for x in layer.inputs] for term in terms]
    bias = None if layer.bias is None or part.bias == "zero" else modify(layer.bias, part.bias)
    if part.terms == PLAIN:
        z = layer.output
    else:
        z = _denominator(layer, terms, inputs, bias, share)
        if layer.mean_term is not None:
            z = z + modify(layer.mean_term, part.bias)
    if part.otherwise is not None and part.sign is not None:
        share = handed_over(passage, part.otherwise, share, part.sign, 0.0, z)
    absorbing = None if part.heirs else bias
    s = passage.divided(share, z, part.sign, absorbing, spare=part.terms != PLAIN and layer.fresh)
    if bias is not None and part.heirs:
        _inherit(passage, part, bias * s)
    if layer.mean is not None:
        _through_mean(passage, layer.mean, part.bias, s)
    _hand_on(passage, terms, inputs, s)


def handed_over(
    passage: Passage,
    part: Part,
    share: Tensor,
    sign: int,
    least: float,
    z: Tensor,
    output: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """Let what reaches outputs without a z of this sign (more than `least` of `output`) go through another part.

    Returns the rest; z there is made no less than zero. `bias` is a part of `output` that does not count.
    """
    masks, found = [], False
    for r, d, y in pieces(share, z, z if output is None else output):
        mask = None
        if not _certainly_above(d, sign, least, None if output is None else y, bias):
            above = d if sign > 0 else -d
            if output is not None:
                above = above.sub((y if bias is None else y - bias).abs(), alpha=least)
                if bias is not None:  # where it is large, little of what it is subtracted from is left exact
                    above = above.sub(y.abs() + bias.abs(), alpha=torch.finfo(y.dtype).eps / least)
            if not in_memory_order(above).amin() > 0:
                mask = (above <= 0).logical_and_(r != 0)
                found = found or bool(mask.any())
                if output is not None:
                    d.clamp_(min=0) if sign > 0 else d.clamp_(max=0)
        masks.append(mask)
    if not found:
        return share
    mask = torch.zeros_like(share, dtype=torch.bool)
    for (into,), some in zip(pieces(mask), masks, strict=True):
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
    sizes = _denominator(layer, terms, inputs, None, received)
    _hand_on(passage, terms, inputs, passage.inherited(received, sizes))


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
        z = z.add_(dense(bias, z)) if layer.fresh else z + bias
    return z


def _hand_on(passage: Passage, terms: Sequence[Term], inputs: Sequence[Sequence[Tensor]], s: Tensor) -> None:
    """Contributions times the quotient; s is written to."""
    layer = passage.layer
    s = s if layer.scale is None else s.mul_(layer.scale)
    for term, xs in zip(terms, inputs, strict=True):
        passage.receive(xs, layer.adjoint(s if term.sign > 0 else -s, term.weight))


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
