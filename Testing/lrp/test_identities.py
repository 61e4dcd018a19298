"""What must hold whatever the network: known equalities between rules, batches, targets, layers and channels."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from lrp_helpers import difference, explain, noise, of, one_rule, seeded
from LRPExplainLib.lrp import COMPOSITES, DEFAULT_COMPOSITE, LRPError, Target, attribute, capture, evaluate, rules
from torch import Tensor, nn

EXACT = 1e-9
TINY = rules.Stabilizer(1e-14, relative=False)


class Small(nn.Module):
    """A residual classifier with pooling, concatenation, norms and both kinds of convolution."""

    def __init__(self, bias: bool = True, norm: bool = True) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1, bias=bias)
        self.norm = nn.InstanceNorm2d(4, affine=True) if norm else nn.Identity()
        self.inner = nn.Conv2d(4, 4, 3, padding=1, groups=2, bias=bias)
        self.up = nn.ConvTranspose2d(4, 2, 2, 2, bias=bias)
        self.head = nn.Linear(6, 3, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.stem(x)))
        x = F.max_pool2d(x + F.relu(self.inner(x)), 2)
        x = torch.cat([F.interpolate(x, scale_factor=2), F.relu(self.up(x))], 1)
        return self.head(x.mean((2, 3)))


@pytest.fixture(scope="module")
def small() -> nn.Module:
    return seeded(Small)


X = noise(3, 2, 6, 6)


def test_epsilon_to_zero_on_a_bias_free_relu_net_is_gradient_times_input() -> None:
    model, weights = seeded(lambda: Small(bias=False, norm=False)), noise(3, 3, seed=2)
    found = explain(model, X, weights * model(X).detach(), one_rule(rules.epsilon(1e-13, relative=False)))
    x = X.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(x), x, weights)
    assert difference(found.relevance, X * gradient) <= 1e-8
    assert found.ledger.relevance == pytest.approx(found.ledger.target_value, rel=1e-8)


def test_z_plus_on_non_negative_inputs_is_excitation_backprop() -> None:
    """Zhang 2018, eq. 3: P(a_i | a_j) proportional to a_i w_ij where w_ij > 0; probabilities walk down the layers."""
    model = seeded(lambda: nn.Sequential(
        nn.Linear(6, 8, bias=False), nn.ReLU(), nn.Linear(8, 7, bias=False), nn.ReLU(), nn.Linear(7, 3, bias=False)
    ))  # fmt: skip
    x = noise(2, 6).abs()
    activations = [x]
    for layer in model[::2]:
        activations.append(F.relu(layer(activations[-1])))
    winning = torch.eye(3).double()[[1, 2]]
    for layer, below in zip(model[4::-2], activations[2::-1], strict=True):
        w = layer.weight.clamp(min=0)
        parents = below @ w.T
        winning = below * (torch.where(parents > 0, winning / parents, 0.0) @ w)
    found = explain(model, x, torch.eye(3).double()[[1, 2]], one_rule(rules.z_plus(TINY)))
    assert difference(found.relevance, winning) <= EXACT
    assert difference(found.relevance.sum(1), torch.ones(2).double()) <= EXACT


def test_excitation_backprop_is_a_probability_that_loses_nothing(small: nn.Module) -> None:
    """Whatever the biases: the composite of that name keeps a start of one at one down to the voxels, none negative."""
    model = seeded(lambda: Small(norm=False))
    found = explain(model, X, torch.eye(3).double(), "excitation-backprop")
    assert difference(found.relevance.sum((1, 2, 3)), torch.ones(3).double()) <= 1e-5
    assert found.ledger.absorbed_bias == 0.0


def test_flat_ignores_the_inputs_values() -> None:
    model = seeded(lambda: nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 2)))
    graph, start = capture(model, X), noise(3, 2, seed=2)
    everywhere = one_rule(rules.flat())
    assert torch.equal(
        attribute(graph, X, start, everywhere).relevance, attribute(graph, 5 * X.flip(3), start, everywhere).relevance
    )
    # with other rules above it, flat spreads what reaches the first layer alike within each receptive field
    one = explain(nn.Conv2d(1, 1, 3).double(), noise(1, 1, 3, 3), torch.ones(1, 1, 1, 1).double(), "epsilon-plus-flat")
    assert difference(one.relevance, torch.full((1, 1, 3, 3), 1 / 9).double()) <= 1e-5


@pytest.mark.parametrize("composite", COMPOSITES)
def test_a_permuted_batch_permutes_the_result(small: nn.Module, composite: str) -> None:
    graph, order, start = capture(small, X), [2, 0, 1], noise(3, 3, seed=2)
    forward = attribute(graph, X, start, composite).relevance
    permuted = attribute(graph, X[order], start[order], composite).relevance
    assert difference(permuted, forward[order]) <= EXACT


@pytest.mark.parametrize("normalization", ["fixed", "linear", "identity"])
@pytest.mark.parametrize("composite", COMPOSITES)
def test_a_batch_equals_its_samples_one_by_one(small: nn.Module, composite: str, normalization: str) -> None:
    table = replace(COMPOSITES[composite], normalization=normalization)
    together = explain(small, X, Target((2, 0, 1)), table)
    apart = [explain(small, x[None], Target(i), table) for x, i in zip(X, (2, 0, 1), strict=True)]
    assert difference(together.relevance, torch.cat([a.relevance for a in apart])) <= EXACT
    for total in ("target_value", "relevance", "absorbed_bias", "absorbed_stabiliser"):
        assert getattr(together.ledger, total) == pytest.approx(sum(getattr(a.ledger, total) for a in apart), abs=1e-9)


@pytest.mark.parametrize("composite", COMPOSITES)
def test_a_contrast_is_the_difference_of_its_classes(small: nn.Module, composite: str) -> None:
    """Linear in the start relevance, for a fixed forward pass: `A rather than B` is A minus B."""
    graph = capture(small, X)
    a, b, contrast = (
        attribute(graph, X, target, composite).relevance for target in (Target(0), Target(2), Target(0, rather_than=2))
    )
    assert difference(contrast, a - b) <= EXACT


def test_classes_are_asked_for_in_any_usual_way(small: nn.Module) -> None:
    x = X[:2]
    graph = capture(small, x)
    wanted = attribute(graph, x, Target((1, 1)), "epsilon").relevance
    for target in (1, Target(1), Target([1, 1]), Target(torch.tensor([1, 1]))):
        assert torch.equal(attribute(graph, x, target, "epsilon").relevance, wanted)


def test_an_output_without_classes_wants_a_tensor() -> None:
    x = noise(2, 3)
    graph = capture(of(lambda x: x.sum(1))(), x)
    with pytest.raises(LRPError, match="no classes to choose from"):
        attribute(graph, x, Target(0))
    assert attribute(graph, x, torch.ones(2, dtype=x.dtype), "epsilon").ledger.target_value == pytest.approx(2)


def test_a_masked_target_starts_within_the_mask() -> None:
    model = seeded(lambda: nn.Sequential(nn.Conv2d(2, 3, 1), nn.ReLU(), nn.Conv2d(3, 2, 1)))
    mask = torch.zeros(6, 6, dtype=torch.bool)
    mask[2:4, 1] = True
    found = explain(model, X, Target(1, mask=mask), "epsilon")
    assert found.ledger.target_value == pytest.approx(float(model(X)[:, 1][:, mask].sum()))
    assert not found.relevance[:, :, ~mask].any()  # every kernel is a single voxel
    assert found.relevance[:, :, mask].any()
    halves = [explain(model, X, Target(1, mask=mask * w), "epsilon").relevance for w in (0.25, 0.75)]
    assert difference(halves[0] + halves[1], found.relevance) <= EXACT


class TwoByTwo(nn.Module):
    """Two inputs and a dict of two outputs, of which the second is nested and reads the second input alone."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 3), nn.Linear(5, 2)
        self.both = nn.Linear(5, 3)

    def forward(self, x: Tensor, y: Tensor) -> dict[str, object]:
        a, b = F.leaky_relu(self.first(x)), F.leaky_relu(self.second(y))
        return {"main": self.both(torch.cat([a, b], 1)), "rest": (b, "a word")}


