"""MONAI bundles as cards: what their configurations say, in whatever way they say it."""

import argparse
import json
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from helpers.bundles import CHANNEL_FIRST, LOAD, SOFTMAX, UNET, config, make_network, metadata, write_bundle
from LRPExplainLib.cli import main
from LRPExplainLib.errors import UserError
from LRPExplainLib.models import draft_card, load_model, trust_request
from LRPExplainLib.models.draft import default_place
from LRPExplainLib.models.loading import stated_card
from LRPExplainLib.models.monai.expressions import NotData, evaluate

IMAGE = {"keys": "image"}
SLIDING = {"_target_": "SlidingWindowInferer", "roi_size": [16, 12, 8], "sw_batch_size": 4, "overlap": 0.25}


def card(folder: Path, transforms=(), **more):
    facts = more.pop("facts", None)
    return load_model(write_bundle(folder, config([LOAD, CHANNEL_FIRST, *transforms], **more), facts)).card


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("@a", 3), ("@a + 1", 4), ("@b[1] * 2", 4.0), ("@c#d::e", "x"), ("[1.5, 2] if @yes else [3, 3]", [1.5, 2]),
        ("-@a ** 2 // 2", -5), ("not @yes", False), ("@a > 2 and @yes", True), ("@a in @b", False), ("len(@b)", 2),
        ("str(@a) + '.pt'", "3.pt"), ("max(@b)", 2.0), ("{'k': @a}['k']", 3), ("torch.device('cuda:0')", "cuda:0"),
        ("torch.device('cuda' if torch.cuda.is_available() else 'cpu')", "cpu"), ("torch.float32", "float32"),
        ("monai.utils.CommonKeys.IMAGE", "image"), ("@net.to(@a)", {"_target_": "UNet"}), ("@b[::-1]", [2.0, 1.0]),
    ],
)  # fmt: skip
def test_expressions_that_are_data(expression, value):
    content = {"a": 3, "b": [1.0, 2.0], "c#d#e": "x", "yes": True, "net": {"_target_": "UNet"}}
    assert evaluate(expression, content.__getitem__) == value


@pytest.mark.parametrize(
    "expression",
    ["1 < 2 < 3", "1 < 2 < 2", "2 < 1 < 3", "0 or [] or 'x'", "0 or 5 or 6", "1 and 2 and 3", "1 and 0 and 3",
     "7 % 4 - 7 // 4", "2 ** 3 / 4", "2 ** -2", "[1, 2, 3][-2]", "[1, 2, 3, 4][1:3]", "[1, 2, 3, 4][3:0:-2]", "not 0",
     "-3 + +4", "1 != 1", "None is None", "None is not None", "3 not in [1, 2]", "1 <= 1 >= 2", "abs(-2) + round(2.6)",
     "sorted([3, 1, 2])", "'ab' if len('ab') == 2 else 0", "'a' * 3 + 'b'", "3 * [0]", "{'a': 1, 'b': [2, 3]}['b'][0]"],
)  # fmt: skip
def test_expressions_mean_what_they_mean_in_python(expression):
    assert evaluate(expression, {}.__getitem__) == eval(expression)


@pytest.mark.parametrize(
    "expression",
    ["__import__('os')", "open('x')", "(lambda: 1)()", "[x for x in @a]", "@a.__class__", "os.system",
     "'%9999999d' % 1",
     "10 ** 10 ** 10", "'a' * 10 ** 9", "f'{@a}'", "print(1)", "@net.load_state_dict(1)", "1 +", "().__doc__", "exit()",
     "int('1' * 5000) ** 60 ** 2", "max(*@b)", "len(obj=@b)", "(a := 1)"],
)  # fmt: skip
def test_expressions_that_would_have_to_be_run(expression):
    with pytest.raises(NotData):
        evaluate(expression, {"a": [1], "b": [1], "net": {"_target_": "UNet"}}.__getitem__)


