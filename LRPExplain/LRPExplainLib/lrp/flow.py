"""How relevance flows through a linear layer by a rule: the one implementation of the formula in :mod:`.rules`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf

import torch
from torch import Tensor

from .boxes import Cut, cuts
from .linear import RAW, LinearMap, modify
from .optimizations import on
from .precision import HALF
from .rules import FLOOR, PLAIN, LinearRule, Part, Term
from .sums import dots, in_memory_order, pieces, total

_AT_ONCE = 1 << 24  # elements that a GPU is busy enough with


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


def flow_through(rule: LinearRule, layer: LinearMap, relevance: Tensor) -> Flow:
    """Propagate the relevance of a layer's output to its inputs."""
    passage = _Passage(rule, layer, Flow([]))
    factors = [part.factors() for part in rule.parts]
    if None not in factors and passage.signs_are_known():
        passage.by_sign(relevance)
    else:
        for part in rule.parts:
            passage.through(part, relevance)
    flow = passage.flow
    if not flow.relevance:
        flow.relevance.extend(torch.zeros_like(x) for x in layer.inputs)
    return flow


@dataclass(frozen=True)
class _Passage:
    """A rule at a layer, and what has become of the relevance so far.

    `scale` is the stabiliser's where `layer` is but a box of the whole one.
    """

    rule: LinearRule
    layer: LinearMap
    flow: Flow
    scale: Tensor | None = None

    def through(self, part: Part, relevance: Tensor) -> None:
        """Hand on what goes through one part, term by term."""
        share = _share(relevance, self.layer.output, part)
        if part.where != "all" and not share.any():
            return  # behind a ReLU nothing reaches negative outputs: half of gamma's work
        self._where_it_is(share, (part,), lambda passage, inside: passage._terms_of(part, inside))

    def signs_are_known(self) -> bool:
        """Whether contributions of either sign are to be told from x w and |x w|, for which the output is needed."""
        layer = self.layer
        known = layer.weighted and layer.mean is None and layer.output.numel() > 0 and not layer.rounded
        # where an output sees few inputs, contributions of one sign are too often nearly all there is
        return known and not layer.grouped and not layer.non_negative and on("magnitudes")

    def by_sign(self, relevance: Tensor) -> None:
        """Hand on what goes through parts whose contributions are a x w + b |x w|.

        What x w sums to is the layer's own output, so that all parts together need one product of |x| and |W|, and the
        adjoints of both: three products, where a term for each sign of x needs four, and twice as many for two parts.
        """
        self._where_it_is(relevance, self.rule.parts, _Passage._sizes_of)

    def _where_it_is(self, relevance: Tensor, parts: Sequence[Part], work: Callable[[_Passage, Tensor], None]) -> None:
        """Do the work for these parts in the boxes that hold relevance, or, if that does not pay, on the whole."""
        boxes = cuts(self.layer, relevance) if all(map(self._local, parts)) else []
        if not boxes:
            work(self, relevance)
            return
        plain = parts[0].terms == PLAIN
        inside = sum(relevance[cut.box].numel() for cut in boxes)
        apart = not self.flow.relevance and inside == relevance.numel() and all(cut.box == cut.source for cut in boxes)
        scale = self.rule.stabilizer.scale(self.layer.output) if plain else None
        for cut in boxes:
            inner = _Passage(self.rule, cut.layer, Flow([]), scale)
            work(inner, relevance[cut.box])
            _paste(self.flow, inner.flow, self.layer, cut, apart)

    def _local(self, part: Part) -> bool:
        """Whether what happens at a voxel needs no look at the whole layer, as z-box's bounds and scales may."""
        blind = all(term.input not in ("low", "high") for term in part.terms)
        return blind and (part.terms == PLAIN or self.rule.stabilizer.local())

    def _terms_of(self, part: Part, share: Tensor) -> None:
        layer = self.layer
        terms = [term for term in part.terms if self._counts(term)]
        inputs = [[self._input(x, term) for x in layer.inputs] for term in terms]
        bias = None if layer.bias is None or part.bias == "zero" else modify(layer.bias, part.bias)
        if part.terms == PLAIN:
            z = layer.output
        else:
            z = self._denominator(terms, inputs, bias, share)
            if layer.mean_term is not None:
                z = z + modify(layer.mean_term, part.bias)
        if part.otherwise is not None and part.sign is not None:
            share = self._handed_over(part.otherwise, share, part.sign, 0.0, z)
        absorbing = None if part.heirs else bias
        s = self._divided(share, z, part.sign, absorbing, spare=part.terms != PLAIN and layer.fresh)
        if bias is not None and part.heirs:
            self._inherit(part, bias * s)
        if layer.mean is not None:
            self._through_mean(layer.mean, part.bias, s)
        self._hand_on(terms, inputs, s)

    def _sizes_of(self, relevance: Tensor) -> None:
        layer = self.layer
        parts = [(part, _share(relevance, layer.output, part)) for part in self.rule.parts]
        parts = [(part, share) for part, share in parts if part.where == "all" or share.any()]
        measure = layer.apply([x.abs() for x in layer.inputs], "|.|") if parts else relevance
        quotients: list[tuple[Tensor, float, float]] = []  # and how they go to x w and to |x w|
        for number, (part, share) in enumerate(parts, 1):
            spare = layer.fresh and number == len(parts) and not part.heirs
            quotients.extend(self._quotients(part, share, measure if spare else measure.clone(), measure))
        if quotients:
            self._hand_on_by_sign(quotients)

    def _quotients(self, part: Part, share: Tensor, z: Tensor, measure: Tensor) -> list[tuple[Tensor, float, float]]:
        """What a part's contributions a x w + b |x w| are multiplied by, and a and b; z holds the sums of |x w|.

        Both it and `measure`, which may be the same memory, are without the layer's scale.
        """
        factors, layer, output = part.factors(), self.layer, self.layer.output
        assert factors is not None
        a, b = factors
        bias, scale = layer.bias, 1.0 if layer.scale is None else layer.scale
        counted = bias is not None and part.bias != "zero"
        constant = None if bias is None else bias.abs() * b if counted else bias * -a
        for d, y in pieces(z, output):
            d.mul_(scale * b).add_(y, alpha=a)
            if constant is not None:
                constant = _dense(constant, d)
                d.add_(constant[:, :, : d.shape[2]] if constant.dim() > 2 else constant)
        if part.sign is not None:
            # Where nearly all contributions have the other sign, what is left is mostly rounding: those, term by term
            share = self._handed_over(part, share, part.sign, _mostly_rounding(z), z, output, None if counted else bias)
        absorbing = modify(bias, part.bias) if bias is not None and counted else None
        s = self._divided(share, z, part.sign, None if part.heirs else absorbing, spare=True)
        if bias is None or absorbing is None or not part.heirs:
            return [(s, a, b)]
        # a x w + b |x w| is of the size a |x w| + b x w
        inherited = self._inherited(absorbing * s, torch.add(measure * scale * a, output - bias, alpha=b))
        return [(s, a, b), (inherited, b, a)]

    def _handed_over(
        self,
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
        self._where_it_is(aside, (part,), lambda passage, inside: passage._terms_of(part, inside))
        return share.masked_fill(mask, 0.0)

    def _divided(self, share: Tensor, z: Tensor, sign: int | None, bias: Tensor | None, spare: bool) -> Tensor:
        """share / (z + stabiliser), in z's own memory if that may be written to.

        Books what the stabiliser takes, and a bias that is a part of z. `sign` is that of z, where it has but one.
        """
        stabilizer, scale = self.rule.stabilizer, self.scale
        if z.shape != share.shape:
            z, spare = z.expand_as(share), False
        if scale is None and stabilizer.relative and z.dim() > 1:
            scale = stabilizer.scale(z)
        s = z if spare else torch.empty_like(share)
        held = [] if bias is None else [bias.expand_as(s)]
        for r, d, quotient, *b in pieces(share, z, s, *held):
            extra = stabilizer(d, scale, sign)
            torch.add(d, extra, out=quotient)
            torch.div(r, quotient, out=quotient)
            if extra.shape == quotient.shape:
                self.flow.stabiliser.append(total(extra.mul_(quotient)))
                self.flow.bias += dots(quotient, *b) if b else []
            else:
                taken, *absorbed = dots(quotient, extra.expand_as(quotient), *b)
                self.flow.stabiliser.append(taken)
                self.flow.bias += absorbed
        return s

    def _through_mean(self, mean: Callable[[Tensor], Tensor], modification: str, s: Tensor) -> None:
        """The sample's mean is a contribution like another: what it receives goes on to all that it is the mean of."""
        layer, term = self.layer, self.layer.mean_term
        assert term is not None
        # 0, 1 or 1 + gamma: how much this part counts it
        kept = modify(term, modification) / torch.where(term == 0, 1.0, term)
        received = mean(s * kept * layer.mean_factor * (1.0 if layer.scale is None else layer.scale)).neg()
        self._receive(layer.inputs, layer.adjoint(received.expand_as(s).contiguous(), RAW))

    def _inherit(self, part: Part, received: Tensor) -> None:
        """Give what a part's bias received to the heirs; where there are none of any size, the bias absorbs it."""
        terms = [heir for heir, term in zip(part.heirs, part.terms, strict=True) if self._counts(term)]
        inputs = [[self._input(x, term) for x in self.layer.inputs] for term in terms]
        sizes = self._denominator(terms, inputs, None, received)
        self._hand_on(terms, inputs, self._inherited(received, sizes))

    def _inherited(self, received: Tensor, sizes: Tensor) -> Tensor:
        alone = sizes <= FLOOR
        self.flow.bias.append(total(received.masked_fill(~alone, 0.0)))
        return (received / sizes).masked_fill_(alone, 0.0)

    def _counts(self, term: Term) -> bool:
        """Whether a term can be other than zero: not for the negative part of what is never negative."""
        negative_input = term.input == "-" and self.layer.non_negative
        return not (negative_input or (term.weight == "-" and not self.layer.weighted))

    def _input(self, x: Tensor, term: Term) -> Tensor:
        if term.input in ("+", "|.|") and self.layer.non_negative:
            return x
        if term.input == "low":
            value = self._bound(x, self.rule.low, torch.amin, inf)
        elif term.input == "high":
            value = self._bound(x, self.rule.high, torch.amax, -inf)
        else:
            value = modify(x, term.input)
        blind = term.input in ("low", "high", "one")
        return value * self.layer.frame() if blind and self.layer.frame is not None else value

    def _bound(self, x: Tensor, bound: float | Tensor | None, extreme: Callable[..., Tensor], none: float) -> Tensor:
        """A bound of the layer's input, else the extreme value of each sample, of which a frame of zeros is no part."""
        if bound is not None:
            return torch.as_tensor(bound, dtype=x.dtype, device=x.device).expand_as(x)
        if self.layer.frame is not None:
            x = x.masked_fill(self.layer.frame() == 0, none)
        samples = self.layer.samples or len(x)
        found = extreme(x.reshape(samples, -1), dim=1).repeat_interleave(len(x) // samples)
        return found.view(-1, *(1,) * (x.dim() - 1)).expand_as(x)

    def _denominator(
        self, terms: Sequence[Term], inputs: Sequence[Sequence[Tensor]], bias: Tensor | None, like: Tensor
    ) -> Tensor:
        layer = self.layer
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
            z = z.add_(_dense(bias, z)) if layer.fresh else z + bias
        return z

    def _hand_on(self, terms: Sequence[Term], inputs: Sequence[Sequence[Tensor]], s: Tensor) -> None:
        """Contributions times the quotient; s is written to."""
        layer = self.layer
        s = s if layer.scale is None else s.mul_(layer.scale)
        for term, xs in zip(terms, inputs, strict=True):
            self._receive(xs, layer.adjoint(s if term.sign > 0 else -s, term.weight))

    def _hand_on_by_sign(self, quotients: Sequence[tuple[Tensor, float, float]]) -> None:
        """The same by contributions a x w + b |x w|; the quotients are written to."""
        layer = self.layer
        (s, a, b), *others = quotients
        size = s if not others else s * b
        scale = 1.0 if layer.scale is None else layer.scale
        s.mul_(scale * a)
        if others:
            size.mul_(scale)
        for other, c, d in others:
            s.add_(other * scale, alpha=c)
            size.add_(other * scale, alpha=d)
        asked = ((s, "same"), (size, "|.|"))
        found = (layer.adjoint(*one) for one in asked) if others else layer.adjoints(s, ("same", "|.|"))
        self._receive(layer.inputs, next(found))
        for whole in zip(self.flow.relevance, layer.inputs, next(found), strict=True):
            for r, x, g in pieces(*whole, on_cuda=_AT_ONCE):
                r.addcmul_(x.abs(), g, value=1.0 if others else b / a)

    def _receive(self, inputs: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
        received = self.flow.relevance
        if received:
            for r, x, g in zip(received, inputs, gradients, strict=True):
                r.addcmul_(x, g)  # what was summed before is this flow's own
        else:
            fresh = self.layer.fresh
            received.extend(g.mul_(x) if fresh else g * x for x, g in zip(inputs, gradients, strict=True))


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


def _mostly_rounding(z: Tensor) -> float:
    """The share of two sums of either sign below which their difference is not to be trusted."""
    return float(torch.finfo(z.dtype).eps ** (0.8 if z.dtype in HALF else 0.4))


def _dense(value: Tensor, like: Tensor) -> Tensor:
    """A value per channel, to be added; in half precision written out, which PyTorch adds 20 times faster."""
    if like.dtype not in HALF or like.device.type != "cpu" or value.shape[2:].numel() != 1:
        return value
    return torch.empty_like(like).copy_(value)


def _paste(flow: Flow, inner: Flow, layer: LinearMap, cut: Cut, apart: bool) -> None:
    """Add what became of the relevance in a box of the layer's inputs; `apart`: the boxes meet nowhere and are all."""
    if not flow.relevance:
        flow.relevance.extend((torch.empty_like if apart else torch.zeros_like)(x) for x in layer.inputs)
    parts = inner.relevance or [x.new_zeros(()) for x in layer.inputs]
    for whole, part in zip(flow.relevance, parts, strict=True):
        whole[cut.source].copy_(part) if apart else whole[cut.source].add_(part)
    flow.bias += inner.bias
    flow.stabiliser += inner.stabiliser


def _share(relevance: Tensor, output: Tensor, part: Part) -> Tensor:
    if part.where == "positive":
        relevance = relevance.masked_fill(output < 0, 0.0)
    elif part.where == "negative":
        relevance = relevance.masked_fill(output >= 0, 0.0)
    return relevance if part.share == 1.0 else relevance * part.share
