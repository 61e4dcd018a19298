"""One network written in several ways has one map; and what writes, caches or draws numbers is seen."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from lrp_helpers import CONV, Function, difference, explain, noise, seeded
from LRPExplainLib.lrp import COMPOSITES, LRPError, Target, attribute, capture, rules
from torch import Tensor, nn

TOLERANCE = 1e-9
WEIGHTS = [torch.randn(4, 4, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(n)) for n in range(3)]
ZERO = rules.epsilon(1e-14, False)
LRP_0 = COMPOSITES["epsilon"].override(dict.fromkeys(("conv", "linear", "norm", "sum", "bias", "average"), ZERO))


def conv(x: Tensor, number: int) -> Tensor:
    return F.conv2d(x, WEIGHTS[number], padding=1)


def relevance(model: Callable[..., object], x: Tensor, composite: object = "epsilon") -> Tensor:
    module = model if isinstance(model, nn.Module) else Function(model)
    with torch.no_grad():
        start = torch.ones_like(module(x.clone()))
    return explain(module, x, start, composite).relevance


# --- gates and divisors -----------------------------------------------------------------------------------------------

PLAIN_GATE = lambda x: conv(x, 0) * torch.sigmoid(-conv(x, 1))  # noqa: E731
GATES = {
    "one minus": lambda x: conv(x, 0) * (1 - torch.sigmoid(conv(x, 1))),
    "minus, plus one": lambda x: conv(x, 0) * (-1 * torch.sigmoid(conv(x, 1)) + 1),
    "doubled": lambda x: conv(x, 0) * (2 * torch.sigmoid(-conv(x, 1))) / 2,
    "cut": lambda x: conv(x, 0) * torch.sigmoid(-conv(x, 1)).clamp(0, 2),
    "in pieces": lambda x: conv(x, 0) * torch.cat([t.sigmoid() for t in (-conv(x, 1)).split(2, 1)], 1),
    "turned twice": lambda x: conv(x, 0) * torch.sigmoid(-conv(x, 1)).flip(-1).flip(-1),
    "pooled": lambda x: conv(x, 0) * F.avg_pool2d(torch.sigmoid(-conv(x, 1)), 1),
    "squared root": lambda x: conv(x, 0) * torch.sigmoid(-conv(x, 1)).square().sqrt(),
}


@pytest.mark.parametrize("name", GATES)
def test_a_gate_remains_one_however_it_is_made(name: str) -> None:
    x = noise(1, 4, 6, 6)
    assert difference(relevance(GATES[name], x), relevance(PLAIN_GATE, x)) <= TOLERANCE


def test_hard_sigmoids_and_decisions_are_gates() -> None:
    x = noise(1, 4, 6, 6)
    spelled = lambda x: conv(x, 0) * (F.relu6(conv(x, 1) + 3) / 6)  # noqa: E731
    assert difference(relevance(spelled, x), relevance(lambda x: conv(x, 0) * F.hardsigmoid(conv(x, 1)), x)) < 1e-12
    positive = lambda x: conv(x, 0) * ~(conv(x, 1) <= 0)  # noqa: E731
    assert difference(relevance(positive, x), relevance(lambda x: conv(x, 0) * (conv(x, 1) > 0), x)) <= TOLERANCE
    chosen = lambda x: conv(x, 0) * torch.where(conv(x, 1) > 0, 1.0, 0.1)  # noqa: E731
    found = explain(Function(chosen), x, torch.ones_like(chosen(x)), LRP_0)
    assert abs(found.ledger.absorbed) < 1e-9


def test_two_signals_are_no_gate() -> None:
    x = noise(1, 4, 6, 6)
    product = lambda x: conv(x, 0) * (conv(x, 1) + torch.sigmoid(conv(x, 2)))  # noqa: E731
    assert difference(relevance(product, x), relevance(PLAIN_GATE, x)) > 0.1


def test_what_a_factor_is_made_of_is_looked_at_once() -> None:
    def folded(x: Tensor) -> Tensor:
        gate = torch.sigmoid(x)
        for _ in range(40):  # 2^40 ways lead back
            gate = (gate + gate.flip(-1)) / 2
        return x * gate

    x = noise(1, 4, 6, 6)
    assert torch.equal(relevance(folded, x), torch.ones_like(x))


DIVISORS = {
    "by the root": lambda h, v: h * v.rsqrt(),
    "one over the root": lambda h, v: h * (1 / v.sqrt()),
    "power": lambda h, v: h * v.pow(-0.5),
    "scaled": lambda h, v: h * (v.rsqrt() * torch.full((1, 4, 1, 1), 3.0)) / 3,
}


@pytest.mark.parametrize("name", DIVISORS)
def test_a_divisor_is_held_fixed_however_it_is_written(name: str) -> None:
    def normalised(divide: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        def run(x: Tensor) -> Tensor:
            h = conv(x, 0)
            return divide(h, h.square().mean(1, keepdim=True) + 1e-6)

        return run

    x = noise(1, 4, 6, 6)
    expected = relevance(normalised(lambda h, v: h / v.sqrt()), x)
    assert difference(relevance(normalised(DIVISORS[name]), x), expected) <= TOLERANCE


ACTIVATIONS = {
    "relu": (F.relu, lambda h: h * (h > 0)),
    "leaky relu": (F.leaky_relu, lambda h: torch.where(h > 0, 1.0, 0.01) * h),
    "silu": (F.silu, lambda h: h * torch.sigmoid(h)),
    "mish": (F.mish, lambda h: F.softplus(h).tanh() * h),
    "hardswish": (F.hardswish, lambda h: h * (F.relu6(h + 3) / 6)),
    "hardswish, divided last": (F.hardswish, lambda h: h * F.relu6(h + 3) / 6),
    "hardswish, divided first": (F.hardswish, lambda h: (h / 6) * F.relu6(3 + h)),
    "gelu by a polynomial": (F.gelu, lambda h: 0.5 * h * (1 + torch.tanh(0.8 * (h + 0.045 * h**3)))),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("composite", ["epsilon", "epsilon-plus", "attn-lrp"])
def test_what_a_function_of_a_signal_multiplies_it_by_is_held_fixed(name: str, composite: str) -> None:
    called, spelled = ACTIVATIONS[name]
    x = noise(1, 4, 6, 6)
    start = noise(1, 4, 6, 6, seed=5)
    found = explain(Function(lambda x: spelled(conv(x, 0))), x, start, composite).relevance
    assert difference(found, explain(Function(lambda x: called(conv(x, 0))), x, start, composite).relevance) < 1e-12


def test_a_matrix_of_decisions_is_held_fixed() -> None:
    x, values = noise(3, 4), noise(4, 2, seed=2)
    chosen = Function(lambda x, v: F.one_hot(x.argmax(1), 4).double() @ v)
    start = noise(3, 2, seed=3)
    found = explain(chosen, [x, values], start, "attn-lrp").relevance
    assert not found[0].any()
    assert difference(found[1], F.one_hot(x.argmax(1), 4).double().T @ start) <= 1e-4


# --- layers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2, 2), (4, 3)])
def test_a_norm_folds_into_the_matrix_whose_columns_are_its_channels_alone(shape: tuple[int, int]) -> None:
    """Behind token mixing (MLP-Mixer) its channels are those of the input."""
    rows, columns = shape
    mix, x = noise(rows, columns, seed=2), noise(columns, 3)
    norm = nn.LayerNorm(3).double()
    norm.weight.data = torch.tensor([1.0, 5.0, -2.0], dtype=torch.float64)
    found = relevance(lambda x: norm(mix @ x), x, LRP_0)
    with torch.no_grad():
        y = mix @ x
        factor = norm.weight / (y.var(1, correction=0, keepdim=True) + norm.eps).sqrt()
        expected = x * (mix.T @ (factor / norm(y)))
    assert difference(found, expected) < 1e-9


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "view", [lambda x: x.permute(0, 1, 3, 2), lambda x: x[:, :, ::2]], ids=["transposed", "every other row"]
)
def test_a_group_norm_takes_a_view(view: Callable[[Tensor], Tensor], dtype: torch.dtype) -> None:
    x, weight = noise(2, 4, 6, 6).to(dtype), WEIGHTS[0].to(dtype)
    model = Function(lambda x: F.group_norm(view(F.conv2d(x, weight)), 2))
    found = explain(model, x, torch.ones_like(model(x)), "epsilon")
    assert difference(found.output, model(x)) < 1e-5
    assert found.ledger.gap == pytest.approx(0, abs=1e-3)


def test_a_parametrized_layer_keeps_its_name_and_its_map() -> None:
    torch.manual_seed(0)
    layers, x = nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3)).double(), noise(1, 4, 6, 6)
    expected = relevance(layers, x, "epsilon-plus")
    nn.utils.parametrizations.weight_norm(layers[0])
    assert capture(layers.eval(), x).layers() == ["0", "2"]
    assert difference(relevance(layers, x, "epsilon-plus"), expected) <= TOLERANCE


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_padding_by_name_is_padding_by_number(dims: int, padding: str) -> None:
    layer, x = seeded(lambda: CONV[dims](2, 3, 3, padding=padding)), noise(1, 2, *(6,) * dims)
    numbered = seeded(lambda: CONV[dims](2, 3, 3, padding=0 if padding == "valid" else 1))
    for composite in ("epsilon-plus", "gamma", "volume"):
        assert difference(relevance(layer, x, composite), relevance(numbered, x, composite)) <= TOLERANCE


@pytest.mark.parametrize(
    ("formula", "shape"), [("bc,oc->bo", (3, 6)), ("bnc,oc->bno", (2, 5, 6)), ("bijc,oc->bijo", (2, 3, 2, 6))]
)
def test_a_dense_layer_written_by_einsum_keeps_its_bias(formula: str, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    dense, x = nn.Linear(6, 4).double(), noise(*shape)
    written = lambda x: torch.einsum(formula, x, dense.weight) + dense.bias  # noqa: E731
    for composite in ("epsilon-plus", "gamma"):
        assert difference(relevance(written, x, composite), relevance(dense, x, composite)) <= TOLERANCE


def test_bicubic_resampling_is_no_first_layer() -> None:
    kernel = noise(2, 1, 3, 3, seed=2)
    model = Function(lambda x: F.conv2d(F.interpolate(x, scale_factor=2, mode="bicubic"), kernel, padding=1))
    x, start = noise(1, 1, 16, 16).abs(), torch.zeros(1, 2, 32, 32, dtype=torch.float64)
    start[0, 0, 16, 16] = 1.0
    found = explain(model, x, start, "volume").relevance
    assert found[..., 4:12, 4:12].abs().sum() == found.abs().sum() > 0


@pytest.mark.parametrize("low", [-100.0, -1e4, -1e9, torch.finfo(torch.float64).min])
def test_what_a_mask_hides_is_hidden_by_any_low_number(low: float) -> None:
    """Swin and MONAI write -100, others -1e9 or the lowest number that there is."""
    weights = [noise(4, 4, seed=n) for n in range(3)]

    def attention(hidden: float) -> Callable[[Tensor], Tensor]:
        mask = torch.full((5, 5), hidden, dtype=torch.float64).triu(1)

        def run(x: Tensor) -> Tensor:
            q, k, v = (x @ w for w in weights)
            return (q @ k.mT * 0.35 + mask).softmax(-1) @ v

        return run

    x = noise(1, 5, 4)
    expected = explain(Function(attention(float("-inf"))), x, noise(1, 5, 4, seed=9), "attn-lrp")
    found = explain(Function(attention(low)), x, noise(1, 5, 4, seed=9), "attn-lrp")
    assert difference(found.relevance, expected.relevance) < 1e-9
    assert found.ledger.gap == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("scale", [1e-6, 1e-10])
def test_a_bias_that_is_far_larger_than_what_it_is_added_to_takes_no_digits(scale: float) -> None:
    """At 1e-6 float64 may lose the six digits that it has to spare (5e-11 at most with 300 other weights)."""
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 4, 3, padding=1)
    layer.bias.data.fill_(1.0)
    for dtype, exact in ((torch.float64, 1e-10), (torch.float32, 1e-5)):
        x = noise(1, 4, 8, 8).to(dtype) * scale
        found = explain(layer.to(dtype), x, torch.ones(1, 4, 8, 8, dtype=dtype), "excitation-backprop")
        assert abs(found.ledger.gap) < exact * found.ledger.target_value


def test_a_box_of_bounds_is_that_of_the_sample_without_the_frame() -> None:
    kernel, x = noise(3, 1, 3, 3, seed=2), noise(2, 1, 6, 6).abs() + 1
    own = relevance(lambda x: F.conv2d(x, kernel, padding=1).relu(), x, "epsilon-gamma-box")
    ahead = relevance(lambda x: F.conv2d(F.pad(x, (1, 1, 1, 1)), kernel).relu(), x, "epsilon-gamma-box")
    assert difference(ahead, own) <= TOLERANCE


def test_a_box_of_bounds_is_that_of_the_sample_in_patches_too() -> None:
    weight, x = noise(3, 4, seed=2), noise(2, 1, 6, 6)
    as_layer = relevance(lambda x: F.conv2d(x, weight.view(3, 1, 2, 2), stride=2).relu(), x, "epsilon-gamma-box")

    def in_patches(x: Tensor) -> Tensor:
        patches = x.view(2, 3, 2, 3, 2).permute(0, 1, 3, 2, 4).reshape(2, 9, 4)
        return F.linear(patches, weight).relu()

    assert difference(relevance(in_patches, x, "epsilon-gamma-box"), as_layer) < 1e-5  # the stabilisers differ


def test_a_difference_written_as_a_sum_is_not_taken_for_non_negative() -> None:
    minus = lambda x: conv(conv(x, 0).relu() - conv(x, 1).relu(), 2)  # noqa: E731
    plus = lambda x: conv(torch.add(conv(x, 0).relu(), conv(x, 1).relu(), alpha=-1), 2)  # noqa: E731
    x = noise(1, 4, 6, 6)
    assert difference(relevance(plus, x, "epsilon-plus"), relevance(minus, x, "epsilon-plus")) <= TOLERANCE


def test_the_frame_of_unfolded_patches_is_booked() -> None:
    model = Function(lambda x: F.unfold(x, 3, padding=1).transpose(1, 2) @ torch.ones(9, 1, dtype=torch.float64))
    x = torch.ones(1, 1, 4, 4, dtype=torch.float64)
    found = explain(model, x, torch.ones(1, 16, 1, dtype=torch.float64), "volume")
    assert found.ledger.gap == pytest.approx(0, abs=1e-6)
    assert float(found.relevance.sum()) + found.ledger.absorbed == pytest.approx(16)


def test_what_is_filled_in_gets_its_relevance() -> None:
    mask = torch.tensor([[True, False]])
    found = relevance(lambda x: (2 * x).masked_fill(mask, x.mean()), torch.tensor([[1.0, 3.0]]).double(), LRP_0)
    assert found.sum() == pytest.approx(2.0)


REPEATED = torch.tensor([0, 2, 0])


@pytest.mark.parametrize(
    "model",
    [
        lambda x: x.index_put((REPEATED,), 2 * x[1:]),
        lambda x: torch.ops.aten.index_put(x, [None, REPEATED], x[:, 1:]),  # x[:, REPEATED] = ...
        lambda x: x.index_put((REPEATED, REPEATED.flip(0)), 3 * x[0, 1:]),
        lambda x: x.index_put((REPEATED[:, None], REPEATED), x[0, 1:]),
        lambda x: x.index_put((REPEATED,), 2 * x[1:], accumulate=True),
        lambda x: x.index_put((x > 0.5,), x.sum(), accumulate=True),
        lambda x: x.index_put((torch.eye(4) > 0,), 2 * x[0]),
        lambda x: torch.ops.aten._unsafe_index_put(x, [REPEATED], 2 * x[1:]),
        lambda x: x.index_put((torch.eye(4) > 0,), 2 * x[0], accumulate=True),
    ],
)
def test_what_is_placed_gets_the_relevance_of_its_place_once(model: Callable[[Tensor], Tensor]) -> None:
    x = noise(4, 4).abs() + 0.1
    y = model(x)
    found = explain(Function(model), x, y, LRP_0)
    assert float(found.relevance.sum()) == pytest.approx(float(y.sum()))
    assert found.ledger.gap == pytest.approx(0, abs=1e-6)


def test_what_has_no_rule_is_refused() -> None:
    model = Function(lambda x: F.conv2d(x, WEIGHTS[0], bias=x.sum((0, 2, 3))))
    with pytest.raises(LRPError, match="no LRP rule"):
        explain(model, noise(1, 4, 6, 6), Target(0), "epsilon")


# --- networks that do more than compute -------------------------------------------------------------------------------


def test_a_network_that_writes_to_its_input_leaves_the_callers_alone() -> None:
    def written(x: Tensor) -> Tensor:
        x -= 2.0
        return x

    x = torch.tensor([[1.0, 3.0]], dtype=torch.float64)
    graph = capture(Function(written), x)
    for _ in range(2):
        found = attribute(graph, x, torch.ones(1, 2, dtype=torch.float64), LRP_0)
        assert difference(found.relevance, torch.tensor([[-1.0, 3.0]], dtype=torch.float64)) < 1e-12
    assert x.tolist() == [[1.0, 3.0]]


def test_a_mask_that_is_combined_in_place_follows_the_input() -> None:
    def masked(x: Tensor) -> Tensor:
        mask = torch.ones(x.shape, dtype=torch.bool)
        mask &= x > 0
        mask = ~mask
        mask |= x > 1
        return x.masked_fill(mask, 0.0)

    graph = capture(Function(masked), noise(2, 5))
    for seed in (2, 3):
        x = noise(2, 5, seed=seed)
        assert difference(graph(x), masked(x)) == 0


class Caching(nn.Module):
    """It keeps a mask and its last answer, as attention maps are kept to be looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(4, 4, 3, padding=1)
        self.mask: Tensor | None = None
        self.last: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        if self.mask is None:
            self.mask = torch.ones(8, 8).tril()
        self.answer = self.layer(x)
        self.last.append(self.answer)
        return self.answer * self.mask