def test_everything_by_reference(tmp_path):
    """References, macros, relative ids and expressions, in JSON and in YAML alike."""
    content = config(
        "$@steps",
        {**UNET, "out_channels": "$len(@names)"},
        {**SLIDING, "roi_size": "@sizes::1", "overlap": "$1 / @shared#parts", "mode": "gaussian"},
        "%answer",
        answer=SOFTMAX,
        names=["a", "b"],
        sizes=[[8, 8, 8], [16, 12, 8]],
        shared={"parts": 4, "twice": "$@##sizes#0#0 * 2", "key": "image"},
        steps=[
            LOAD,
            CHANNEL_FIRST,
            {"_target_": "Spacingd", "keys": "@shared::key", "pixdim": ["@shared#twice", 2, -1]},
        ],
    )
    content["preprocessing"]["transforms"] = "$@steps"
    network = make_network({**content, "network_def": {**UNET}})
    found = []
    for file in ("inference.json", "inference.yaml"):
        (tmp_path / file).mkdir()
        found.append(load_model(write_bundle(tmp_path / file, content, network=network, file=file)).card)
    assert found[0] == found[1]
    wishes = found[0].preprocessing
    assert wishes.spacing == (16.0, 2.0, None)
    assert (wishes.resampling, wishes.interpolation) == ("first-voxel", "linear")
    assert wishes.window == {
        "size": [16, 12, 8], "overlap": 0.25, "placement": "monai", "blending": "gaussian", "sigma": 0.125,
        "padding": "constant",
    }  # fmt: skip
    assert found[0].output.activation == "softmax"


def test_metadata(tmp_path):
    facts = metadata(
        ["T1", "T1"], ["necrosis", "oedema", "oedema"], shape=["8*n", "8*n", "8*n"], description="What it is.",
        copyright="CC0", references=["One.", "Two."], eval_metrics={"dice": 0.8},
    )  # fmt: skip
    network = {**UNET, "in_channels": 2, "out_channels": 3}
    post = {"_target_": "Compose", "transforms": [{"_target_": "Activationsd", "keys": "pred", "sigmoid": True}]}
    found = card(tmp_path, network=network, post=post, facts=facts)
    assert [entry.name for entry in found.inputs] == ["T1", "T1 (1)"]
    assert [entry.name for entry in found.output.classes] == ["necrosis", "oedema", "oedema (2)"]
    assert len({entry.color for entry in found.output.classes}) == 3
    assert found.output.activation == "sigmoid"
    assert found.preprocessing.size_multiple == 8
    assert found.texts == {"description": "What it is.", "licence": "CC0", "citation": "One.; Two.",
                           "training": {"dice": 0.8}}  # fmt: skip
    assert found.completed([1, 3, 8, 8, 8]).task == "segmentation"


def test_a_classifier_of_slices(tmp_path):
    """Two dimensions, one name for three channels, a size, and an answer without a place; as TorchScript."""
    transforms = [
        {"_target_": "LoadImaged", **IMAGE},
        {"_target_": "EnsureChannelFirstd", **IMAGE, "channel_dim": 2},
        {"_target_": "ScaleIntensityd", **IMAGE},
        {"_target_": "Resized", **IMAGE, "spatial_size": [24, 20]},
    ]
    network = {"_target_": "DenseNet", "spatial_dims": 2, "in_channels": 3, "out_channels": 4, "init_features": 8,
               "growth_rate": 4, "block_config": [2, 2]}  # fmt: skip
    post = {"_target_": "Compose", "transforms": [{"_target_": "Activationsd", "keys": "pred", "sigmoid": True}]}
    facts = metadata(["image"], list("ABCD"), "Mammogram", (24, 20), "labels")
    facts["network_data_format"]["inputs"]["image"]["num_channels"] = 3
    content = config(transforms, network, post=post)
    example = torch.zeros(1, 3, 24, 20)
    model = load_model(write_bundle(tmp_path, content, facts, weights="model.ts", example=example))
    assert model.card.task == "classification"
    assert (model.card.inputs[0].modality, model.card.inputs[0].channels) == ("MG", 3)
    assert model.card.preprocessing.slices == {"axis": "k"}
    x = torch.rand(1, 1, 30, 40)
    small = torch.nn.functional.interpolate(x.transpose(2, 3), size=(24, 20), mode="area").expand(1, 3, -1, -1)
    torch.testing.assert_close(model.module(x), make_network(content)(small))


def test_the_folder_above_a_bundle_names_the_bundle(tmp_path):
    folder = write_bundle(tmp_path, config([LOAD, CHANNEL_FIRST]), metadata())
    with pytest.raises(UserError, match=rf"no model but a folder with some: give one of {folder}\.$"):
        load_model(tmp_path)


