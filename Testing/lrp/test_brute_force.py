"""Every linear operator against float64 brute force: its matrix by Jacobian, the rules' formulas as printed."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from lrp_formulas import (
    Formula,
    Layer,
    Stabiliser,
    absolute,
    alpha_beta,
    alpha_beta_of_inputs,
    epsilon,
    flat,
    gamma,
    inherited,
    magnitude,
    magnitude_of_inputs,
    relative,
    share_out,
    w_square,
    z_box,
    z_plus,
    z_plus_of_inputs,
)
from lrp_helpers import (
    CONV,
    CONV_TRANSPOSE,
    INSTANCE_NORM,
    Case,
    Map,
    difference,
    explain,
    jacobian,
    noise,
    of,
    one_rule,
    seeded,
    shaped,
    table,
)
from LRPExplainLib.lrp import capture, count_operators, rules
from torch import Tensor, nn

TOLERANCE = 1e-6
PLACES = torch.tensor(
    [[[[-0.7, 0.2], [0.4, -1.1]], [[0.9, 0.6], [0.0, 0.1]]]]
).double()  # [1, 2, 2, 2], one beside the image
GROUPS = torch.tensor([[0, 2, 2, 1]])
TINY = rules.Stabilizer(1e-15, relative=False)

# name -> (the engine's rule, the formula, the stabiliser)
# fmt: off
BY_CONTRIBUTION: dict[str, tuple[rules.LinearRule, Formula, Stabiliser]] = {
    "epsilon": (rules.epsilon(0.1, relative=False), epsilon, absolute(0.1)),
    "relative epsilon": (rules.epsilon(0.1), epsilon, relative(0.1, batch=2)),
    "norm": (rules.norm(TINY), epsilon, absolute(1e-15)),
    "z+": (rules.z_plus(TINY), z_plus, absolute(1e-15)),
    "z+(no bias)": (rules.z_plus(TINY, absorb_bias=False), z_plus_of_inputs, absolute(1e-15)),
    "gamma": (rules.gamma(0.25, TINY), gamma(0.25), absolute(1e-15)),
    "alpha-beta": (rules.alpha_beta(2, 1, TINY), alpha_beta(2, 1), absolute(1e-15)),
    "magnitude": (rules.magnitude(TINY), magnitude, absolute(1e-15)),
    "epsilon, bias shared": (
        rules.epsilon(0.1, relative=False).sharing_bias(), inherited(epsilon), absolute(0.1),
    ),
    "gamma, bias shared": (rules.gamma(0.25, TINY).sharing_bias(), inherited(gamma(0.25)), absolute(1e-15)),
    "alpha-beta, bias shared": (
        rules.alpha_beta(2, 1, TINY).sharing_bias(), alpha_beta_of_inputs(2, 1), absolute(1e-15),
    ),
    "magnitude, bias shared": (rules.magnitude(TINY).sharing_bias(), magnitude_of_inputs, absolute(1e-15)),
}
# fmt: on
BY_WEIGHT: dict[str, tuple[rules.LinearRule, Formula, Stabiliser]] = {
    "z-box": (rules.z_box(-3.0, 4.0, TINY), z_box(-3.0, 4.0), absolute(1e-15)),
    "flat": (rules.flat(TINY), flat, absolute(1e-15)),
    "w-square": (rules.w_square(TINY), w_square, absolute(1e-15)),
}
ALL_RULES = BY_CONTRIBUTION | BY_WEIGHT


def affine(function: Map, inputs: Sequence[Tensor], raw: Map | None = None) -> Layer:
    """A function that is affine, as matrices; `raw` is the same without what a mean contributes."""
    x = torch.cat([value.flatten() for value in inputs])
    whole = jacobian(function, inputs)
    w = whole if raw is None else jacobian(raw, inputs)
    constant = function(*(torch.zeros_like(value) for value in inputs)).flatten()
    return Layer(w, x, constant, None if raw is None else whole - w)


def check(model: nn.Module, inputs: Sequence[Tensor], layer: Layer, rule: str, normalization: str = "fixed") -> None:
    """The engine's relevance, and what its ledger says of the constants, against the formula on the matrices."""
    ours, formula, stabiliser = ALL_RULES[rule]
    composite = replace(one_rule(ours), normalization=normalization)
    start = noise(*model(*inputs).shape, seed=9)
    found = explain(model, list(inputs), start, composite)
    parts = found.relevance if isinstance(found.relevance, tuple) else (found.relevance,)
    expected, absorbed = share_out(layer, start.flatten(), formula, stabiliser)
    assert [part.shape for part in parts] == [x.shape for x in inputs]
    assert difference(torch.cat([part.flatten() for part in parts]), expected) <= TOLERANCE
    assert found.ledger.absorbed_bias == pytest.approx(
        absorbed, rel=TOLERANCE, abs=TOLERANCE * float(start.abs().sum())
    )


