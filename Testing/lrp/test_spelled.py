"""Functions of several steps are crossed step by step, as when an author writes the arithmetic."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from lrp_helpers import difference, noise, of, seeded
from LRPExplainLib.lrp import COMPOSITES, attribute, capture
from LRPExplainLib.lrp.rules import z_plus
from LRPExplainLib.lrp.spelled import deviation, variance, variance_and_mean, vector_norm
from torch import Tensor, nn


class ResponseNormalisation(nn.Module):
    """ConvNeXt-V2's GRN behind a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.gamma, self.beta = nn.Parameter(torch.randn(1, 4, 1, 1)), nn.Parameter(torch.randn(1, 4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        size = torch.norm(x, p=2, dim=(2, 3), keepdim=True)
        return (self.gamma * (x * (size / (size.mean(1, keepdim=True) + 1e-6))) + self.beta + x).mean((2, 3))


class Recurrent(nn.Module):
    def __init__(self, build: Callable[..., nn.Module]) -> None:
        super().__init__()
        self.cells = build(3, 4, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor) -> Tensor:
        states: Tensor = self.cells(x)[0]
        return states[:, -1]


class Bilinear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pair = nn.Bilinear(5, 5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.pair(x[:, 0], x[:, 1])


SPELLED: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "global response normalisation": (ResponseNormalisation, (2, 3, 6, 6)),
    "cosine": (of(lambda x: F.normalize(x) @ torch.ones(3, 2, dtype=x.dtype)), (2, 3)),
    "gated linear unit": (lambda: nn.Sequential(nn.Linear(5, 8), nn.GLU()), (2, 5)),
    "gated convolution": (lambda: nn.Sequential(nn.Conv1d(3, 8, 3), nn.GLU(1), nn.Flatten()), (2, 3, 6)),
    "standard deviation": (of(lambda x: x.std((2, 3))), (2, 3, 4, 4)),
    "variance": (of(lambda x: x.var(-1, unbiased=False)), (2, 3, 4)),
    "standardised": (of(lambda x: (x - x.mean((1, 2), True)) / (x.std((1, 2), keepdim=True) + 1)), (2, 3, 4)),
    "LSTM": (lambda: Recurrent(nn.LSTM), (2, 5, 3)),
    "GRU": (lambda: Recurrent(nn.GRU), (2, 5, 3)),
    "bilinear": (Bilinear, (2, 3, 5)),
    "bicubic": (of(lambda x: F.interpolate(x, scale_factor=2.5, mode="bicubic")), (2, 3, 5, 4)),
    "bicubic, corners": (of(lambda x: F.interpolate(x, (3, 9), mode="bicubic", align_corners=True)), (2, 3, 5, 4)),
}


@pytest.mark.parametrize("name", SPELLED)
def test_every_step_is_accounted_for(name: str) -> None:
    build, shape = SPELLED[name]
    model, x = seeded(build), noise(*shape)
    graph = capture(model, x)
    with torch.no_grad():
        output = model(x)
    assert difference(graph(x), output) < 1e-9
    start = noise(*output.shape, seed=3)
    for composite in ("epsilon", "epsilon-plus", "attn-lrp", "volume"):
        ledger = attribute(graph, x, start, composite).ledger
        assert abs(ledger.target_value - ledger.relevance - ledger.absorbed) <= 1e-9 * float(start.abs().sum())
        assert ledger.target_value == pytest.approx(float(start.sum()))


def test_a_gated_linear_unit_is_the_signal_times_its_gate() -> None:
    x, start = noise(2, 6), noise(2, 3, seed=3)
    written = of(lambda x: x[:, :3] * x[:, 3:].sigmoid())()
    ours, theirs = (attribute(capture(m, x), x, start, "attn-lrp").relevance for m in (nn.GLU(), written))
    assert torch.equal(ours, theirs)
    for half in ours.split(
        3, 1
    ):  # of a product each factor gets one half (Achtibat 2024), the gate's through a sigmoid
        assert difference(half, start / 2) < 1e-12


def test_bicubic_weights_below_zero_are_seen() -> None:
    """Along one axis it is one average with fixed weights: z+ of what is not negative leaves those weights nothing."""
    x = noise(1, 1, 6, 1).abs()
    model = of(lambda x: F.interpolate(x, (11, 1), mode="bicubic"))()
    start = noise(1, 1, 11, 1, seed=3).abs()
    w = torch.autograd.functional.jacobian(lambda v: model(v).flatten(), x).flatten(1)
    assert (w < 0).any()
    z = w.clamp(min=0) * x.flatten()
    expected = (z / z.sum(1, keepdim=True)).T @ start.flatten()
    found = attribute(capture(model, x), x, start, COMPOSITES["epsilon"].override({"average": z_plus()}))
    assert difference(found.relevance.flatten(), expected) < 1e-5


@pytest.mark.parametrize("order", [2, 1, 3.5, 0, float("inf"), float("-inf")])
@pytest.mark.parametrize("dim", [None, 1, (0, -1)])
def test_norms_are_torch_s(order: float, dim: int | tuple[int, ...] | None) -> None:
    x = noise(2, 3, 4)
    for keepdim in (False, True):
        assert difference(vector_norm(x, order, dim, keepdim), torch.linalg.vector_norm(x, order, dim, keepdim)) < 1e-12


@pytest.mark.parametrize("correction", [None, 0, 1, 2])
@pytest.mark.parametrize("dim", [None, 1, (0, -1)])
def test_deviations_are_torch_s(correction: float | None, dim: int | tuple[int, ...] | None) -> None:
    x = noise(2, 3, 4)
    asked = {"correction": 1 if correction is None else correction, "keepdim": True}
    assert difference(variance(x, dim, correction=correction, keepdim=True), torch.var(x, dim, **asked)) < 1e-12
    assert difference(deviation(x, dim, correction=correction, keepdim=True), torch.std(x, dim, **asked)) < 1e-12
    for ours, theirs in zip(
        variance_and_mean(x, dim, correction=correction), torch.var_mean(x, dim, correction=asked["correction"]),
        strict=True,
    ):  # fmt: skip
        assert difference(ours, theirs) < 1e-12
