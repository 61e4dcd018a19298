"""The built-in networks that a model card may name."""

import json

import pytest
import torch
from LRPExplainLib.models.architectures import ARCHITECTURES, UNet3d


@pytest.mark.parametrize(("classes", "channels"), [(2, [4, 8]), (3, [4, 6, 8]), (1, [4])])
def test_logits_have_the_input_s_size(classes: int, channels: list[int]) -> None:
    model = UNet3d(in_channels=2, out_channels=classes, channels=channels).eval()
    size = [model.size_multiple * factor for factor in (2, 3, 4)]
    with torch.no_grad():
        assert model(torch.rand(1, 2, *size)).shape == (1, classes, *size)


def test_an_architecture_is_rebuilt_from_what_a_card_can_hold() -> None:
    arguments = {"in_channels": 1, "out_channels": 2, "channels": [4, 8, 16]}
    first = ARCHITECTURES["UNet3d"](**arguments).eval()
    second = ARCHITECTURES["UNet3d"](**json.loads(json.dumps(arguments))).eval()
    second.load_state_dict(first.state_dict())
    x = torch.rand(1, 1, 8, 8, 8)
    with torch.no_grad():
        assert torch.equal(first(x), second(x))


def test_a_network_without_levels_is_refused() -> None:
    with pytest.raises(ValueError, match="channels"):
        UNet3d(channels=[])