# --- layers with weights ------------------------------------------------------------------------------------------


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[nn.Module, tuple[int, ...]]:
    """Any convolution that PyTorch can build, with an input that it accepts, small."""
    dims = draw(st.integers(1, 3))
    sizes = lambda low, high: tuple(draw(st.integers(low, high)) for _ in range(dims))  # noqa: E731
    groups = draw(st.sampled_from([1, 1, 2]))
    channels = [groups * draw(st.integers(1, 2)) for _ in range(2)]
    kernel, stride, dilation = sizes(1, 3), sizes(1, 2), sizes(1, 2)
    padding = tuple(draw(st.integers(0, k - 1)) for k in kernel)
    options = {
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "groups": groups,
        "bias": draw(st.booleans()),
    }
    if draw(st.booleans()):
        options["output_padding"] = tuple(
            draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True)
        )
        conv = CONV_TRANSPOSE[dims](*channels, kernel, **options)
        least = [1 + (2 * p + s - 1) // s for p, s in zip(padding, stride, strict=True)]
    else:
        conv = CONV[dims](*channels, kernel, **options)
        least = [max(1, d * (k - 1) + 1 - 2 * p) for k, d, p in zip(kernel, dilation, padding, strict=True)]
    return conv, (2, channels[0], *(n + draw(st.integers(0, 1)) for n in least))


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(convolutions(), st.sampled_from(sorted(ALL_RULES)), st.integers(0, 1000))
def test_any_convolution(drawn: tuple[nn.Module, tuple[int, ...]], rule: str, seed: int) -> None:
    conv, shape = drawn
    for i, parameter in enumerate(conv.parameters()):
        parameter.data = noise(*parameter.shape, seed=seed + i)
    conv.double()
    x = noise(*shape, seed=seed + 2)
    check(conv, [x], affine(conv, [x]), rule)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(("dims", "channels"), [(1, 4), (2, 4), (2, 8), (3, 2)])
def test_output_padding_of_a_stride_or_more_in_float32(dims: int, channels: int, groups: int) -> None:
    """oneDNN, which float32 goes to, does not know it."""
    conv = CONV_TRANSPOSE[dims](4, channels, 3, 1, 1, output_padding=1, dilation=2, groups=groups)
    x = noise(1, 4, *[4] * dims)
    start = noise(*conv(x.float()).shape, seed=9)
    single = explain(conv, x.float(), start.float(), one_rule(rules.gamma()))
    double = explain(conv.double(), x, start, one_rule(rules.gamma()))
    assert single.relevance.dtype == torch.float32
    assert difference(single.relevance.double(), double.relevance) <= 1e-4


@pytest.mark.parametrize("rule", [rule for rule in ALL_RULES if rule != "relative epsilon"])
@table(
    ("dense", lambda: nn.Linear(6, 4), (2, 6)),
    ("dense without bias", lambda: nn.Linear(6, 4, bias=False), (2, 6)),
    ("dense on tokens", lambda: nn.Linear(4, 3), (2, 1, 4)),
    (
        "addmm with factors",
        of(lambda x, b=shaped(4), w=shaped(6, 4): torch.addmm(b, x, w, beta=0.5, alpha=-2.0)),
        (2, 6),
    ),
    ("constant from the left", of(lambda x, w=shaped(2, 5): w @ x), (5, 3)),
    ("batched constant", of(lambda x, w=shaped(2, 3, 4): torch.bmm(x, w)), (2, 2, 3)),
    (
        "constant vector and bias",
        of(lambda x, b=shaped(3), w=shaped(6): torch.addmv(b, x, w, beta=0.5, alpha=-2.0)),
        (3, 6),
    ),
    ("dot", of(lambda x, w=shaped(6): torch.dot(x, w)), (6,)),
    ("constant vector", of(lambda x, w=shaped(6): torch.mv(x, w)), (3, 6)),
    ("constant vector from the left", of(lambda x, w=shaped(4, 3): torch.mv(w, x[:, 0])), (3, 2)),
    ("batched constant from the left", of(lambda x, w=shaped(2, 4, 3): torch.bmm(w, x)), (2, 3, 2)),
    ("einsum", of(lambda x, w=shaped(3, 4): torch.einsum("nchw,kc->nkhw", x, w)), (2, 4, 2, 2)),
)
def test_dense_layers(case: Case, rule: str) -> None:
    model, inputs = seeded(case.build), case.inputs()
    check(model, inputs, affine(model, inputs), rule)


def test_a_dense_layers_scale_is_that_of_one_token() -> None:
    """Dense layers run on rows, so a relative epsilon is relative to each token's own outputs."""
    model, x = seeded(lambda: nn.Linear(4, 3)), noise(2, 3, 4)
    found = explain(model, x, noise(2, 3, 3, seed=9), one_rule(rules.epsilon(0.1)))
    expected, _ = share_out(affine(model, [x]), noise(2, 3, 3, seed=9).flatten(), epsilon, relative(0.1, batch=6))
    assert difference(found.relevance.flatten(), expected) <= TOLERANCE


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("rule", ["z+", "gamma", "alpha-beta"])
def test_a_dense_layer_does_not_depend_on_how_its_input_lies_in_memory(rule: str, frozen: bool) -> None:
    """Behind a transpose PyTorch spells it as mm or (frozen) bmm with an addition: one layer it is all the same."""
    model = seeded(lambda: nn.Sequential(nn.Linear(4, 3))).requires_grad_(not frozen)
    x = noise(4, 2, 3).permute(1, 2, 0)
    graph = capture(model, x)
    assert [count.role for count in count_operators(graph) if count.role != "move"] == ["linear"]
    assert difference(graph(x), model(x)) <= 1e-12
    check(model, [x], affine(model, [x]), rule)


@pytest.mark.parametrize("rule", ALL_RULES)
@table(
    ("conv 1d", lambda: nn.Sequential(nn.Conv1d(2, 3, 3), nn.BatchNorm1d(3)), (2, 2, 5)),
    ("conv 3d", lambda: nn.Sequential(nn.Conv3d(2, 2, 2, bias=False), nn.BatchNorm3d(2)), (2, 2, 3, 3, 3)),
    (
        "grouped transposed",
        lambda: nn.Sequential(nn.ConvTranspose2d(4, 6, 2, 2, groups=2), nn.BatchNorm2d(6)),
        (2, 4, 2, 2),
    ),
    ("dense", lambda: nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)), (2, 4)),
    ("alone", lambda: nn.Sequential(nn.BatchNorm2d(3), nn.Flatten()), (2, 3, 2, 2)),
    ("without parameters", lambda: nn.BatchNorm2d(3, affine=False), (2, 3, 2, 2)),
)
def test_batch_norm_is_part_of_its_layer(case: Case, rule: str) -> None:
    model, inputs = seeded(case.build), case.inputs()
    check(model, inputs, affine(model, inputs), rule)


