"""A program may have called torch.set_default_device: what the engine makes for itself lies where it belongs."""

import pytest
import torch
import torch.nn.functional as F
from lrp_helpers import noise, seeded
from LRPExplainLib.lrp import COMPOSITES, attribute, capture
from torch import Tensor, nn


class Probed(nn.Module):
    """A GELU written out, resampling by cubes and a sum with a number: all of them are looked at with values."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        x = x * 0.5 * (1 + torch.erf(x / 2**0.5))
        x = F.interpolate(x, scale_factor=0.5, mode="bicubic")
        return self.head((x + 1.5) * 2).mean((2, 3))


@pytest.mark.parametrize("composite", COMPOSITES)
def test_a_default_device_of_the_caller_s_changes_nothing(composite):
    model, x = seeded(Probed), noise(1, 2, 160, 160)  # more values than are summed in one piece
    expected = attribute(capture(model, x), x, 1, composite=composite)
    torch.set_default_device("meta")
    try:
        found = attribute(capture(model, x), x, 1, composite=composite)
    finally:
        torch.set_default_device(None)
    assert found.relevance.equal(expected.relevance)
    assert found.ledger == expected.ledger