def test_several_inputs_and_outputs() -> None:
    model, inputs = seeded(TwoByTwo), [noise(2, 4), noise(2, 5, seed=4)]
    graph = capture(model, *inputs)
    first = attribute(graph, inputs, Target(1), "epsilon")
    assert [r.shape for r in first.relevance] == [x.shape for x in inputs]
    assert all(r.any() for r in first.relevance)
    assert first.ledger.relevance == pytest.approx(sum(float(r.sum()) for r in first.relevance))
    second = attribute(graph, inputs, Target(1), "epsilon", output=1)
    assert second.ledger.target_value == pytest.approx(float(model(*inputs)["rest"][0][:, 1].sum()))
    assert not second.relevance[0].any()
    assert second.relevance[1].any()
    assert second.output["rest"][1] == "a word"
    with pytest.raises(LRPError, match="outputs 0 to 1"):
        attribute(graph, inputs, Target(1), "epsilon", output=2)


def test_one_forward_pass_answers_several_questions(small: nn.Module) -> None:
    graph = capture(small, X)
    open_for_questions = evaluate(graph, X, "epsilon-plus")
    for index in (2, 0, 2):
        asked = open_for_questions.attribute(Target(index))
        assert torch.equal(asked.relevance, attribute(graph, X, Target(index), "epsilon-plus").relevance)


LAYERS = ["stem", "inner", "up", "head"]


