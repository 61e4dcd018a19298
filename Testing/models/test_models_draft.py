"""`lrpexplain card`: a first draft that the user completes."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.bundles import CHANNEL_FIRST, LOAD, config, metadata, write_bundle
from helpers.networks import classifier, save_model, segmenter
from LRPExplainLib.cli import main
from LRPExplainLib.errors import UserError
from LRPExplainLib.inspection import describe
from LRPExplainLib.models import draft_card, load_model, read_card
from LRPExplainLib.models.architectures import ARCHITECTURES
from LRPExplainLib.models.card import CardInput, Preprocessing
from LRPExplainLib.models.example import example_input, input_channels, possible_channels, slices_of
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils.parametrizations import weight_norm


def test_of_a_bare_network(tmp_path, capsys):
    path = save_model(tmp_path, segmenter(channels=2), "bare")
    assert main(["card", str(path)]) == 0
    said = capsys.readouterr().out
    place = tmp_path / "bare.card.json"
    assert str(place) in said
    assert "guesses: correct them" in said
    card = read_card(place)
    assert card.task == "segmentation"
    assert [entry.name for entry in card.inputs] == ["channel 1", "channel 2"]
    assert [entry.name for entry in card.output.classes] == ["class 0", "class 1", "class 2"]
    assert card.preprocessing.intensity == ({"type": "percentile", "lower": 1, "upper": 99.8, "clip": True},)
    content = json.loads(place.read_text())
    assert set(content["preprocessing"]) == {"orientation", "spacing", "intensity"}  # what the user is asked for
    model = load_model(path)  # the draft is found, and fits
    assert model.card == card
    assert model.sha256 == card.sha256


def test_what_is_there_stays(tmp_path, capsys):
    path = save_model(tmp_path, classifier(), "net")
    place = tmp_path / "net.card.json"
    place.write_text("mine")
    assert main(["card", str(path)]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert place.read_text() == "mine"
    assert main(["card", str(path), "--out", str(tmp_path / "other.json")]) == 2  # the card beside it is no card
    place.unlink()
    assert main(["card", str(path), "--out", str(tmp_path / "other.json")]) == 0
    assert not place.exists()
    assert main(["card", str(path), "--out", str(tmp_path / "other.json"), "--overwrite"]) == 0
    assert main(["card", str(path), "--out", str(tmp_path / "nowhere" / "x.json")]) == 2
    assert read_card(tmp_path / "other.json").task == "classification"


def test_a_card_is_written_whole_or_not_at_all(tmp_path, capsys, disk):
    path = save_model(tmp_path, classifier(), "net")
    disk(64)
    assert main(["card", str(path)]) == 2
    disk(-1)
    assert "cannot be written" in capsys.readouterr().err
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_of_a_bundle(tmp_path):
    """Everything that the bundle says is in the draft, so that the draft can stand for it."""
    transforms = [
        LOAD,
        CHANNEL_FIRST,
        {"_target_": "Orientationd", "keys": "image", "axcodes": "LAS"},
        {"_target_": "Spacingd", "keys": "image", "pixdim": [1, 2, 3]},
        {"_target_": "NormalizeIntensityd", "keys": "image", "nonzero": True},
    ]
    inferer = {"_target_": "SlidingWindowInferer", "roi_size": [16, 16, 16]}
    facts = metadata(["T1"], ["background", "tumour"], description="From a trainer.")
    path = write_bundle(tmp_path, config(transforms, inferer=inferer), facts)
    before = load_model(path)
    assert main(["card", str(path)]) == 0
    after = load_model(tmp_path / "small_bundle.card.json")
    assert after.card.preprocessing == before.card.preprocessing
    assert after.card.inputs == before.card.inputs
    assert after.card.output == before.card.output
    assert after.card.texts["description"] == "From a trainer."
    assert after.sha256 == before.sha256
    x = torch.rand(1, 1, 8, 10, 12)
    torch.testing.assert_close(after.module(x), before.module(x))


def flat() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)).eval()


def test_of_a_network_of_slices(tmp_path):
    content, notes = draft_card(save_model(tmp_path, flat(), "flat"))
    assert content["preprocessing"]["slices"] == {"axis": "k"}
    assert content["task"] == "classification"
    assert len(notes) == 1


def test_what_a_card_states_stays_in_the_draft_and_is_no_guess(tmp_path):
    output = {"activation": "softmax", "classes": [{"name": "a", "color": [1, 2, 3]}, {"name": "b"}]}
    stated = {"task": "classification", "preprocessing": {"slices": {"axis": "j"}}, "output": output}
    content, notes = draft_card(save_model(tmp_path, flat(), "flat", **stated))
    assert content["preprocessing"]["slices"] == {"axis": "j"}
    assert content["inputs"] == [{"name": "T1", "modality": None}]
    assert content["output"]["classes"][0] == {"name": "a", "color": [1, 2, 3]}
    assert "overlap" not in content["output"]
    assert notes == []
    content, notes = draft_card(save_model(tmp_path, OneSize(), "odd", task="regression"))
    assert content["task"] == "regression"
    assert [note for note in notes if "guesses" in note] == []


def test_a_network_of_three_volumes_is_none_of_colour(tmp_path):
    content, _ = draft_card(save_model(tmp_path, segmenter(channels=3), "three"))
    assert [entry["name"] for entry in content["inputs"]] == ["channel 1", "channel 2", "channel 3"]


class OneSize(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6 * 7 * 8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x.flatten(1))


def test_of_a_network_of_an_unusual_size(tmp_path, capsys):
    path = save_model(tmp_path, OneSize(), "odd")
    place = Path(tmp_path / "odd.card.json")
    assert main(["card", str(path)]) == 0
    assert "give --shape" in capsys.readouterr().out
    assert "output" not in json.loads(place.read_text())
    assert main(["card", str(path), "--overwrite", "--shape", "6", "7", "8"]) == 0
    assert len(read_card(place).output.classes) == 5


def test_a_size_that_the_network_takes_is_found(tmp_path):
    """The one that its card states, or one of the usual ones."""
    stated = save_model(tmp_path, OneSize(), "stated", task="classification", preprocessing={"size": [8, 7, 6]})
    large = save_model(tmp_path, nn.Sequential(nn.Flatten(), nn.Linear(64**3, 2)), "large")
    for path, count in ((stated, 5), (large, 2)):
        assert len(draft_card(path)[0]["output"]["classes"]) == count


def test_the_draft_for_weights_alone_names_their_network(tmp_path):
    network = {"architecture": "UNet3d", "arguments": {"in_channels": 1, "out_channels": 2, "channels": [2, 4]}}
    save_file(ARCHITECTURES["UNet3d"](**network["arguments"]).state_dict(), tmp_path / "w.safetensors")
    card = {"schema": 1, "name": "w", "task": "segmentation", "weights": "w.safetensors", "inputs": [{"name": "T1"}]}
    (tmp_path / "w.card.json").write_text(json.dumps({**card, "network": network}))
    assert draft_card(tmp_path / "w.safetensors")[0]["network"] == network


class Pair(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, x


class Sum(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.sum()


@pytest.mark.parametrize("module", [Pair(), Sum()])
def test_a_network_that_does_not_answer_with_one_tensor_of_classes_has_no_draft(tmp_path, module):
    with pytest.raises(UserError, match=r"but one tensor \[1, classes, \.\.\.\] is needed: export it so"):
        draft_card(save_model(tmp_path, module, "odd"))


@pytest.mark.parametrize(
    ("end", "outputs", "expected", "noted"),
    [
        (nn.Identity(), 3, "softmax", False),
        (nn.Identity(), 1, "sigmoid", False),
        (nn.Softmax(1), 3, "softmax", True),
        (nn.Sequential(nn.Softmax(1), nn.Upsample(scale_factor=2)), 3, "none", True),
        (nn.Sigmoid(), 1, "sigmoid", True),
        (nn.Sigmoid(), 3, "sigmoid", True),
        (nn.Sequential(nn.Softmax(1), nn.Conv3d(3, 3, 1)), 3, "softmax", False),  # inside: not what comes out
    ],
)
def test_probabilities_that_the_network_makes_itself_are_not_made_twice(tmp_path, end, outputs, expected, noted):
    path = save_model(tmp_path, nn.Sequential(segmenter(outputs=outputs), end), "ends")
    content, notes = draft_card(path)
    assert content["output"]["activation"] == expected
    assert any("itself" in note for note in notes) == noted


@pytest.mark.parametrize("shape", [("0", "0", "0"), ("-8", "8", "8"), ("99999999", "99999999", "99999999")])
@pytest.mark.parametrize("verb", ["card", "inspect"])
def test_a_shape_that_is_none_is_refused(tmp_path, verb, shape, capsys):
    path = save_model(tmp_path, segmenter(), "bare")
    assert main([verb, str(path), "--shape", *shape]) == 2
    error = capsys.readouterr().err
    assert f"{' x '.join(shape)} is no size of a volume: give three whole numbers D, H and W" in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "bare.card.json").exists()


@pytest.mark.parametrize("ask", [draft_card, lambda path, shape: describe(load_model(path), shape=shape)])
@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 8, 8), ()])
def test_another_number_of_sides_is_refused(tmp_path, ask, shape):
    with pytest.raises(UserError, match="is no size of a volume"):
        ask(save_model(tmp_path, segmenter(), "bare"), shape=shape)


@pytest.mark.parametrize("more", [[], ["--overwrite"]])
def test_a_folder_is_no_place_for_a_card(tmp_path, more, capsys):
    path = save_model(tmp_path, segmenter(), "bare")
    assert main(["card", str(path), "--out", str(tmp_path), *more]) == 2
    assert f"'{tmp_path}' is a folder: give a file for the card with --out" in capsys.readouterr().err
    assert [entry.name for entry in tmp_path.iterdir()] == ["bare.ts"]


@pytest.mark.parametrize("missing", ["nowhere.ts", "notes.txt"])
def test_of_nothing(tmp_path, missing, capsys):
    (tmp_path / "notes.txt").write_text("no model")
    assert main(["card", str(tmp_path / missing)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


class Linear(nn.Module):
    """A network of volumes without a convolution, with a bias of four axes such as attention's."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1, 2, 8, 8))
        self.layer = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) + self.bias


