"""lrpexplain compare: agreement, consensus and combination of maps with known answers."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from helpers.networks import RANGE, classes, save_model, segmenter
from helpers.volumes import make_volume
from LRPExplainLib.cli import main
from LRPExplainLib.comparison import compare, maps
from LRPExplainLib.correlation import pearson
from LRPExplainLib.errors import UserError
from LRPExplainLib.explain import explain
from LRPExplainLib.explanation import Explanation
from LRPExplainLib.models import load_model
from LRPExplainLib.summaries import summary
from scipy.stats import spearmanr

SIZE = (6, 5, 4)
CARD = {"preprocessing": {"intensity": RANGE}, "output": classes("background", "grey", "white")}


def array(image: sitk.Image) -> np.ndarray:
    return sitk.GetArrayFromImage(image)


@pytest.fixture
def base(tmp_path) -> Explanation:
    model = load_model(save_model(tmp_path, segmenter(), **CARD))
    return explain(model, [make_volume(size=SIZE, spacing=(1, 1, 1))], "white", device="cpu")


def written(base: Explanation, values: np.ndarray, name: str, folder: Path) -> Path:
    """The explanation with another map."""
    image = sitk.GetImageFromArray(values.reshape(SIZE[::-1]).astype(np.float32))
    image.CopyInformation(base.relevance[0])
    ledger = base.ledger | {"target_value": abs(base.ledger["target_value"])}
    replace(base, relevance=(image,), composite=base.composite | {"name": name}, ledger=ledger).save(folder / name)
    return folder / name


@pytest.fixture
def folders(base, tmp_path):
    a, b = (np.random.default_rng(seed).standard_normal(int(np.prod(SIZE))).astype(np.float32) for seed in (1, 2))
    return a, b, [written(base, a, "first", tmp_path), written(base, b, "second", tmp_path)]


def evaluated(place: Path, explanation: Path, abpc: float, **about: object) -> Path:
    facts = json.loads((explanation / "explanation.json").read_text())
    known = {"folder": str(explanation), "composite": facts["composite"]["name"]} | about
    baselines = {"mean": {"abpc": abpc - 0.1}, "blur": {"abpc": abpc + 0.1}}
    content = {"format": "lrpexplain-evaluation", "version": 1, "explanation": known}
    place.mkdir()
    checks = {"faithfulness": {"baselines": baselines}}
    (place / "evaluation.json").write_text(json.dumps(content | {"checks": checks}))
    return place


def test_a_map_agrees_with_itself_and_is_opposed_to_its_negative(base, tmp_path):
    values = np.arange(1, 121) - 60.5
    found = compare([
        written(base, values, "a", tmp_path), written(base, 5 * values, "b", tmp_path),
        written(base, -values, "c", tmp_path),
    ], top_ml=0.01)  # fmt: skip
    rows = {(row["a"], row["b"]): row for row in found.facts["agreement"]}
    assert rows["a", "b"]["spearman"] == pytest.approx(1)
    assert rows["a", "b"]["top_k_overlap"] == 1
    assert rows["a", "c"]["spearman"] == pytest.approx(-1)
    assert rows["a", "c"]["spearman_abs"] == pytest.approx(1)
    assert rows["a", "c"]["top_k_overlap"] == 0
    assert found.facts["top_k"] == 10


def test_spearman_is_scipys_and_the_overlap_counts_the_voxels_in_common(folders):
    a, b, places = folders
    row = compare(places, top_ml=0.02).facts["agreement"][0]
    assert row["spearman"] == pytest.approx(spearmanr(a, b).statistic, abs=1e-9)
    assert row["spearman_abs"] == pytest.approx(spearmanr(abs(a), abs(b)).statistic, abs=1e-9)
    common = set(np.argsort(-a)[:20]) & set(np.argsort(-b)[:20])
    assert row["top_k_overlap"] == pytest.approx(len(common) / 20)


def test_voxels_that_are_0_in_every_map_are_not_compared():
    a, b = np.array([0, 0, 0, 1, 2, 3.0]), np.array([0, 0, 0, 3, 2, 1.0])
    looked_at = (a != 0) | (b != 0)
    assert pearson(maps.ranks(a, looked_at), maps.ranks(b, looked_at)) == pytest.approx(-1)
    assert list(maps.most_relevant(np.array([0, 2, -5, 0, 1.0]), 4)) == [1, 4]
    assert maps.overlap(np.array([1, 4]), np.array([1, 2, 3, 4])) == 0.5
    assert np.isnan(maps.overlap(np.array([]), np.array([])))
    assert np.isnan(pearson(np.ones(3), np.arange(3.0)))


def test_the_consensus_is_the_lowest_rank_where_the_signs_agree():
    a, b = np.array([4.0, -3, 2, -1, 0]), np.array([10.0, -40, -20, -30, 0])
    found = maps.consensus([a, b], a != 0)
    # ranks by magnitude: a 1, 0.75, 0.5, 0.25 and b 0.25, 1, 0.5, 0.75
    np.testing.assert_allclose(found, [0.25, -0.75, 0, -0.25, 0])


def test_the_combined_map_is_the_weighted_mean_of_shares(folders, tmp_path):
    a, b, places = folders
    found = compare(places, weights=[3, 1])
    expected = 0.75 * a / np.abs(a).sum() + 0.25 * b / np.abs(b).sum()
    np.testing.assert_allclose(array(found.combined.relevance[0]).ravel(), expected, rtol=1e-5, atol=1e-8)
    assert found.facts["weights_from"] == "given"
    found.save(tmp_path / "out")
    combined = Explanation.load(tmp_path / "out" / "combined")
    assert combined == found.combined
    assert combined.composite["parameters"] == {"of": ["first", "second"], "weights": [3.0, 1.0]}
    assert combined.ledger["conserves"] is False
    assert "Method: combined" in summary(combined)
    assert Explanation.load(tmp_path / "out" / "consensus") == found.consensus


def test_weights_come_from_faithfulness_where_every_map_was_evaluated(folders, tmp_path):
    _, _, places = folders
    evaluations = [evaluated(tmp_path / "e1", places[0], 0.6), evaluated(places[1] / "evaluation", places[1], -0.2)]
    facts = compare(places, evaluations=evaluations[:1]).facts  # the other lies within its explanation
    assert [row["faithfulness"] for row in facts["explanations"]] == pytest.approx([0.6, -0.2])
    assert [row["weight"] for row in facts["explanations"]] == pytest.approx([0.6, 0.0])
    assert facts["weights_from"] == "faithfulness"


def test_without_an_evaluation_of_each_all_weigh_the_same_and_it_is_said(folders, tmp_path):
    _, _, places = folders
    assert compare(places).facts["notes"] == []
    facts = compare(places, evaluations=[evaluated(tmp_path / "e1", places[0], 0.6)]).facts
    assert facts["weights_from"] == "equal"
    assert [row["weight"] for row in facts["explanations"]] == [1, 1]
    assert "Not every explanation has an evaluation" in facts["notes"][0]
    both = [tmp_path / "e1", evaluated(tmp_path / "e2", places[1], -0.3)]
    evaluated(tmp_path / "e3", places[0], -0.3)
    facts = compare(places, evaluations=[tmp_path / "e3", both[1]]).facts
    assert facts["weights_from"] == "equal"
    assert "faithful above chance" in facts["notes"][0]


def test_an_evaluation_of_a_moved_explanation_is_known_by_when_it_was_made(folders, base, tmp_path):
    _, _, places = folders
    created = base.provenance["created"]
    evaluation = evaluated(tmp_path / "e1", places[0], 0.6, folder="/gone", created=created)
    faithful = [row["faithfulness"] for row in compare(places, evaluations=[evaluation]).facts["explanations"]]
    assert faithful == [pytest.approx(0.6), None]


def test_maps_that_do_not_explain_one_answer_are_refused(base, folders, tmp_path):
    a, _, places = folders
    with pytest.raises(UserError, match="cannot be compared"):
        compare(places[:1])
    with pytest.raises(UserError, match="1 weight cannot weigh 2 explanations: give one each"):
        compare(places, weights=[1])
    for weights in ([0, 0], [-1, 2]):
        with pytest.raises(UserError, match="0 or more, and not all"):
            compare(places, weights=weights)
    with pytest.raises(UserError, match="above 0 ml"):
        compare(places, top_ml=0)
    with pytest.raises(UserError, match="is empty"):
        compare([*places, written(base, 0 * a, "nothing", tmp_path)])
    replace(base, target=base.target | {"index": 1, "text": "grey"}).save(tmp_path / "grey")
    with pytest.raises(UserError, match="explains 'grey' and 'first'"):
        compare([*places, tmp_path / "grey"])
    replace(base, volumes=[base.volumes[0] | {"sha256": "1"}]).save(tmp_path / "one")
    replace(base, volumes=[base.volumes[0] | {"sha256": "2"}]).save(tmp_path / "other")
    with pytest.raises(UserError, match="explains other volumes"):
        compare([tmp_path / "one", tmp_path / "other"])
    with pytest.raises(UserError, match=r"There is no .*evaluation\.json"):
        compare(places, evaluations=[tmp_path])


def test_two_models_may_be_compared_and_it_is_said(base, folders, tmp_path):
    replace(base, model=base.model | {"sha256": "other"}).save(tmp_path / "other")
    facts = compare([folders[2][0], tmp_path / "other"]).facts
    assert facts["notes"] == ["'volume' explains another model than 'first'."]


def test_one_model_used_in_other_windows_may_be_compared_and_it_is_said(tmp_path):
    model = load_model(save_model(tmp_path, segmenter(), **CARD))
    volume = make_volume(size=(12, 10, 8))
    for name, size in (("whole", None), ("windows", (8, 8, 8)), ("same", (8, 8, 8))):
        window = {"size": size, "overlap": 0.5}
        explain(model, [volume], "white", device="cpu", window=window).save(tmp_path / name)
    said = "'volume (windows)' prepares the volume in another way than 'volume (whole)' (window): that alone changes"
    facts = compare([tmp_path / "whole", tmp_path / "windows"]).facts
    assert facts["notes"] == [f"{said} the prediction and the map."]
    assert compare([tmp_path / "windows", tmp_path / "same"]).facts["notes"] == []


def test_the_command_compares_methods_and_leaves_explanations(tmp_path, capsys):
    volume, weights = tmp_path / "t1.nrrd", save_model(tmp_path, segmenter(), **CARD)
    sitk.WriteImage(make_volume(size=(12, 10, 8)), str(volume))
    base = ["explain", "--model", str(weights), "--volume", str(volume), "--target", "white", "--device", "cpu"]
    for name in ("lrp", "gradient-x-input", "grad-cam"):
        assert main([*base, "--method", name, "--out", str(tmp_path / name)]) == 0
    places = [str(tmp_path / name) for name in ("lrp", "gradient-x-input", "grad-cam")]
    capsys.readouterr()
    assert main(["compare", *places, "--out", str(tmp_path / "out"), "--weights", "-1,2,1"]) == 2
    assert capsys.readouterr().err == "lrpexplain: Weights are 0 or more, and not all of them 0.\n"
    assert main(["compare", *places, "--out", str(tmp_path / "out"), "--weights", "2,1,1", "--top", "0.5"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"\| volume +\| gradient-x-input +\|", printed)
    assert re.search(r"\| grad-cam +\| – +\| 1 +\|", printed)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "combined", "comparison.json", "comparison.md", "consensus",
    ]  # fmt: skip
    assert len(json.loads((tmp_path / "out" / "comparison.json").read_text())["agreement"]) == 3
    assert main(["compare", *places, "--out", str(tmp_path / "out")]) == 0  # an earlier one is replaced
    assert main(["compare", *places, "--out", str(tmp_path / "lrp")]) == 2
    assert "holds other files" in capsys.readouterr().err
