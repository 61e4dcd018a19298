"""Keeping less and computing again: the same relevance, fewer bytes, and a reckoning that holds."""

from typing import Any

import pytest
import torch
from lrp_helpers import built, difference
from LRPExplainLib import lrp
from LRPExplainLib.lrp import Graph, Schedule, Target
from LRPExplainLib.lrp.optimizations import without
from LRPExplainLib.models.architectures import UNet3d
from torch import Tensor, nn

from benchmarks.memory import peak_memory
from benchmarks.networks import NETWORKS


@pytest.fixture(scope="module")
def unet() -> tuple[Graph, Tensor]:
    """Fast convolution kernels take 32 channels at this size, so that memory is what it is in real runs."""
    torch.manual_seed(0)
    x = torch.randn(1, 1, 24, 32, 32)
    return lrp.capture(UNet3d(1, 3, (28, 32, 36), "instance").eval(), x), x


def held(evaluation: lrp.Evaluation) -> int:
    """Bytes of the tensors that an evaluation keeps beside the graph's constants, each memory counted once."""
    storages = {}
    constants = {id(value) for value in evaluation._graph.constants.values()}
    for value in evaluation._values.values():
        for leaf in value if isinstance(value, tuple) else [value]:
            if isinstance(leaf, Tensor) and id(leaf) not in constants:
                storages[leaf.untyped_storage().data_ptr()] = leaf.untyped_storage().nbytes()
    return sum(storages.values())


def height(run: Any) -> int:
    """The most bytes that PyTorch's CPU allocator had given out at once during a run."""
    with peak_memory("cpu") as peak:
        run()
    assert peak.bytes is not None
    return peak.bytes


@pytest.mark.parametrize("composite", ["epsilon", "epsilon-plus", "volume"])
def test_segments_are_computed_again_with_the_same_result_and_fewer_bytes(unet, composite):
    graph, x = unet
    plain, *others = lrp.estimates(graph, composite)
    assert plain.schedule == Schedule(remaking=False)
    assert [way.peak for way in others] == sorted((way.peak for way in others), reverse=True)
    segmented = [way for way in others if len(way.schedule.starts) > 1]
    assert segmented
    reference = lrp.evaluate(graph, x, composite, schedule=plain.schedule)
    # the input counts as kept where the first layer reads it
    assert held(reference) == pytest.approx(plain.kept + 4 * 3 * x.numel(), rel=0.02)
    expected = reference.attribute(Target(1))
    for estimate in segmented:
        evaluation = lrp.evaluate(graph, x, composite, schedule=estimate.schedule)
        assert estimate.kept < 0.75 * plain.kept
        assert held(evaluation) < 0.8 * held(reference)
        first, again = evaluation.attribute(Target(1)), evaluation.attribute(Target(1), last=True)
        for found in (first, again):
            assert difference(found.relevance, expected.relevance) < 1e-4
            assert found.ledger.target_value == pytest.approx(expected.ledger.target_value, rel=1e-6)
            # a slab's stabiliser has the slab's own scale
            size = 1e-6 * abs(expected.ledger.target_value)
            assert found.ledger.absorbed == pytest.approx(expected.ledger.absorbed, rel=1e-4, abs=size)


@pytest.mark.parametrize(("name", "share"), [("dynunet-plain-3d", 0.6), ("segresnet-3d", 0.8), ("resnet50-3d", 0.9)])
def test_what_a_pass_makes_of_kept_values_is_not_kept(name, share):
    """Activations, concatenations, sums and norms of what the rules read as well; the result is the very same."""
    _, x, graph, start = built(name)
    keeping = lrp.evaluate(graph, x, "epsilon-plus", schedule=Schedule(remaking=False))
    remaking = lrp.evaluate(graph, x, "epsilon-plus")
    kept = held(keeping)
    assert held(remaking) < share * kept
    expected = keeping.attribute(start, last=True)
    for last in (False, True):
        found = remaking.attribute(start, last=last)
        assert torch.equal(found.relevance, expected.relevance)
        assert found.ledger == expected.ledger
    with without("remaking"):
        assert held(lrp.evaluate(graph, x, "epsilon-plus")) == kept


