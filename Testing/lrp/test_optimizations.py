"""What makes the engine fast changes no result beyond rounding, and can be switched off by name."""

import os
import subprocess
import sys
from threading import Thread

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lrp_helpers import difference, small_network
from LRPExplainLib import lrp
from LRPExplainLib.lrp import boxes, kernels, linear, optimizations, phases, rules, sums
from LRPExplainLib.lrp.layerwise import flow_through
from LRPExplainLib.lrp.optimizations import OPTIMIZATIONS, without
from torch import Tensor, nn

aten = torch.ops.aten


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[Tensor, Tensor, tuple]:
    """An input, a weight and a geometry that fit each other."""
    dims, transposed = draw(st.sampled_from((2, 3))), draw(st.booleans())
    groups = draw(st.sampled_from((1, 2, 5)))
    into, out = groups * draw(st.integers(1, 4)), groups * draw(st.integers(1, 4))
    if draw(st.booleans()):  # by channel
        into = out = groups
    stride, dilation = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    kernel, padding = draw(st.integers(1, 3)), draw(st.integers(0, 2))
    extra = draw(st.integers(0, stride - 1)) if transposed else 0
    size = [draw(st.integers(6, 9)) for _ in range(dims)]
    random = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    x = torch.randn(1, into, *size, generator=random)
    shape = (into, out // groups) if transposed else (out, into // groups)
    w = torch.randn(*shape, *(kernel,) * dims, generator=random)
    each = [[n] * dims for n in (stride, padding, dilation)]
    return x, w, (*each, transposed, [extra] * dims, groups)


@given(convolutions())
@settings(max_examples=60, deadline=None)
def test_kernels_called_by_name_are_those_of_aten(case: tuple[Tensor, Tensor, tuple]) -> None:
    x, w, geometry = case
    y = aten.convolution(x, w, None, *geometry)
    r = torch.randn_like(y)
    expected = aten.convolution_backward(r, x, w, None, *geometry, [True, False, False])[0]
    assert torch.allclose(kernels.convolve(x, w, None, *geometry), y, atol=1e-4)
    assert torch.allclose(kernels.convolve_adjoint(r, x.shape, w, *geometry), expected, atol=1e-4)
    turned = aten.convolution(r, w, None, *kernels.turned(r, x.shape, w, *geometry))  # what runs on CUDA
    assert torch.allclose(turned, expected, atol=1e-4)


@pytest.mark.parametrize("size", range(4, 13))
@pytest.mark.parametrize("dims", [2, 3])
def test_one_channel_may_shrink_to_a_width_of_one(dims: int, size: int) -> None:
    """oneDNN misreads such an image when it lies channels last."""
    x, w = torch.rand(1, 1, *(4,) * (dims - 1), size), torch.rand(8, 1, *(3,) * (dims - 1), size)
    geometry = ([*(1,) * (dims - 1), size - 1], [0] * dims, [1] * dims, False, [0] * dims, 1)
    assert torch.allclose(kernels.convolve(x, w, None, *geometry), aten.convolution(x, w, None, *geometry), atol=1e-4)


@st.composite
def narrow(draw: st.DrawFn) -> tuple[Tensor, Tensor, tuple]:
    """A convolution of few channels, whose geometry differs from axis to axis."""
    dims, several = draw(st.sampled_from((2, 3))), st.integers(1, 3)
    stride, dilation, kernel = ([draw(several) for _ in range(dims)] for _ in range(3))
    padding, size = [draw(st.integers(0, 3)) for _ in range(dims)], [draw(st.integers(7, 20)) for _ in range(dims)]
    random = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    x = torch.randn(draw(st.integers(1, 2)), draw(st.integers(1, phases.FEW)), *size, generator=random)
    w = torch.randn(draw(st.integers(1, 5)), x.shape[1], *kernel, generator=random)
    return x, w, (stride, padding, dilation, False, [0] * dims, 1)


@given(narrow())
@settings(max_examples=80, deadline=None)
def test_neighbouring_voxels_stand_in_for_channels(case: tuple[Tensor, Tensor, tuple]) -> None:
    x, w, geometry = case
    stride, padding, dilation = geometry[:3]
    r = torch.randn_like(aten.convolution(x, w, None, *geometry))
    expected = aten.convolution_backward(r, x, w, None, *geometry, [True, False, False])[0]
    found = phases.spread(r, w, x.shape[2:], stride, padding, dilation)
    assert torch.allclose(found, expected, atol=1e-4)


ABSOLUTE = rules.Stabilizer(1e-6, relative=False)
EXACT = (
    rules.epsilon(1e-2), rules.flat(), rules.z_plus(ABSOLUTE), rules.z_plus(ABSOLUTE).sharing_bias(),
    rules.gamma(0.25, ABSOLUTE), rules.z_plus(rules.Stabilizer(0.1)),  # which takes too much to be the box's own
)  # fmt: skip
# Their stabiliser's scale is the box's own. It takes another small amount then: more than rounding only where a
# denominator nearly vanishes, and never more than the two amounts together.
RELATIVE = (rules.z_plus(), rules.z_plus().sharing_bias(), rules.gamma())


@given(convolutions(), st.data())
@settings(max_examples=60, deadline=None)
def test_a_layer_in_a_box_hands_on_what_the_whole_layer_does(
    case: tuple[Tensor, Tensor, tuple], data: st.DataObject
) -> None:
    x, w, geometry = case
    y = kernels.convolve(x, w, None, *geometry)
    corner = [data.draw(st.integers(0, n - 1)) for n in y.shape[2:]]
    r = torch.zeros_like(y)
    r[(..., *(slice(n, n + 2) for n in corner))] = 1.0
    layer = linear.Convolution(x, lambda name: w if name == linear.RAW else linear.modify(w, name), geometry, y + 0.1)
    layer.bias = torch.full((1, y.shape[1], *(1,) * (y.dim() - 2)), 0.1)
    for rule in (*EXACT, *RELATIVE):
        with without("box"):
            whole = flow_through(rule, layer, r)
        boxed = flow_through(rule, layer, r)
        taken = sum(float(a) for flow in (boxed, whole) for a in flow.stabiliser) if rule in RELATIVE else 0.0
        size = 1e-4 * float(r.sum()) + taken
        assert torch.allclose(boxed.relevance[0], whole.relevance[0], rtol=1e-3, atol=size), rule
        for a, b in ((boxed.bias, whole.bias), (boxed.stabiliser, whole.stabiliser)):
            assert sum(map(float, a)) == pytest.approx(sum(map(float, b)), rel=1e-3, abs=size), rule


@given(convolutions(), st.integers(1, 200), st.integers(0, 1))
@settings(max_examples=60, deadline=None)
def test_a_layer_in_slabs_hands_on_what_the_whole_layer_does(
    case: tuple[Tensor, Tensor, tuple], most: int, kind: int
) -> None:
    x, w, geometry = case
    y = kernels.convolve(x, w, None, *geometry)
    if kind:
        layer: linear.LinearMap = linear.Sum([y, y.sin()], y + y.sin() + 0.1, y.shape)
    else:
        weights = lambda name: w if name == linear.RAW else linear.modify(w, name)  # noqa: E731
        layer = linear.Convolution(x, weights, geometry, y + 0.1)
    layer.bias = torch.full((1, y.shape[1], *(1,) * (y.dim() - 2)), 0.1)
    r = torch.rand_like(y)
    for rule in (*EXACT, rules.magnitude(ABSOLUTE)):
        layer.slab = None
        with without("box", "slabs"):
            whole = flow_through(rule, layer, r)
        layer.slab = most
        found = boxes.cuts(layer, r)
        assert not found or sum(cut.box[2].stop - cut.box[2].start for cut in found) == y.shape[2]
        assert all(y[cut.box].numel() <= most + y[:, :, 0].numel() for cut in found)  # a plane is not cut
        assert len(found) > 1 or not kind or y.numel() <= most or y.shape[2] == 1
        slabs = flow_through(rule, layer, r)
        size = 1e-4 * float(r.sum())
        for a, b in zip(slabs.relevance, whole.relevance, strict=True):
            assert torch.allclose(a, b, rtol=1e-3, atol=size), rule
        for taken, expected in ((slabs.bias, whole.bias), (slabs.stabiliser, whole.stabiliser)):
            assert sum(map(float, taken)) == pytest.approx(sum(map(float, expected)), rel=1e-3, abs=size), rule


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rule", [rules.z_plus(), rules.gamma().sharing_bias(), rules.alpha_beta(2, 1)], ids=str)
def test_pieces_of_unequal_size_hand_on_what_the_whole_does(
    rule: rules.LinearRule, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    x, w = torch.randn(1, 3, 7, 4, 4, dtype=dtype), torch.randn(5, 3, 1, 1, 1, dtype=dtype)
    geometry = ([1] * 3, [0] * 3, [1] * 3, False, [0] * 3, 1)
    y = kernels.convolve(x, w, None, *geometry) + 0.5
    layer = linear.Convolution(x, lambda name: w if name == linear.RAW else linear.modify(w, name), geometry, y)
    layer.bias = torch.full((1, 5, 1, 1, 1), 0.5, dtype=dtype)
    r = torch.rand_like(y)
    whole = flow_through(rule, layer, r)
    monkeypatch.setattr(sums, "PIECE", 3 * y[:, :, 0].numel())
    assert [len(part[0, 0]) for (part,) in sums.pieces(y)] == [4, 3]
    found = flow_through(rule, layer, r)
    assert difference(found.relevance[0], whole.relevance[0]) <= 1e-5
    # what fills no vector PyTorch rounds otherwise in bfloat16 (`add` with alpha), which 2.4 shows here
    precision = 1e-5 if dtype == torch.float32 else 1e-3
    for a, b in ((found.bias, whole.bias), (found.stabiliser, whole.stabiliser)):
        assert sum(map(float, a)) == pytest.approx(sum(map(float, b)), rel=precision, abs=1e-5)


@pytest.mark.parametrize("rule", [rules.z_plus(), rules.z_plus(absorb_bias=False), rules.alpha_beta(2, 1)], ids=str)
def test_outputs_with_hardly_a_contribution_of_one_sign_go_term_by_term(rule: rules.LinearRule) -> None:
    """The difference of two large sums would be rounding: 1e-6 of what is there speaks for each of them."""
    torch.manual_seed(0)
    x, w = torch.randn(1, 4, 6, 6, 6), -torch.rand(3, 4, 1, 1, 1)
    x = torch.where(x.argmax(1, keepdim=True) == torch.arange(4).view(1, 4, 1, 1, 1), -1e-6, x.abs())
    geometry = ([1] * 3, [0] * 3, [1] * 3, False, [0] * 3, 1)
    layer = linear.Convolution(
        x,
        lambda name: w if name == linear.RAW else linear.modify(w, name),
        geometry,
        kernels.convolve(x, w, None, *geometry),
    )
    r = torch.rand(1, 3, 6, 6, 6)
    found = flow_through(rule, layer, r)
    with without("magnitudes"):
        expected = flow_through(rule, layer, r)
    assert difference(found.relevance[0], expected.relevance[0]) < 1e-5
    assert sum(map(float, found.stabiliser)) == pytest.approx(sum(map(float, expected.stabiliser)), rel=1e-4)


def test_relevance_in_one_place_is_walked_in_a_box() -> None:
    x, w = torch.rand(1, 2, 20, 20, 20), torch.rand(3, 2, 3, 3, 3)
    geometry = ([1] * 3, [1] * 3, [1] * 3, False, [0] * 3, 1)
    layer = linear.Convolution(x, lambda name: w, geometry, torch.empty(0))
    r = torch.zeros(1, 3, 20, 20, 20)
    r[0, 1, 4:6, 0, 19] = 1.0
    ((_, box, source),) = ((cut.layer, cut.box, cut.source) for cut in boxes.cuts(layer, r))
    assert box[2:] == (slice(4, 6), slice(0, 1), slice(19, 20))
    assert source[2:] == (slice(3, 7), slice(0, 2), slice(18, 20))
    assert boxes.cuts(layer, torch.ones_like(r)) == []


@pytest.fixture(scope="module")
def network() -> tuple[nn.Module, Tensor]:
    return small_network()


@pytest.mark.parametrize("name", OPTIMIZATIONS)
@pytest.mark.parametrize("composite", ["epsilon", "epsilon-plus", "volume", "gamma"])
def test_each_optimization_leaves_relevance_and_ledger_as_they_are(
    network: tuple[nn.Module, Tensor], name: str, composite: str
) -> None:
    model, x = network
    start = torch.zeros(1, 3, 12, 14, 16)
    start[0, 1, 3:6, 4:6, 5:8] = 1.0
    fast = lrp.attribute(lrp.capture(model, x), x, start, composite)
    with without(name):
        plain = lrp.attribute(lrp.capture(model, x), x, start, composite)
    assert difference(fast.relevance, plain.relevance) < 1e-4
    assert fast.ledger.absorbed == pytest.approx(plain.ledger.absorbed, rel=1e-4, abs=1e-4 * plain.ledger.target_value)
    assert abs(fast.ledger.gap) < 1e-5 * fast.ledger.target_value


def test_results_lie_in_memory_as_people_expect(network: tuple[nn.Module, Tensor]) -> None:
    model, x = network
    graph = lrp.capture(model, x)
    found = lrp.attribute(graph, x, lrp.Target(1))
    assert found.relevance.is_contiguous()
    assert found.output.is_contiguous()
    assert graph(x).is_contiguous()


def test_an_unknown_name_is_told() -> None:
    with pytest.raises(lrp.LRPError, match="no optimization 'magic'"), without("magic"):
        pass


def test_a_whole_process_can_do_without() -> None:
    code = "from LRPExplainLib.lrp import optimizations as o; print([n for n in o.OPTIMIZATIONS if not o.on(n)])"
    environment = {**os.environ, "LRPEXPLAIN_WITHOUT": "box, onednn"}
    told = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "['onednn', 'box']"


def test_a_process_that_does_without_does_so_within_a_block_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LRPEXPLAIN_WITHOUT", "box")

    def within() -> tuple[bool, bool]:
        with optimizations.without("onednn"):
            return optimizations.on("box"), optimizations.on("onednn")

    fresh: list[tuple[bool, bool]] = []  # a thread of its own has not asked yet
    thread = Thread(target=lambda: fresh.append(within()))
    thread.start()
    thread.join()
    assert fresh == [(False, False)]


def test_switching_off_ends_with_its_block() -> None:
    assert optimizations.on("box")
    with without("box"):
        assert not optimizations.on("box")
        with without("onednn"):
            assert not optimizations.on("box")
    assert optimizations.on("box")


@pytest.mark.parametrize("groups", [2, 8])
@pytest.mark.parametrize("offset", [10.0, 1000.0])
def test_a_norm_far_from_zero_keeps_its_digits_channels_last(offset: float, groups: int) -> None:
    """As behind the first layer of a network that is given Hounsfield units."""
    x = torch.randn(2, 8, 9, 10, 11, generator=torch.Generator().manual_seed(0)) + offset
    args = (torch.ones(8), torch.zeros(8), 2, 8, 990, groups, 1e-5)
    exact = torch.native_group_norm(x.double(), args[0].double(), args[1].double(), *args[2:])
    for ours, theirs in zip(
        kernels.group_norm(x.contiguous(memory_format=torch.channels_last_3d), *args), exact, strict=True
    ):
        assert difference(ours.double(), theirs) < 1e-4