@pytest.mark.parametrize("name", [".", "./", "", "configs/.."])
def test_the_folder_where_one_is_has_its_own_name(tmp_path, monkeypatch, name):
    folder = write_bundle(tmp_path / "mine", config([LOAD, CHANNEL_FIRST]), metadata())
    monkeypatch.chdir(folder)
    assert load_model(name).path == folder.resolve()
    assert default_place(name) == folder.resolve().with_name(f"{folder.name}.card.json")


def test_the_weights_that_the_configuration_names(tmp_path):
    content = config(
        [LOAD],
        fine=False,
        file="$'model.pt' if @fine else 'coarse.pt'",
        checkpointloader={"_target_": "CheckpointLoader", "load_path": "$@bundle_root + '/models/' + @file"},
    )
    path = write_bundle(tmp_path, content)
    other = make_network(content)
    next(other.parameters()).data += 1
    write_bundle(tmp_path, content, network=other, weights="coarse.pt")
    first = next(iter(load_model(path).module.state_dict().values()))
    torch.testing.assert_close(first, next(iter(other.state_dict().values())))
    assert not torch.equal(next(iter(load_model(path / "models" / "model.pt").module.state_dict().values())), first)


def test_weights_in_the_ways_that_trainers_leave_them(tmp_path):
    import numpy as np
    from safetensors.torch import save_file

    content = config([LOAD])
    state = make_network(content).state_dict()
    path = write_bundle(tmp_path, content)
    file = path / "models" / "model.pt"
    ways = [state, {**state, "epoch": 3}, {"network": state, "best": np.float64(0.9), "epoch": np.int64(3)}]
    ways += [{key: state} for key in ("model", "state_dict", "model_state_dict", "network", "net", "network_weights")]
    for wrapped in ("module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."):
        ways.append({"state_dict": {f"{wrapped}{name}": value for name, value in state.items()}})
    ways.append(torch.optim.swa_utils.AveragedModel(make_network(content)).state_dict())
    ways[-1].update({f"module.{name}": value for name, value in state.items()})
    for saved in ways:
        torch.save(saved, file)
        found = load_model(path).module.state_dict()
        assert found.keys() == state.keys()
        assert all(torch.equal(found[name], value) for name, value in state.items())
    file.unlink()
    with pytest.raises(UserError, match="has no weights"):
        load_model(path)
    save_file(state, path / "models" / "model.safetensors")
    assert load_model(path).module.state_dict().keys() == state.keys()


@pytest.mark.parametrize(
    ("saved", "expected"),
    [
        ([1, 2], "holds no weights by name: save the network's state_dict"),
        ({"state_dict": {}}, "holds no weights by name: save the network's state_dict"),
        ({"epoch": 3}, "holds no weights: save the network's state_dict"),
        ({"args": argparse.Namespace(lr=1)}, r"holds more than weights \(it asks for argparse.Namespace\)"),
    ],
    ids=str,
)
def test_what_holds_no_weights_is_refused_with_what_to_do(tmp_path, saved, expected):
    path = write_bundle(tmp_path, config([LOAD]))
    torch.save(saved, path / "models" / "model.pt")
    with pytest.raises(UserError, match=expected):
        load_model(path)


def test_pretrained_weights_are_not_fetched(tmp_path):
    network = {"_target_": "monai.networks.nets.DenseNet121", "spatial_dims": 2, "in_channels": 1, "out_channels": 2}
    content = config([LOAD], {**network, "pretrained": True, "progress": True})
    made = make_network(config([LOAD], network))
    facts = metadata(shape=(32, 32), form="labels")
    assert load_model(write_bundle(tmp_path, content, facts, network=made)).card.preprocessing.slices


UNTRANSLATED = {
    "an unknown transform": [{"_target_": "Flipd", **IMAGE, "spatial_axis": 0}],
    "intensity on both sides of spacing": [
        {"_target_": "ScaleIntensityd", **IMAGE}, {"_target_": "Spacingd", **IMAGE, "pixdim": 2},
        {"_target_": "NormalizeIntensityd", **IMAGE},
    ],
    "a size before intensity": [{"_target_": "Resized", **IMAGE, "spatial_size": 8}, {"_target_": "ScaleIntensityd",
                                                                                    **IMAGE}],
    "another interpolation": [{"_target_": "Spacingd", **IMAGE, "pixdim": 2, "mode": "nearest"}],
    "a crop by another image": [{"_target_": "CropForegroundd", **IMAGE, "source_key": "mask"}],
}  # fmt: skip


