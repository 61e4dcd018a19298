"""Sizes that a network computes with tensors of integers are known while it is traced; its input's values are not."""

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
