"""What a converter spelled out is explained like the call that it stands for."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from lrp_helpers import CONV, Function, difference, noise, one_rule, seeded
from LRPExplainLib.lrp import attribute, capture, count_operators, rules
from torch import Tensor, nn


def halved_last(x: Tensor) -> Tensor:
    return x * (1 + torch.erf(x / math.sqrt(2))) * 0.5


def halved_first(x: Tensor) -> Tensor:
    return (0.5 * x) * (torch.erf(x * math.sqrt(0.5)) + 1)


def halved_within(x: Tensor) -> Tensor:
    return ((torch.erf(x / math.sqrt(2)) + torch.tensor(1.0, dtype=x.dtype)) * 0.5) * x


def names(graph: object) -> list[str]:
    return [operator.name for operator in count_operators(graph)]


def hard_by_bounds(x: Tensor) -> Tensor:
    return (x + 3).clamp_min(0).clamp_max(6) / 6


FUNCTIONS = {
    "gelu, halved last": (nn.GELU(), halved_last),
    "gelu, halved first": (nn.GELU(), halved_first),
    "gelu, halved within": (nn.GELU(), halved_within),
    "hardsigmoid, divided": (nn.Hardsigmoid(), lambda x: nn.functional.relu6(x + 3) / 6),
    "hardsigmoid, by bounds": (nn.Hardsigmoid(), hard_by_bounds),
    "hardsigmoid, onnx": (nn.Hardsigmoid(), lambda x: (x * (1 / 6) + 0.5).clamp(0, 1)),
    "hardswish": (nn.Hardswish(), lambda x: x * hard_by_bounds(x)),
    "softplus": (nn.Softplus(), lambda x: torch.log(1 + torch.exp(x))),
    "sigmoid": (nn.Sigmoid(), lambda x: 1 / (1 + torch.exp(-x))),
    "tanh": (nn.Tanh(), lambda x: 2 * torch.sigmoid(2 * x) - 1),
    "elu": (nn.ELU(), lambda x: torch.where(x > 0, x, torch.exp(x) - 1)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_is_recognised_by_what_it_computes(name: str) -> None:
    called, spelled = FUNCTIONS[name]
    dense = seeded(lambda: nn.Linear(6, 5))
    x, start = noise(2, 6), noise(2, 5, seed=3)
    given, wanted = capture(nn.Sequential(dense, Function(spelled)), x), capture(nn.Sequential(dense, called), x)
    assert names(given) == names(wanted)
    assert difference(given(x), wanted(x)) < 1e-12
    ours, theirs = (attribute(graph, x, start, one_rule(rules.gamma(0.25))) for graph in (given, wanted))
    assert difference(ours.relevance, theirs.relevance) < 1e-12


def test_a_function_that_is_cut_off_far_out_stays() -> None:
    x = torch.tensor([[-30.0, 0.5, 30.0]], dtype=torch.float64)
    cut = Function(lambda x: x.clamp(-20, 20) * torch.sigmoid(x))
    assert torch.equal(capture(cut, x)(x), cut(x))


@pytest.mark.parametrize(
    "near",
    [
        lambda x: x * (1 + torch.erf(x / 1.5)) * 0.5,
        lambda x: x * (2 + torch.erf(x / math.sqrt(2))) * 0.5,
        lambda x: x * (1 + torch.erf(x / math.sqrt(2))) * 0.4,
        lambda x: x.flip(1) * (1 + torch.erf(x / math.sqrt(2))) * 0.5,
        lambda x: x * (1 + torch.erf(x / torch.full((1, 1, 1), math.sqrt(2)))) * 0.5,
    ],
    ids=["width", "shift", "factor", "other signal", "other shape"],
)
def test_what_only_resembles_gelu_stays(near: Callable[[Tensor], Tensor]) -> None:
    x = noise(2, 6)
    graph = capture(Function(near), x)
    assert "aten.erf" in names(graph)
    assert difference(graph(x), near(x)) < 1e-12


@pytest.mark.parametrize(
    "masked",
    [
        lambda x, mask: torch.where(mask, F.relu(x), x * 0.1),
        lambda x, mask: (x * 0.5).masked_fill(mask, -9.0),
        lambda x, mask: F.relu(x) * mask.long() * 2,
    ],
    ids=["where", "masked_fill", "factor"],
)
def test_what_differs_from_place_to_place_by_a_mask_stays(masked: Callable[[Tensor, Tensor], Tensor]) -> None:
    x, mask = noise(2, 6), torch.tensor([True, False, False, True, True, False])
    graph, start = capture(Function(lambda x: masked(x, mask)), x), noise(2, 6, seed=3)
    leaf = x.clone().requires_grad_()
    y = masked(leaf, mask)
    assert difference(graph(x), y.detach()) < 1e-12
    (slope,) = torch.autograd.grad(y.sum(), leaf)
    # linear but for its decisions: relevance is the gradient times the input
    found = attribute(graph, x, start * graph(x), "epsilon")
    assert difference(found.relevance, start * slope * x) < 1e-12


class SpelledGroupNorm(nn.Module):
    """Group norm as ONNX has it before opset 21: instance norm of the groups, then factor and shift per channel."""

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        groups = x.reshape(x.shape[0], self.norm.num_groups, -1)
        y = nn.functional.instance_norm(groups, eps=self.norm.eps).reshape(x.shape)
        return y * self.norm.weight.view(-1, 1, 1) + self.norm.bias.view(1, -1, 1, 1)


@pytest.mark.parametrize("batch", [1, 2])
def test_norm_of_groups_is_recognised(batch: int) -> None:
    model = seeded(lambda: nn.Sequential(nn.Conv2d(2, 6, 3), nn.GroupNorm(3, 6), nn.ReLU(), nn.Conv2d(6, 2, 3)))
    spelled = nn.Sequential(model[0], SpelledGroupNorm(model[1]), *model[2:])
    x, start = noise(batch, 2, 8, 8), noise(batch, 2, 4, 4, seed=3)
    given, wanted = capture(spelled, x), capture(model, x)
    assert names(given) == names(wanted)
    assert difference(given(x), wanted(x)) < 1e-12
    for composite in ("epsilon-plus", "volume", "attn-lrp"):
        ours, theirs = (attribute(graph, x, start, composite) for graph in (given, wanted))
        assert difference(ours.relevance, theirs.relevance) < 1e-10


def test_norm_of_a_network_s_own_reshape_is_not_taken_for_a_batch() -> None:
    model = Function(lambda x: nn.functional.instance_norm(x.reshape(1, 3, -1)) * 2)
    x = noise(1, 6, 4, 4)
    assert difference(capture(model, x)(x), model(x)) < 1e-12


def test_samples_that_lie_side_by_side_among_the_channels_have_their_own_norms() -> None:
    side_by_side = Function(lambda x: nn.functional.batch_norm(x.reshape(1, 6, 4, 4), None, None, training=True) * 2)
    called = Function(lambda x: nn.functional.instance_norm(x).reshape(1, 6, 4, 4) * 2)
    x = noise(2, 3, 4, 4)
    given, wanted = capture(side_by_side, x), capture(called, x)
    assert names(given) == names(wanted)
    assert difference(given(x), wanted(x)) < 1e-12


def over_channels(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """As ConvNeXt and SAM have it, for images [N, C, H, W]."""
    mean = x.mean(1, keepdim=True)
    variance = (x - mean).pow(2).mean(1, keepdim=True)
    x = (x - mean) / torch.sqrt(variance + 1e-5)
    return weight[:, None, None] * x + bias[:, None, None]


def over_tokens(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """As ONNX has it before opset 17."""
    centred = x - x.mean(-1, keepdim=True)
    variance = centred.pow(torch.tensor(2.0, dtype=x.dtype)).mean(-1, keepdim=True)
    return centred / torch.sqrt(variance + torch.tensor(1e-5, dtype=x.dtype)) * weight + bias


def over_tokens_by_variance(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return (x - x.mean(2, True)) * (x.var(-1, keepdim=True, unbiased=False) + 1e-5).rsqrt() * weight + bias


class SpelledLayerNorm(nn.Module):
    def __init__(self, norm: nn.LayerNorm, spelled: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.norm, self.spelled = norm, spelled

    def forward(self, x: Tensor) -> Tensor:
        return self.spelled(x, self.norm.weight, self.norm.bias)


@pytest.mark.parametrize("spelled", [over_channels, over_tokens, over_tokens_by_variance])
def test_layer_norm_is_recognised(spelled: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    norm = seeded(lambda: nn.LayerNorm(6))
    own, (before, after), x = norm, [seeded(lambda: nn.Linear(6, 6), seed) for seed in (1, 2)], noise(2, 5, 6)
    if spelled is over_channels:
        before, after = (seeded(lambda: nn.Conv2d(6, 6, 3, padding=1), seed) for seed in (1, 2))
        own, x = Function(lambda x: norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)), noise(2, 6, 4, 5)
    start = noise(*x.shape, seed=3)
    given = capture(nn.Sequential(before, SpelledLayerNorm(norm, spelled), nn.GELU(), after), x)
    wanted = capture(nn.Sequential(before, own, nn.GELU(), after), x)
    assert names(given) == names(wanted)
    assert difference(given(x), wanted(x)) < 1e-12
    for composite in ("epsilon-plus", "gamma", "volume", "attn-lrp"):
        ours, theirs = (attribute(graph, x, start, composite) for graph in (given, wanted))
        assert difference(ours.relevance, theirs.relevance) < 1e-10


def test_layer_norm_is_recognised_behind_a_bias_that_was_joined() -> None:
    dense, norm = seeded(lambda: nn.Linear(6, 6)), seeded(lambda: nn.LayerNorm(6))
    spelled = SpelledLayerNorm(norm, over_tokens)
    x = noise(2, 6, 5)
    given = capture(Function(lambda x: spelled(dense(x.mT))), x)
    assert difference(given(x), norm(dense(x.mT))) < 1e-12
    assert names(given) == names(capture(Function(lambda x: norm(dense(x.mT))), x))


@pytest.mark.parametrize(
    "near",
    [
        lambda x: (x - x.mean(-1, True)) / (x.var(-1, keepdim=True) + 1e-5).sqrt(),
        lambda x: (x - x.mean(1, True)) / (x.var(-1, keepdim=True, unbiased=False) + 1e-5).sqrt(),
        lambda x: (x - x.mean(-1, True)) / (x.var(-1, keepdim=True, unbiased=False) + 1e-5),
        lambda x: x / (x.var(-1, keepdim=True, unbiased=False) + 1e-5).sqrt(),
        lambda x: (x - x.mean(-1, True)) / (x.flip(1).var(-1, keepdim=True, unbiased=False) + 1e-5).sqrt(),
    ],
    ids=["unbiased", "other axis", "no root", "no mean", "other signal"],
)
def test_what_only_resembles_layer_norm_stays(near: Callable[[Tensor], Tensor]) -> None:
    x = noise(2, 5, 6)
    graph = capture(Function(near), x)
    assert "aten.native_layer_norm" not in names(graph)
    assert difference(graph(x), near(x)) < 1e-12


@pytest.mark.parametrize("upsample", [
    {"mode": "trilinear", "scale_factor": 2}, {"mode": "trilinear", "size": (5, 7, 9), "align_corners": True},
    {"mode": "trilinear", "scale_factor": 1.5}, {"mode": "bicubic", "scale_factor": 2}, {"mode": "linear", "size": 9},
], ids=str)  # fmt: skip
def test_resampling_is_recognised_in_a_decomposed_program(upsample: dict[str, object]) -> None:
    dims = {"linear": 1, "bicubic": 2, "trilinear": 3}[str(upsample["mode"])]
    layers = lambda: nn.Sequential(CONV[dims](1, 3, 3), nn.Upsample(**upsample), CONV[dims](3, 2, 1))  # noqa: E731
    model, x = seeded(layers), noise(2, 1, *(7, 6, 8)[:dims])
    program = torch.export.export(model, (x,)).run_decompositions().module()
    given, wanted = capture(program, x), capture(model, x)
    assert names(given) == names(wanted)
    assert difference(given(x), wanted(x)) < 1e-12
    for composite in ("epsilon", "volume", "gamma"):
        ours, theirs = (attribute(graph, x, wanted(x), composite) for graph in (given, wanted))
        assert difference(ours.relevance, theirs.relevance) < 1e-10


ROWS = torch.tensor([0, 0, 1, 1])


@pytest.mark.parametrize(
    ("near", "step"),
    [
        (lambda x: 0.7 * x[:, :, ROWS] + 0.4 * x[:, :, ROWS.flip(0)], "aten.index"),
        (lambda x: 0.7 * x[:, ROWS] + 0.3 * x[:, ROWS.flip(0)], "aten.index"),
        (lambda x: 0.7 * x[:, :, ROWS.view(2, 2)] + 0.3 * x[:, :, ROWS.view(2, 2).mT], "aten.index"),
        (lambda x: 0.7 * x + 0.3 * x, "aten.add"),
    ],
    ids=["weights", "channels", "more axes", "nothing gathered"],
)
def test_gathers_that_only_resemble_resampling_stay(near: Callable[[Tensor], Tensor], step: str) -> None:
    x = noise(1, 2, 2)
    graph = capture(Function(near), x)
    assert step in names(graph)
    assert difference(graph(x), near(x)) < 1e-12