def test_what_a_network_without_a_card_sees_is_told_from_its_kernels(tmp_path):
    flat = load_model(save_model(tmp_path, nn.Sequential(nn.Conv2d(3, 2, 3), nn.Conv2d(2, 2, 1)), "flat"))
    assert slices_of(flat) == {}
    assert input_channels(flat) == 3
    linear = load_model(save_model(tmp_path, Linear(), "linear"))
    assert slices_of(linear) is None
    assert input_channels(linear) == 1
    wishes = Preprocessing(slices={"axis": "j"})
    for stated, expected in ((flat.card, None), (replace(flat.card, preprocessing=wishes), {"axis": "j"})):
        assert slices_of(replace(flat, card=replace(stated, stated=True))) == expected
    for layer in (nn.Conv3d(4, 2, 3), weight_norm(nn.Conv3d(4, 2, 3)), nn.utils.weight_norm(nn.Conv3d(4, 2, 3))):
        model = replace(flat, module=layer)
        assert slices_of(model) is None
        assert input_channels(model) == 4


@pytest.mark.parametrize(
    ("wishes", "inputs", "shape", "expected"),
    [
        ({}, 0, None, (32, 32, 32)),
        ({}, 0, (4, 5, 6), (4, 5, 6)),
        ({"size_multiple": 48}, 0, None, (48, 48, 48)),
        ({"size": (20, 0, 33), "size_multiple": 16}, 0, None, (48, 32, 32)),
        ({"window": {"size": [8, 9, 10]}, "size": (20, 20, 20)}, 0, None, (10, 9, 8)),
        ({"slices": {"axis": "k"}}, 2, (4, 5, 6), (5, 6)),
        ({"slices": {"axis": "j"}}, 2, (4, 5, 6), (4, 6)),
        ({"slices": {"axis": "i", "neighbours": 2}}, 2, (4, 5, 6), (4, 5)),
    ],
)
def test_an_example_is_what_the_card_says_or_else_the_kernels(tmp_path, wishes, inputs, shape, expected):
    model = load_model(save_model(tmp_path, nn.Conv3d(3, 2, 3), "volumes"))
    stated = tuple(CardInput(name, labels=labels) for name, labels in (("ct", ()), ("organs", (1, 2, 5)))[:inputs])
    card = replace(model.card, preprocessing=Preprocessing(**wishes), inputs=stated)
    around = 2 * wishes.get("slices", {}).get("neighbours", 0) + 1
    channels = 4 * around if inputs else 3  # the image and three labels, of each slice
    assert example_input(replace(model, card=card), shape).shape == (1, channels, *expected)


def test_groups_of_the_first_convolution_are_guessed(tmp_path):
    model = load_model(save_model(tmp_path, nn.Sequential(nn.Flatten(), nn.Linear(8, 2)), "dense"))
    assert possible_channels(model) == []
    assert possible_channels(replace(model, module=nn.Conv3d(4, 6, 3, groups=2))) == [2, 4, 6, 12]
    assert possible_channels(replace(model, module=nn.Conv3d(1, 64, 3))) == [1, 2, 4, 8, 16]
