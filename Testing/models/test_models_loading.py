"""Cards and weights files, good and bad."""

import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from LRPExplainLib.errors import UserError
from LRPExplainLib.lrp import Ending
from LRPExplainLib.models import ModelCard, OutputInfo, default_card, load_model, read_card
from LRPExplainLib.models.architectures import ARCHITECTURES
from LRPExplainLib.models.card import recorded_card
from safetensors.torch import save_file
from torch import nn

ARGUMENTS = {"in_channels": 1, "out_channels": 2, "channels": [2, 4]}
CARD = {
    "schema": 1,
    "name": "Tiny",
    "task": "segmentation",
    "weights": "tiny.safetensors",
    "network": {"architecture": "UNet3d", "arguments": ARGUMENTS},
    "inputs": [{"name": "T1", "modality": "MR"}],
    "preprocessing": {
        "orientation": "RAS",
        "spacing": [2, 2, 2],
        "size_multiple": 2,
        "intensity": [{"type": "percentile", "lower": 1, "upper": 99.8, "clip": True}],
    },
    "output": {"activation": "softmax", "classes": [{"name": "background"}, {"name": "lesion", "color": [255, 0, 0]}]},
    "explanation": {"composite": "epsilon"},
    "licence": "Apache-2.0",
    "training": {"dice": 0.9},
}


LABELS = {"name": "organs", "labels": [1, 2]}


def network() -> nn.Module:
    torch.manual_seed(0)
    return ARCHITECTURES["UNet3d"](**ARGUMENTS).eval()


def write_card(folder: Path, file: str = "tiny.card.json", **changes) -> Path:
    """The card with some entries changed (None: left out)."""
    path = folder / file
    path.write_text(json.dumps({key: value for key, value in {**CARD, **changes}.items() if value is not None}))
    return path


@pytest.fixture
def safetensors(tmp_path) -> Path:
    """Weights of the tiny network with its card beside them."""
    path = tmp_path / "tiny.safetensors"
    save_file(network().state_dict(), path)
    write_card(tmp_path)
    return path


@pytest.fixture
def torchscript(tmp_path) -> Path:
    """The tiny network as TorchScript, without a card."""
    path = tmp_path / "net.ts"
    torch.jit.trace(network(), torch.zeros(1, 1, 8, 8, 8)).save(path)
    return path


@pytest.mark.parametrize("wrapped", ["module.", "_orig_mod."])
def test_weights_of_a_wrapped_network_are_the_networks(safetensors, wrapped):
    expected = network().state_dict()
    save_file({f"{wrapped}{name}": value for name, value in expected.items()}, safetensors)
    found = load_model(safetensors).module.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


@pytest.mark.parametrize("by", ["tiny.safetensors", "tiny.card.json"])
def test_weights_and_card_find_each_other(safetensors, by):
    model = load_model(safetensors.parent / by)
    x = torch.rand(1, 1, 8, 8, 8)
    torch.testing.assert_close(model.module(x), network()(x))
    assert not model.module.training
    assert model.path == safetensors.resolve()
    assert model.card.name == "Tiny"
    assert model.card.composite == "epsilon"
    assert model.card.stated
    assert model.card.output.classes[1].color == (255, 0, 0)
    assert model.card.preprocessing.spacing == (2, 2, 2)
    assert len(model.sha256) == 64
    beside = safetensors.parent / "tiny.card.json"
    assert model.card_file is load_model(safetensors, card=beside).card_file is None  # it is looked for there anyway


def test_a_card_elsewhere_can_be_given(torchscript, tmp_path):
    (tmp_path / "cards").mkdir()
    card = write_card(tmp_path / "cards", "any.json", weights="other.ts", network=None, sha256="0" * 64)
    model = load_model(torchscript, card=card)
    assert model.card.name == "Tiny"
    assert model.card_file == card.resolve()


def test_a_link_has_a_card_of_its_own_name_and_place(torchscript, tmp_path):
    link = tmp_path / "chosen" / "best.ts"
    link.parent.mkdir()
    link.symlink_to(torchscript)
    write_card(link.parent, "best.card.json", weights="best.ts", network=None)
    model = load_model(link)
    assert model.card.name == "Tiny"
    assert model.path == torchscript.resolve()
    assert model.card_file is None


def test_a_model_without_a_card_gets_the_stated_defaults(torchscript):
    card = load_model(torchscript).card
    assert card == default_card(torchscript)
    assert not card.stated
    assert card.inputs == ()
    assert card.task is None
    assert card.preprocessing.intensity == ({"type": "percentile", "lower": 1, "upper": 99.8, "clip": True},)
    segmentation = card.completed([1, 3, 8, 8, 8])
    assert (segmentation.task, segmentation.output.activation) == ("segmentation", "softmax")
    assert [c.name for c in segmentation.output.classes] == ["class 0", "class 1", "class 2"]
    black, green, purple = (0, 0, 0), (0, 158, 115), (204, 121, 167)  # of Okabe and Ito's, what no relevance has
    assert [c.color for c in segmentation.output.classes] == [black, green, purple]
    classification = card.completed([1, 1])
    assert (classification.task, classification.output.activation) == ("classification", "sigmoid")
    assert card.completed([1, 2, 1, 1, 1]).task == "classification"