@pytest.mark.parametrize("case", UNTRANSLATED)
def test_what_a_card_cannot_say_is_named(tmp_path, case, capsys):
    """And the draft of a card leaves it to the user."""
    path = write_bundle(tmp_path, config([LOAD, *UNTRANSLATED[case]]))
    with pytest.raises(UserError, match=r"inference.json', line \d+, key preprocessing#transforms#\d, \w+") as caught:
        load_model(path)
    assert "\n" not in str(caught.value)
    assert main(["card", str(path)]) == 0
    assert str(caught.value) in capsys.readouterr().out
    model = load_model(path)
    assert model.card.name == "A small bundle"
    assert model.card.preprocessing.axes == "ijk"


def test_random_transforms_and_those_of_labels_do_not_matter(tmp_path):
    transforms = [
        {"_target_": "RandFlipd", "keys": "image", "prob": 0.5},
        {"_target_": "Spacingd", "keys": "label", "pixdim": 2},
        {"_target_": "Lambdad", "keys": "label", "func": "$lambda x: x"},
        {"_target_": "Flipd", "keys": "image", "spatial_axis": 0, "_disabled_": True},
    ]
    assert card(tmp_path, transforms).preprocessing.spacing is None


# --- trust ---------------------------------------------------------------------------------------------------------

SCRIPT = """
from monai.networks.nets import UNet
from pathlib import Path

def make(**arguments):
    Path(__file__).with_name("ran").touch()
    return UNet(**arguments)
"""


@pytest.fixture
def scripted(tmp_path) -> Path:
    """A bundle whose network and window are code."""
    inferer = {**SLIDING, "roi_size": "$[math.isqrt(256), 12, 8]"}
    content = config([LOAD], {**UNET, "_target_": "scripts_of_a_test.make"}, inferer, imports=["$import math"])
    path = write_bundle(tmp_path, content, network=make_network(config([LOAD])))
    (path / "scripts_of_a_test.py").write_text(SCRIPT)
    return path


def test_what_trust_would_run_is_said_before(scripted, capsys):
    request = trust_request(scripted)
    text = "\n".join(request.sentences)
    for asked in ("'import math'", "'scripts_of_a_test.make'", "math.isqrt", "scripts_of_a_test.py"):
        assert asked in text
    assert "configs/inference.json', line" in request.sentences[0]
    assert main(["trust", str(scripted)]) == 0
    assert json.loads(capsys.readouterr().out) == {"sha256": request.sha256, "sentences": list(request.sentences)}
    assert not (scripted / "ran").exists()


def test_what_stands_behind_a_reference_is_said_too(tmp_path):
    """MONAI's parser would make these objects and run these imports."""
    content = config(
        [LOAD, {"_target_": "ScaleIntensityd", **IMAGE, "minv": "$@helper.lowest()"}],
        helper={"_target_": "scripts_of_a_test.Helper", "n": "@number"},
        number={"_target_": "scripts_of_a_test.Number"},
        handlers={"late": "$from os import path"},
    )
    text = "\n".join(trust_request(write_bundle(tmp_path, content, network=make_network(config([])))).sentences)
    for asked in ("@helper.lowest()", "scripts_of_a_test.Helper", "scripts_of_a_test.Number", "from os import path"):
        assert asked in text


def test_unreadable_postprocessing_is_noted(tmp_path):
    found = card(tmp_path, post="$scripts.make_postprocessing()")
    assert found.output.activation is None
    assert "make_postprocessing" in found.notes[0]
    assert found.completed([1, 2, 8, 8, 8]).output.activation == "softmax"


def test_the_answer_holds_for_exactly_these_files(scripted):
    before = trust_request(scripted).sha256
    assert trust_request(scripted).sha256 == before
    (scripted / "docs").mkdir()
    (scripted / "docs" / "README.md").write_text("More.")
    assert trust_request(scripted).sha256 == before
    (scripted / "scripts_of_a_test.py").write_text(SCRIPT + "\n")
    assert trust_request(scripted).sha256 != before


