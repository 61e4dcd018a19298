"""Through a linear layer by the sign of contributions, which are told apart by x w and |x w|."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .flow import Passage, share_of
from .linear import LinearMap
from .precision import HALF
from .rules import Part
from .sums import pieces
from .terms import Look, dense, handed_over


def signs_are_known(layer: LinearMap) -> bool:
    """Whether contributions of either sign are to be told from x w and |x w|, for which the output is needed."""
    known = layer.weighted and layer.mean is None and layer.output.numel() > 0 and not layer.rounded
    # where an output sees few inputs, contributions of one sign are too often nearly all there is
    return known and not layer.grouped and not layer.non_negative


def by_magnitudes(passage: Passage, relevance: Tensor) -> None:
    """Hand on what goes through all parts of a rule whose contributions are a (x w + b |x w|).

    What x w sums to is the layer's own output, so that all parts together need one product of |x| and |W|, and the
    adjoints of both: three products, where a term for each sign of x needs four, and twice as many for two parts.
    """
    layer = passage.layer
    parts = [(part, share_of(part, relevance, layer.output)) for part in passage.rule.parts]
    parts = [(part, share) for part, share in parts if part.where == "all" or share.any()]
    measure = layer.apply([x.abs() for x in layer.inputs], "|.|") if parts else relevance
    quotients: list[tuple[Tensor, float, float]] = []  # and how they go to x w and to |x w|
    for number, (part, share) in enumerate(parts, 1):
        spare = layer.fresh and number == len(parts) and not part.heirs
        quotients.extend(_quotients(passage, part, share, measure if spare else torch.empty_like(measure), measure))
    if quotients:
        _hand_on(passage, quotients)


def _quotients(
    passage: Passage, part: Part, share: Tensor, z: Tensor, measure: Tensor
) -> list[tuple[Tensor, float, float]]:
    """What x w and |x w| of a part's contributions a (x w + b |x w|) are multiplied by: quotients, and how each goes
    to the one and to the other.

    All is told in units of a, which cancels. `measure` holds the sums of |x w| without the layer's scale; z is written
    to, and may be the same memory.
    """
    counts, layer, output = part.factors(), passage.layer, passage.layer.output
    assert counts is not None
    a, b = counts
    bias, scale = layer.bias, layer.scale
    counted = bias is not None and part.bias != "zero"
    constant = None if bias is None else bias.abs() * b if counted else -bias
    # Where nearly all contributions have the other sign, what is left is mostly rounding: those, term by term
    look = Look(passage.rule.stabilizer, part.sign, _mostly_rounding(z), 1 / a)
    factors = None if scale is None else scale * b
    added, left_out = (None if constant is None else dense(constant, z)), (None if counted else bias)
    for r, d, m, y, factor, c, apart in pieces(share, z, measure, output, factors, added, left_out):
        if factor is None:
            torch.add(y, m, alpha=b, out=d)
        else:
            torch.addcmul(y, m, factor, out=d)
        if c is not None:
            d.add_(c)
        look.at(r, d, y, apart)
    if part.sign is not None:
        share = handed_over(passage, part, share, look)
    absorbing = torch.add(bias, bias.abs(), alpha=b) if bias is not None and counted else None
    if bias is None or absorbing is None or not part.heirs:
        return [(passage.divided(share, z, part.sign, absorbing, True, look.scale(z), scale), 1.0, b)]
    s = passage.divided(share, z, part.sign, None, True, look.scale(z))
    # x w + b |x w| is of the size |x w| + b x w; where there is none, the difference leaves rounding of the bias
    size = torch.add(measure if scale is None else measure * scale, output - bias, alpha=b)
    inherited = passage.inherited(absorbing * s, size.masked_fill_(measure == 0, 0.0))
    return [(passage.scaled(s), 1.0, b), (passage.scaled(inherited), b, 1.0)]


def _hand_on(passage: Passage, quotients: Sequence[tuple[Tensor, float, float]]) -> None:
    """Contributions times their quotients, which are written to."""
    layer = passage.layer
    (s, _, ratio), *others = quotients
    if others:
        size, ratio = s * ratio, 1.0
        for other, a, b in others:
            s.add_(other, alpha=a)
            size.add_(other, alpha=b)
        passage.receive_signed(layer.inputs, layer.adjoint(s, "same"), layer.adjoint(size, "|.|"), ratio)
    else:
        gradients, sizes = layer.adjoints(s, ("same", "|.|"))
        passage.receive_signed(layer.inputs, gradients, sizes, ratio)


def _mostly_rounding(z: Tensor) -> float:
    """The share of two sums of either sign below which their difference is not to be trusted."""
    return float(torch.finfo(z.dtype).eps ** (0.8 if z.dtype in HALF else 0.4))
