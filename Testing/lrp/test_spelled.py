"""Functions of several steps are crossed step by step, as when an author writes the arithmetic."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from lrp_helpers import Recurrent, difference, noise, of, seeded
from LRPExplainLib.lrp import COMPOSITES, attribute, capture
from LRPExplainLib.lrp.rules import epsilon, z_plus
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


class Bilinear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pair = nn.Bilinear(5, 5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.pair(x[:, 0], x[:, 1])


class Pooled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.logsumexp(1)


class SegNet(nn.Module):
    """Its decoder unpools by the indices of the encoder's maxima, some of which two windows share."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.down(x))
        size = x.shape
        x, first = F.max_pool2d(x, 2, return_indices=True)
        x, second = F.max_pool2d(x, 2, 1, return_indices=True)
        x = F.max_unpool2d(F.relu(self.up(x)), second, 2, 1)
        return self.head(F.max_unpool2d(x, first, 2, output_size=size))


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
    "deviation and mean": (of(lambda x: torch.cat(torch.std_mean(x, 1), 1)), (2, 3, 4)),
    "between least and greatest": (of(lambda x: (x - x.aminmax().min) / (x.aminmax().max - x.aminmax().min)), (2, 5)),
    "attention pooling": (of(lambda x: F.softmax(x @ x[0].mean(0), 1)[:, None] @ x), (2, 3, 4)),
    "pooling by logsumexp": (lambda: nn.Sequential(nn.Linear(4, 3), Pooled(), nn.Linear(3, 2)), (2, 5, 4)),
    "segmentation by SegNet": (SegNet, (2, 3, 8, 8)),
    "bicubic": (of(lambda x: F.interpolate(x, scale_factor=2.5, mode="bicubic")), (2, 3, 5, 4)),
    "bicubic, corners": (of(lambda x: F.interpolate(x, (3, 9), mode="bicubic", align_corners=True)), (2, 3, 5, 4)),
    "bicubic, antialiased": (of(lambda x: F.interpolate(x, (3, 2), mode="bicubic", antialias=True)), (2, 3, 5, 6)),
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


