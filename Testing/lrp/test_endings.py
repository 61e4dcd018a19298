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
    "sigmoid, padded and cropped": (
        "sigmoid",
        lambda z: nn.functional.pad(z, (1, 1)).sigmoid()[:, 1:-1],
        torch.sigmoid,
    ),
    "softmax of log-softmax": ("softmax", lambda z: z.log_softmax(1).softmax(1), lambda z: z.softmax(1)),
    "softmax as exp of log-softmax": ("softmax", lambda z: z.log_softmax(1).exp(), lambda z: z.softmax(1)),
    "log of softmax": ("softmax", lambda z: z.softmax(1).log(), lambda z: z.softmax(1).log()),
    "softmax as arithmetic": ("softmax", lambda z: z.exp() / z.exp().sum(1, keepdim=True), lambda z: z.softmax(1)),
    "softmax against overflow": ("softmax", lambda z: _shifted(z), lambda z: z.softmax(1)),
    "branches": ("sigmoid", lambda z: torch.cat([z[:, :1].sigmoid(), z[:, 1:].sigmoid()], 1), torch.sigmoid),
    "branches, stacked": ("sigmoid", lambda z: torch.stack([z[:, n].sigmoid() for n in range(3)], 1), torch.sigmoid),
}


def _shifted(z: Tensor) -> Tensor:
    large = (z - z.amax(1, keepdim=True)).exp()
    return large / large.sum(1, keepdim=True)


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


# What is made of the scores z, and the scores of which a sigmoid (of the first: a softmax) makes the same
REWRITTEN = {
    "1 - p and p": (
        lambda z: torch.cat([1 - z[:, :1].sigmoid(), z[:, :1].sigmoid()], 1),
        "softmax",
        lambda z: torch.cat([-z[:, :1], z[:, :1]], 1) / 2,
    ),
    "p and 1 - p, each made anew": (
        lambda z: torch.stack([z[:, 0].sigmoid(), 1 - z[:, 0].sigmoid()], 1),
        "softmax",
        lambda z: torch.stack([z[:, 0], -z[:, 0]], 1) / 2,
    ),
    "-p + 1 and p": (
        lambda z: torch.cat([-z[:, :1].sigmoid() + 1, z[:, :1].sigmoid()], 1),
        "softmax",
        lambda z: torch.cat([-z[:, :1], z[:, :1]], 1) / 2,
    ),
    "p and one minus another": (
        lambda z: torch.cat([z[:, :1].sigmoid(), torch.ones(1, 1) - z[:, 1:2].sigmoid()], 1),
        "sigmoid",
        lambda z: torch.cat([z[:, :1], -z[:, 1:2]], 1),
    ),
    "the second of two classes": (lambda z: z[:, :2].softmax(1)[:, 1:], "sigmoid", lambda z: z[:, 1:2] - z[:, :1]),
    "softmaxes of two classes each": (
        lambda z: torch.cat([z[:, :2].softmax(1), z[:, 1:].softmax(1)], 1),
        "sigmoid",
        lambda z: torch.stack([z[:, 0] - z[:, 1], z[:, 1] - z[:, 0], z[:, 1] - z[:, 2], z[:, 2] - z[:, 1]], 1),
    ),
    "in another order": (lambda z: z.sigmoid()[:, [2, 0, 1]], "sigmoid", lambda z: z[:, [2, 0, 1]]),
}


@pytest.mark.parametrize("kind", REWRITTEN)
def test_scores_of_probabilities_that_are_put_together(kind: str) -> None:
    end, name, scored = REWRITTEN[kind]
    network = Ends(end).eval()
    graph = lrp.to_scores(lrp.capture(network, X))
    assert lrp.ending(graph) == lrp.Ending(name, scores=True)
    with torch.no_grad():
        scores = scored(network.body(X))
        torch.testing.assert_close(graph(X), scores)
        torch.testing.assert_close(scores.softmax(1) if name == "softmax" else scores.sigmoid(), network(X))
    bare = lrp.capture(Ends(scored).eval(), X)
    for channel in range(scores.shape[1]):
        found = lrp.attribute(graph, X, lrp.Target(channel), composite="epsilon")
        wanted = lrp.attribute(bare, X, lrp.Target(channel), composite="epsilon")
        torch.testing.assert_close(found.relevance, wanted.relevance)


# What more is made of probabilities; relevance crosses them by x dp/dx, so that no sign is turned
MADE_OF = {
    "mean of two": lambda z: (z.sigmoid() + (z * 2).sigmoid()) / 2,
    "mean of softmaxes": lambda z: torch.stack([z.softmax(1), (z * 2).softmax(1)]).mean(0),
    "the larger": lambda z: torch.maximum(z.sigmoid(), (z * 2).sigmoid()),
    "scaled": lambda z: z.sigmoid() * torch.tensor([0.5, 0.9, 0.8]),
    "per cent": lambda z: 100 * z.sigmoid(),
    "cut off": nn.functional.hardsigmoid,
    "one class out of three": lambda z: z.softmax(1)[:, 1:],
}


