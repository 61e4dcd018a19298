"""The ledger: every unit is accounted for, each figure is of its own making, and a mistake shows where it is made."""

import json
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from lrp_helpers import explain, noise, one_rule, seeded
from LRPExplainLib.lrp import COMPOSITES, Ledger, LRPError, Target, capture, evaluate, linear, operators, rules
from LRPExplainLib.lrp.call import Answer, Call, Sources
from LRPExplainLib.lrp.flow import Flow
from LRPExplainLib.lrp.ledger import Bookkeeper, LedgerRow
from torch import Tensor, nn

NORMALIZATIONS = ["fixed", "linear", "identity"]


class Segmenter(nn.Module):
    """Biases everywhere, all kinds of norm, padding, skips, a gate and attention, in 2D."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.InstanceNorm2d(4, affine=True), nn.LeakyReLU())
        self.second = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.third = nn.Sequential(nn.Conv2d(4, 4, 1, groups=2), nn.GroupNorm(2, 4), nn.GELU())
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 4, 1), nn.Sigmoid())
        self.norm, self.qkv = nn.LayerNorm(4), nn.Linear(4, 12)
        self.position = nn.Parameter(torch.randn(1, 16, 4))
        self.up = nn.ConvTranspose2d(4, 3, 2, 2)
        self.head = nn.Conv2d(7, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(x)
        y = F.pad(self.second(first), (1, 1, 1, 1), value=0.3)
        y = F.max_pool2d(y + first, 2)
        y = y * self.gate(y) - 0.5 * F.avg_pool2d(self.third(y), 3, 1, padding=1)
        q, k, v = (self.qkv(self.norm(y.flatten(2).mT)) + 0.1).chunk(3, 2)
        attended = torch.softmax(q @ k.mT / 2 + 0.2, -1) @ v + self.position
        y = y + attended.mT.reshape(y.shape)
        return self.head(torch.cat([F.relu(self.up(y)), F.interpolate(y, scale_factor=2, mode="bilinear")], 1))


@pytest.fixture(scope="module")
def segmenter() -> nn.Module:
    return seeded(Segmenter)


X = noise(2, 1, 8, 8)


def ledger_of(model: nn.Module, composite: str, normalization: str = "fixed") -> Ledger:
    return explain(model, X, Target(1), replace(COMPOSITES[composite], normalization=normalization)).ledger


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("composite", COMPOSITES)
def test_the_ledger_closes_in_every_layer_and_in_total(
    segmenter: nn.Module, composite: str, normalization: str
) -> None:
    ledger = ledger_of(segmenter, composite, normalization)
    for row in ledger.by_layer:
        through = max(abs(row.relevance_out), abs(row.relevance_in), abs(row.absorbed_bias), abs(row.changed), 1.0)
        assert abs(row.gap) <= 1e-9 * through, row
    absorbed = sum(r.absorbed_bias + r.absorbed_stabiliser + r.changed for r in ledger.by_layer)
    scale = max(1.0, *(abs(row.relevance_out) for row in ledger.by_layer))
    assert ledger.absorbed == pytest.approx(absorbed, abs=1e-9 * scale)
    assert abs(ledger.target_value - (ledger.relevance + absorbed)) <= 1e-9 * scale
    assert ledger.gap == pytest.approx(ledger.target_value - ledger.relevance - absorbed, abs=1e-9 * scale)


@pytest.mark.parametrize("composite", COMPOSITES)
def test_the_ledger_closes_in_float32(composite: str) -> None:
    ledger = explain(seeded(Segmenter).float(), X.float(), Target(1), composite).ledger
    scale = max(abs(ledger.target_value), *(abs(row.relevance_out) for row in ledger.by_layer))
    assert abs(ledger.gap) <= 1e-5 * scale
    assert all(abs(row.gap) <= 1e-5 * scale for row in ledger.by_layer)


@pytest.mark.parametrize("composite", COMPOSITES)
def test_biases_that_share_absorb_nothing_but_what_the_answer_starts_from(composite: str) -> None:
    """A network of layers with biases, norms and sums, where all that is left is what stabilisers take."""
    model = seeded(lambda: nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.LeakyReLU(),
        nn.ConvTranspose2d(4, 3, 2, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 2),
    ))  # fmt: skip
    ledger = explain(model, X, Target(1), COMPOSITES[composite].with_biases("share")).ledger
    reached = max(abs(ledger.target_value), *(abs(row.relevance_out) for row in ledger.by_layer))
    last, *others = ledger.by_layer
    assert sum(abs(row.absorbed_bias) for row in others) <= 1e-9 * reached
    assert (last.absorbed_bias == 0) == (composite == "excitation-backprop")
    absorbing = explain(model, X, Target(1), COMPOSITES[composite].with_biases("absorb")).ledger
    assert (absorbing.absorbed_bias == 0) == (composite == "excitation-backprop")
    assert abs(ledger.gap) <= 1e-9 * reached


def test_a_bias_with_no_contribution_beside_it_absorbs() -> None:
    model = nn.Sequential(nn.Linear(2, 1)).double()
    with torch.no_grad():
        model[0].weight.zero_()
        model[0].bias.fill_(3.0)
    for rule in (rules.epsilon(), rules.gamma()):
        ledger = explain(model, noise(1, 2), Target(0), one_rule(rule).with_biases("share")).ledger
        assert ledger.absorbed_bias == pytest.approx(3.0, rel=1e-4)
        assert ledger.relevance == 0


def test_biases_do_one_of_two_things() -> None:
    with pytest.raises(LRPError, match="choose absorb or share"):
        COMPOSITES["volume"].with_biases("vanish")  # type: ignore[arg-type]


def test_without_biases_nothing_is_absorbed() -> None:
    model = seeded(lambda: nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 2, 2, bias=False),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    ))  # fmt: skip
    for composite in ("epsilon-plus", "epsilon-plus-flat", "gamma", "excitation-backprop"):
        ledger = explain(model, X.abs(), Target(1), composite).ledger
        assert ledger.absorbed_bias == 0.0
        assert ledger.changed == 0.0
        assert ledger.relevance / ledger.target_value == pytest.approx(1.0, abs=1e-4)
        assert abs(ledger.absorbed_stabiliser) <= 1e-4 * abs(ledger.target_value)


def test_each_term_is_what_it_says() -> None:
    """One dense layer by hand: 2 = 1.5 x - 0.5 y + 1, of which the bias takes its share and the stabiliser its own."""
    model = nn.Sequential(nn.Linear(2, 1)).double()
    with torch.no_grad():
        model[0].weight[:] = torch.tensor([[1.5, -0.5]])
        model[0].bias[:] = 1.0
    x = torch.ones(1, 2, dtype=torch.float64)
    ledger = explain(model, x, Target(0), one_rule(rules.epsilon(0.5, relative=False))).ledger
    (row,) = ledger.by_layer
    assert (row.layer, row.operator, row.role, row.rule) == ("0", "aten.addmm", "linear", "epsilon(0.5)")
    assert ledger.target_value == row.relevance_out == 2.0
    assert row.relevance_in == pytest.approx(2 * (1.5 - 0.5) / 2.5)
    assert row.absorbed_bias == pytest.approx(2 * 1.0 / 2.5)
    assert row.absorbed_stabiliser == pytest.approx(2 * 0.5 / 2.5)
    assert ledger.absorbed == pytest.approx(1.2)
    assert row.gap == pytest.approx(0.0, abs=1e-12)


def test_what_is_padded_absorbs(segmenter: nn.Module) -> None:
    ledger = ledger_of(segmenter, "epsilon-plus")
    (row,) = (row for row in ledger.by_layer if row.operator == "aten.constant_pad_nd")
    assert row.absorbed_bias != 0.0
    assert row.relevance_out == pytest.approx(row.relevance_in + row.absorbed_bias)


# --- breaking things on purpose ------------------------------------------------------------------------------------


class Leaky(Answer):
    """Another answer, of which a tenth of the relevance goes missing on the way."""

    def __init__(self, whole: Answer) -> None:
        self._whole = whole
        self.role, self.rules, self.silent, self.many = whole.role, whole.rules, False, whole.many

    def saves(self, node: torch.fx.Node, rule: rules.Rule, by_sign: bool) -> list[torch.fx.Node]:
        return self._whole.saves(node, rule, by_sign)

    def propagate(self, call: Call, relevance: Tensor, rule: rules.Rule) -> tuple[Sources, Flow]:
        sources, flow = self._whole.propagate(call, relevance, rule)
        return sources, replace(flow, relevance=[0.9 * part for part in flow.relevance])


def assert_gap_only_at(ledger: Ledger, broken: list[LedgerRow]) -> None:
    assert broken
    for row in ledger.by_layer:
        if row in broken:
            missing = row.relevance_in / 9  # a tenth of the whole is a ninth of what is left
            assert abs(missing) > 1e-6
            assert row.gap == pytest.approx(missing, rel=1e-6)
        else:
            assert abs(row.gap) <= 1e-9
    assert ledger.gap == pytest.approx(sum(row.gap for row in broken), abs=1e-9)


BREAKABLE = {
    "aten.relu": torch.ops.aten.relu,
    "aten.cat": torch.ops.aten.cat,
    "aten.constant_pad_nd": torch.ops.aten.constant_pad_nd,
    "aten.max_pool2d_with_indices": torch.ops.aten.max_pool2d_with_indices,
    "aten.upsample_bilinear2d": torch.ops.aten.upsample_bilinear2d,
    "aten.reshape": torch.ops.aten.reshape,
    "aten.leaky_relu": torch.ops.aten.leaky_relu,
}


@pytest.mark.parametrize("name", BREAKABLE)
def test_a_broken_operator_opens_the_ledger_at_its_own_layers(
    segmenter: nn.Module, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    kind = BREAKABLE[name]
    monkeypatch.setitem(operators.OPERATORS, kind, Leaky(operators.OPERATORS[kind]))
    ledger = ledger_of(segmenter, "epsilon-plus")
    assert_gap_only_at(ledger, [row for row in ledger.by_layer if row.operator == name])


@pytest.mark.parametrize("composite", ["epsilon", "epsilon-plus", "gamma", "epsilon-plus-flat"])
def test_a_broken_adjoint_opens_the_ledger_at_one_convolution(monkeypatch: pytest.MonkeyPatch, composite: str) -> None:
    """The kernel that carries relevance back through the only transposed convolution loses a tenth."""
    model = seeded(lambda: nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.ReLU(), nn.ConvTranspose2d(3, 3, 2), nn.ReLU(), nn.Conv2d(3, 2, 3)
    ))  # fmt: skip
    whole = linear.Convolution.adjoint

    def leaky(self: linear.Convolution, r: Tensor, weight: str) -> list[Tensor]:
        share = 0.9 if self.geometry[3] else 1.0
        return [share * part for part in whole(self, r, weight)]

    monkeypatch.setattr(linear.Convolution, "adjoint", leaky)
    ledger = explain(model, X, Target(1), composite).ledger
    assert_gap_only_at(ledger, [row for row in ledger.by_layer if row.layer == "2"])


@pytest.mark.parametrize(
    ("column", "kind"), [("absorbed_bias", "bias"), ("absorbed_stabiliser", "stabiliser"), ("changed", "changed")]
)
def test_what_is_absorbed_is_no_remainder(monkeypatch: pytest.MonkeyPatch, column: str, kind: str) -> None:
    """A layer that books nothing of what it absorbed has a gap of just that size."""
    model = seeded(lambda: nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Conv2d(3, 2, 3), nn.Softmax(1)))
    composite = one_rule(rules.epsilon(1.0), softmax=rules.TAYLOR)
    honest = explain(model, X, Target(1), composite).ledger
    whole = Bookkeeper.enter
    monkeypatch.setattr(
        Bookkeeper, "enter", lambda self, labels, out, flow: whole(self, labels, out, replace(flow, **{kind: []}))
    )
    silent = explain(model, X, Target(1), composite).ledger
    for told, untold in zip(honest.by_layer, silent.by_layer, strict=True):
        assert getattr(untold, column) == 0.0
        assert untold.gap == pytest.approx(getattr(told, column) + told.gap, abs=1e-9)
    assert abs(getattr(honest, column)) > 1e-3


# --- reading it ----------------------------------------------------------------------------------------------------


def test_chains_hand_on_what_they_got() -> None:
    model = seeded(lambda: nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(3, 2, 2), nn.Flatten(),
        nn.Linear(8, 2),
    ))  # fmt: skip
    ledger = explain(model, X, Target((0, 1)), "epsilon-plus").ledger
    assert [row.layer for row in ledger.by_layer if row.role in ("conv", "linear")] == ["6", "4", "0"]
    assert ledger.by_layer[0].relevance_out == ledger.target_value
    assert ledger.by_layer[-1].relevance_in == ledger.relevance
    for above, below in pairwise(ledger.by_layer):
        assert below.relevance_out == pytest.approx(above.relevance_in, abs=1e-12)


def test_as_dict_is_json_ready_and_complete(segmenter: nn.Module) -> None:
    ledger = ledger_of(segmenter, "attn-lrp")
    table = json.loads(json.dumps(ledger.as_dict(), allow_nan=False))
    for name in ("target_value", "relevance", "absorbed", "absorbed_bias", "absorbed_stabiliser", "changed", "gap"):
        assert table[name] == getattr(ledger, name)
    assert len(table["by_layer"]) == len(ledger.by_layer)
    for told, row in zip(table["by_layer"], ledger.by_layer, strict=True):
        assert told == {name: getattr(row, name) for name in told}
        assert {"layer", "operator", "role", "rule", "relevance_out", "relevance_in", "gap"} <= set(told)


def test_a_bias_with_nothing_beside_it_is_booked_behind_a_norm() -> None:
    """Where a convolution sees zeros alone, rounding of its bias is no contribution that could inherit."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(4, 8, 3, padding=1), nn.InstanceNorm2d(8, affine=True), nn.LeakyReLU(0.1),
        nn.Conv2d(8, 8, 3, padding=2), nn.InstanceNorm2d(8, affine=True), nn.SiLU(), nn.Conv2d(8, 2, 1),
    )  # fmt: skip
    x = torch.randn(1, 4, 24, 24)
    x[..., :12] = 0.0
    found = explain(model, x, Target(1), COMPOSITES["gamma"].with_biases("share"))
    assert abs(found.ledger.gap) < 1e-3 < abs(found.ledger.absorbed_bias)


def test_a_ledger_is_printed_in_one_line():
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    x = torch.rand(1, 3)
    ledger = explain(network, x, 1, "epsilon").ledger
    said = repr(ledger)
    assert len(said) < 200
    for figure in (ledger.target_value, ledger.relevance, ledger.absorbed_bias):
        assert f"{figure:.6g}" in said
    assert said.endswith(f"by_layer: {len(ledger.by_layer)} rows)")


def test_whoever_waits_is_told_the_share_that_is_done_and_may_stop(segmenter: nn.Module) -> None:
    graph, forward, backward = capture(segmenter, X), [], []
    evaluation = evaluate(graph, X, "epsilon", progress=forward.append)
    evaluation.attribute(Target(1), progress=backward.append)
    for told in (forward, backward):
        assert len(told) > 20
        assert told == pytest.approx([(n + 1) / len(told) for n in range(len(told))])

    class Stopped(Exception):
        pass

    def stop(share: float) -> None:
        if share > 0.5:
            raise Stopped

    with pytest.raises(Stopped):
        evaluate(graph, X, "epsilon", progress=stop)
    with pytest.raises(Stopped):
        evaluation.attribute(Target(1), progress=stop)
