"""Constant factors and shifts are part of the layer before them, as batch norm is, however they are written."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from lrp_helpers import CONV, CONV_TRANSPOSE, Function, difference, noise, one_rule, seeded
from LRPExplainLib.lrp import attribute, capture, count_operators, rules
from torch import Tensor, nn

COMPOSITES = ("epsilon", "epsilon-plus", "gamma", "volume", "attn-lrp", "epsilon-gamma-box")
Norm = Callable[[nn.modules.batchnorm._BatchNorm, Tensor], Tensor]


def per_channel(value: Tensor, x: Tensor) -> Tensor:
    return value.view(1, -1, *[1] * (x.dim() - 2))


def frozen(norm: nn.modules.batchnorm._BatchNorm, x: Tensor) -> Tensor:
    """As detection backbones have it."""
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return x * per_channel(scale, x) + per_channel(norm.bias - norm.running_mean * scale, x)


def standardised(norm: nn.modules.batchnorm._BatchNorm, x: Tensor) -> Tensor:
    centred = (x - per_channel(norm.running_mean, x)) / per_channel((norm.running_var + norm.eps).sqrt(), x)
    return torch.add(per_channel(norm.bias, x), per_channel(norm.weight, x) * centred)


def reversed_(norm: nn.modules.batchnorm._BatchNorm, x: Tensor) -> Tensor:
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    centred = torch.rsub(x, per_channel(norm.running_mean, x))
    return per_channel(norm.bias, x) - centred * per_channel(scale, x)


def behind_factors(norm: nn.modules.batchnorm._BatchNorm, x: Tensor) -> Tensor:
    return norm(-(4 * x - 2 + 2) / -4.0)


def by_multiples(norm: nn.modules.batchnorm._BatchNorm, x: Tensor) -> Tensor:
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    shift = norm.bias - norm.running_mean * scale
    x = torch.sub(per_channel(shift / 2, x), x * per_channel(scale / 4, x), alpha=-4)
    return torch.add(x, per_channel(shift / 8, x), alpha=4)


SPELLINGS = (frozen, standardised, reversed_, behind_factors, by_multiples)


def alike(given: nn.Module, wanted: nn.Module, x: Tensor) -> None:
    ours, theirs = capture(given, x), capture(wanted, x)
    assert count_operators(ours) == count_operators(theirs)
    assert difference(ours(x), given(x)) < 1e-12
    start = noise(*theirs(x).shape, seed=3)
    for composite in COMPOSITES:
        found, expected = (attribute(graph, x, start, composite) for graph in (ours, theirs))
        assert difference(found.relevance, expected.relevance) < 1e-9, composite
        assert found.ledger.gap == pytest.approx(0, abs=1e-8)


LAYERS: dict[str, tuple[Callable[[], nn.Module], type[nn.Module], tuple[int, ...]]] = {
    "convolution": (lambda: nn.Conv2d(4, 6, 3, padding=1), nn.BatchNorm2d, (2, 4, 5, 5)),
    "no bias, groups": (lambda: nn.Conv1d(4, 6, 3, groups=2, bias=False), nn.BatchNorm1d, (2, 4, 9)),
    "transposed": (lambda: CONV_TRANSPOSE[3](4, 6, 2, stride=2, groups=2), nn.BatchNorm3d, (1, 4, 3, 3, 3)),
    "dense": (lambda: nn.Linear(4, 6), nn.BatchNorm1d, (3, 4)),
    "dense, no bias": (lambda: nn.Linear(4, 6, bias=False), nn.BatchNorm1d, (3, 4)),
    "none": (nn.ReLU, nn.BatchNorm2d, (2, 6, 5, 5)),
}


@pytest.mark.parametrize("spelled", SPELLINGS)
@pytest.mark.parametrize("name", LAYERS)
def test_batch_norm_is_one_however_it_is_written(name: str, spelled: Norm) -> None:
    if name == "none" and spelled is behind_factors:
        pytest.skip("numbers alone are no norm")
    build, kind, shape = LAYERS[name]
    layer, norm = seeded(build), seeded(lambda: kind(6), 1)
    x = noise(*shape)
    after = seeded(lambda: nn.Linear(6, 2) if len(shape) == 2 else CONV[len(shape) - 2](6, 2, 1), 2)
    written = nn.Sequential(layer, Function(lambda x: spelled(norm, x)), nn.ReLU(), after)
    alike(written, nn.Sequential(layer, norm, nn.ReLU(), after), x)


def test_a_norm_behind_a_spelled_norm_is_part_of_it() -> None:
    norms, x = [seeded(lambda: nn.BatchNorm2d(4), seed) for seed in (1, 2)], noise(1, 4, 3, 3)
    alike(Function(lambda x: norms[1](frozen(norms[0], x.relu()))), nn.Sequential(nn.ReLU(), *norms), x)


def test_a_factor_behind_a_norm_of_the_sample_is_its_own() -> None:
    kernel, x = seeded(lambda: nn.Conv2d(4, 6, 3)), noise(2, 4, 6, 6)
    own, bare = seeded(lambda: nn.GroupNorm(3, 6)), nn.GroupNorm(3, 6, affine=False)
    scaled = Function(lambda x: bare(2 * kernel(x)) * per_channel(own.weight, x) + per_channel(own.bias, x))
    alike(scaled, nn.Sequential(Function(lambda x: 2 * kernel(x)), own), x)
    rows, dense = seeded(lambda: nn.LayerNorm(6)), seeded(lambda: nn.Linear(4, 6))
    scaled = Function(lambda x: F.layer_norm(dense(x), (6,)) * rows.weight + rows.bias)
    alike(scaled, nn.Sequential(dense, rows), noise(2, 3, 4))


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize(
    ("build", "name"),
    [
        (lambda: nn.LayerNorm((4, 5)), "aten.native_layer_norm"),
        (lambda: nn.LayerNorm((4, 5), bias=False), "aten.native_layer_norm"),
        (lambda: nn.InstanceNorm2d(3, affine=True), "aten.native_group_norm"),
    ],
    ids=["several axes", "no bias", "instance"],
)
def test_a_norm_of_the_sample_is_one_call_with_its_own_factors(
    build: Callable[[], nn.Module], name: str, batch: int
) -> None:
    graph = capture(seeded(build), noise(batch, 3, 4, 5))
    assert [operator.name for operator in count_operators(graph)] == [name]


CHANNELWISE = {
    "einsum": lambda x, w: torch.einsum("bchw,oc->bohw", x, w),
    "linear": lambda x, w: F.linear(x.permute(0, 2, 3, 1), w).permute(0, 3, 1, 2),
    "matmul": lambda x, w: (w @ x.flatten(2)).unflatten(2, x.shape[2:]),
}


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("name", CHANNELWISE)
def test_batch_norm_is_part_of_a_product_along_the_channels(name: str, batch: int) -> None:
    """The same numbers as a 1x1 convolution, once the rule is the same."""
    w, norm, x = noise(6, 4, seed=2), seeded(lambda: nn.BatchNorm2d(6)), noise(batch, 4, 5, 5)
    product = CHANNELWISE[name]
    convolution = Function(lambda x: norm(F.conv2d(x, w[..., None, None])))
    graphs = [capture(model, x) for model in (Function(lambda x: norm(product(x, w))), convolution)]
    assert difference(graphs[0](x), graphs[1](x)) < 1e-12
    for rule in (rules.epsilon(1e-12, False), rules.z_plus()):
        found, expected = (attribute(graph, x, noise(batch, 6, 5, 5), one_rule(rule)) for graph in graphs)
        assert difference(found.relevance, expected.relevance) < 1e-4


def test_a_mask_of_channels_is_no_bias() -> None:
    mask, x = torch.tensor([0, -math.inf, 0, 0]).double(), noise(1, 4, 5, 5)
    layer = seeded(lambda: nn.Conv2d(4, 4, 3))
    graph = capture(Function(lambda x: F.softmax(layer(x) + per_channel(mask, x), 1)), x)
    found = attribute(graph, x, noise(1, 4, 3, 3, seed=3), "attn-lrp")
    assert "aten.add" in {operator.name for operator in count_operators(graph)}
    assert found.relevance.isfinite().all()
    assert found.ledger.gap == pytest.approx(0, abs=1e-8)


def test_a_scale_of_a_branch_is_that_of_its_last_layer() -> None:
    """Layer scale (ConvNeXt, DINO), whose factors have either sign."""
    dense, gamma, x = seeded(lambda: nn.Linear(4, 4)), noise(4, seed=2), noise(2, 5, 4)
    folded = seeded(lambda: nn.Linear(4, 4))
    folded.weight.data *= gamma[:, None]
    folded.bias.data *= gamma
    alike(Function(lambda x: x + gamma * dense(x)), Function(lambda x: x + folded(x)), x)


def test_what_others_read_too_stays() -> None:
    layer, x = seeded(lambda: nn.Conv2d(4, 4, 3, padding=1)), noise(1, 4, 5, 5)

    def twice(x: Tensor) -> Tensor:
        y = layer(x)
        return torch.cat([y, y * 2 + 1], 1)

    graph = capture(Function(twice), x)
    assert {"aten.mul", "aten.add"} <= {operator.name for operator in count_operators(graph)}
    assert difference(graph(x), twice(x)) < 1e-12


CONSTANTS = [noise(*shape, seed=2) for shape in ((1, 4, 5, 5), (5,), (20, 1), (2, 1, 4, 1, 1), (4, 1, 1), (2, 1, 1, 1))]


@pytest.mark.parametrize(
    "shift",
    [
        lambda y: y + CONSTANTS[0],
        lambda y: y * CONSTANTS[1],
        lambda y: y.flip(1).flatten(1, 2) * CONSTANTS[2],
        lambda y: (y + CONSTANTS[3]).flatten(0, 1),
        lambda y: y.float() * CONSTANTS[4].float(),
        lambda y: y.float() * CONSTANTS[4],
        lambda y: y.unflatten(1, (2, 2)) * CONSTANTS[5],
        lambda y: y.half() * 0.5,
        lambda y: torch.div(y, 2, rounding_mode="floor"),
        lambda y: 1 / y,
    ],
)
def test_what_is_not_along_the_channels_keeps_its_value(shift: Callable[[Tensor], Tensor]) -> None:
    layer, x = seeded(lambda: nn.Conv2d(4, 4, 3, padding=1)), noise(1, 4, 5, 5)
    assert difference(capture(Function(lambda x: shift(layer(x))), x)(x), shift(layer(x))) < 1e-3
