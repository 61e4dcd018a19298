"""On CUDA relevance is what it is on the CPU, in every mode. Skipped where there is no CUDA."""

from collections.abc import Iterator
from copy import deepcopy
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from lrp_helpers import Recurrent, built, correlation, difference, noise, seeded, small_network
from LRPExplainLib import lrp
from LRPExplainLib.running import running
from torch import Tensor, nn

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
CUDA = torch.device("cuda")

# Convolutions of either direction, dilated, grouped and depthwise; norms of each kind; attention; pooling of each kind.
# Where they differ it is rounding, which is told by float64: on Swin UNETR z+ magnifies it to a hundredth.
NAMES = (
    "dynunet-plain-3d", "dynunet-res-2d", "segresnet-3d", "unet-res-batch-3d", "resnet18-3d", "densenet121-3d",
    "seresnext50-3d", "attentionunet-2d", "mednext-2d", "unetr-3d", "swinunetr-v2-3d", "basicunet-3d",
)  # fmt: skip


@pytest.fixture(autouse=True)
def full_precision() -> Iterator[None]:
    """No TF32."""
    with running():
        yield


def on_cuda(name: str) -> tuple[lrp.Graph, Tensor, Tensor, lrp.Graph, Tensor, Tensor]:
    """A network's graph, input and start relevance on the CPU, and the same captured on CUDA."""
    model, x, graph, start = built(name)
    there = lrp.capture(model.to(CUDA), x.to(CUDA))
    return graph, x, start, there, x.to(CUDA), start.to(CUDA)


@cache
def exactly(name: str) -> lrp.Graph:
    """The network's graph on the CPU in float64."""
    model, x, *_ = built(name)
    return lrp.capture(deepcopy(model).cpu().double(), x.double())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("composite", ["epsilon", "epsilon-plus", "volume", "gamma", "epsilon-alpha2-beta1"])
def test_relevance_is_that_of_the_cpu(name: str, composite: str) -> None:
    graph, x, start, there, x_there, start_there = on_cuda(name)
    expected = lrp.attribute(graph, x, start, composite)
    found = lrp.attribute(there, x_there, start_there, composite)
    assert found.relevance.device.type == found.output.device.type == CUDA.type
    assert torch.allclose(found.output.cpu(), expected.output, atol=1e-3, rtol=1e-3)
    exact = lrp.attribute(exactly(name), x.double(), start.double(), composite).relevance.float()
    assert difference(found.relevance.cpu(), exact) < 10 * difference(expected.relevance, exact) + 1e-3
    size = max(abs(row.relevance_out) for row in found.ledger.by_layer)
    assert abs(found.ledger.gap) < 1e-4 * size


def test_in_float64_it_is_that_of_the_cpu_to_many_digits() -> None:
    model, x = small_network()
    model, x = model.double(), x.double()
    graph = lrp.capture(model, x)
    for composite in lrp.COMPOSITES:
        expected = lrp.attribute(graph, x, lrp.Target(1), composite)
        there = lrp.capture(model.to(CUDA), x.to(CUDA))
        found = lrp.attribute(there, x.to(CUDA), lrp.Target(1), composite)
        model.cpu()
        assert difference(found.relevance.cpu(), expected.relevance) < 1e-9, composite
        assert found.ledger.absorbed == pytest.approx(expected.ledger.absorbed, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("name", ["dynunet-plain-3d", "segresnet-3d", "resnet18-3d"])
def test_every_schedule_gives_the_same(name: str) -> None:
    *_, there, x, start = on_cuda(name)
    expected = lrp.attribute(there, x, start, "epsilon-plus")
    for way in lrp.estimates(there, "epsilon-plus", offload=True):
        evaluation = lrp.evaluate(there, x, "epsilon-plus", schedule=way.schedule)
        for last in (False, True):
            found = evaluation.attribute(start, last=last)
            assert difference(found.relevance, expected.relevance) < 1e-4


@pytest.mark.parametrize("name", ["dynunet-plain-3d", "segresnet-3d", "resnet50-3d"])
def test_an_estimate_is_not_far_below_what_a_run_takes(name: str) -> None:
    *_, there, x, start = on_cuda(name)
    ways = list(lrp.estimates(there, "epsilon-plus"))
    for way in (ways[0], min(ways, key=lambda way: way.peak)):
        for _ in range(2):  # the first run makes what is kept from run to run
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            lrp.evaluate(there, x, "epsilon-plus", schedule=way.schedule).attribute(start, last=True)
            taken = torch.cuda.max_memory_allocated() - before
        assert taken < 1.25 * way.peak


@pytest.mark.parametrize("name", ["dynunet-plain-3d", "segresnet-3d", "densenet121-3d"])
def test_bfloat16_is_about_float32(name: str) -> None:
    *_, there, x, start = on_cuda(name)
    expected = lrp.attribute(there, x, start, "epsilon-plus")
    found = lrp.attribute(there.to(torch.bfloat16), x, start, "epsilon-plus")
    assert correlation(found.relevance, expected.relevance) > 0.99
    size = max(abs(row.relevance_out) for row in found.ledger.by_layer)
    assert abs(found.ledger.gap) < 1e-2 * size


class Warped(nn.Module):
    """Looks at its input from a little aside."""

    def forward(self, x: Tensor) -> Tensor:
        seen = torch.tensor([[[1.0, 0.1, 0.0], [0.0, 0.9, 0.1]]], dtype=x.dtype, device=x.device)
        return F.grid_sample(x, F.affine_grid(seen, list(x.shape), align_corners=True), align_corners=True)


@pytest.mark.parametrize(
    ("build", "shape"),
    [
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()), (2, 3, 6, 6)),
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.InstanceNorm2d(4, affine=True), nn.Flatten()), (2, 3, 6, 6)),
        (lambda: nn.Sequential(nn.Linear(5, 4), nn.RMSNorm(4), nn.Linear(4, 2), nn.Flatten()), (2, 3, 5)),
        (lambda: nn.Sequential(Warped(), nn.Conv2d(3, 4, 3), nn.Flatten()), (1, 3, 6, 6)),
        (lambda: Recurrent(nn.LSTM), (2, 5, 3)),
        (lambda: Recurrent(nn.GRU), (2, 5, 3)),
    ],
    ids=["batch norm", "instance norm", "RMS norm", "sampling on a grid", "LSTM", "GRU"],
)
def test_what_has_kernels_of_its_own_there_is_captured_as_on_the_cpu(build, shape) -> None:
    model, x = seeded(build), noise(*shape)
    graph = lrp.capture(model, x)
    there = lrp.capture(model.to(CUDA), x.to(CUDA))
    for composite in ("epsilon-plus", "attn-lrp"):
        expected = lrp.attribute(graph, x, 0, composite)
        found = lrp.attribute(there, x.to(CUDA), 0, composite)
        assert difference(found.relevance.cpu(), expected.relevance) < 1e-6, composite


def test_a_graph_captured_on_the_cpu_may_move() -> None:
    model, x = small_network()
    graph = lrp.capture(model, x)
    expected = lrp.attribute(graph, x, lrp.Target(1), "volume")
    found = lrp.attribute(graph.to(CUDA), x.to(CUDA), lrp.Target(1), "volume")
    assert difference(found.relevance.cpu(), expected.relevance) < 1e-4
    again = lrp.attribute(graph.to("cpu"), x, lrp.Target(1), "volume")
    assert difference(again.relevance, expected.relevance) < 1e-6
