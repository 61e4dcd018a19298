"""Values that a network takes out by a mask and puts back under it: each stays at its place."""

from collections.abc import Callable

import pytest
import torch
from LRPExplainLib import lrp
from LRPExplainLib.lrp import LRPError
from torch import Tensor, nn

X, OTHER = torch.randn(2, 2, 1, 6, 6, generator=torch.Generator().manual_seed(0))
THRESHOLDS = torch.tensor([0.4, 0.5, float("nan"), 0.6])


class Ends(nn.Module):
    """A convolution of 4 channels, and what a function makes of it."""

    def __init__(self, end: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Conv2d(1, 4, 3)
        self.end = end

    def forward(self, x: Tensor) -> Tensor:
        return self.end(self.layer(x))


def pooled(x: Tensor) -> Tensor:
    return x.relu().mean((2, 3))


def rescaled(p: Tensor) -> Tensor:
    """Probabilities so that each class' threshold comes to lie at 0.5, as torchxrayvision's `op_norm` makes them."""
    threshold = THRESHOLDS.expand(p.shape[0], -1)
    below = (p < threshold) & ~torch.isnan(threshold)
    above = ~(p < threshold) & ~torch.isnan(threshold)
    found = torch.zeros(p.shape) + 0.5
    found[below] = p[below] / (threshold[below] * 2)
    found[above] = 1 - (1 - p[above]) / ((1 - threshold[above]) * 2)
    return found


def root_of_positive(x: Tensor) -> Tensor:
    x[x > 0] = torch.sqrt(x[x > 0])
    return x


def whole_channels(x: Tensor) -> Tensor:
    chosen = x.mean((2, 3)) > 0
    found = x.clone()
    found[chosen] = x[chosen] * torch.arange(1.0, 5.0)[:, None]
    return found


def taken_by_select(x: Tensor) -> Tensor:
    found = torch.zeros_like(x)
    found[x > 0] = 3 * torch.masked_select(x, x > 0)
    return found


PUT_BACK = {
    "thresholds": lambda x: rescaled(torch.sigmoid(pooled(x))),
    "root": root_of_positive,
    "leading axes": whole_channels,
    "masked_select": taken_by_select,
}
# The same, spelled in whole
IN_WHOLE = {
    "root": lambda x: torch.where(x > 0, x.clamp_min(0).sqrt(), x),
    "leading axes": lambda x: torch.where((x.mean((2, 3), keepdim=True) > 0), x * torch.arange(1.0, 5.0)[:, None], x),
    "masked_select": lambda x: torch.where(x > 0, 3 * x, torch.zeros(())),
}


def exported(net: nn.Module, strict: bool = False) -> nn.Module:
    return torch.export.export(net, (X,), strict=strict).module()


FORMS = {"module": lambda net: net, "TorchScript": lambda net: torch.jit.trace(net, X), "exported": exported}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("end", PUT_BACK)
def test_what_is_put_back_under_its_mask_is_computed(end, form):
    net = Ends(PUT_BACK[end]).eval()
    graph = lrp.capture(FORMS[form](net), X)
    for x in (X, OTHER):
        torch.testing.assert_close(graph(x), net(x))


@pytest.mark.parametrize("end", IN_WHOLE)
def test_what_a_program_exported_by_its_code_asserts_of_counts_is_left_out(end):
    net = Ends(PUT_BACK[end]).eval()
    with torch.no_grad():  # of a signal with gradients PyTorch 2.4 exports no write under a mask
        graph = lrp.capture(exported(net, strict=True), X)
    torch.testing.assert_close(graph(OTHER), net(OTHER))


@pytest.mark.parametrize("end", IN_WHOLE)
def test_relevance_goes_where_it_goes_in_whole(end):
    found, expected = (
        lrp.attribute(lrp.capture(Ends(ends[end]).eval(), X), X, lrp.Target(1), composite="epsilon")
        for ends in (PUT_BACK, IN_WHOLE)
    )
    torch.testing.assert_close(found.relevance, expected.relevance)
    assert found.relevance.abs().max() > 0
    assert abs(found.ledger.gap) < 1e-5


def test_probabilities_that_are_rescaled_are_explained_as_their_scores_are():
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4))

    class Rescaled(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return rescaled(torch.sigmoid(x))

    scores = lrp.capture(layers.eval(), X)
    graph = lrp.to_scores(lrp.capture(nn.Sequential(layers, Rescaled()).eval(), X))
    assert lrp.ending(graph) == lrp.Ending("sigmoid", scores=False)
    for c in range(4):
        found = lrp.attribute(graph, X, lrp.Target(c), composite="epsilon-plus").relevance
        assert torch.isfinite(found).all()
        if THRESHOLDS[c].isnan():
            assert not found.any()  # it is 0.5 whatever the image shows
            continue
        expected = lrp.attribute(scores, X, lrp.Target(c), composite="epsilon-plus").relevance
        for a, b in zip(found, expected, strict=True):
            assert torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1] > 0.9999


REFUSED = {
    "summed": lambda x: x[x > 0].sum().reshape(1, 1),
    "divided by the largest": lambda x: torch.where(x > 0, x / x[x > 0].max(), x),
    "counted": lambda x: x.masked_fill(x > 0, 0) + x[x > 0].shape[0],
    "put back under another mask": lambda x: x.index_put((x > 0,), x[x < 0][: x[x > 0].shape[0]]),
    "put at the end": lambda x: torch.cat([x[x > 0], x[x <= 0]]),
}


@pytest.mark.parametrize("end", REFUSED)
def test_other_selections_are_refused(end):
    with pytest.raises(LRPError, match=r"data decide|cannot trace"):
        lrp.capture(Ends(REFUSED[end]).eval(), X)
