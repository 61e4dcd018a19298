"""The shell command: what it prints, what it leaves, and how it refuses."""

import builtins
import importlib.util
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from helpers.networks import RANGE, classes, classifier, fixed_size, save_model, segmenter
from helpers.volumes import make_volume
from LRPExplainLib import imaging, models
from LRPExplainLib.cli import main
from LRPExplainLib.explanation import Explanation
from LRPExplainLib.folders import check_writable
from torch import nn

CARD = {"preprocessing": {"orientation": "RAS", "intensity": RANGE}, "output": classes("background", "grey", "white")}


@pytest.fixture
def volume(tmp_path) -> Path:
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "t1.nrrd"
    sitk.WriteImage(make_volume(), str(path))
    return path


@pytest.fixture
def model(tmp_path) -> Path:
    (tmp_path / "model").mkdir()
    return save_model(tmp_path / "model", segmenter(), **CARD)


def explain(model, volume, out, *more) -> int:
    return main(
        ["explain", "--model", str(model), "--volume", str(volume), "--out", str(out), "--device", "cpu", *more]
    )


def test_explain_writes_a_folder_and_prints_the_account(tmp_path, model, volume, capsys):
    out = tmp_path / "out"
    assert explain(model, volume, out, "--target", "WHITE", "--composite", "epsilon") == 0
    explanation = Explanation.load(out)
    assert explanation.target["class"] == "white"
    assert explanation.composite["name"] == "epsilon"
    printed = capsys.readouterr()
    assert printed.err == ""
    assert f"{explanation.ledger['target_value']:.6g}" in printed.out
    assert "outside the field of view" in printed.out
    assert str(out) in printed.out
    assert "no card" not in printed.out


def test_a_second_run_replaces_the_first(tmp_path, model, volume):
    out = tmp_path / "out"
    assert explain(model, volume, out, "--target", "1") == 0
    assert explain(model, volume, out, "--target", "2") == 0
    assert Explanation.load(out).target["index"] == 2


def test_defaults_are_printed_for_a_model_without_a_card(tmp_path, volume, capsys):
    assert explain(save_model(tmp_path, segmenter(), "bare"), volume, tmp_path / "out") == 0
    assert "no card. Assumed: one channel per given volume" in capsys.readouterr().out


def test_softmax_in_the_network_is_not_applied_again_and_said(tmp_path, volume, capsys):
    inside = nn.Sequential(classifier(), nn.Softmax(1))
    out = tmp_path / "out"
    model = save_model(tmp_path / "in", inside)
    assert explain(model, volume, out) == 0
    assert "Note: The network ends in softmax itself" in capsys.readouterr().out
    whole = Explanation.load(out)
    said = whole.prediction.probabilities
    assert sum(said.values()) == pytest.approx(1)
    assert whole.model["card"]["output"]["activation"] == "softmax"
    prepared = imaging.prepare([make_volume()], models.load_model(model).card.preprocessing).tensor
    with torch.no_grad():
        np.testing.assert_allclose(list(said.values()), inside(prepared)[0].numpy(), rtol=1e-4)
        assert whole.ledger["target_value"] == pytest.approx(float(inside[0](prepared).max()))  # the logit before it
    assert main(["inspect", str(model)]) == 0
    assert "The network ends in softmax itself" in capsys.readouterr().out
    stated = save_model(tmp_path / "in", inside, "stated", task="classification", output=classes("a", "b"))
    assert explain(stated, volume, tmp_path / "stated") == 0
    assert "itself" not in capsys.readouterr().out  # the card says what the network does
    assert sum(Explanation.load(tmp_path / "stated").prediction.probabilities.values()) == pytest.approx(1)
    other = save_model(
        tmp_path / "in", inside, "other", task="classification", output=classes("a", "b", activation="sigmoid")
    )
    assert explain(other, volume, tmp_path / "other") == 0
    assert "used alone: set the card's output.activation to softmax" in capsys.readouterr().out
    assert sum(Explanation.load(tmp_path / "other").prediction.probabilities.values()) == pytest.approx(1)


def test_one_channel_of_sigmoid_is_found_above_a_half(tmp_path, volume):
    logits = segmenter(outputs=1)
    ends = save_model(tmp_path / "in", nn.Sequential(logits, nn.Sigmoid()), "ends")
    assert explain(save_model(tmp_path / "in", logits, "logits"), volume, tmp_path / "a") == 0
    assert explain(ends, volume, tmp_path / "b") == 0
    a, b = (sitk.GetArrayFromImage(Explanation.load(tmp_path / n).prediction.segmentation) for n in "ab")
    assert 0 < a.mean() < 1
    assert (a == b).mean() > 0.999


