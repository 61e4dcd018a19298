"""explain() in bfloat16: the same road, about the same map, told in the provenance and made again as it was."""

import shlex
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from helpers.cases import model_of, write_case
from LRPExplainLib.cli import main
from LRPExplainLib.concepts import concepts
from LRPExplainLib.errors import UserError
from LRPExplainLib.explain import explain, plan
from LRPExplainLib.explanation import Explanation
from LRPExplainLib.lrp.precision import multiplied
from LRPExplainLib.reporting import Places, make_record, verify
from LRPExplainLib.summaries import plan_summary


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return write_case(tmp_path_factory.mktemp("case"))


def correlation(a: Explanation, b: Explanation) -> float:
    maps = [sitk.GetArrayFromImage(found.relevance[0]).ravel() for found in (a, b)]
    return float(np.corrcoef(maps)[0, 1])


@pytest.mark.parametrize("window", [None, {"size": [16, 16, 8]}], ids=["whole", "windows"])
def test_the_map_is_about_the_same_and_the_account_closes(place, window):
    asked = (model_of(place), [place / "t1.nrrd"], "white", "epsilon-plus", "cpu")
    exact = explain(*asked, window=window)
    found = explain(*asked, window=window, precision="bfloat16")
    assert correlation(exact, found) > 0.995
    assert found.ledger["target_value"] == pytest.approx(exact.ledger["target_value"], rel=5e-2)
    assert abs(found.ledger["relative_gap"]) < 1e-2
    assert found.relevance[0].GetPixelID() == exact.relevance[0].GetPixelID() == sitk.sitkFloat32
    precisions = [each.provenance["run"]["precision"] for each in (exact, found)]
    assert precisions == ["float32", "bfloat16"]


def test_a_plan_reckons_with_half_the_memory(place):
    exact, half = (plan(model_of(place), [place / "t1.nrrd"], precision=name) for name in ("float32", "bfloat16"))
    in_half = torch.bfloat16 in multiplied("cpu")  # else products are done in float32, one at a time
    assert half["memory"] < (0.7 if in_half else 0.9) * exact["memory"]
    assert "in bfloat16" in plan_summary(half)
    assert "bfloat16" not in plan_summary(exact)


def test_concepts_are_found_in_it(place):
    found = concepts(model_of(place), [place / "t1.nrrd"], "white", device="cpu", top=2, precision="bfloat16")
    assert found.whole.provenance["run"]["precision"] == "bfloat16"
    assert len(found.concepts) == 2


def test_a_record_is_made_again_in_it(place, tmp_path):
    words = ["explain", "--model", str(model_of(place)), "--volume", str(place / "t1.nrrd"), "--target", "white"]
    assert main([*words, "--precision", "bfloat16", "--device", "cpu", "--out", str(tmp_path / "first")]) == 0
    first = Explanation.load(tmp_path / "first")
    record = make_record(first, "case.html")
    command = shlex.split(record.facts["commands"]["explain"])
    assert command[command.index("--precision") + 1] == "bfloat16"
    checked = verify(record, Places(near=[place]), device="cpu")
    assert checked.agrees, checked.table()
    assert checked.explanation is not None
    assert checked.explanation.provenance["run"]["precision"] == "bfloat16"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"precision": "half"}, "There is no precision 'half': choose float32 or bfloat16."),
        ({"precision": "bfloat16", "method": "gradient"}, "bfloat16 is for lrp: leave it out with gradient."),
    ],
)
def test_what_cannot_be_is_said_before_the_model_is_read(place, options, sentence):
    with pytest.raises(UserError) as told:
        explain(place / "missing.ts", [place / "t1.nrrd"], **options)
    assert str(told.value) == sentence
