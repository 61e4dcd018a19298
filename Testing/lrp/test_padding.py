"""Zeros put around a signal ahead of a convolution are the convolution's own padding, whatever the rule."""

import pytest
import torch
from lrp_helpers import difference, explain, noise, one_rule, seeded
from LRPExplainLib.lrp import rules
from torch import nn

RULES = {
    "flat": rules.flat(),
    "w-square": rules.w_square(),
    "z-box": rules.z_box(-3.0, 3.0),
    "z-box of the sample": rules.z_box(),
    "z+": rules.z_plus(),
    "gamma": rules.gamma(0.25),
    "epsilon": rules.epsilon(),
}


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("offset", [0.0, 9.0, -9.0], ids=["signed", "positive", "negative"])  # 0 is in range, or not
def test_explicit_padding_equals_the_convolutions_own(rule: rules.Rule, dims: int, offset: float) -> None:
    convolution, pad = (nn.Conv2d, nn.ZeroPad2d) if dims == 2 else (nn.Conv3d, nn.ZeroPad3d)
    own = seeded(lambda: convolution(2, 3, 3, padding=1, stride=2))
    explicit = nn.Sequential(pad(1), convolution(2, 3, 3, stride=2)).double().eval()
    explicit[1].load_state_dict(own.state_dict())
    x, start = noise(2, 2, *[6] * dims) + offset, noise(2, 3, *[3] * dims, seed=2)
    expected = explain(own, x, start, one_rule(rule))
    found = explain(explicit, x, start, one_rule(rule))
    assert difference(found.relevance, expected.relevance) < 1e-12
    assert found.ledger.absorbed_bias == pytest.approx(expected.ledger.absorbed_bias, abs=1e-9)
    frame = [row for row in found.ledger.by_layer if row.operator == "aten.constant_pad_nd"]
    assert [row.absorbed_bias for row in frame] == [pytest.approx(0.0, abs=1e-12)]


def test_a_frame_that_is_not_zero_absorbs_like_a_bias() -> None:
    model = nn.Sequential(nn.ConstantPad2d(1, 2.0), nn.Conv2d(1, 1, 3, bias=False))
    nn.init.constant_(model[1].weight, 1 / 9)
    attribution = explain(model, torch.ones(1, 1, 4, 4), torch.ones(1, 1, 4, 4), one_rule(rules.flat()))
    ones = torch.ones(1, 1, 4, 4)
    reached = nn.functional.conv_transpose2d(ones, torch.ones(1, 1, 3, 3) / 9)
    assert attribution.ledger.absorbed_bias == pytest.approx(16 - reached[..., 1:-1, 1:-1].sum().item(), rel=1e-5)