# --- normalisation with the sample's statistics -------------------------------------------------------------------


def held(norm: nn.Module, at: Tensor, mean_too: bool) -> tuple[Map, Map]:
    """A norm whose variance (and mean, if asked) is what it is at `at`; and what it is without any mean or shift."""
    if isinstance(norm, nn.LayerNorm):
        axes = tuple(range(-len(norm.normalized_shape), 0))
        average = lambda v: v.mean(axes, keepdim=True).expand(v.shape)  # noqa: E731
    else:
        groups = norm.num_groups if isinstance(norm, nn.GroupNorm) else at.shape[1]
        grouped = (at.shape[0], groups, -1)
        average = lambda v: (v.reshape(grouped).mean(2, keepdim=True) + 0 * v.reshape(grouped)).reshape(v.shape)  # noqa: E731
    mean, rstd = average(at), torch.rsqrt(average((at - average(at)) ** 2) + norm.eps)
    if isinstance(norm, nn.LayerNorm):
        factor, shift = norm.weight, norm.bias
    else:
        factor, shift = (p if p is None else p.reshape(1, -1, *(1,) * (at.dim() - 2)) for p in (norm.weight, norm.bias))
    factor, shift = 1.0 if factor is None else factor.detach(), 0.0 if shift is None else shift.detach()
    return (lambda v: (v - (mean if mean_too else average(v))) * rstd * factor + shift, lambda v: v * rstd * factor)


