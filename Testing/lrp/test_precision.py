"""In bfloat16 relevance is what it is in float32, as closely as eight bits of mantissa allow."""

from typing import Any

import pytest
import torch
from lrp_helpers import Function, built, correlation, small_network
from LRPExplainLib import lrp
from LRPExplainLib.lrp import onednn, precision
from LRPExplainLib.lrp.optimizations import without
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

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


@pytest.mark.parametrize("kind", [NotImplementedError, RuntimeError], ids=["today", "PyTorch 2.4"])
def test_what_has_no_kernel_in_half_precision_runs_in_float32(kind: type[RuntimeError]) -> None:
    def pool(x: Tensor) -> Tensor:
        if x.dtype is torch.bfloat16:
            raise kind("\"avg_pool3d_out_frame\" not implemented for 'BFloat16'")
        return x / 3

    found = precision.run_in_half(pool, torch.ones(2, dtype=torch.bfloat16))
    assert torch.equal(found, torch.full((2,), 1 / 3).to(torch.bfloat16))


def test_another_mistake_in_half_precision_is_told() -> None:
    def broken(x: Tensor) -> Tensor:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        precision.run_in_half(broken, torch.ones(2, dtype=torch.bfloat16))


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


class Casting(nn.Module):
    """Computes in bfloat16 what autocast finds fit for it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.alone, self.head = nn.BatchNorm2d(6), nn.Linear(6, 3)
        for norm in (self.norm, self.alone):
            nn.init.uniform_(norm.weight, 0.5, 2)
            nn.init.uniform_(norm.running_var, 0.5, 2)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            x = self.alone(torch.relu(self.norm(self.first(x))))
            return self.head(x.mean((2, 3)))


def test_a_network_that_casts_itself_is_explained_as_it_casts() -> None:
    torch.manual_seed(0)
    model, x = Casting().eval(), torch.randn(2, 2, 8, 8)
    graph = lrp.capture(model, x)
    found = lrp.attribute(graph, x, 1, "epsilon-plus")
    assert found.output.dtype is torch.bfloat16
    torch.testing.assert_close(found.output, model(x), rtol=2e-2, atol=2e-2)
    assert abs(found.ledger.gap) < 1e-2 * max(abs(row.relevance_out) for row in found.ledger.by_layer)


def test_autocast_around_it_changes_no_explanation() -> None:
    """A graph has its own precision; captured within autocast it is the network's as it is cast there."""
    graph, x = small()
    expected = lrp.attribute(graph, x, 1)
    with torch.autocast("cpu", torch.bfloat16):
        found = lrp.attribute(graph, x, 1)
        evaluation = lrp.evaluate(graph, x)
        onwards = evaluation.attribute(evaluation.held(1, "3"), layer="3")
        torch.testing.assert_close(graph(x), expected.output)
        cast = lrp.capture(small_network()[0], x)
    assert torch.equal(found.relevance, expected.relevance)
    assert correlation(onwards.relevance, expected.relevance) > 0.9999
    assert cast.outputs[0].meta["val"].dtype is torch.bfloat16
    assert correlation(lrp.attribute(cast, x, 1).relevance, expected.relevance) > 0.9


def test_half_as_much_memory_is_reckoned() -> None:
    graph, _ = small()
    exact = next(lrp.estimates(graph, "epsilon-plus"))
    half = next(lrp.estimates(graph.to(torch.bfloat16), "epsilon-plus"))
    assert half.kept == pytest.approx(0.5 * exact.kept, rel=0.1)
    in_half = torch.bfloat16 in precision.multiplied("cpu")  # else products are done in float32, one at a time
    most = 0.6 if in_half else 0.8
    assert half.peak - half.weights < most * (exact.peak - exact.weights)


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


def test_a_graph_that_has_answered_goes_over_like_a_fresh_one() -> None:
    """Though weights that a rule has modified are kept with it."""
    graph, x = small()
    expected = lrp.attribute(small()[0].to(torch.bfloat16), x, lrp.Target(1), "gamma")
    lrp.attribute(graph, x, lrp.Target(1), "gamma")
    assert torch.equal(lrp.attribute(graph.to(torch.bfloat16), x, lrp.Target(1), "gamma").relevance, expected.relevance)


