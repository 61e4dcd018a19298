"""LXT, AttnLRP's own implementation (Achtibat 2024), as an oracle for attention, softmax, norms, products and sums.

Of it the arithmetic alone is used, which needs PyTorch and nothing else. Its stabiliser is 1e-6 whatever the sign of
what it is added to, ours has the sign and the layer's scale: hence 1e-4.
"""

import dataclasses
import math
from collections.abc import Callable

import lxt.explicit.functional as lf
import lxt.explicit.rules as lxt_rules
import pytest
import torch
import torch.nn.functional as F
from lrp_helpers import Function, difference, explain, noise
from LRPExplainLib.lrp import COMPOSITES, Composite, rules
from torch import Tensor, nn

TOLERANCE = 1e-4
# AttnLRP with epsilon wherever a layer is linear, as LXT's functions have it
PAPER = COMPOSITES["attn-lrp"].override(dict.fromkeys(("linear", "norm", "sum", "bias", "average"), rules.epsilon()))

Shapes = tuple[tuple[int, ...], ...]
WEIGHT, BIAS = noise(4, seed=20), noise(4, seed=21)


def _attention(product: Callable, softmax: Callable, times: Callable) -> Callable[..., Tensor]:
    return lambda q, k, v: product(softmax(times(product(q, k.mT), 0.5), -1), v)


def _hidden(softmax: Callable) -> Callable[..., Tensor]:
    mask = torch.ones(3, 4).double().triu(1).bool()
    return lambda x: softmax(x.masked_fill(mask, -math.inf), -1)


# name -> (ours, the same in LXT's functions, shapes of the inputs)
CASES: dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor], Shapes]] = {
    "softmax": (lambda x: F.softmax(x, -1), lambda x: lf.softmax(x, -1), ((2, 3, 4),)),
    "softmax of masked scores": (_hidden(F.softmax), _hidden(lf.softmax), ((2, 3, 4),)),
    "matmul": (torch.matmul, lf.matmul, ((2, 3, 4), (2, 4, 5))),
    "attention": (
        _attention(torch.matmul, F.softmax, torch.mul),
        _attention(lf.matmul, lf.softmax, lf.mul2),
        ((2, 3, 4),) * 3,
    ),
    "fused attention": (
        F.scaled_dot_product_attention,
        _attention(lf.matmul, lf.softmax, lf.mul2),
        ((1, 2, 3, 4),) * 3,
    ),
    "linear": (
        lambda x: F.linear(x, WEIGHT.repeat(3, 1), BIAS[:3]),
        lambda x: lf.linear_epsilon(x, WEIGHT.repeat(3, 1), BIAS[:3]),
        ((2, 3, 4),),
    ),
    "sum": (torch.add, lf.add2, ((2, 3, 4), (2, 3, 4))),
    "product": (torch.mul, lf.mul2, ((2, 3, 4), (2, 3, 4))),
    "mean": (lambda x: x.mean(1, keepdim=True), lambda x: lf.mean(x, 1, True), ((2, 3, 4),)),
    "rms norm": (
        lambda x: F.rms_norm(x, (4,), WEIGHT, 1e-6),
        lambda x: lf.rms_norm_identity(x, WEIGHT, 1e-6),
        ((2, 3, 4),),
    ),
    "rms norm spelled out": (
        lambda x: WEIGHT * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)),
        lambda x: lf.rms_norm_identity(x, WEIGHT, 1e-6),
        ((2, 3, 4),),
    ),
    "normalize": (lambda x: F.normalize(x, dim=1), lambda x: lf.normalize(x, dim=1), ((2, 3, 4),)),
    "layer norm, identity": (
        lambda x: F.layer_norm(x, (4,), WEIGHT, BIAS),
        lambda x: lxt_rules.identity(lambda v: F.layer_norm(v, (4,), WEIGHT, BIAS), x),
        ((2, 3, 4),),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_attn_lrp_is_what_its_authors_compute(name: str) -> None:
    ours, theirs, shapes = CASES[name]
    compare(ours, theirs, shapes, PAPER)


def test_layer_norm_with_its_mean_as_the_linear_function_it_is() -> None:
    compare(
        lambda x: F.layer_norm(x, (4,), WEIGHT, BIAS),
        lambda x: lf.layer_norm(x, WEIGHT, BIAS, 1e-5),
        ((2, 3, 4),),
        dataclasses.replace(PAPER, normalization="linear"),
    )


def compare(ours: Callable[..., Tensor], theirs: Callable[..., Tensor], shapes: Shapes, composite: Composite) -> None:
    inputs = [noise(*shape, seed=i) for i, shape in enumerate(shapes, 1)]
    leaves = [x.clone().requires_grad_() for x in inputs]
    y = theirs(*leaves)
    start = noise(*y.shape, seed=9).masked_fill(y == 0, 0.0)
    expected = torch.autograd.grad(y, leaves, start)
    model: nn.Module = Function(ours)
    assert difference(model(*inputs), y.detach()) < 1e-6  # its RMS norm rounds to float32
    found = explain(model, inputs, start, composite)
    relevance = found.relevance if isinstance(found.relevance, tuple) else (found.relevance,)
    for a, b in zip(relevance, expected, strict=True):
        assert difference(a, b) < TOLERANCE