def test_what_a_network_caches_is_not_left_behind_without_values() -> None:
    model, x = Caching().eval(), torch.randn(1, 4, 8, 8)
    capture(model, x)
    assert model.mask is None
    assert not hasattr(model, "answer")
    assert not model.last
    expected = model(x)
    assert torch.isfinite(expected.sum()).item()
    assert difference(capture(model, x)(x), expected) < 1e-6


@pytest.mark.parametrize(
    "draw", [lambda x: F.gumbel_softmax(x, dim=1), lambda x: x + torch.empty_like(x).normal_(), torch.poisson]
)
def test_networks_that_draw_numbers_are_refused(draw: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(LRPError, match="random numbers"):
        capture(Function(draw), torch.rand(2, 3))


def test_several_threads_may_capture() -> None:
    models = [nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3)).eval() for _ in range(4)]
    x, found, before = torch.randn(1, 4, 8, 8), {}, torch.backends.mkldnn.enabled
    threads = [threading.Thread(target=lambda m=m: found.update({m: capture(m, x)(x)})) for m in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == len(models)
    assert torch.backends.mkldnn.enabled == before


@pytest.mark.parametrize("decide", [lambda y: y.argmax(1), lambda y: y.argmax(1).float(), lambda y: (y > 0)[:, :1]])
def test_decisions_are_not_explained(decide: Callable[[Tensor], Tensor]) -> None:
    model, x = Function(lambda x: decide(conv(x, 0))), noise(1, 4, 6, 6)
    with pytest.raises(LRPError, match="returns decisions"):
        attribute(capture(model, x), x, 0, "epsilon")


def test_what_no_input_changes_is_not_explained() -> None:
    model, x = Function(lambda x: (conv(x, 0), torch.ones_like(x))), noise(1, 4, 6, 6)
    graph = capture(model, x)
    attribute(graph, x, 0, "epsilon", output=0)
    with pytest.raises(LRPError, match="the same whatever its input"):
        attribute(graph, x, 0, "epsilon", output=1)


def test_what_is_not_finite_is_not_shared_out() -> None:
    with pytest.raises(LRPError, match="not finite"):
        explain(nn.Linear(2, 2), torch.ones(1, 2), torch.full((1, 2), float("nan")), "epsilon")