@pytest.mark.parametrize("kind", MADE_OF)
@pytest.mark.parametrize("composite", ["epsilon-plus", "volume"])
def test_what_is_made_of_probabilities_reaches_the_scores_as_gradient_times_score(kind: str, composite: str) -> None:
    z = torch.tensor([[-1.0, -0.5, -2.0]], requires_grad=True)

    class Head(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return MADE_OF[kind](x.flip(1))

    graph = lrp.to_scores(lrp.capture(Head(), z))
    assert lrp.ending(graph) == lrp.Ending("softmax" if "softmax" in kind or "class" in kind else "sigmoid", False)
    output = Head()(z)
    torch.testing.assert_close(graph(z.detach()), output.detach())
    for channel in range(output.shape[1]):
        (gradient,) = torch.autograd.grad(output[0, channel], z, retain_graph=True)
        found = lrp.attribute(graph, z.detach(), lrp.Target(channel), composite=composite)
        torch.testing.assert_close(found.relevance, (gradient * z).detach(), rtol=1e-3, atol=1e-5)
        assert abs(found.ledger.gap) < 1e-5


KEPT = {
    "none": (lambda z: z, None),
    "hard sigmoid": (nn.functional.hardsigmoid, "sigmoid"),
    "resampled": (lambda z: nn.functional.interpolate(z.softmax(1)[..., None], scale_factor=2), "softmax"),
    "over another axis": (lambda z: z.reshape(1, 3, 1).expand(1, 3, 4).softmax(2), "softmax"),
    "classes left out": (lambda z: z.softmax(1)[:, 1:], "softmax"),
    "classes turned round": (lambda z: z.softmax(1).flip(1), "softmax"),
    "pushed around": (lambda z: z.reshape(1, 3, 1, 1).expand(1, 3, 3, 1).softmax(1).transpose(1, 2), "softmax"),
    "mean of probabilities": (lambda z: (z.sigmoid() + (2 * z).sigmoid()) / 2, "sigmoid"),
    "only where it is sure": (lambda z: z.sigmoid() * (z > 0), "sigmoid"),
    "signals beside": (lambda z: torch.cat([z.sigmoid(), z], 1), None),
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


EXPANDED = {
    "sigmoid": (lambda z: z.sigmoid(), torch.sigmoid),
    "softmax": (lambda z: z.softmax(1), lambda z: z.softmax(1)),
    "hard sigmoid": (nn.functional.hardsigmoid, nn.functional.hardsigmoid),
}


@pytest.mark.parametrize("kind", EXPANDED)
@pytest.mark.parametrize("composite", ["epsilon-plus", "volume"])
def test_what_stays_is_expanded_around_the_scores(kind: str, composite: str) -> None:
    """Of the mean of probabilities of z and z / 2 the gradient times z reaches z; the expansion takes the rest."""
    end, p = EXPANDED[kind]
    network = Ends(lambda z: (end(z) + end(z / 2)) / 2).eval()
    graph = lrp.to_scores(lrp.capture(network, X))
    z = network.body(X).detach().requires_grad_()
    value = ((p(z) + p(z / 2)) / 2)[0, 1]
    value.backward()
    found = lrp.attribute(graph, X, lrp.Target(1), composite)
    wanted = lrp.attribute(lrp.capture(network.body, X), X, z.grad * z.detach(), composite)
    rows = [row for row in found.ledger.by_layer if row.role == "ending"]
    assert found.ledger.target_value == pytest.approx(float(value.detach()))
    assert sum(row.relevance_in for row in rows) == pytest.approx(float((z.grad * z).sum()), rel=1e-4)
    assert sum(row.changed for row in rows) == pytest.approx(float((value - (z.grad * z).sum()).detach()), rel=1e-4)
    assert abs(found.ledger.gap) < 1e-5
    torch.testing.assert_close(found.relevance, wanted.relevance, rtol=1e-3, atol=1e-7)


def test_a_resampling_of_the_callers_is_one_of_scores_too() -> None:
    def up(z: Tensor) -> Tensor:
        return nn.functional.interpolate(z[..., None], size=4, mode="linear")

    for name, end in (("sigmoid", torch.sigmoid), ("softmax", lambda z: z.softmax(1))):
        network = Ends(lambda z, end=end: up(end(z)[..., 0])).eval()
        network.body = nn.Sequential(network.body, nn.Unflatten(1, (3, 1)))
        graph = lrp.to_scores(lrp.capture(network, X), resampled=True)
        assert lrp.ending(graph) == lrp.Ending(name, scores=True)
        torch.testing.assert_close(graph(X), up(network.body(X)[..., 0]))


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


def test_a_deep_network_that_is_asked_twice_is_not_compared_along_all_its_paths() -> None:
    """There are 2^200 of them, since each sum reads what it is the double of twice."""

    def doubled(x: Tensor) -> Tensor:
        for _ in range(200):
            x = (x + x) * 0.5
        return x

    class Twice(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([1 - doubled(x).sigmoid(), doubled(x).sigmoid()], 1)

    x = torch.randn(1, 1)
    graph = lrp.to_scores(lrp.capture(Twice(), x))
    assert lrp.ending(graph) == lrp.Ending("sigmoid", scores=True)
    torch.testing.assert_close(graph(x), torch.cat([-x, x], 1))


def test_an_ending_of_a_part_alone_stays() -> None:
    """Scores were already made for it when the other part turned out to have none."""
    graph = lrp.capture(Ends(lambda z: torch.cat([z[:, :2].softmax(1), z[:, 2:].relu()], 1)).eval(), X)
    expected = lrp.attribute(graph, X, 0, "epsilon")
    assert lrp.to_scores(graph).taken_off is None
    found = lrp.attribute(graph, X, 0, "epsilon")
    assert torch.equal(found.relevance, expected.relevance)
    assert found.ledger == expected.ledger
    assert torch.equal(graph.to("cpu")(X), graph(X))
