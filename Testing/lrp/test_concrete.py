"""Sizes and numbers of its own that a network decides by are known while it is traced; its input's values are not."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lrp_helpers import Function
from LRPExplainLib.lrp import LRPError, capture
from torch import Tensor, nn


class ReshapesByBuffer(nn.Module):
    """What converted ONNX models do: the shape is a tensor, inspected, changed and then read."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("shape", torch.tensor([0, -1]))

    def forward(self, x: Tensor) -> Tensor:
        shape = self.shape.clone()
        if torch.any(shape == 0):
            shape[0] = x.shape[0]
        return x.reshape(shape.tolist()) * 2


def test_shapes_from_buffers_are_read() -> None:
    model, x = ReshapesByBuffer(), torch.randn(2, 3, 4)
    graph = capture(model, x)
    assert torch.equal(graph(x), (2 * x).reshape(2, 12))
    assert model.shape.tolist() == [0, -1]


def test_shapes_from_arithmetic_in_a_trace_are_read() -> None:
    x = torch.randn(2, 6, 5)
    traced = torch.jit.trace(Function(lambda x: torch.relu(x).view(x.size(0) * x.size(1) // 2, -1)), x)
    assert torch.equal(capture(traced, x)(x), traced(x))


def test_sizes_that_are_halved_are_read() -> None:
    """What `unet` crops its skip connections by."""

    def cropped(x: Tensor) -> Tensor:
        crop = torch.tensor(x.shape)[1:] - torch.tensor((2, 2))
        half = (crop / 2).int()
        return F.pad(x, (-torch.stack((half, half)).t().flatten()).tolist())

    x = torch.randn(2, 6, 4)
    graph = capture(Function(cropped), x)
    assert torch.equal(graph(x), cropped(x))


def test_numbers_that_are_known_may_be_written_to() -> None:
    def written(x: Tensor) -> Tensor:
        place = torch.arange(4) / 4 * 2
        place += x.mean()
        return x * (place * 2)

    graph = capture(Function(written), torch.randn(2, 4))
    x = torch.randn(2, 4)
    assert torch.equal(graph(x), written(x))


@pytest.mark.parametrize(
    "reads",
    [
        lambda x: x * int((x > 0).sum()),
        lambda x: x.reshape([int(n) for n in (x.flatten()[:1] * 0 + x.numel()).long()]),
        lambda x: x if bool(x.argmax() > 3) else -x,
    ],
    ids=["count", "shape", "branch"],
)
def test_values_of_the_input_are_not_read(reads: object) -> None:
    with pytest.raises(LRPError, match="data decide"):
        capture(Function(reads), torch.randn(2, 3, 4))


def test_random_integers_are_still_refused() -> None:
    with pytest.raises(LRPError, match="random"):
        capture(Function(lambda x: x * torch.randint(2, (4,))), torch.randn(2, 4))


class Decides(nn.Module):
    """Searched codes, a learned threshold, and numbers as arguments."""

    def __init__(self, how: Callable[..., Tensor]) -> None:
        super().__init__()
        self.how = how
        self.codes = torch.tensor([1.0, 0.0, 1.0])
        self.threshold = nn.Parameter(torch.tensor(0.4))
        self.register_buffer("bounds", torch.tensor([-0.5, 0.75]))

    def forward(self, x: Tensor) -> Tensor:
        return self.how(self, x)


def along_the_codes(model: Decides, x: Tensor) -> Tensor:
    for i, code in enumerate(model.codes.data):
        x = torch.relu(x - i) if code else x + 1
    return x


@pytest.mark.parametrize(
    "how",
    [
        along_the_codes,
        lambda model, x: x * 3 if (model.bounds.abs() * model.threshold).sum().exp() > model.threshold else x,
        lambda model, x: x * 3 if model.bounds.sort(descending=True)[1][0] == 0 else x,
        lambda model, x: x.clamp(*(bound.item() for bound in model.bounds.unbind())),
        lambda model, x: x[:, : int(4 * model.bounds.max())] * float(torch.linspace(0, 1, 3)[1]),
    ],
    ids=["codes", "threshold", "second result", "bounds", "size"],
)
def test_a_network_decides_by_numbers_of_its_own(how: Callable[..., Tensor]) -> None:
    model, x = Decides(how), torch.randn(2, 4)
    graph = capture(model, x)
    assert torch.equal(graph(x), model(x))
    with torch.no_grad():
        for own in (model.threshold, model.bounds, model.codes):
            own.neg_()
    with pytest.raises(LRPError, match="written to"):
        graph(x)


def test_numbers_that_a_network_writes_while_it_runs_are_not_read() -> None:
    def counted(model: Decides, x: Tensor) -> Tensor:
        model.bounds += 1
        return x if model.bounds[0] > 0 else -x

    with pytest.raises(LRPError, match="data decide"):
        capture(Decides(counted), torch.randn(2, 4))


def test_a_searched_network_of_monai_is_captured() -> None:
    nets = pytest.importorskip("monai.networks.nets")
    codes = [np.array([[1.0, 1, 1, 1], [1, 0, 1, 1]]), np.ones((2, 4), dtype=int)]  # floats, as its decoding has them
    space = nets.TopologyInstance(codes, 0.25, num_blocks=2, num_depths=2, use_downsample=True)
    model, x = nets.DiNTS(space, 1, 2, use_downsample=True).eval(), torch.randn(1, 1, 16, 16, 16)
    torch.testing.assert_close(capture(model, x)(x), model(x).detach())
