"""What tracing would take longest for is not done: twice over a network, layer by layer, call by call."""

import importlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from LRPExplainLib.lrp import capture, passes
from LRPExplainLib.lrp.edit import forget_unread
from torch import Tensor, fx, nn
from torch.fx.experimental.proxy_tensor import make_fx

aten = torch.ops.aten
IMAGE = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))


def in_place(*how: Any) -> fx.GraphModule:
    """Twice an image, with its strides written in place."""
    return make_fx(lambda x: (x * 2).as_strided_(*how), tracing_mode="fake")(IMAGE)


def test_an_average_of_a_whole_image_is_traced_once(monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("LRPExplainLib.lrp.capture")
    times, traced = [], module._traced
    monkeypatch.setattr(module, "_traced", lambda *given: times.append(1) or traced(*given))
    network = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 2))
    network = network.eval().to(memory_format=torch.channels_last)
    x = IMAGE.contiguous(memory_format=torch.channels_last)
    graph = capture(network, x)
    assert len(times) == 1
    torch.testing.assert_close(graph(x), network(x))


def test_strides_of_axes_with_one_element_are_forgotten() -> None:
    traced = make_fx(
        lambda x: x.mean((2, 3), keepdim=True).as_strided_((1, 3, 1, 1), (3, 1, 3, 3)), tracing_mode="fake"
    )(IMAGE)
    passes.forget_layouts(traced.graph)
    assert not passes.writes_in_place(traced.graph)
    traced.recompile()
    torch.testing.assert_close(traced(IMAGE), IMAGE.mean((2, 3), keepdim=True))


@pytest.mark.parametrize(
    "how",
    [
        ((1, 3, 4, 4), (48, 16, 1, 4)),
        ((1, 3, 4, 2), (48, 16, 4, 1)),
        ((3, 4), (16, 4)),
        ((1, 3, 4, 4), (48, 16, 4, 1), 0),
    ],
    ids=["transposed", "smaller", "fewer axes", "from a place"],
)
def test_strides_that_move_elements_are_not(how: tuple[Any, ...]) -> None:
    traced = in_place(*how)
    passes.forget_layouts(traced.graph)
    assert passes.writes_in_place(traced.graph)


class Shifted(nn.Module):
    """Adds the batch norm of a number of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.number, self.norm = nn.Parameter(torch.full((1, 1), 3.0)), nn.BatchNorm1d(1)
        nn.init.constant_(self.norm.running_mean, 1.0)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.norm(self.number)


BATCH_NORMS: dict[str, tuple[Callable[[], nn.Module], Tensor]] = {
    "of a constant": (Shifted, torch.rand(2, 1)),
    "of one number": (lambda: nn.BatchNorm1d(1), torch.rand(1, 1)),
    "without weights": (lambda: nn.BatchNorm2d(3, affine=False), IMAGE),
    "of another layout": (lambda: nn.BatchNorm2d(4), IMAGE.transpose(1, 3)),
    "of a repeated image": (lambda: nn.BatchNorm2d(6), IMAGE[:, :1].expand(-1, 6, -1, -1)),
    "in float64": (lambda: nn.BatchNorm2d(3).double(), IMAGE.double()),
}


@pytest.mark.parametrize("name", BATCH_NORMS)
def test_batch_norm_has_its_own_name_again(name: str) -> None:
    make, x = BATCH_NORMS[name]
    network = make().eval()
    graph = capture(network, x)
    torch.testing.assert_close(graph(x), network(x))
    assert "lrpexplain" not in str(graph.steps)


def test_the_library_may_be_loaded_again_in_one_process() -> None:
    norms = importlib.import_module("LRPExplainLib.lrp.norms")
    before = norms.traced_batch_norm
    assert importlib.reload(norms).traced_batch_norm is before


def test_what_nothing_reads_goes_with_what_it_alone_read() -> None:
    """Two that read one another's source, beside one that is still read."""
    graph = fx.Graph()
    x = graph.placeholder("x")
    kept, shared = graph.call_function(torch.relu, (x,)), graph.call_function(torch.abs, (x,))
    first = graph.call_function(torch.add, (shared, kept))
    second = graph.call_function(torch.mul, (first, shared))
    graph.output(kept)
    forget_unread(graph, [kept, first, second])
    assert [node.name for node in graph.nodes] == ["x", kept.name, "output"]
    forget_unread(graph, [x])
    graph.lint()
