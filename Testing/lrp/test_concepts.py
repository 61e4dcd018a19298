"""Conditional relevance of an inner layer's channels: closed forms, sums, a masked Jacobian, and less memory."""

import pytest
import torch
import torch.nn.functional as F
from lrp_helpers import difference, noise, one_rule, seeded
from LRPExplainLib import lrp
from LRPExplainLib.lrp import COMPOSITES, LRPError, Schedule, Target, capture, evaluate, rules
from torch import Tensor, nn

EXACT = 1e-10
ZERO = rules.epsilon(1e-14, relative=False)


class Skipping(nn.Module):
    """A small U-Net: what `down` does not see goes around it."""

    def __init__(self, bias: bool = True) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 3, 3, padding=1, bias=bias)
        self.down = nn.Conv2d(3, 4, 2, stride=2, bias=bias)
        self.up = nn.ConvTranspose2d(4, 3, 2, 2, bias=bias)
        self.last = nn.Conv2d(6, 5, 1, bias=bias)
        self.head = nn.Conv2d(5, 2, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        y = F.relu(self.up(F.relu(self.down(x))))
        return self.head(F.relu(self.last(torch.cat([x, y], 1))))


X = noise(2, 1, 8, 8)


def parts(evaluation: lrp.Evaluation, target: Tensor, layer: str) -> tuple[Tensor, list[lrp.Attribution]]:
    """What reaches the layer, and each channel's walk from there."""
    held = evaluation.held(target, layer)
    return held, [evaluation.attribute(lrp.only(held, [c]), layer=layer) for c in range(held.shape[1])]


def test_two_layers_by_hand() -> None:
    """y = sum_c v_c relu(sum_i w_ci x_i) without bias: R_ci = v_c w_ci x_i where channel c is active."""
    model = nn.Sequential(nn.Linear(3, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False)).double()
    with torch.no_grad():
        model[0].weight[:] = torch.tensor([[1.0, 2.0, -1.0], [3.0, -1.0, 0.5]])
        model[2].weight[:] = torch.tensor([[2.0, -4.0]])
    x = torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64)
    evaluation = evaluate(capture(model, x), x, one_rule(ZERO))
    held, maps = parts(evaluation, evaluation.output, "0")
    assert held[0].tolist() == pytest.approx([2 * 2.0, -4 * 2.5])  # 1 + 4 - 3 = 2 and 3 - 2 + 1.5 = 2.5
    assert maps[0].relevance[0].tolist() == pytest.approx([2.0, 8.0, -6.0])
    assert maps[1].relevance[0].tolist() == pytest.approx([-12.0, 8.0, -6.0])
    assert [found.ledger.target_value for found in maps] == pytest.approx([4.0, -10.0])
    assert all(abs(found.ledger.gap) < 1e-12 for found in maps)


@pytest.mark.parametrize("composite", COMPOSITES)
def test_the_maps_of_all_channels_and_what_goes_around_add_up_to_the_whole(composite: str) -> None:
    model = seeded(Skipping)
    graph = capture(model, X)
    evaluation = evaluate(graph, X, composite)
    start = evaluation.output * noise(2, 2, 1, 1, seed=3)
    whole = evaluation.attribute(start)
    for layer, around in {"stem": False, "down": True, "up": True, "last": False}.items():
        assert lrp.goes_around(graph, layer) == around
        held, maps = parts(evaluation, start, layer)
        assert difference(held, evaluation.attribute(start, at=[layer]).at[layer]) == 0
        total = sum(found.relevance for found in maps)
        if around:
            total = total + evaluation.attribute(start, channels={layer: []}).relevance
        assert difference(total, whole.relevance) <= EXACT
        for c, found in enumerate(maps):
            assert found.ledger.target_value == pytest.approx(float(held[:, c].sum()), rel=1e-12)
            assert abs(found.ledger.gap) <= EXACT * max(1.0, float(held.abs().sum()))


