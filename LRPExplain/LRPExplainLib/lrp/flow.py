"""What becomes of relevance at a linear layer, and the steps that every way through it shares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .boxes import cuts
from .linear import LinearMap
from .rules import FLOOR, PLAIN, LinearRule, Part
from .sums import dots, pieces, total

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


@dataclass(frozen=True)
class Passage:
    """A rule at a layer, and what has become of the relevance so far.

    Where `layer` is but a box of the whole one, `scale` is the stabiliser's, and `room` where the relevance of its
    inputs may be put, if nothing else comes there.
    """

    rule: LinearRule
    layer: LinearMap
    flow: Flow
    scale: Tensor | None = None
    room: Sequence[Tensor] = ()

    def where_it_is(self, relevance: Tensor, parts: Sequence[Part], work: Callable[[Passage, Tensor], None]) -> None:
        """Do the work for these parts in the boxes that hold relevance, or, if that does not pay, on the whole."""
        boxes = cuts(self.layer, relevance) if all(map(self._local, parts)) else []
        if not boxes:
            work(self, relevance)
            return
        plain = parts[0].terms == PLAIN
        inside = sum(relevance[cut.box].numel() for cut in boxes)
        apart = not self.flow.relevance and inside == relevance.numel() and all(cut.box == cut.source for cut in boxes)
        scale = self.rule.stabilizer.scale(self.layer.output) if plain else None
        if not self.flow.relevance:
            self.flow.relevance.extend((torch.empty_like if apart else torch.zeros_like)(x) for x in self.layer.inputs)
        for cut in boxes:
            sources = [whole[cut.source] for whole in self.flow.relevance]
            inner = Passage(self.rule, cut.layer, Flow([]), scale, sources if apart else ())
            work(inner, relevance[cut.box])
            _paste(self.flow, inner.flow, sources, apart)

    def _local(self, part: Part) -> bool:
        """Whether what happens at a voxel needs no look at the whole layer, as z-box's bounds and scales may."""
        blind = all(term.input not in ("low", "high") for term in part.terms)
        return blind and (part.terms == PLAIN or self.rule.stabilizer.local())

    def divided(
        self,
        share: Tensor,
        z: Tensor,
        sign: int | None,
        bias: Tensor | None,
        spare: bool,
        scale: Tensor | None = None,
        factor: Tensor | None = None,
    ) -> Tensor:
        """factor * share / (z + stabiliser), in z's own memory if that may be written to.

        Books what the stabiliser takes, and a bias that is a part of z. `sign` is that of z, where it has but one, and
        `scale` the stabiliser's, where it is known.
        """
        stabilizer = self.rule.stabilizer
        scale = scale if self.scale is None else self.scale
        if z.shape != share.shape:
            z, spare = z.expand_as(share), False
        if scale is None and z.dim() > 1:
            scale = stabilizer.scale(z)
        s = z if spare else torch.empty_like(share)
        for r, d, quotient, b, f in pieces(share, z, s, bias, factor):
            biases = [] if b is None else [b.expand_as(quotient)]
            extra = stabilizer(d, scale, sign)
            torch.add(d, extra, out=quotient)
            torch.div(r, quotient, out=quotient)
            if extra.shape == quotient.shape:
                self.flow.stabiliser.append(total(extra.mul_(quotient)))
                self.flow.bias += dots(quotient, *biases) if biases else []
            else:
                taken, *absorbed = dots(quotient, extra.expand_as(quotient), *biases)
                self.flow.stabiliser.append(taken)
                self.flow.bias += absorbed
            if f is not None:
                quotient.mul_(f)
        return s

    def scaled(self, s: Tensor) -> Tensor:
        """A quotient times the layer's scale, as contributions are; it is written to."""
        return s if self.layer.scale is None else s.mul_(self.layer.scale)

    def inherited(self, received: Tensor, sizes: Tensor) -> Tensor:
        """What a bias received per size of contributions to it; where there are none, the bias absorbs it."""
        alone = sizes <= FLOOR
        self.flow.bias.append(total(received.masked_fill(~alone, 0.0)))
        return (received / sizes).masked_fill_(alone, 0.0)

    def receive(self, inputs: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
        """Inputs times what an adjoint gave back for them is relevance of these inputs."""
        received = self.flow.relevance
        if received:
            for r, x, g in zip(received, inputs, gradients, strict=True):
                r.addcmul_(x, g)  # what was summed before is this flow's own
        else:
            into: Sequence[Tensor | None] = gradients if self.layer.fresh else self.room or [None] * len(inputs)
            received.extend(torch.mul(g, x, out=r) for x, g, r in zip(inputs, gradients, into, strict=True))

    def receive_signed(
        self, inputs: Sequence[Tensor], gradients: Sequence[Tensor], sizes: Sequence[Tensor], ratio: float
    ) -> None:
        """Inputs times these gradients, and their sizes |x| times those by a factor, likewise."""
        parts = []
        for x, g, h in zip(inputs, gradients, sizes, strict=True):
            part = g if self.layer.fresh else torch.empty_like(g)
            for into, a, b, c in pieces(part, x, g, h, on_cuda=_AT_ONCE):
                torch.mul(a, b, out=into).addcmul_(a.abs(), c, value=ratio)
            parts.append(part)
        if self.flow.relevance:
            for r, part in zip(self.flow.relevance, parts, strict=True):
                r.add_(part)
        else:
            self.flow.relevance.extend(parts)


def _paste(flow: Flow, inner: Flow, parts: Sequence[Tensor], apart: bool) -> None:
    """Add what became of the relevance in a box, whose inputs' are these parts; `apart`: nothing else comes there."""
    found = inner.relevance or [part.new_zeros(()) for part in parts]
    for part, relevance in zip(parts, found, strict=True):
        if not apart:
            part.add_(relevance)
        elif relevance is not part:
            part.copy_(relevance)
    flow.bias += inner.bias
    flow.stabiliser += inner.stabiliser


def share_of(part: Part, relevance: Tensor, output: Tensor) -> Tensor:
    """What of a layer's relevance goes through one part of a rule."""
    if part.where == "positive":
        relevance = relevance.masked_fill(output < 0, 0.0)
    elif part.where == "negative":
        relevance = relevance.masked_fill(output >= 0, 0.0)
    return relevance if part.share == 1.0 else relevance * part.share