NORMS = table(
    (
        "instance 1d",
        lambda: nn.Sequential(nn.Conv1d(2, 3, 2), INSTANCE_NORM[1](3, affine=True)),
        (2, 2, 6),
    ),
    ("instance 2d", lambda: nn.Sequential(nn.Conv2d(2, 3, 2, bias=False), INSTANCE_NORM[2](3)), (2, 2, 3, 4)),
    ("instance 3d", lambda: nn.Sequential(nn.Conv3d(1, 2, 2), INSTANCE_NORM[3](2, affine=True)), (2, 1, 3, 3, 3)),
    ("group", lambda: nn.Sequential(nn.Conv2d(2, 4, 2, groups=2), nn.GroupNorm(2, 4)), (2, 2, 3, 3)),
    ("one group", lambda: nn.Sequential(nn.Conv2d(2, 3, 2), nn.GroupNorm(1, 3)), (2, 2, 3, 3)),
    (
        "group after transposed",
        lambda: nn.Sequential(nn.ConvTranspose2d(2, 4, 2, 2, groups=2), nn.GroupNorm(2, 4)),
        (2, 2, 2, 2),
    ),
    ("layer", lambda: nn.Sequential(nn.Linear(5, 4), nn.LayerNorm(4)), (2, 5)),
    ("layer without shift", lambda: nn.Sequential(nn.Linear(5, 4), nn.LayerNorm(4, bias=False)), (2, 5)),
    ("instance alone", lambda: nn.Sequential(nn.Identity(), INSTANCE_NORM[2](3, affine=True)), (2, 3, 3, 2)),
    ("group alone", lambda: nn.Sequential(nn.Identity(), nn.GroupNorm(2, 4, affine=False)), (2, 4, 3)),
    ("layer alone", lambda: nn.Sequential(nn.Identity(), nn.LayerNorm((3, 2))), (2, 3, 2)),
)


@pytest.mark.parametrize("normalization", ["fixed", "linear"])
@pytest.mark.parametrize("rule", ALL_RULES)
@NORMS
def test_norms_with_the_samples_statistics(case: Case, rule: str, normalization: str) -> None:
    """A layer and the norm behind it are one linear map; the mean is a constant, or a function of the input."""
    model, (x,) = seeded(case.build), case.inputs()
    before, norm = model
    whole, raw = held(norm, before(x).detach(), normalization == "fixed")
    assert difference(whole(before(x)), model(x)) <= 1e-12  # the oracle is the model
    constant = torch.zeros_like(x)
    with_mean = None if normalization == "fixed" else lambda v: raw(before(v) - before(constant))
    check(model, [x], affine(lambda v: whole(before(v)), [x], with_mean), rule, normalization)


@pytest.mark.parametrize("rule", ALL_RULES)
@NORMS
def test_norms_by_the_identity_rule(case: Case, rule: str) -> None:
    """The norm hands relevance on unchanged; the layer before it is on its own."""
    model, (x,) = seeded(case.build), case.inputs()
    before = model[0]
    if isinstance(before, nn.Identity):
        start = noise(*model(x).shape, seed=9)
        composite = replace(one_rule(ALL_RULES[rule][0]), normalization="identity")
        assert torch.equal(explain(model, x, start, composite).relevance, start)
        return
    check(model, [x], affine(before, [x]), rule, "identity")


# --- sums and averages --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", BY_CONTRIBUTION)
@table(
    ("residual", of(lambda x, y: x + y), (2, 3, 2), (2, 3, 2)),
    ("difference", of(lambda x, y: x - y), (2, 3, 2), (2, 3, 2)),
    ("add with a factor", of(lambda x, y: torch.add(x, y, alpha=-2.5)), (2, 3), (2, 3)),
    ("sub with a factor", of(lambda x, y: torch.sub(x, y, alpha=0.5)), (2, 3), (2, 3)),
    ("reversed sub", of(lambda x, y: torch.rsub(x, y, alpha=3.0)), (2, 3), (2, 3)),
    ("second broadcast", of(lambda x, y: x + y), (2, 3, 2, 2), (2, 3, 1, 1)),
    ("first broadcast", of(lambda x, y: x - y), (1, 2), (2, 3, 2)),
    ("both broadcast", of(lambda x, y: x + y), (2, 3, 1), (2, 1, 4)),
    ("with itself", of(lambda x: x + x), (2, 3)),
    ("number", of(lambda x: x + 0.7), (2, 3)),
    ("constant", of(lambda x, c=shaped(3, 1): x + c), (2, 3, 2)),
    ("constant with a factor", of(lambda x, c=shaped(3): torch.sub(x, c, alpha=2.0)), (2, 3)),
    ("from a constant", of(lambda x, c=shaped(3): c - x), (2, 3)),
    ("from a number", of(lambda x: 1.0 - x), (2, 3)),
    ("constant that broadcasts the signal", of(lambda x, c=shaped(2, 3, 2): x + c), (2, 1, 2)),
)
def test_sums(case: Case, rule: str) -> None:
    model, inputs = case.build(), case.inputs()
    check(model, inputs, affine(model, inputs), rule)