PLACES, WEIGHT = torch.tensor([0, 2, 2]), noise(2, 4, seed=5).abs()
MASK = torch.tensor([[[0.0, -1.0], [2.0, 0.0]]], dtype=torch.float64)
WRITTEN: dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor]]] = {
    "lerp": (lambda x, y: torch.lerp(x, y, 0.3), lambda x, y: x * 0.7 + y * 0.3),
    "lerp by constants": (lambda x, y: torch.lerp(x, y, WEIGHT), lambda x, y: x * (1 - WEIGHT) + y * WEIGHT),
    "lerp by a gate": (
        lambda x, y: torch.lerp(x, y, x.sigmoid()), lambda x, y: x * (1 - x.sigmoid()) + y * x.sigmoid(),
    ),
    "addcmul": (lambda x, y: torch.addcmul(x, x, y, value=-2), lambda x, y: x + x * y * -2),
    "addcdiv": (lambda x, y: torch.addcdiv(x, x, y.exp()), lambda x, y: x + x / y.exp()),
    "dot": (lambda x, y: torch.dot(x[0], y[0]), lambda x, y: (x[:1] @ y[:1].mT)[0, 0]),
    "pairwise distance": (
        lambda x, y: F.pairwise_distance(x, y, eps=0), lambda x, y: ((x - y) * (x - y)).sum(1).sqrt(),
    ),
    "all distances": (
        torch.cdist, lambda x, y: ((x[:, None] - y) * (x[:, None] - y)).sum(2).sqrt(),
    ),
    "distances by magnitude": (
        lambda x, y: torch.cdist(x, y, p=1), lambda x, y: (x[:, None] - y).abs().sum(2),
    ),
    "products and a mask": (
        lambda x, y: torch.baddbmm(MASK, x[None], y.mT[None], beta=2, alpha=-0.5),
        lambda x, y: x[None] @ y.mT[None] * -0.5 + MASK * 2,
    ),
    "products and memory that nobody has written to": (
        lambda x, y: torch.baddbmm(MASK / 0, x[None], y.mT[None], beta=0), lambda x, y: x[None] @ y.mT[None],
    ),
    "a product and memory that nobody has written to": (
        lambda x, y: torch.addmm(WEIGHT[0] / 0, x + y, WEIGHT[:1].mT @ WEIGHT[:1], beta=0),
        lambda x, y: (x + y) @ (WEIGHT[:1].mT @ WEIGHT[:1]),
    ),
    "a product with a vector": (lambda x, y: x @ y[0], lambda x, y: (x @ y[:1].mT)[:, 0]),
    "a product of a vector": (lambda x, y: x[0] @ y.mT, lambda x, y: (x[:1] @ y.mT)[0]),
    "scatter_add": (
        lambda x, y: x.scatter_add(1, PLACES.expand(2, 3), y),
        lambda x, y: x + y[:, :3] @ F.one_hot(PLACES, 4).double(),
    ),
    "index_add": (
        lambda x, y: x.index_add(1, PLACES, y[:, 1:], alpha=-0.5),
        lambda x, y: x + (y[:, 1:] * -0.5) @ F.one_hot(PLACES, 4).double(),
    ),
    "index_add along the first axis": (
        lambda x, y: x.index_add(0, PLACES // 2, y[[0, 0, 1]]), lambda x, y: x + torch.stack([y[0], y[0] + y[1]]),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRITTEN)
def test_it_is_crossed_as_when_its_arithmetic_is_written(name: str) -> None:
    """A sum by place as a product with zeros and ones, whose rule is then that of sums."""
    inputs = [noise(2, 4), noise(2, 4, seed=2)]
    start = noise(*WRITTEN[name][0](*inputs).shape, seed=3)
    exact = {role: epsilon(1e-14) for role in ("sum", "bias", "average", "linear")}
    found = [
        attribute(capture(of(f)(), *inputs), inputs, start, COMPOSITES["attn-lrp"].override(exact))
        for f in WRITTEN[name]
    ]
    assert found[0].ledger.gap == pytest.approx(0, abs=1e-9)
    for ours, theirs in zip(*(each.relevance for each in found), strict=True):
        assert difference(ours, theirs) < 1e-9


MEAN, VARIANCE, SHIFT = noise(4, seed=6), noise(4, seed=7).abs(), noise(4, seed=8)


def style(x: Tensor) -> Tensor:
    """A factor per channel."""
    return x.mean((0, 2, 3))


def along(factor: Tensor) -> Tensor:
    return factor[:, None, None]


STYLED: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "batch": (
        lambda x: F.batch_norm(x, MEAN, VARIANCE, style(x), style(x)),
        lambda x: F.batch_norm(x, MEAN, VARIANCE) * along(style(x)) + along(style(x)),
    ),
    "batch, one of them": (
        lambda x: F.batch_norm(x, MEAN, VARIANCE, style(x), SHIFT),
        lambda x: F.batch_norm(x, MEAN, VARIANCE) * along(style(x)) + along(SHIFT),
    ),
    "group": (
        lambda x: F.group_norm(x, 2, style(x), style(x)),
        lambda x: F.group_norm(x, 2) * along(style(x)) + along(style(x)),
    ),
    "group, a shift alone": (
        lambda x: F.group_norm(x, 2, None, style(x)), lambda x: F.group_norm(x, 2) + along(style(x)),
    ),
    "instance": (
        lambda x: F.instance_norm(x, weight=style(x), bias=style(x)),
        lambda x: F.instance_norm(x) * along(style(x)) + along(style(x)),
    ),
    "layer": (
        lambda x: F.layer_norm(x, (5, 3), x.mean((0, 1)), x.mean((0, 1))),
        lambda x: F.layer_norm(x, (5, 3)) * x.mean((0, 1)) + x.mean((0, 1)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STYLED)
@pytest.mark.parametrize("composite", ["epsilon", "epsilon-plus", "volume", "attn-lrp"])
def test_a_norm_whose_factors_are_computed_is_crossed_as_when_they_are_written_behind_it(
    name: str, composite: str
) -> None:
    x, start = noise(2, 4, 5, 3), noise(2, 4, 5, 3, seed=3)
    graphs = [capture(of(f)(), x) for f in STYLED[name]]
    assert difference(graphs[0](x), STYLED[name][0](x)) < 1e-12
    ours, theirs = (attribute(graph, x, start, composite) for graph in graphs)
    assert difference(ours.relevance, theirs.relevance) < 1e-3  # whose stabiliser is that of a sample
    assert abs(ours.ledger.gap) <= 1e-9 * float(start.abs().sum())


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


def test_a_decomposed_program_has_the_map_of_its_network() -> None:
    """`run_decompositions` has its own names for batch norm, instance norm and an index (bilinear resampling)."""
    model = seeded(
        lambda: nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Upsample(scale_factor=2, mode="bilinear"),
            nn.Conv2d(4, 4, 3), nn.InstanceNorm2d(4, affine=True), nn.ReLU(), nn.Conv2d(4, 2, 1),
        )
    )  # fmt: skip
    x, start = noise(2, 3, 6, 6), noise(2, 2, 6, 6, seed=9)
    program = torch.export.export(model, (x,)).run_decompositions().module()
    for composite in ("epsilon-plus", "gamma", "volume"):
        ours, theirs = (attribute(capture(m, x), x, start, composite).relevance for m in (program, model))
        assert difference(ours, theirs) < 1e-6
