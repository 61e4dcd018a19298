"""`lrpexplain demo`: the plumbing, with a small network in place of the trained one."""

import importlib.util
from pathlib import Path

import pytest
import SimpleITK as sitk
from helpers.networks import classes, save_model, segmenter
from LRPExplainLib import cli, demonstration
from LRPExplainLib.demo import share_inside
from LRPExplainLib.errors import UserError
from LRPExplainLib.explanation import Explanation

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
    assert {entry.name for entry in out.iterdir()} == {"volume.nrrd", "lesion.nrrd", "explanation"}
    explanation = Explanation.load(out / "explanation")
    assert explanation.target["class"] == "lesion"
    assert explanation.volumes[0]["path"] == str((out / "volume.nrrd").resolve())
    lesion = sitk.ReadImage(str(out / "lesion.nrrd"))
    inside, with_rim = share_inside(explanation.relevance[0], lesion, 5.0)
    assert 0 < inside < with_rim < 1
    printed = capsys.readouterr().out
    assert f"{inside:.1%} lies inside the planted lesion" in printed
    assert f"{with_rim:.1%} inside the lesion and the 5 mm around it" in printed


def test_a_missing_model_is_said_before_anything_is_written(tmp_path):
    with pytest.raises(UserError, match="bundled model is not at"):
        demonstration.run(tmp_path / "demo", 0, None, "cpu", lambda *_: None, tmp_path / "nowhere.safetensors")
    assert not (tmp_path / "demo").exists()