AVERAGES = table(
    ("avg_pool 1d", lambda: nn.AvgPool1d(2, 1), (2, 2, 5)),
    ("avg_pool 2d", lambda: nn.AvgPool2d(3, 2, padding=1), (2, 2, 5, 4)),
    ("avg_pool of what is there", lambda: nn.AvgPool2d(3, 2, padding=1, count_include_pad=False), (2, 2, 5, 4)),
    ("avg_pool 3d ceiled", lambda: nn.AvgPool3d(2, ceil_mode=True), (2, 1, 3, 4, 3)),
    ("adaptive 1d", lambda: nn.AdaptiveAvgPool1d(3), (2, 2, 7)),
    ("adaptive 2d", lambda: nn.AdaptiveAvgPool2d((2, 3)), (2, 2, 5, 4)),
    ("adaptive 3d", lambda: nn.AdaptiveAvgPool3d(2), (2, 1, 3, 5, 2)),
    ("global", lambda: nn.AdaptiveAvgPool3d(1), (2, 2, 2, 3, 2)),
    ("mean", of(lambda x: x.mean((2, 3))), (2, 3, 2, 2)),
    ("mean per sample", of(lambda x: x.mean((1, 2))), (2, 3, 2)),
    ("mean kept", of(lambda x: x.mean(1, keepdim=True)), (2, 3, 2)),
    ("sum", of(lambda x: x.sum((1, 2))), (2, 3, 2)),
    ("cumsum", of(lambda x: x.cumsum(2)), (2, 2, 4)),
    ("fold", lambda: nn.Fold((3, 4), 2), (2, 4, 6)),
    ("sum by place", of(lambda x, i=GROUPS: x.new_zeros(2, 3).scatter_reduce(1, i.expand(2, 4), x, "sum")), (2, 4)),
    ("mean by place", of(lambda x, i=GROUPS: x.new_zeros(2, 3).scatter_reduce(1, i.expand(2, 4), x, "mean")), (2, 4)),
    ("nearest 1d", lambda: nn.Upsample(scale_factor=2), (2, 2, 3)),
    ("nearest 2d", lambda: nn.Upsample(size=(5, 3)), (2, 1, 2, 3)),
    ("nearest 3d", lambda: nn.Upsample(scale_factor=2), (2, 1, 2, 1, 2)),
    ("nearest-exact", lambda: nn.Upsample(size=(5, 3), mode="nearest-exact"), (2, 1, 2, 3)),
    ("linear", lambda: nn.Upsample(scale_factor=2, mode="linear"), (2, 2, 3)),
    ("bilinear", lambda: nn.Upsample(size=(3, 5), mode="bilinear"), (2, 1, 2, 3)),
    ("bilinear, corners", lambda: nn.Upsample(size=(3, 5), mode="bilinear", align_corners=True), (2, 1, 2, 3)),
    ("bilinear, antialiased", of(lambda x: F.interpolate(x, (2, 3), mode="bilinear", antialias=True)), (2, 1, 5, 4)),
    ("trilinear", lambda: nn.Upsample(scale_factor=2, mode="trilinear"), (2, 1, 2, 1, 2)),
    ("downwards", lambda: nn.Upsample(size=(2, 2, 2), mode="trilinear"), (2, 1, 3, 3, 4)),
    ("sampled", of(lambda x: F.grid_sample(x, PLACES.expand(2, -1, -1, -1), align_corners=False)), (2, 1, 3, 4)),
    (
        "sampled nearest",
        of(lambda x: F.grid_sample(x, PLACES.expand(2, -1, -1, -1), "nearest", "border")),
        (2, 1, 3, 4),
    ),
)


@pytest.mark.parametrize("rule", BY_CONTRIBUTION)
@AVERAGES
def test_averages_and_resampling(case: Case, rule: str) -> None:
    model, inputs = case.build(), case.inputs()
    if any(step.target is torch.ops.aten.index.Tensor for step in capture(model, *inputs).steps):
        pytest.skip(f"PyTorch {torch.__version__} traces nearest resampling as a selection, which moves by any rule")
    check(model, inputs, affine(model, inputs), rule)


@pytest.mark.parametrize("rule", ["flat", "w-square"])
@AVERAGES
def test_fixed_coefficients_are_never_modified(case: Case, rule: str) -> None:
    """Without weights to modify, these rules share by the layer's coefficients: a trilinear kernel stays one."""
    model, (x,) = case.build(), case.inputs()
    w = jacobian(model, [x])
    start = noise(*model(x).shape, seed=9)
    found = explain(model, x, start, one_rule(ALL_RULES[rule][0])).relevance
    assert difference(found.flatten(), (w / w.sum(1, keepdim=True)).T @ start.flatten()) <= TOLERANCE