def test_trust_runs_it_and_nothing_else_does(scripted, capsys):
    for ask in (load_model, draft_card):
        with pytest.raises(UserError, match="--trust"):
            ask(scripted)
    assert stated_card(scripted, trust=False) is None
    assert main(["inspect", str(scripted)]) == 2
    assert not (scripted / "ran").exists()
    capsys.readouterr()
    assert main(["inspect", str(scripted), "--trust"]) == 0
    said = capsys.readouterr().out
    assert (scripted / "ran").exists()
    assert said.index("Trusted: ") < said.index("Model ")
    model = load_model(scripted, trust=True)
    assert model.card.preprocessing.window["size"] == [16, 12, 8]
    assert model.sha256 == trust_request(scripted).sha256


@pytest.mark.parametrize("zipped", [False, True])
def test_each_bundle_runs_its_own_code_whatever_its_modules_are_called(tmp_path, zipped):
    """As in the process that computes for Slicer, which opens one bundle after another."""
    negated = SCRIPT.replace(
        "return UNet(**arguments)", "return torch.nn.Sequential(UNet(**arguments), torch.nn.ReLU())"
    )
    network = make_network(config([LOAD]))
    bundles = {}
    for name, script, weights in (
        ("plain", SCRIPT, network),
        ("rectified", f"import torch\n{negated}", torch.nn.Sequential(network, torch.nn.ReLU())),
    ):
        (tmp_path / name).mkdir()
        content = config([LOAD], {**UNET, "_target_": "scripts_of_a_test.make"})
        root = write_bundle(tmp_path / name, content, network=weights)
        (root / "scripts_of_a_test.py").write_text(script)
        bundles[name] = root
        if zipped:
            bundles[name] = Path(
                shutil.make_archive(str(tmp_path / name / "bundle"), "zip", tmp_path / name, root.name)
            )
    x = torch.randn(1, 1, 16, 16, 16)
    lowest = {name: float(load_model(path, trust=True).module(x).min()) for name, path in bundles.items()}
    assert lowest["plain"] < 0 == lowest["rectified"]
    assert float(load_model(bundles["plain"], trust=True).module(x).min()) == lowest["plain"]


def test_what_was_agreed_to_still_holds_when_the_code_has_run(scripted):
    agreed = trust_request(scripted).sha256
    assert load_model(scripted, trust=True).sha256 == agreed
    assert trust_request(scripted).sha256 == agreed
    assert not list(scripted.rglob("__pycache__"))


def test_a_full_disk_is_not_taken_for_a_damaged_bundle(scripted, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    path = shutil.make_archive(str(tmp_path / "zipped"), "zip", scripted.parent, scripted.name)
    monkeypatch.setattr(zipfile.ZipFile, "extractall", full)
    with pytest.raises(UserError, match=r"cannot be unpacked in .* \(No space left on device\): make room"):
        load_model(path, trust=True)


def test_code_that_fails_is_one_sentence(scripted):
    (scripted / "scripts_of_a_test.py").write_text("def make(**arguments):\n    raise RuntimeError('no network')\n")
    with pytest.raises(UserError, match="failed at network_def") as caught:
        load_model(scripted, trust=True)
    assert "\n" not in str(caught.value)


def test_there_is_nothing_to_trust_in_a_usual_bundle(tmp_path):
    path = write_bundle(tmp_path, config([LOAD, CHANNEL_FIRST]), zipped=True)
    assert trust_request(path).sentences == ()
    assert load_model(path, trust=True).card == load_model(path).card


def test_other_formats_run_nothing(tmp_path):
    torch.jit.script(torch.nn.Conv3d(1, 1, 1)).save(tmp_path / "net.ts")
    assert trust_request(tmp_path / "net.ts").sentences == ()


@pytest.mark.parametrize("threshold", [0.3, 0.5, None, "$scripts.bound()"])
def test_another_threshold_than_a_cards_is_told(tmp_path, threshold):
    after = {"_target_": "AsDiscreted", "keys": "pred", "threshold": threshold}
    steps = [{"_target_": "Activationsd", "keys": "pred", "sigmoid": True}, after]
    found = card(tmp_path, post={"_target_": "Compose", "transforms": steps})
    assert found.output.activation == "sigmoid"
    assert [note for note in found.notes if "from 0.3 on" in note] == list(found.notes)
    assert bool(found.notes) == (threshold == 0.3)
