"""`lrpexplain demo`: the plumbing, with a small network in place of the trained one."""

import importlib.util
import json
from pathlib import Path

import pytest
import SimpleITK as sitk
from helpers.networks import classes, save_model, segmenter
from LRPExplainLib import cli, demonstration
from LRPExplainLib.demo import share_inside
from LRPExplainLib.digests import sha256_of
from LRPExplainLib.errors import UserError
from LRPExplainLib.explanation import Explanation
from LRPExplainLib.lrp import LRPError

pytestmark = pytest.mark.skipif(importlib.util.find_spec("nilearn") is None, reason="nilearn carries the brain")


@pytest.fixture
def model(tmp_path) -> Path:
    """Untrained, at 4 mm."""
    wishes = {"spacing": [4, 4, 4], "intensity": [{"type": "percentile"}]}
    return save_model(tmp_path, segmenter(outputs=2), preprocessing=wishes, output=classes("background", "lesion"))


def test_the_demo_keeps_volume_lesion_and_explanation_and_tells_the_shares(tmp_path, model, monkeypatch, capsys):
    out = tmp_path / "demo"
    run = demonstration.run
    monkeypatch.setattr(demonstration, "run", lambda *arguments: run(*arguments, model=model))
    assert cli.main(["demo", "--out", str(out), "--seed", "3", "--device", "cpu", "--no-views"]) == 0
    assert {entry.name for entry in out.iterdir()} == {"demo.json", "volume.nrrd", "lesion.nrrd", "explanation"}
    explanation = Explanation.load(out / "explanation")
    assert explanation.target["class"] == "lesion"
    assert explanation.volumes[0]["path"] == str((out / "volume.nrrd").resolve())
    assert explanation.volumes[0]["sha256"] == sha256_of(out / "volume.nrrd")
    lesion = sitk.ReadImage(str(out / "lesion.nrrd"))
    inside, with_rim = share_inside(explanation.relevance[0], lesion, 5.0)
    assert 0 < inside < with_rim < 1
    printed = capsys.readouterr().out
    assert f"{inside:.1%} lies inside the planted lesion" in printed
    assert f"{with_rim:.1%} inside the lesion and the 5 mm around it" in printed
    facts = json.loads((out / "demo.json").read_text())
    assert (facts["seed"], facts["inside"], facts["with_rim"]) == (3, inside, with_rim)


def test_a_second_demo_replaces_the_first(tmp_path, model):
    out = tmp_path / "demo"
    out.mkdir()  # empty
    for seed in (0, 3):
        demonstration.run(out, seed, None, "cpu", lambda *_: None, model)
        (out / "views").mkdir()
        (out / "scene.mrb").write_text("drawn by the command")
    assert json.loads((out / "demo.json").read_text())["seed"] == 3
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith(".")] == []


@pytest.mark.parametrize("name", ["volume.nrrd", "lesion.nrrd", "explanation", "thesis.txt"])
def test_what_is_there_and_no_demo_stays(tmp_path, model, name, capsys):
    out = tmp_path / "mine"
    out.mkdir()
    (out / name).write_text("years of work")
    assert cli.main(["demo", "--out", str(out), "--no-views"]) == 2
    assert "choose another output folder" in capsys.readouterr().err
    assert [entry.name for entry in out.iterdir()] == [name]
    assert (out / name).read_text() == "years of work"


def test_a_demo_that_fails_leaves_nothing_new_and_the_earlier_one(tmp_path, model):
    out = tmp_path / "demo"
    with pytest.raises(LRPError, match="no composite"):
        demonstration.run(out, 0, "magic", "cpu", lambda *_: None, model)
    assert not out.exists()
    demonstration.run(out, 0, None, "cpu", lambda *_: None, model)
    before = {entry.name for entry in tmp_path.iterdir()}
    with pytest.raises(LRPError, match="no composite"):
        demonstration.run(out, 0, "magic", "cpu", lambda *_: None, model)
    assert {entry.name for entry in tmp_path.iterdir()} == before
    assert Explanation.load(out / "explanation").target["class"] == "lesion"


def test_a_place_that_is_none_is_said_in_one_line(tmp_path, capsys):
    (tmp_path / "afile").write_text("a file")
    for place in (tmp_path / "afile", tmp_path / "afile" / "demo"):
        assert cli.main(["demo", "--out", str(place), "--no-views"]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert (tmp_path / "afile").read_text() == "a file"


def test_a_missing_model_is_said_before_anything_is_written(tmp_path):
    with pytest.raises(UserError, match="bundled model is not at"):
        demonstration.run(tmp_path / "demo", 0, None, "cpu", lambda *_: None, tmp_path / "nowhere.safetensors")
    assert not (tmp_path / "demo").exists()