def test_a_card_elsewhere_is_used(tmp_path, volume, capsys):
    bare = save_model(tmp_path, segmenter(), "bare")
    save_model(tmp_path / "in", segmenter(), "other", **CARD)
    card = tmp_path / "in" / "other.card.json"
    assert explain(bare, volume, tmp_path / "out", "--card", str(card)) == 0
    assert "no card" not in capsys.readouterr().out


def test_several_volumes_go_to_several_channels(tmp_path, volume):
    inputs = [{"name": "T1"}, {"name": "FLAIR"}]
    model = save_model(tmp_path, segmenter(channels=2), "two", **CARD, inputs=inputs)
    assert explain(model, volume, tmp_path / "a", "--volume", str(volume)) == 0
    assert (tmp_path / "a" / "relevance_2.nrrd").is_file()
    arguments = ["explain", "--model", str(model), "--out", str(tmp_path / "b"), "--volume", str(volume), str(volume)]
    assert main(arguments) == 0
    assert len(Explanation.load(tmp_path / "b").relevance) == 2


def test_inspect_tells_inputs_classes_and_operators(model, capsys):
    assert main(["inspect", str(model)]) == 0
    text = capsys.readouterr().out
    assert "0 background, 1 grey, 2 white" in text
    assert "aten.convolution" in text
    assert "exact rule" in text
    assert "NO RULE" not in text
    assert "[1, 1, 32, 32, 32] -> output [1, 3, 32, 32, 32], softmax" in text
    assert "orientation RAS" in text
    assert "range lower=0 upper=100" in text


def test_inspect_captures_for_a_volume_or_a_shape(tmp_path, model, volume, capsys):
    assert main(["inspect", str(model), "--volume", str(volume)]) == 0
    assert "input [1, 1, 14, 26, 30]" in capsys.readouterr().out
    two = save_model(tmp_path, segmenter(channels=2), "two")
    assert main(["inspect", str(two), "--shape", "8", "10", "12"]) == 0
    text = capsys.readouterr().out
    assert "input [1, 2, 8, 10, 12]" in text
    assert "none, defaults assumed" in text
    assert main(["inspect", str(save_model(tmp_path, fixed_size(), "fixed"))]) == 2


def _volume(folder: Path, image: sitk.Image) -> Path:
    path = folder / "bad.nrrd"
    sitk.WriteImage(image, str(path))
    return path


def _time_series(folder: Path) -> Path:
    sitk.WriteImage(sitk.JoinSeries([make_volume()] * 3), str(folder / "bad.nii.gz"))
    return folder / "bad.nii.gz"


def _text(folder: Path) -> Path:
    (folder / "notes.txt").write_text("no image")
    return folder / "notes.txt"


def _corrupt(folder: Path) -> Path:
    (folder / "corrupt.ts").write_bytes(b"PK\x03\x04 nonsense")
    return folder / "corrupt.ts"


def _with(value: float) -> sitk.Image:
    image = make_volume()
    image[1, 1, 1] = value
    return image


