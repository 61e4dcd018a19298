"""Through a linear layer by the sign of contributions, which are told apart by x w and |x w|."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .flow import Passage, share_of
from .linear import LinearMap, modify
from .precision import HALF
from .rules import Part
from .sums import pieces
from .terms import dense, handed_over

_AT_ONCE = 1 << 24  # elements that a GPU is busy enough with


def signs_are_known(layer: LinearMap) -> bool:
    """Whether contributions of either sign are to be told from x w and |x w|, for which the output is needed."""
    known = layer.weighted and layer.mean is None and layer.output.numel() > 0 and not layer.rounded
    # where an output sees few inputs, contributions of one sign are too often nearly all there is
    return known and not layer.grouped and not layer.non_negative


def by_magnitudes(passage: Passage, relevance: Tensor) -> None:
    """Hand on what goes through all parts of a rule whose contributions are a x w + b |x w|.

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
        quotients.extend(_quotients(passage, part, share, measure if spare else measure.clone(), measure))
    if quotients:
        _hand_on(passage, quotients)


def _quotients(
    passage: Passage, part: Part, share: Tensor, z: Tensor, measure: Tensor
) -> list[tuple[Tensor, float, float]]:
    """What a part's contributions a x w + b |x w| are multiplied by, and a and b; z holds the sums of |x w|.

    Both it and `measure`, which may be the same memory, are without the layer's scale.
    """
    factors, layer, output = part.factors(), passage.layer, passage.layer.output
    assert factors is not None
    a, b = factors
    bias, scale = layer.bias, 1.0 if layer.scale is None else layer.scale
    counted = bias is not None and part.bias != "zero"
    constant = None if bias is None else bias.abs() * b if counted else bias * -a
    for d, y in pieces(z, output):
        d.mul_(scale * b).add_(y, alpha=a)
        if constant is not None:
            constant = dense(constant, d)
            d.add_(constant[:, :, : d.shape[2]] if constant.dim() > 2 else constant)
    if part.sign is not None:
        # Where nearly all contributions have the other sign, what is left is mostly rounding: those, term by term
        share = handed_over(passage, part, share, part.sign, _mostly_rounding(z), z, output, None if counted else bias)
    absorbing = modify(bias, part.bias) if bias is not None and counted else None
    s = passage.divided(share, z, part.sign, None if part.heirs else absorbing, spare=True)
    if bias is None or absorbing is None or not part.heirs:
        return [(s, a, b)]
    # a x w + b |x w| is of the size a |x w| + b x w; where there is none, the difference leaves rounding of the bias
    size = torch.add(measure * scale * a, output - bias, alpha=b).masked_fill_(measure == 0, 0.0)
    inherited = passage.inherited(absorbing * s, size)
    return [(s, a, b), (inherited, b, a)]


def _hand_on(passage: Passage, quotients: Sequence[tuple[Tensor, float, float]]) -> None:
    """Contributions a x w + b |x w| times their quotients, which are written to."""
    layer = passage.layer
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
    passage.receive(layer.inputs, next(found))
    for whole in zip(passage.flow.relevance, layer.inputs, next(found), strict=True):
        for r, x, g in pieces(*whole, on_cuda=_AT_ONCE):
            r.addcmul_(x.abs(), g, value=1.0 if others else b / a)


def _mostly_rounding(z: Tensor) -> float:
    """The share of two sums of either sign below which their difference is not to be trusted."""
    return float(torch.finfo(z.dtype).eps ** (0.8 if z.dtype in HALF else 0.4))