def test_half_precision_weights_become_float32(tmp_path):
    torch.jit.script(nn.Conv3d(1, 1, 1).half()).save(tmp_path / "half.ts")
    module = load_model(tmp_path / "half.ts").module
    assert {tensor.dtype for tensor in module.state_dict().values()} == {torch.float32}
    assert module(torch.ones(1, 1, 2, 2, 2)).dtype == torch.float32


def test_a_card_survives_being_written_down(tmp_path):
    card = read_card(write_card(tmp_path))
    content = card.as_dict()
    assert content["training"] == {"dice": 0.9}
    assert content["explanation"] == {"composite": "epsilon"}
    assert content["preprocessing"]["spacing"] == [2, 2, 2]
    assert json.loads(json.dumps(content)) == content
    assert recorded_card(content) == card
    assert not recorded_card(default_card(tmp_path / "net.ts").completed([1, 2]).as_dict()).stated


def test_a_card_with_the_wrong_number_of_classes_is_refused(tmp_path):
    card = read_card(write_card(tmp_path))
    with pytest.raises(UserError, match=r"names 2 classes.*3 channels"):
        card.completed([1, 3, 8, 8, 8])
    for shape in ([4, 2], [1]):
        with pytest.raises(UserError, match="batch of 1"):
            card.completed(shape)


def test_the_values_of_a_regression_are_no_probabilities():
    card = ModelCard("Age", "age.ts", "regression")
    assert [entry.name for entry in card.completed([1, 1]).output.classes] == ["value"]
    assert [entry.name for entry in card.completed([1, 2]).output.classes] == ["value 0", "value 1"]
    for activation in (None, "none"):
        stated = replace(card, output=OutputInfo(activation))
        assert stated.completed([1, 1]).output.activation == "none"
    with pytest.raises(UserError, match="wants sigmoid for a regression"):
        replace(card, output=OutputInfo("sigmoid")).completed([1, 1])


def test_a_regression_through_a_sigmoid_is_said_to_start_behind_it():
    card = ModelCard("Share", "share.ts", "regression")
    notes = [card.completed([1, 1], Ending("sigmoid", scores)).notes[0] for scores in (True, False)]
    assert "which the ledger shows as its first row" in notes[0]
    assert "which the ledger shows in rows of the role 'ending'" in notes[1]


SCORES, PROBABILITIES = Ending("softmax", scores=True), Ending("softmax", scores=False)


@pytest.mark.parametrize(
    ("stated", "ending", "activation", "note"),
    [
        (None, None, "softmax", ""),
        (None, SCORES, "softmax", "the logit before it"),
        ("none", SCORES, "softmax", "the logit before it"),
        ("softmax", SCORES, "softmax", ""),
        ("sigmoid", SCORES, "softmax", "used alone: set the card's output.activation to softmax"),
        (None, PROBABILITIES, "none", "its output is read as such"),
        ("none", PROBABILITIES, "none", ""),
        ("softmax", PROBABILITIES, "none", "its output is read as such"),
        ("sigmoid", PROBABILITIES, "none", "used alone: set the card's output.activation to none"),
    ],
)
def test_a_network_that_makes_probabilities_and_its_card_agree_or_a_note_says_so(stated, ending, activation, note):
    """The scores before a network's own ending become probabilities by that ending, whatever the card says."""
    card = ModelCard("Ends", "ends.ts", "classification", output=OutputInfo(stated), notes=("Of before.",))
    completed = card.completed([1, 3], ending)
    assert completed.output.activation == activation
    before, *found = completed.notes
    assert before == "Of before."
    assert len(found) == bool(note)
    assert note in "".join(found)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"task": "divination"}, "at task"),
        ({"name": None}, "'name' is a required"),
        ({"preprocessing": {"orientation": "RAP"}}, "at preprocessing/orientation"),
        ({"preprocessing": {"spacing": [1, 0, 1]}}, "at preprocessing/spacing/1"),
        ({"preprocessing": {"intensity": [{"type": "magic"}]}}, "at preprocessing/intensity/0"),
        ({"surprise": 1}, "'surprise' was unexpected"),
        ({"schema": 2}, "at schema"),
        ({"output": {"classes": [{"name": "a"}, {"name": "a"}]}}, "two classes the same name: tell them apart"),
        ({"inputs": [LABELS, {"name": "T1"}]}, "label map before an image: put it behind"),
        ({"inputs": [{"name": "T1"}, LABELS, {"name": "T2"}]}, "label map before an image: put it behind"),
        ({"inputs": [LABELS]}, "label map before an image: put it behind"),
    ],
)
def test_a_card_against_the_schema_is_refused(tmp_path, changes, expected):
    with pytest.raises(UserError, match=expected) as caught:
        read_card(write_card(tmp_path, **changes))
    assert "\n" not in str(caught.value)