@pytest.mark.parametrize("layer", ["down", "last"])
def test_epsilon_to_zero_is_input_times_the_jacobian_with_the_other_channels_masked(layer: str) -> None:
    """Without biases, with ReLU gates as they are: x * d y / d x through one channel of the layer alone."""
    model, weights = seeded(lambda: Skipping(bias=False)), noise(2, 2, 8, 8, seed=2)
    evaluation = evaluate(capture(model, X), X, one_rule(ZERO))
    _, maps = parts(evaluation, weights * evaluation.output, layer)
    for c, found in enumerate(maps):
        kept: dict[str, Tensor] = {}

        def note(module: nn.Module, given: tuple[Tensor, ...], output: Tensor, kept=kept) -> None:
            kept["output"] = output

        handle = getattr(model, layer).register_forward_hook(note)
        x = X.clone().requires_grad_()
        y = model(x)
        handle.remove()
        (above,) = torch.autograd.grad(y, kept["output"], weights, retain_graph=True)
        (gradient,) = torch.autograd.grad(kept["output"], x, lrp.only(above, [c]))
        assert difference(found.relevance, X * gradient) <= 1e-8


@pytest.mark.parametrize("starts", [(0, 2), (0, 1, 3, 5)])
@pytest.mark.parametrize("layer", ["stem", "down", "last"])
def test_less_memory_gives_the_same_maps(starts: tuple[int, ...], layer: str) -> None:
    graph = capture(seeded(Skipping), X)
    plain, thrifty = evaluate(graph, X), evaluate(graph, X, schedule=Schedule(starts, offload=True))
    held, maps = parts(plain, plain.output, layer)
    held_again, again = parts(thrifty, thrifty.output, layer)
    assert difference(held_again, held) <= EXACT
    assert all(difference(a.relevance, b.relevance) <= EXACT for a, b in zip(again, maps, strict=True))
    last = thrifty.attribute(lrp.only(held, [1]), layer=layer, last=True)
    assert difference(last.relevance, maps[1].relevance) <= EXACT


def test_several_inputs_get_a_map_each() -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.join = nn.Conv1d(2, 3, 3)

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return F.relu(self.join(torch.cat([a, b], 1))).sum(2)

    inputs = [noise(1, 1, 6), noise(1, 1, 6, seed=2)]
    graph = capture(seeded(Pair), *inputs)
    evaluation = evaluate(graph, inputs, "epsilon")
    _, maps = parts(evaluation, evaluation.output, "join")
    whole = evaluation.attribute(evaluation.output)
    for n in range(2):
        assert difference(sum(found.relevance[n] for found in maps), whole.relevance[n]) <= EXACT


def test_without_a_name_the_coarsest_layer_that_nothing_goes_around_is_taken() -> None:
    graph = capture(seeded(Skipping), X)
    assert lrp.inner_layer(graph).name == "last"
    assert [(layer.name, layer.channels, layer.places) for layer in lrp.inner_layers(graph)] == [
        ("stem", 3, (8, 8)), ("down", 4, (4, 4)), ("up", 3, (8, 8)), ("last", 5, (8, 8)),
    ]  # fmt: skip


def test_what_has_no_channels_is_refused() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.mix, self.head = nn.Conv2d(1, 4, 4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(F.relu(self.mix(self.embed(x).flatten(2).transpose(1, 2))).mean(1))

    graph = capture(seeded(Tokens), X)
    assert [layer.name for layer in lrp.inner_layers(graph)] == ["embed"]
    with pytest.raises(LRPError, match="no axis counts channels"):
        lrp.inner_layer(graph, "mix")
    with pytest.raises(LRPError, match="no layer 'nowhere'"):
        lrp.inner_layer(graph, "nowhere")
    with pytest.raises(LRPError, match="no convolution"):
        lrp.inner_layer(capture(seeded(lambda: nn.Linear(3, 2)), noise(1, 3)))
    with pytest.raises(LRPError, match=r"output's shape, \[2, 4, 2, 2\]"):
        evaluate(graph, X).attribute(Target(1), layer="embed")