@pytest.mark.parametrize("composite", COMPOSITES)
def test_relevance_at_inner_layers_is_what_the_ledger_says(small: nn.Module, composite: str) -> None:
    found = explain(small, X, Target(1), replace(COMPOSITES[composite], normalization="identity"), at=LAYERS)
    shapes = {"stem": (3, 4, 6, 6), "inner": (3, 4, 6, 6), "up": (3, 2, 6, 6), "head": (3, 3)}
    assert {name: tuple(r.shape) for name, r in found.at.items()} == shapes
    booked = {row.layer: row.relevance_out for row in found.ledger.by_layer if row.role in ("conv", "linear")}
    assert {name: float(r.sum()) for name, r in found.at.items()} == pytest.approx(booked, abs=1e-9)


def test_a_layer_with_a_folded_norm_is_asked_for_behind_the_norm() -> None:
    """Convolution and norm are one layer; its name stands for what leaves it."""
    model = seeded(
        lambda: nn.Sequential(nn.Conv2d(2, 3, 3), nn.InstanceNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 2))
    )
    found = explain(model, X, Target(1), "epsilon-plus", at=["0"])
    (row,) = (row for row in found.ledger.by_layer if row.layer == "0" and row.role == "conv")
    assert float(found.at["0"].sum()) == pytest.approx(row.relevance_out)


def test_an_unknown_layer_is_refused(small: nn.Module) -> None:
    with pytest.raises(LRPError, match="no layer 'nowhere'"):
        explain(small, X, Target(1), at=["nowhere"], composite="epsilon")


@pytest.mark.parametrize("layer", ["stem", "inner", "up"])
@pytest.mark.parametrize("composite", COMPOSITES)
def test_conditions_on_channels_add_up_over_a_partition(small: nn.Module, composite: str, layer: str) -> None:
    """What goes around the layer (skip connections) is in each part, so it is counted once."""
    graph, channels = capture(small, X), {"stem": 4, "inner": 4, "up": 2}[layer]
    kept = [attribute(graph, X, Target(1), composite, channels={layer: [c]}) for c in range(channels)]
    whole = attribute(graph, X, Target(1), composite)
    around = attribute(graph, X, Target(1), composite, channels={layer: []})
    assert difference(sum(k.relevance - around.relevance for k in kept), whole.relevance - around.relevance) <= EXACT
    for part in kept:
        assert abs(part.ledger.gap) <= 1e-9 * max(1.0, abs(part.ledger.target_value))
        assert any(row.operator == "condition" and row.layer == layer for row in part.ledger.by_layer)


def test_conditions_leave_nothing_of_other_channels() -> None:
    """On a network of independent channels, one channel's condition is that channel's explanation."""
    model = seeded(lambda: nn.Sequential(nn.Conv1d(2, 2, 3, groups=2), nn.ReLU(), nn.Conv1d(2, 2, 1, groups=2)))
    x, start = noise(1, 2, 7), noise(1, 2, 5, seed=2)
    found = explain(model, x, start, "epsilon", channels={"0": [1]})
    alone = explain(model, x, start * torch.tensor([0.0, 1.0]).double().reshape(1, 2, 1), "epsilon")
    assert torch.equal(found.relevance, alone.relevance)
    assert not found.relevance[:, 0].any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("composite", COMPOSITES)
def test_half_precision_gives_float32_relevance(composite: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model, x = Small().eval(), X.float()
    exact = explain(model, x, Target(1), composite)
    model.to(dtype)
    coarse = explain(model, x.to(dtype), Target(1), composite)
    assert exact.relevance.dtype == coarse.relevance.dtype == torch.float32
    together = torch.stack([exact.relevance.flatten(), coarse.relevance.flatten()])
    assert float(torch.corrcoef(together)[0, 1]) >= 0.99


def test_float64_stays_float64(small: nn.Module) -> None:
    assert explain(small, X, Target(0), DEFAULT_COMPOSITE).relevance.dtype == torch.float64


def test_relevance_walks_down_unbroken(small: nn.Module) -> None:
    """In a chain, what one layer hands on is what the next one gets."""
    model = seeded(
        lambda: nn.Sequential(nn.Conv1d(2, 3, 3), nn.ReLU(), nn.Conv1d(3, 2, 2), nn.ReLU(), nn.Conv1d(2, 2, 2))
    )
    ledger = explain(model, noise(2, 2, 9), Target(1), "epsilon-plus").ledger
    assert [row.layer for row in ledger.by_layer if row.role == "conv"] == ["4", "2", "0"]
    assert ledger.by_layer[0].relevance_out == pytest.approx(ledger.target_value)
    for above, below in pairwise(ledger.by_layer):
        assert above.relevance_in == pytest.approx(below.relevance_out)
    assert ledger.by_layer[-1].relevance_in == pytest.approx(ledger.relevance)