class Indexed(torch.nn.Module):
    """Takes numbers, and which of its channels to give."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Conv2d(1, 4, 3)

    def forward(self, x: Tensor, which: Tensor) -> Tensor:
        return self.layer(x)[:, which]


@pytest.mark.parametrize("lowered", [False, True])
def test_numbers_and_indices_do_not_stand_for_each_other(lowered: bool) -> None:
    x, which = torch.randn(1, 1, 6, 6), torch.tensor([2, 0])
    graph = lrp.capture(Indexed().eval(), x, which)
    graph = graph.to(torch.bfloat16) if lowered else graph
    assert graph(x, which).shape == (1, 2, 4, 4)
    with pytest.raises(lrp.LRPError, match=r"but got torch.int64; convert the input"):
        graph(x.long(), which)
    with pytest.raises(lrp.LRPError, match=r"inputs of torch.int64 but got torch.float32; convert the input"):
        graph(x, which.float())


class Mixed(torch.nn.Module):
    """Layers in one precision, and steps in another, as losses of range and rounding are avoided."""

    def __init__(self, low: torch.dtype, high: torch.dtype) -> None:
        super().__init__()
        self.low, self.high = low, high
        self.first = torch.nn.Conv2d(2, 4, 3).to(low)
        self.second = torch.nn.Conv2d(4, 3, 3).to(high)
        self.last = torch.nn.Linear(3, 2).to(low)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x.to(self.low))).to(self.high)
        y = torch.nn.functional.avg_pool2d(self.second(x), 2)
        y = y @ torch.ones(3, 3, dtype=self.high) + x.mean((1, 2, 3), True).to(self.low)  # of either precision
        return self.last(y.mean((2, 3)).to(self.low)).to(self.high)


@pytest.mark.parametrize("given", [torch.float32, torch.float64])
@pytest.mark.parametrize("composite", ["epsilon", "gamma", "attn-lrp"])
def test_each_layer_of_a_network_of_several_precisions_has_relevance_in_its_own(
    composite: str, given: torch.dtype
) -> None:
    torch.manual_seed(0)
    model, x = Mixed(torch.float32, torch.float64).eval(), torch.randn(1, 2, 10, 10, dtype=given)
    alike = Mixed(torch.float64, torch.float64).eval()
    alike.load_state_dict(model.state_dict())
    found = lrp.attribute(lrp.capture(model, x), x, lrp.Target(1), composite)
    expected = lrp.attribute(lrp.capture(alike, x.double()), x.double(), lrp.Target(1), composite)
    assert found.relevance.dtype == torch.float64  # the output's
    assert (found.relevance - expected.relevance).abs().max() < 1e-4 * expected.relevance.abs().max()
    assert abs(found.ledger.gap) < 1e-5 * sum(abs(row.relevance_out) for row in found.ledger.by_layer)


@pytest.mark.parametrize("low", [torch.float16, torch.bfloat16])
def test_a_layer_in_half_precision_among_others(low: torch.dtype) -> None:
    torch.manual_seed(0)
    model, x = Mixed(low, torch.float32).eval(), torch.randn(1, 2, 10, 10)
    alike = Mixed(torch.float32, torch.float32).eval()
    alike.load_state_dict(model.state_dict())
    found, expected = (lrp.attribute(lrp.capture(m, x), x, lrp.Target(1), "epsilon-plus") for m in (model, alike))
    assert correlation(found.relevance, expected.relevance) > 0.999


def test_constants_that_are_written_into_half_precision_absorb() -> None:
    def overwritten(x: Tensor) -> Tensor:
        x = x.clone()
        x[:, torch.tensor([0, 2])] = 1.5
        return x * 2

    x, start = torch.randn(2, 4), torch.randn(2, 4)
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        graph = lrp.capture(Function(overwritten), x.to(dtype))
        found = lrp.attribute(graph, x.to(dtype), start, "epsilon")
        assert torch.equal(found.relevance[:, [1, 3]], start[:, [1, 3]])
        assert not found.relevance[:, [0, 2]].any()
        assert abs(found.ledger.gap) < 1e-6


class Attentive(torch.nn.Module):
    """A convolution, attention, a dense layer and a bare product with a constant matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = torch.nn.Conv2d(2, 8, 2, 2)
        self.qkv, self.last = torch.nn.Linear(8, 24), torch.nn.Linear(8, 2)
        self.mix = torch.nn.Parameter(torch.randn(9, 9))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.patches(x).flatten(2).mT).chunk(3, -1)
        attended = torch.softmax(q @ k.mT / 3, -1) @ v
        return self.last((self.mix @ attended).mean(1))


@pytest.fixture
def no_arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor that multiplies in float32 and float64 alone, as all with AVX2 at most do."""
    for module in (precision, onednn):
        monkeypatch.setattr(module, "multiplied", lambda device: frozenset())


@pytest.mark.usefixtures("no_arithmetic")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_processor_without_arithmetic_for_half_precision_never_sees_a_product_in_it(dtype: torch.dtype) -> None:
    seen = set()

    class Watched(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            name = func.__name__.split(".")[0]
            if "conv" in name or name in ("mm", "bmm", "addmm"):
                seen.update((name, arg.dtype) for arg in args if isinstance(arg, Tensor))
            return func(*args, **(kwargs or {}))

    torch.manual_seed(0)
    model, x = Attentive().eval(), torch.randn(1, 2, 6, 6)
    exact = lrp.attribute(lrp.capture(model, x), x, lrp.Target(1), "attn-lrp")
    if dtype is torch.bfloat16:
        graph = lrp.capture(model, x).to(dtype)
    else:
        graph, x = lrp.capture(model.to(dtype), x.to(dtype)), x.to(dtype)
    with Watched():
        found = lrp.attribute(graph, x, lrp.Target(1), "attn-lrp")
    assert {name for name, _ in seen} >= {"addmm", "bmm", "mm"}
    assert any("conv" in name for name, _ in seen)
    assert {kind for _, kind in seen} == {torch.float32}
    assert correlation(found.relevance, exact.relevance) > 0.999


@pytest.mark.parametrize(("capability", "ampere"), [((7, 5), False), ((8, 0), True), ((12, 0), True)])
def test_older_cards_have_no_arithmetic_for_bfloat16(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], ampere: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    known = precision.multiplied.__wrapped__("cuda")
    assert (torch.bfloat16 in known) is ampere
    assert torch.float16 in known


def test_wide_dilations_are_done_in_the_precision_that_is_faster_and_come_out_alike() -> None:
    """As MeshNet has them; a processor without bfloat16 does all in float32, with and without."""
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
