"""Constant factors and shifts are part of the layer before them, as batch norm is, however they are written."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from lrp_helpers import CONV, CONV_TRANSPOSE, Function, Map, difference, noise, one_rule, seeded
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


C, D = noise(6, seed=7), noise(6, seed=8)
MAPS, ROWS = noise(2, 4, 5, 5), noise(2, 3, 4)


def convolution(factor: Tensor | float = 1.0, shift: Tensor | float = 0.0, channels: int = 6) -> nn.Module:
    """A convolution whose author multiplied its output by a factor and shifted it."""
    layer = seeded(lambda: nn.Conv2d(4, channels, 3))
    layer.weight.data *= torch.as_tensor(factor).reshape(-1, 1, 1, 1)
    layer.bias.data = layer.bias.data * factor + shift
    return layer


def dense(factor: Tensor | float = 1.0, shift: Tensor | float = 0.0, bias: bool = True) -> nn.Module:
    layer = seeded(lambda: nn.Linear(4, 6, bias=bias))
    layer.weight.data *= torch.as_tensor(factor).reshape(-1, 1)
    if bias:
        layer.bias.data = layer.bias.data * factor + shift
    return layer


def norm(
    kind: type[nn.Module], *size: int, factor: Tensor | float = 1.0, shift: Tensor | float = 0.0, by: int = 6
) -> nn.Module:
    made = seeded(lambda: kind(*size, by))
    made.weight.data *= factor
    made.bias.data = made.bias.data * factor + shift
    return made


W, MATRICES = noise(6, 4, seed=2), noise(2, 4, 6, seed=2)
# As it may be written, the same with the constants where they belong, and the input
SAME: dict[str, tuple[Map, Map, Tensor]] = {
    "layer scale behind batch norm": (
        lambda x, layer=convolution(), bn=norm(nn.BatchNorm2d): bn(layer(x)) * per_channel(C, x),
        lambda x, layer=convolution(), bn=norm(nn.BatchNorm2d, factor=C): bn(layer(x)),
        MAPS,
    ),
    "behind a norm of the sample": (
        lambda x, own=norm(nn.GroupNorm, 3): own(x) * per_channel(C, x) + per_channel(D, x),
        norm(nn.GroupNorm, 3, factor=C, shift=D),
        noise(2, 6, 5, 5),
    ),
    "a number behind a norm of the sample": (
        lambda x: F.group_norm(x, 3) * 2,
        lambda x: F.group_norm(x, 3, torch.full((6,), 2).double(), torch.zeros(6).double()),
        noise(2, 6, 5, 5),
    ),
    "behind a view that swaps axes": (
        lambda x, layer=convolution(): layer(x).flatten(2).transpose(1, 2) * C,
        lambda x, layer=convolution(C): layer(x).flatten(2).transpose(1, 2),
        MAPS,
    ),
    "behind a view that swaps axes, from the end": (
        lambda x, layer=convolution(): layer(x).flatten(2).transpose(-1, 1) * C,
        lambda x, layer=convolution(C): layer(x).flatten(2).transpose(-1, 1),
        MAPS,
    ),
    "behind a view that swaps other axes": (
        lambda x, layer=convolution(): layer(x).transpose(2, 3) * per_channel(C, x),
        lambda x, layer=convolution(C): layer(x).transpose(2, 3),
        MAPS,
    ),
    "behind a view with axes from the end": (
        lambda x, layer=dense(): layer(x).permute(-1, 0) + C[:, None],
        lambda x, layer=dense(shift=C): layer(x).permute(-1, 0),
        ROWS[0],
    ),
    "behind a matrix on its side": (
        lambda x: torch.mm(W, x.t()).t() * C,
        lambda x: torch.mm(W * C[:, None], x.t()).t(),
        ROWS[0],
    ),
    "of one channel": (
        lambda x, layer=convolution(channels=1), bn=norm(nn.BatchNorm1d, by=1): bn(layer(x).flatten(2)),
        lambda x, layer=convolution(channels=1), bn=norm(nn.BatchNorm2d, by=1): bn(layer(x)).flatten(2),
        MAPS[:1],
    ),
    "a factor gives no bias": (
        lambda x, layer=dense(bias=False): layer(x) * C,
        dense(C, bias=False),
        ROWS,
    ),
    "a matrix for each sample": (lambda x: torch.bmm(x, MATRICES) * C, lambda x: torch.bmm(x, MATRICES * C), ROWS),
}


@pytest.mark.parametrize("name", SAME)
def test_a_constant_is_part_of_the_layer_that_it_belongs_to(name: str) -> None:
    written, wanted, x = SAME[name]
    alike(Function(written), Function(wanted), x)


def test_a_layer_keeps_its_name_and_a_norm_has_its_modules() -> None:
    """The ledger's rows are called as the user's modules are, whatever became part of them."""

    def names(model: nn.Module, x: Tensor) -> list[str]:
        return [row.layer for row in attribute(capture(model, x), x, noise(*model(x).shape), "epsilon").ledger.by_layer]

    assert names(nn.Sequential(convolution(), norm(nn.BatchNorm2d)), MAPS) == ["0"]
    assert names(nn.Sequential(nn.ReLU(), norm(nn.BatchNorm2d, by=4)), MAPS) == ["1", "relu"]

    class Scaled(nn.Module):
        def __init__(self, own: nn.Module) -> None:
            super().__init__()
            self.own, self.scale = own, nn.Linear(4, 1, bias=False).double()

        def forward(self, x: Tensor) -> Tensor:
            return self.own(x) * self.scale.weight[0]

    assert names(Scaled(nn.LayerNorm(4, elementwise_affine=False)), ROWS) == ["scale"]
    assert names(Scaled(norm(nn.LayerNorm, by=4)), ROWS) == ["own"]


CHANNELWISE = {
    "einsum": lambda x, w: torch.einsum("bchw,oc->bohw", x, w),
    "linear": lambda x, w: F.linear(x.permute(0, 2, 3, 1), w).permute(0, 3, 1, 2),
    "matmul": lambda x, w: (w @ x.flatten(2)).unflatten(2, x.shape[2:]),
}


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("name", CHANNELWISE)
@pytest.mark.parametrize("spelled", [lambda norm, x: norm(x), frozen])
def test_batch_norm_is_part_of_a_product_along_the_channels(name: str, batch: int, spelled: Norm) -> None:
    """The same numbers as a 1x1 convolution, once the rule is the same."""
    w, norm, x = noise(6, 4, seed=2), seeded(lambda: nn.BatchNorm2d(6)), noise(batch, 4, 5, 5)
    product = CHANNELWISE[name]
    convolution = Function(lambda x: norm(F.conv2d(x, w[..., None, None])))
    graphs = [capture(model, x) for model in (Function(lambda x: spelled(norm, product(x, w))), convolution)]
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


UNCHANGED: dict[str, tuple[Map, Tensor, list[str]]] = {
    "a layer scale of its own": (lambda x: x.relu() * per_channel(C, x), noise(2, 6, 5), ["relu", "mul"]),
    "a shift of its own": (lambda x: x.relu() + per_channel(C, x), noise(2, 6, 5), ["relu", "add"]),
    "one minus a signal": (lambda x: 1 - x.sigmoid(), MAPS, ["sigmoid", "rsub"]),
    "along the width": (lambda x: x.relu() * C + D, noise(2, 6, 6), ["relu", "mul", "add"]),
    "no channels": (lambda x: x[0].relu() * C + D, noise(1, 6), ["select", "relu", "mul", "add"]),
    "complex": (
        lambda x: torch.view_as_real((torch.fft.fft(x) * 1j + C) * C),
        noise(1, 6, 6),
        ["_fft_r2c", "mul", "add", "mul", "view_as_real"],
    ),
    "a factor along the width, then batch norm": (
        lambda x, bn=norm(nn.BatchNorm2d): bn(x.relu() * C),
        noise(2, 6, 6, 6),
        ["relu", "mul", "channel_affine"],
    ),
    "batch norm behind an activation": (
        lambda x, layer=convolution(), bn=norm(nn.BatchNorm2d): bn(layer(x).relu()),
        MAPS,
        ["convolution", "relu", "channel_affine"],
    ),
    "a batch norm as it is made, then a number": (
        lambda x, bn=nn.BatchNorm2d(4).double().eval(): bn(x.relu()) * 2,
        MAPS,
        ["relu", "channel_affine", "mul"],
    ),
}


@pytest.mark.parametrize("name", UNCHANGED)
def test_what_belongs_to_no_layer_stays(name: str) -> None:
    function, x, steps = UNCHANGED[name]
    graph = capture(Function(function), x)
    assert sorted(o.name.removeprefix("aten.") for o in count_operators(graph) for _ in range(o.count)) == sorted(steps)
    assert difference(graph(x), function(x)) < 1e-12


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
        lambda y: F.conv2d(y, CONSTANTS[0]) + CONSTANTS[4],
        lambda y: F.conv2d(y.float(), CONSTANTS[0].float()) * CONSTANTS[4][:1],
        lambda y: y.expand(4, -1, -1, -1).flatten(1) * CONSTANTS[4].flatten(1),
        lambda y: (y / torch.tensor([1, 0, 2, -1]).double()[:, None, None]).clamp(-1, 1),
        lambda y: F.layer_norm(y, (5,)) * CONSTANTS[1][:, None],
        lambda y: F.layer_norm(y, (5, 5)) * CONSTANTS[1],
        lambda y: torch.native_layer_norm(y, (5,), None, None, 1e-5)[1] * 2,
        lambda y: (y[0, 0] @ CONSTANTS[0][0, 0]) * CONSTANTS[1][:, None],
        lambda y: (y[0, 0] @ y[0, 1]) * 2,
        lambda y: y.sort(1)[0] * 2,
        lambda y: ((y > 0) * (CONSTANTS[4] > 0) + (CONSTANTS[4] > 0)) * y,
        lambda y: torch.bmm(y[0], CONSTANTS[0][0]) + CONSTANTS[1],
        lambda y: torch.addmm(y[0, 0], y[0, 1], CONSTANTS[0][0, 0]) * CONSTANTS[1],
        lambda y: torch.addmm(CONSTANTS[1], CONSTANTS[0][0, 0], y[0, 1]) * CONSTANTS[1][:, None],
        lambda y: torch.addmm(CONSTANTS[1], y[0, 1], CONSTANTS[0][0, 0], alpha=2, beta=3) * CONSTANTS[1],
        lambda y: F.conv2d(y, y[:, :, :3, :3]) * 2,
        lambda y: F.conv2d(y, CONSTANTS[0][:, :, :3, :3], y[0, 0, 0, :1]) * 2,
    ],
)
def test_what_is_not_along_the_channels_keeps_its_value(shift: Callable[[Tensor], Tensor]) -> None:
    layer, x = seeded(lambda: nn.Conv2d(4, 4, 3, padding=1)), noise(1, 4, 5, 5)
    found, wanted = capture(Function(lambda x: shift(layer(x))), x)(x), shift(layer(x))
    assert difference(found, wanted) < 1e-3
    assert found.dtype == wanted.dtype
