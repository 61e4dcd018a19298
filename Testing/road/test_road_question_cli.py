"""The question on the command line: how places and values are written, and what is refused."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from helpers.networks import classes, save_model, segmenter
from helpers.questions import LANDMARK, NAMES, WISHES, array, ras_of
from LRPExplainLib.cli import main
from LRPExplainLib.explanation import Explanation
from LRPExplainLib.imaging import Grid


@pytest.fixture
def shell(tmp_path, oblique_volume):
    """Runs `lrpexplain explain` with more options; returns its code and the folder."""
    save_model(tmp_path, segmenter(), preprocessing=WISHES, output=classes(*NAMES))
    sitk.WriteImage(oblique_volume, str(tmp_path / "t1.nrrd"))

    def run(*more: str) -> tuple[int, Path]:
        out = tmp_path / "out"
        arguments = ["explain", "--model", str(tmp_path / "net.ts"), "--volume", str(tmp_path / "t1.nrrd")]
        return main([*arguments, "--out", str(out), "--device", "cpu", *more]), out

    return run


def text_of(position: tuple[float, ...]) -> str:
    return ",".join(f"{number:.6f}" for number in position)


def test_points_and_boxes_of_negative_coordinates_are_understood(shell, oblique_volume, capsys):
    here = ras_of(oblique_volume, (20, 3, 2))
    assert here[0] < 0 or here[1] < 0
    other = ras_of(oblique_volume, LANDMARK)
    for flip in (1, -1):  # whatever the sign of the first number
        code, out = shell("--target", "white", "--point", text_of(here[::1]), "--point", text_of(other))
        assert code == 0, flip
    assert Explanation.load(out).target["voxels"] == 2
    code, out = shell("--target", "2", "--roi", text_of(other), "8,8,8", "--rather-than", "grey", "--start", "one")
    assert code == 0
    facts = Explanation.load(out).target
    assert facts["region"]["size_mm"] == [8, 8, 8]
    low, high = np.subtract(other, 4), np.add(other, 4)
    code, out = shell("--target", "2", "--roi-corners", text_of(tuple(low)), text_of(tuple(high)))
    assert Explanation.load(out).target["voxels"] == facts["voxels"]
    assert "white over" in capsys.readouterr().out
    for argument in ("-12.5,-3,-.5", "-12.5, 3, 4"):
        code, _ = shell("--point", argument)
        assert code == 2  # outside, but read as a point
        assert "The point -12.5," in capsys.readouterr().err


def test_a_segment_and_markups_come_from_files(tmp_path, shell, oblique_volume):
    voxels = np.zeros(array(oblique_volume).shape, np.uint8)
    voxels[LANDMARK[::-1]] = 3
    image = Grid.of(oblique_volume).image(voxels)
    image.SetMetaData("Segment0_Name", "a: b")
    image.SetMetaData("Segment0_LabelValue", "3")
    image.SetMetaData("Segment0_Layer", "0")
    path = tmp_path / "s.seg.nrrd"
    sitk.WriteImage(image, str(path))
    for name in ("", ":a: b", ":3"):
        code, out = shell("--target", "white", "--segment", f"{path}{name}")
        assert code == 0
        facts = Explanation.load(out).target
        assert facts["voxels"] == 1
        chosen = name.removeprefix(":") or None
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert facts["region"] == {"segment": "a: b", "file": str(path), "chosen": chosen, "sha256": digest}
    position = list(Grid.of(oblique_volume).point(LANDMARK))
    points = {"type": "Fiducial", "coordinateSystem": "LPS", "controlPoints": [{"position": position}]}
    (tmp_path / "F.mrk.json").write_text(json.dumps({"markups": [points]}))
    code, out = shell("--point", str(tmp_path / "F.mrk.json"))
    assert Explanation.load(out).target["voxels"] == 1
    roi = {"type": "ROI", "coordinateSystem": "LPS", "center": position, "size": [2, 2, 2]}
    (tmp_path / "R.mrk.json").write_text(json.dumps({"markups": [roi]}))
    code, out = shell("--roi", str(tmp_path / "R.mrk.json"))
    assert code == 0
    assert Explanation.load(out).target["where"] == "box"


def test_the_softmax_has_its_line_in_the_account(shell, capsys):
    code, _ = shell("--target", "white", "--everywhere", "--value", "probability")
    assert code == 0
    printed = capsys.readouterr().out
    assert "as probability" in printed
    assert "by the softmax" in printed


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (["--point", "1,2"], "'1,2' is no position"),
        (["--point", "-1,nan,3"], "A point is given as -1, nan, 3"),
        (["--roi", "1,2,3"], "is no box"),
        (["--roi", "1,2,3", "0,1,1"], "edge lengths above 0"),
        (["--roi", "nowhere.mrk.json"], "no markups file"),
        (["--segment", "nowhere.nrrd:x"], "no segmentation file"),
        (["--segment", ""], "no segmentation file"),
        (["--target", "white", "--rather-than", "WHITE"], "rather than itself"),
    ],
)
def test_bad_questions_end_with_one_line_and_code_2(shell, capsys, more, expected):
    code, out = shell(*more)
    assert code == 2
    error = capsys.readouterr().err
    assert expected in error
    assert len(error.splitlines()) == 1
    assert not out.exists()


@pytest.mark.parametrize(
    "more", [["--everywhere", "--point", "1,2,3"], ["--segment", "x", "--roi", "y"], ["--value", "odds"]]
)
def test_options_that_exclude_each_other_are_refused_by_the_parser(shell, more):
    with pytest.raises(SystemExit) as stop:
        shell(*more)
    assert stop.value.code == 2