BAD = {
    "missing file": lambda f: {"volume": f / "nowhere.nii.gz"},
    "not an image": lambda f: {"volume": _text(f)},
    "NaN voxels": lambda f: {"volume": _volume(f, _with(math.nan))},
    "infinite voxels": lambda f: {"volume": _volume(f, _with(math.inf))},
    "constant image": lambda f: {"volume": _volume(f, make_volume() * 0 + 7)},
    "4D volume": lambda f: {"volume": _time_series(f)},
    "RGB volume": lambda f: {"volume": _volume(f, sitk.Compose([sitk.Cast(make_volume(), sitk.sitkUInt8)] * 3))},
    "unknown target": lambda f: {"more": ["--target", "tumour"]},
    "unknown rule": lambda f: {"more": ["--rule", "conv=magic"]},
    "rule for no layer": lambda f: {"more": ["--rule", "nowhere.*=flat"]},
    "unknown composite": lambda f: {"more": ["--composite", "magic"]},
    "missing model": lambda f: {"model": f / "nowhere.ts"},
    "corrupt model": lambda f: {"model": _corrupt(f)},
    "size refused": lambda f: {"model": save_model(f, fixed_size())},
    "too many volumes": lambda f: {"more": ["--volume", str(f / "t1.nrrd")]},
    "missing card": lambda f: {"more": ["--card", str(f / "nowhere.json")]},
    "foreign folder": lambda f: {"out": f},
    "no place to write": lambda f: {"out": f / "t1.nrrd" / "deep" / "out"},
    "name too long": lambda f: {"out": f / ("long" * 99)},
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_ends_with_one_line_code_2_and_no_folder(tmp_path, model, volume, case, capfd):
    bad = BAD[case](volume.parent)
    before = sorted(tmp_path.rglob("*"))
    capfd.readouterr()
    out = bad.get("out", tmp_path / "out")
    assert explain(bad.get("model", model), bad.get("volume", volume), out, *bad.get("more", [])) == 2
    error = capfd.readouterr().err
    assert error.startswith("lrpexplain: ")
    assert error.endswith("\n")
    assert len(error.splitlines()) == 1
    assert "Traceback" not in error
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("out", ["afile/out", "long" * 99, "long" * 99 + "/deep/out", "/proc/out"])
def test_an_output_that_cannot_be_written_is_said_before_the_work(tmp_path, model, volume, out, monkeypatch, capsys):
    if out == "/proc/out" and not Path("/proc").is_dir():
        pytest.skip("this system has no /proc, in which not even root can write")
    (tmp_path / "afile").write_text("a file")
    monkeypatch.setattr("LRPExplainLib.explain.explain", lambda *_, **__: pytest.fail("it was computed"))
    before = sorted(tmp_path.rglob("*"))
    assert explain(model, volume, tmp_path / out) == 2
    assert main(["card", str(model), "--out", str(tmp_path / out)]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert "Nothing can be written" in said[0]
    assert sorted(tmp_path.rglob("*")) == before


def test_a_mount_point_cannot_be_replaced(tmp_path, model, volume, capsys):
    assert explain(model, volume, "/") == 2
    assert "mount point" in capsys.readouterr().err


def test_looking_whether_a_place_can_be_written_leaves_nothing(tmp_path):
    check_writable(tmp_path / "new" / "deep" / "out")
    check_writable(tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_an_earlier_explanation_survives_a_failed_run(tmp_path, model, volume):
    out = tmp_path / "out"
    assert explain(model, volume, out) == 0
    before = json.loads((out / "explanation.json").read_text())
    assert explain(model, volume, out, "--target", "tumour") == 2
    assert json.loads((out / "explanation.json").read_text()) == before


def test_the_module_runs_as_a_command(tmp_path, model):
    command = [sys.executable, "-m", "LRPExplainLib", "explain", "--model", str(model), "--volume",
               str(tmp_path / "nowhere.nii"), "--out", str(tmp_path / "out")]  # fmt: skip
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert (
        result.stderr
        == f"lrpexplain: There is no file or folder '{tmp_path / 'nowhere.nii'}': check the path of the volume.\n"
    )
    assert result.stdout == ""
    assert not (tmp_path / "out").exists()


def test_a_fresh_process_prints_no_warnings(model):
    """In tests the warnings of PyTorch are caught, so that a process of its own must show that there are none."""
    command = [sys.executable, "-m", "LRPExplainLib", "inspect", str(model)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.skipif(os.name == "nt", reason="Windows has other words for a pipe that nobody reads")
def test_a_reader_that_has_read_enough_is_no_error(model):
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "LRPExplainLib", "inspect", str(model)]
    result = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (result.returncode, result.stderr) == (141, "")


@pytest.mark.parametrize("arguments", [[], ["explain"], ["explain", "--model", "m"], ["dance"]])
def test_incomplete_commands_end_with_code_2(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "usage: lrpexplain" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (["--window", "96"], "--window: '96' is no window: give its voxels as 96x96x64"),
        (["--window", "9x9x0"], "'9x9x0' is no window"),
        (["--window", "9x9x" + "9" * 5000], "is no window"),
        (["--overlap", "1"], "--overlap: 1 is no share of a window"),
        (["--overlap", "half"], "--overlap: 'half' is no number"),
        (["--viwes"], "there is no option or place for '--viwes'"),
        (["--everywhere", "--point", "1,2,3"], "not allowed with argument"),
    ],
)
def test_a_command_that_makes_no_sense_is_told_in_two_lines_of_its_verb(wrong, told, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["explain", "--model", "m", "--volume", "v", "--out", "o", *wrong])
    assert stop.value.code == 2
    usage, problem = capsys.readouterr().err.splitlines()
    assert "lrpexplain explain --help" in usage
    assert problem.startswith("lrpexplain explain: ")
    assert told in problem
    assert len(problem) < 200


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["explain", "--modle", "m", "--volume", "v", "--out", "o"], "no option or place for '--modle'"),
        (["explain", "--modle=m", "--volume", "v"], "no option or place for '--modle=m'"),
        (["explain", "--mod", "m", "--volume", "v"], "--out --dry-run is required"),  # cut short, as argparse allows
        (["explain", "--model", "m", "-v", "v"], "no option or place for '-v'"),
        (["explain", "--model", "m", "--point", "-1,2,3"], "required: --volume"),
        (["evaluate", "out", "--ouut", "trust"], "no option or place for '--ouut'"),
        (["--hlep", "explain"], "no option or place for '--hlep'"),
        (["record", "--", "--odd"], "required: --out"),  # a folder of that name
    ],
)
def test_a_mistyped_option_is_told_rather_than_the_one_that_it_should_have_been(command, told, capsys):
    with pytest.raises(SystemExit) as stop:
        main(command)
    assert stop.value.code == 2
    assert told in capsys.readouterr().err.splitlines()[1]


