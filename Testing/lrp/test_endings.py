"""Networks that end in a softmax or a sigmoid: explained from the scores before it, so that no sign is turned."""

from collections.abc import Callable

import pytest
import torch
from LRPExplainLib import lrp
from torch import Tensor, nn


class Ends(nn.Module):
    """Three scores, all negative, and what a function makes of them."""

    def __init__(self, end: Callable[[Tensor], object]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3)
        )
        with torch.no_grad():
            self.body[-1].bias[:] = torch.tensor([-2.0, -3.0, -1.5])
        self.end = end

    def forward(self, x: Tensor) -> object:
        return self.end(self.body(x))


X = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(1))
TAKEN_OFF = {
    "sigmoid": ("sigmoid", torch.sigmoid, torch.sigmoid),
    "softmax": ("softmax", lambda z: z.softmax(1), lambda z: z.softmax(1)),
    "softmax, last axis": ("softmax", lambda z: z.softmax(-1), lambda z: z.softmax(1)),
    "log-softmax": ("softmax", lambda z: z.log_softmax(1), lambda z: z.log_softmax(1)),
    "softmax, laid out before and after": (
        "softmax",
        lambda z: z.reshape(1, 1, 3).permute(0, 2, 1).softmax(1).squeeze(-1).double(),
        lambda z: z.softmax(1).double(),
    ),
    "softmax over the last axis, which becomes the first": (
        "softmax",
        lambda z: z[:, None].softmax(2).transpose(1, 2),
        lambda z: z.softmax(1)[..., None],
    ),
    "softmax, laid out twice": (
        "softmax",
        lambda z: z[:, None].softmax(2).transpose(1, 2).reshape(1, 3, 1, 1),
        lambda z: z.softmax(1)[..., None, None],
    ),
    "softmax over the last axis, which moves": (
        "softmax",
        lambda z: z[:, None, None].softmax(-1).permute(0, 3, 1, 2),
        lambda z: z.softmax(1)[..., None, None],
    ),
    "softmax of a column": ("softmax", lambda z: z.t().softmax(0).t(), lambda z: z.softmax(1)),
    "sigmoid, cut to float32": ("sigmoid", lambda z: z.sigmoid().float()[..., None], lambda z: z.sigmoid()[..., None]),
}


@pytest.mark.parametrize("kind", TAKEN_OFF)
@pytest.mark.parametrize("composite", ["epsilon", "epsilon-plus", "volume"])
def test_relevance_is_that_of_the_score_before_it(kind: str, composite: str) -> None:
    name, end, of_scores = TAKEN_OFF[kind]
    network = Ends(end).eval()
    graph = lrp.to_scores(lrp.capture(network, X))
    assert lrp.ending(graph) == lrp.Ending(name, scores=True)
    assert graph(X).shape == network(X).shape
    bare = lrp.capture(network.body, X)
    with torch.no_grad():
        scores = network.body(X)
        torch.testing.assert_close(of_scores(graph(X).reshape(1, 3)), network(X).reshape(of_scores(scores).shape))
    for channel in range(3):
        found = lrp.attribute(graph, X, lrp.Target(channel), composite=composite)
        wanted = lrp.attribute(bare, X, lrp.Target(channel), composite=composite)
        torch.testing.assert_close(found.relevance, wanted.relevance, check_dtype=False)
        assert found.ledger.target_value == pytest.approx(float(scores[0, channel]))


def test_what_speaks_for_a_class_of_small_probability_speaks_for_it() -> None:
    """By the rule for elementwise functions a positive probability of a negative score turns all signs."""
    network = Ends(torch.sigmoid).eval()
    with torch.no_grad():
        network.body[0].weight.abs_()
        network.body[-1].weight[0].abs_()  # every voxel speaks for class 0
    kept = lrp.attribute(lrp.capture(network, X), X, lrp.Target(0), composite="epsilon").relevance
    taken = lrp.attribute(lrp.to_scores(lrp.capture(network, X)), X, lrp.Target(0), composite="epsilon").relevance
    assert float(kept.sum()) < 0 < float(taken.sum())


KEPT = {
    "none": (lambda z: z, None),
    "hard sigmoid": (nn.functional.hardsigmoid, "sigmoid"),
    "resampled": (lambda z: nn.functional.interpolate(z.softmax(1)[..., None], scale_factor=2), "softmax"),
    "over another axis": (lambda z: z.reshape(1, 3, 1).expand(1, 3, 2).softmax(2), "softmax"),
    "classes left out": (lambda z: z.softmax(1)[:, 1:], "softmax"),
    "pushed around": (lambda z: z.reshape(1, 3, 1, 1).expand(1, 3, 3, 1).softmax(1).transpose(1, 2), "softmax"),
    "no batch": (lambda z: z.flatten().softmax(0), "softmax"),
    "within": (lambda z: z * z.sigmoid(), None),
}


@pytest.mark.parametrize("kind", KEPT)
def test_what_is_more_than_another_layout_stays(kind: str) -> None:
    end, name = KEPT[kind]
    network = Ends(end).eval()
    graph = lrp.to_scores(lrp.capture(network, X))
    assert lrp.ending(graph) == (name and lrp.Ending(name, scores=False))
    torch.testing.assert_close(graph(X), network(X))


@pytest.mark.parametrize(
    "end",
    [
        lambda z: z.flatten(2).softmax(1).unflatten(2, (8, 8)),
        lambda z: z.permute(0, 2, 3, 1).softmax(-1).permute(0, 3, 1, 2),
    ],
)
def test_probabilities_of_voxels_are_taken_off_however_they_are_laid_out(end: Callable[[Tensor], Tensor]) -> None:
    kernel = nn.Conv2d(1, 3, 3, padding=1).eval()
    network = Ends(end)
    network.body = kernel
    graph = lrp.to_scores(lrp.capture(network, X))
    torch.testing.assert_close(graph(X), kernel(X))
    assert "aten._softmax" not in {operator.name for operator in lrp.count_operators(graph)}


def test_a_network_that_is_nothing_else_stays() -> None:
    graph = lrp.to_scores(lrp.capture(nn.Sigmoid(), X))
    assert lrp.ending(graph) == lrp.Ending("sigmoid", scores=False)


def test_other_outputs_and_the_network_stay_as_they_are() -> None:
    network = Ends(lambda z: {"p": z.sigmoid(), "again": z.sigmoid().sum(1), "z": z}).eval()
    graph = lrp.to_scores(lrp.capture(network, X))
    found, whole = graph(X), network(X)
    torch.testing.assert_close(found["p"], whole["z"])
    torch.testing.assert_close(found["again"], whole["again"])
    torch.testing.assert_close(lrp.capture(network, X)(X)["p"], whole["p"])


def test_in_half_precision_too() -> None:
    network = Ends(torch.sigmoid).eval()
    graph = lrp.to_scores(lrp.capture(network, X)).to(torch.bfloat16)
    torch.testing.assert_close(graph(X), network.body(X), rtol=0.02, atol=0.02)