def test_a_card_that_is_no_json_is_refused(tmp_path):
    path = tmp_path / "x.card.json"
    path.write_text("{")
    with pytest.raises(UserError, match="not readable JSON"):
        read_card(path)
    with pytest.raises(UserError, match="no model card"):
        load_model(tmp_path / "absent.json")


def test_weights_other_than_the_cards_are_refused(safetensors):
    write_card(safetensors.parent, sha256="0" * 64)
    with pytest.raises(UserError, match="SHA-256"):
        load_model(safetensors)


def _pickled(folder: Path) -> Path:
    torch.save(nn.Conv3d(1, 1, 1), folder / "pickled.pt")
    return folder / "pickled.pt"


def _legacy(folder: Path) -> Path:
    torch.save({"a": torch.ones(1)}, folder / "legacy.pth", _use_new_zipfile_serialization=False)
    return folder / "legacy.pth"


def _truncated(folder: Path) -> Path:
    torch.jit.script(nn.Conv3d(1, 1, 1)).save(folder / "cut.ts")
    (folder / "cut.ts").write_bytes((folder / "cut.ts").read_bytes()[:1500])
    return folder / "cut.ts"


def _damaged_inside(folder: Path) -> Path:
    """A sound zip archive whose code is not TorchScript."""
    with zipfile.ZipFile(folder / "fake.ts", "w") as archive:
        archive.writestr("fake/code/model.py", "import os")
        archive.writestr("fake/version", "3\n")
    return folder / "fake.ts"


def _nan_weights(folder: Path) -> Path:
    layer = nn.Conv3d(1, 1, 1)
    layer.weight.data.fill_(float("nan"))
    torch.jit.script(layer).save(folder / "nan.ts")
    return folder / "nan.ts"


def _corrupt_safetensors(folder: Path) -> Path:
    write_card(folder)
    (folder / "tiny.safetensors").write_bytes(b"\x00" * 40)
    return folder / "tiny.safetensors"


def _safetensors(folder: Path, **card) -> Path:
    save_file(network().state_dict(), folder / "tiny.safetensors")
    if card:
        write_card(folder, **card)
    return folder / "tiny.safetensors"


def _network(**arguments) -> dict:
    return {"network": {"architecture": "UNet3d", "arguments": {**ARGUMENTS, **arguments}}}


BAD = {
    "missing": (lambda f: f / "nowhere.ts", "no model file"),
    "unknown format": (lambda f: (f / "m.h5").touch() or f / "m.h5", "no known model format"),
    "a folder of something": (lambda f: f, "no known model format"),
    "a folder of models": (lambda f: _safetensors(f).parent, r"a folder with some: give one of .*tiny.safetensors"),
    "pickled": (_pickled, "not a TorchScript file"),
    "legacy pickle": (_legacy, "not a TorchScript file"),
    "truncated": (_truncated, "not a TorchScript file"),
    "damaged inside": (_damaged_inside, "could not be loaded as TorchScript"),
    "NaN weights": (_nan_weights, "NaN or infinite weights in 'weight'"),
    "corrupt safetensors": (_corrupt_safetensors, "not a whole safetensors file"),
    "no card": (lambda f: _safetensors(f), r"give it a card .*\(Classifier3d or UNet3d\)"),
    "no such architecture": (
        lambda f: _safetensors(f, network={"architecture": "Oracle"}),
        "only Classifier3d, UNet3d",
    ),
    "bad arguments": (lambda f: _safetensors(f, **_network(depth=3)), "arguments do not suit"),
    "other shape": (lambda f: _safetensors(f, **_network(channels=[2, 8])), "do not fit"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_models_are_refused_in_one_sentence(tmp_path, case):
    make, expected = BAD[case]
    with pytest.raises(UserError, match=expected) as caught:
        load_model(make(tmp_path))
    assert "\n" not in str(caught.value)


def test_the_first_models_of_a_folder_are_named(torchscript, tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    (folder / "a notes.txt").write_text("no model")
    for name in "gfedcba":
        shutil.copy(torchscript, folder / f"{name}.ts")
    with pytest.raises(UserError) as caught:
        load_model(folder)
    named = ", ".join(str(folder / f"{name}.ts") for name in "abcde")
    assert str(caught.value) == f"'{folder}' is no model but a folder with some: give one of {named}."


def test_pickled_code_never_runs(tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    torch.save(Trap(), tmp_path / "trap.pt")
    with pytest.raises(UserError):
        load_model(tmp_path / "trap.pt")
    assert not (tmp_path / "ran").exists()