@pytest.mark.parametrize(
    "command",
    [["concepts", "--top", "some"], ["cohort", "--clusters", "1.5"], ["compare", "a", "b", "--weights", "1,x"],
     ["evaluate", "a", "--edge", "10mm"], ["verify", "a", "--tolerance", "1%"],
     ["card", "m", "--shape", "8", "8", "_"]],
)  # fmt: skip
def test_what_is_no_number_is_called_so(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main(command)
    assert stop.value.code == 2
    assert re.search(r"argument --\w+: '.+' is no (whole )?number\n$", capsys.readouterr().err)


@pytest.mark.parametrize("seed", ["-1", "4294967296", "some", "9" * 5000])
@pytest.mark.parametrize("verb", ["demo", "evaluate", "cohort"])
def test_a_seed_that_is_none_is_refused_before_anything_is_read(tmp_path, verb, seed, capsys):
    named = {"demo": [], "evaluate": ["nowhere"], "cohort": ["nowhere"]}
    assert main([verb, *named[verb], "--out", str(tmp_path / "out"), "--seed", seed]) == 2
    error = capsys.readouterr().err
    assert "is no seed: give a whole number from 0 to 4294967295." in error
    assert len(error.splitlines()) == 1
    assert len(error) < 200
    assert not (tmp_path / "out").exists()


def test_pictures_without_slicers_core_are_refused_before_the_work(tmp_path, model, volume, monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "slicer" else find(name, *more)
    )
    assert explain(model, volume, tmp_path / "out", "--views") == 2
    assert "pip install slicer-core" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_interrupt_while_torch_is_loaded_is_one_line(monkeypatch, capsys):
    real = builtins.__import__

    def interrupted(name, *more):
        if name == "lrp" and more[-1] == 2:
            raise KeyboardInterrupt
        return real(name, *more)

    monkeypatch.setattr(builtins, "__import__", interrupted)
    try:
        code = main(["trust", "net.ts"])
    except KeyboardInterrupt:  # which would end the whole run of tests
        pytest.fail("the interrupt was not caught")
    assert code == 130
    assert capsys.readouterr().err == "lrpexplain: interrupted\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_what_the_terminal_has_no_letters_for_is_replaced(tmp_path, encoding):
    model = save_model(tmp_path, segmenter(), "net", **CARD)
    card = tmp_path / "net.card.json"
    card.write_text(card.read_text(encoding="utf-8").replace('"white"', '"Łäsion 山"'), encoding="utf-8")
    for words, code in ((["inspect", str(model), "--shape", "8", "8", "8"], 0), (["inspect", "山.ts"], 2)):
        told = subprocess.run([sys.executable, "-m", "LRPExplainLib", *words], capture_output=True, check=False,
                              env={**os.environ, "PYTHONIOENCODING": encoding})  # fmt: skip
        assert told.returncode == code
        assert b"Traceback" not in told.stderr
    assert b"There is no model file '?.ts'" in told.stderr


def test_an_interrupt_leaves_nothing(tmp_path, model, volume, monkeypatch, capsys):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Explanation, "write", interrupt)
    before = sorted(tmp_path.rglob("*"))
    assert explain(model, volume, tmp_path / "out") == 130
    assert sorted(tmp_path.rglob("*")) == before
    assert capsys.readouterr().err == "lrpexplain: interrupted\n"


def test_what_the_system_refuses_is_one_sentence(tmp_path, capsys):
    """As a file that may not be read; here a name that is longer than any."""
    name = "x" * 5000
    asked = ["explain", "--model", "net.ts", "--volume", "t1.nrrd", "--segment", name, "--out", str(tmp_path / "out")]
    assert main(asked) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "cannot be read or written (" in said


def test_of_a_score_below_0_it_is_said_how_to_read_the_map(tmp_path, volume, capsys):
    network = classifier(1)
    with torch.no_grad():
        network[-1].bias -= 3
    model = save_model(tmp_path, network, task="classification", output=classes("nodule", activation="sigmoid"))
    assert explain(model, volume, tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert "is below 0: what the model sees speaks against what was asked about" in said
    with torch.no_grad():
        network[-1].weight.abs_()
        network[-1].bias += 6
    model = save_model(tmp_path, network, task="classification", output=classes("nodule", activation="sigmoid"))
    assert explain(model, volume, tmp_path / "out") == 0
    assert "below 0" not in capsys.readouterr().out
