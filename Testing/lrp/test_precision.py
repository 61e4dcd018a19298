"""In bfloat16 relevance is what it is in float32, as closely as eight bits of mantissa allow."""

import pytest
import torch
from lrp_helpers import built, correlation, small_network
from LRPExplainLib import lrp
from LRPExplainLib.lrp.optimizations import without
from torch import Tensor

# Segmentation and classification; pooling without a kernel in half precision (densenet, ResEnc); norms of either kind.
NAMES = (
    "dynunet-plain-3d", "dynunet-res-2d", "segresnet-3d", "unet-res-batch-3d", "resnet18-3d", "densenet121-3d",
    "residualencoderunet-3d", "attentionunet-2d", "unetr-2d", "mednext-2d",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("composite", ["epsilon-plus", "volume", "gamma"])
def test_relevance_in_bfloat16_correlates_and_is_accounted_for(name: str, composite: str) -> None:
    model, x, graph, start = built(name)
    expected = lrp.attribute(graph, x, start, composite)
    found = lrp.attribute(lrp.capture(model, x).to(torch.bfloat16), x, start, composite)
    assert correlation(found.relevance, expected.relevance) > 0.995
    # of a classifier's one small logit, much more relevance flows than its value says
    size = max(abs(row.relevance_out) for row in found.ledger.by_layer)
    assert abs(found.ledger.gap) < 1e-2 * size
    assert found.ledger.target_value == expected.ledger.target_value


def test_the_caller_sees_float32() -> None:
    graph, x = small()
    graph.to(torch.bfloat16)
    evaluation = lrp.evaluate(graph, x, "epsilon-plus")
    found = evaluation.attribute(lrp.Target(1), at=["0"], channels={"3": [0, 1]})
    held = evaluation.held(lrp.Target(1), "3")
    onwards = evaluation.attribute(held, layer="3")
    given = (found.relevance, found.output, found.at["0"], held, onwards.relevance, graph(x), graph.forward(x))
    assert {value.dtype for value in given} == {torch.float32}
    assert graph.precision is torch.bfloat16
    assert all(value.dtype != torch.float32 for value in graph.constants.values() if isinstance(value, Tensor))


def test_every_composite_and_schedule_runs() -> None:
    for composite in lrp.COMPOSITES:
        graph, x = small()
        exact = lrp.attribute(graph, x, lrp.Target(1), composite)
        graph.to(torch.bfloat16)
        for estimate in lrp.estimates(graph, composite):
            evaluation = lrp.evaluate(graph, x, composite, schedule=estimate.schedule)
            found = evaluation.attribute(lrp.Target(1), last=True)
            assert correlation(found.relevance, exact.relevance) > 0.99, composite


def test_half_as_much_memory_is_reckoned() -> None:
    graph, _ = small()
    exact = next(lrp.estimates(graph, "epsilon-plus"))
    half = next(lrp.estimates(graph.to(torch.bfloat16), "epsilon-plus"))
    assert half.kept == pytest.approx(0.5 * exact.kept, rel=0.1)
    assert half.peak - half.weights < 0.6 * (exact.peak - exact.weights)


@pytest.mark.parametrize("precision", [torch.float16, torch.float32, torch.float64])
def test_other_precisions_are_refused_with_a_reason(precision: torch.dtype) -> None:
    graph, x = small()
    before = graph(x)
    with pytest.raises(lrp.LRPError, match=r"can be moved to torch\.bfloat16, but not"):
        graph.to(precision)
    assert torch.equal(graph(x), before)


def small() -> tuple[lrp.Graph, Tensor]:
    model, x = small_network()
    return lrp.capture(model, x), x


def test_wide_dilations_are_done_in_the_precision_that_is_faster_and_come_out_alike() -> None:
    """As MeshNet has them; a processor without bfloat16 takes ATen's kernels with and without."""
    torch.manual_seed(0)
    layers = [torch.nn.Conv3d(1, 5, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv3d(5, 5, 3, padding=9, dilation=9)]
    model = torch.nn.Sequential(*layers, torch.nn.ReLU(), torch.nn.Conv3d(5, 2, 1)).eval()
    x = torch.rand(1, 1, 20, 20, 20)
    exact = lrp.attribute(lrp.capture(model, x), x, lrp.Target(1), "epsilon-plus")
    graph = lrp.capture(model, x).to(torch.bfloat16)
    found = lrp.attribute(graph, x, lrp.Target(1), "epsilon-plus")
    reckoned = next(lrp.estimates(graph, "epsilon-plus"))
    with without("far"):
        plain = lrp.attribute(graph, x, lrp.Target(1), "epsilon-plus")
        without_it = next(lrp.estimates(graph, "epsilon-plus"))
    assert correlation(found.relevance, exact.relevance) > 0.999
    assert correlation(plain.relevance, exact.relevance) > 0.999
    assert reckoned.kept == without_it.kept
    assert reckoned.peak >= without_it.peak
