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


def test_what_a_classifier_finds_counts_the_same_wherever_it_lies() -> None:
    torch.manual_seed(0)
    model = ARCHITECTURES["Classifier3d"](in_channels=2, classes=3, channels=[4, 6, 8]).eval()
    here = torch.zeros(1, 2, 24, 24, 24)
    here[..., 8:11, 9:12, 10:12] = torch.rand(3, 3, 2)
    with torch.no_grad():
        nothing, found, moved = (model(x) for x in (torch.zeros_like(here), here, here.roll((4, -4, 4), (2, 3, 4))))
    assert found.shape == (1, 3)
    assert not torch.allclose(found, nothing)
    torch.testing.assert_close(moved, found)


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("UNet3d", {"channels": []}, "at least one level in 'channels'"),
        ("Classifier3d", {"channels": []}, "at least one level in 'channels'"),
        ("UNet3d", {"norm": "layer"}, "no norm 'layer', only batch, instance"),
    ],
)
def test_what_makes_no_network_is_refused(name: str, arguments: dict, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        ARCHITECTURES[name](**arguments)