@pytest.mark.parametrize(
    "name",
    ["dynunet-res-3d", "segresnetds-2d", "swinunetr-v2-2d", "densenet121-3d", "unetr-2d", "residualencoderunet-2d"],
)
def test_any_cut_gives_the_same_relevance(name):
    """Skips, folded norms, several outputs, attention: whatever a cut separates comes back."""
    _, x, graph, start = built(name)
    expected = lrp.evaluate(graph, x, "volume").attribute(start)
    steps = len(graph.steps)
    for starts in (
        (0, 1),
        (0, steps // 3, steps // 2),
        tuple(range(0, steps // 2, 5)),
        (0, steps // 2, steps // 2 + 1),
    ):
        for offload in (False, True):
            schedule = Schedule(starts, offload)
            found = lrp.evaluate(graph, x, "volume", schedule=schedule).attribute(start, last=True)
            assert difference(found.relevance, expected.relevance) < 1e-4
            assert [row.layer for row in found.ledger.by_layer] == [row.layer for row in expected.ledger.by_layer]


def test_what_waits_elsewhere_is_back_when_it_is_read(unet):
    graph, x = unet
    expected = lrp.attribute(graph, x, Target(2), "gamma")
    evaluation = lrp.evaluate(graph, x, "gamma", schedule=Schedule(offload=True))
    assert held(evaluation) < x.numel() * 4 * 10  # nothing but the output is at hand
    assert difference(evaluation.attribute(Target(2)).relevance, expected.relevance) == 0
    assert difference(evaluation.attribute(Target(2), last=True).relevance, expected.relevance) == 0


@pytest.mark.parametrize("composite", ["epsilon", "epsilon-plus", "volume", "epsilon-alpha2-beta1"])
def test_the_estimate_is_not_below_what_a_run_takes_nor_far_above(unet, composite):
    graph, x = unet
    ways = list(lrp.estimates(graph, composite))
    weights = ways[0].weights
    forward = height(lambda: graph.forward(x))
    assert 0.85 * forward < ways[0].forward - weights < 1.5 * forward
    for estimate in (ways[0], min(ways, key=lambda way: way.peak)):
        run = lambda way=estimate: lrp.evaluate(graph, x, composite, schedule=way.schedule).attribute(  # noqa: E731
            Target(1), last=True
        )
        run()  # so that modified weights are there, as `weights` has them
        taken = height(run)
        assert taken < estimate.peak - estimate.weights < 2 * taken


def test_less_memory_is_reckoned_for_segments_and_for_values_put_away(unet):
    graph, _ = unet
    on_device = list(lrp.estimates(graph, "epsilon"))
    everything = list(lrp.estimates(graph, "epsilon", offload=True))
    assert everything[: len(on_device)] == on_device
    away = everything[len(on_device) :]
    assert all(way.schedule.offload for way in away)
    assert min(way.peak for way in on_device) < on_device[0].peak
    assert min(way.peak for way in away) < min(way.peak for way in on_device)
    assert all(way.kept == 0 for way in away)


def test_several_at_once_need_several_times_the_memory_but_the_weights(unet):
    graph, x = unet
    one = next(lrp.estimates(graph, "volume"))
    model = UNet3d(1, 3, (28, 32, 36), "instance").eval()
    three = next(lrp.estimates(lrp.capture(model, x.expand(3, *x.shape[1:])), "volume"))
    assert one.times(3).kept == three.kept
    assert 0.75 * one.times(3).peak < three.peak < 1.1 * one.times(3).peak  # a slab is as large for three as for one


def test_the_walk_is_timed_by_its_products():
    """Plain epsilon needs one product where the forward pass needs one; z+ of a signed input three."""
    x = torch.randn(1, 2, 8, 8)
    graph = lrp.capture(nn.Sequential(nn.Conv2d(2, 2, 3), nn.ReLU()).eval(), x)
    assert lrp.products(graph, "epsilon") == 1
    with without("magnitudes"):
        assert lrp.products(graph, "epsilon-plus") == 4
    assert lrp.products(graph, "epsilon-plus") == 3


def test_ledgers_of_two_runs_add_up(unet):
    graph, x = unet
    a, b = (lrp.attribute(graph, x, Target(n), "epsilon").ledger for n in (1, 2))
    both = a + b
    assert both.target_value == a.target_value + b.target_value
    assert both.absorbed == pytest.approx(a.absorbed + b.absorbed)
    assert both.by_layer[3].relevance_out == a.by_layer[3].relevance_out + b.by_layer[3].relevance_out
    assert both.by_layer[3].rule == a.by_layer[3].rule


@pytest.mark.parametrize("name", ["swinunetr-v2-2d", "unetr-2d", "dynunet-res-3d"])
def test_samples_of_a_batch_do_not_see_each_other(name):
    """Windows are run several at once; in float64, since deep random networks amplify rounding."""
    network = NETWORKS[name]
    if network.missing():
        pytest.skip(network.missing())
    model, x = network.build().double(), network.input().double()
    both = torch.cat([x, torch.randn_like(x) * 0.7 + 0.2])
    together = lrp.attribute(lrp.capture(model, both), both, Target((0, 0)), "volume")
    alone = lrp.capture(model, x)
    for n in range(2):
        single = lrp.attribute(alone, both[n : n + 1], Target(0), "volume")
        assert difference(together.relevance[n : n + 1], single.relevance) < 1e-10
