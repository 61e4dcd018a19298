"""evaluate() and `lrpexplain evaluate`: from an explanation's folder to evaluation.json and its tables."""

import dataclasses
import json
import time
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from helpers.networks import RANGE, classes, classifier, save_model, segmenter
from helpers.volumes import make_volume
from jsonschema import Draft202012Validator
from LRPExplainLib.cli import main
from LRPExplainLib.errors import UserError
from LRPExplainLib.evaluation import CHECKS, Evaluation, Perturbation, Settings, Subject, evaluate, plan
from LRPExplainLib.evaluation.evaluate import SCHEMA
from LRPExplainLib.evaluation.faithfulness import Perturbed
from LRPExplainLib.evaluation.tables import tables
from LRPExplainLib.explain import explain
from LRPExplainLib.explanation import Explanation
from LRPExplainLib.imaging import Box, Everywhere, Points, read_segments
from LRPExplainLib.imaging.segmentation import write_segmentation
from LRPExplainLib.models import load_model
from LRPExplainLib.question import Question
from LRPExplainLib.running import running

OUTPUT = classes("background", "grey", "white")
CARD = {"preprocessing": {"orientation": "RAS", "intensity": RANGE}, "output": OUTPUT}
WINDOWED = CARD | {"preprocessing": CARD["preprocessing"] | {"window": {"size": [12, 12, 8], "overlap": 0.25}}}
FAST = Settings(shifts=9, perturbation=Perturbation(edge_mm=9.0, baselines=("mean", "noisy-linear"), runs=4))


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A volume, a model, an explanation of it, and an expert's two segments."""
    folder = tmp_path_factory.mktemp("case")
    volume = make_volume()
    sitk.WriteImage(volume, str(folder / "t1.nrrd"))
    model = save_model(folder, segmenter(), **CARD)
    explain(model, [folder / "t1.nrrd"], "white", "epsilon", "cpu").save(folder / "explanation")
    labels = np.zeros(sitk.GetArrayFromImage(volume).shape, dtype=np.uint8)
    labels[4:8, 8:16, 8:16] = 1
    labels[9:11, 4:8, 20:25] = 2
    image = sitk.GetImageFromArray(labels)
    image.CopyInformation(volume)
    colors = [{"name": name, "color": [0, 0, 0]} for name in ("background", "core", "rim")]
    write_segmentation(image, colors, folder / "expert.seg.nrrd")
    return folder


@pytest.fixture(scope="module")
def found(place) -> Evaluation:
    return evaluate(place / "explanation", read_segments(place / "expert.seg.nrrd"), settings=FAST, device="cpu")


def problems(facts) -> list[str]:
    schema = json.loads(SCHEMA.read_text())
    Draft202012Validator.check_schema(schema)
    return [error.message for error in Draft202012Validator(schema).iter_errors(facts)]


def test_every_check_is_made_and_is_as_the_schema_says(found):
    assert list(found.checks) == list(CHECKS)
    assert problems(json.loads(json.dumps(found.facts))) == []


def test_the_schema_refuses_what_is_no_evaluation(found):
    facts = json.loads(json.dumps(found.facts))
    facts["checks"]["sanity"]["mprt"][0]["spearman"] = "much"
    assert problems(facts)


def test_each_segment_and_all_of_them_together(found):
    (volume,) = found.checks["agreement"]
    assert volume["volume"] == "t1.nrrd"
    assert [row["segment"] for row in volume["segments"]] == ["core", "rim", None]
    voxel = 0.9 * 1.1 * 2.7 / 1000
    assert [row["volume_ml"] for row in volume["segments"]] == pytest.approx([256 * voxel, 40 * voxel, 296 * voxel])


def test_the_mass_in_a_segment_is_what_is_counted_by_hand(found, place):
    relevance = np.maximum(sitk.GetArrayFromImage(Explanation.load(place / "explanation").relevance[0]), 0)
    share = relevance[4:8, 8:16, 8:16].sum(dtype=float) / relevance.sum(dtype=float)
    measure = found.checks["agreement"][0]["segments"][0]["measures"]["relevance_mass_accuracy"]
    assert measure["value"] == pytest.approx(share, rel=1e-6)


def test_curves_begin_with_the_explanations_own_target_value(found, place):
    told = Explanation.load(place / "explanation").ledger["target_value"]
    assert found.checks["faithfulness"]["target_value"] == pytest.approx(told, rel=1e-4)


def test_an_evaluation_is_read_back_as_it_was_written(found, tmp_path):
    found.save(tmp_path / "out")
    assert Evaluation.load(tmp_path / "out") == found
    table = (tmp_path / "out" / "evaluation.md").read_text(encoding="utf-8")
    for words in ("relevance mass accuracy", "core", "all segments", "ABPC", "noisy-linear", "layers at random",
                  "max sensitivity", "Gini"):  # fmt: skip
        assert words in table
    widths = {len(line) for line in table.splitlines() if line.startswith("| measure") or line.startswith("| AUC")}
    assert len(widths) <= 3  # one per table of agreement, for their cells are aligned


def figures(value):
    """The numbers of a JSON value, in its order."""
    if isinstance(value, dict | list):
        return [x for item in (value.values() if isinstance(value, dict) else value) for x in figures(item)]
    return [float(value)] if isinstance(value, int | float) else []


def test_the_same_seed_gives_the_same_figures(found, place):
    """To rounding: how many volumes are run at once depends on the memory that happens to be free."""
    again = evaluate(place / "explanation", checks=["faithfulness"], settings=FAST, device="cpu")
    mine, theirs = (figures(e.checks["faithfulness"]) for e in (again, found))
    assert len(mine) > 50
    assert mine == pytest.approx(theirs, rel=1e-3, abs=1e-4)


def test_an_explanation_in_windows_is_evaluated_in_windows(place, tmp_path):
    save_model(tmp_path, segmenter(), **WINDOWED)
    value = explain(tmp_path / "net.ts", [place / "t1.nrrd"], "white", "epsilon", "cpu")
    with running():
        subject = Subject.of(value, device="cpu")
        assert subject.views > 1
        assert subject.asked.target_value == pytest.approx(value.ledger["target_value"], rel=1e-5)
        again = subject.on_volumes(subject.relevance())[0]
    stored = sitk.GetArrayFromImage(value.relevance[0])
    assert np.abs(again - stored).max() < 1e-5 * np.abs(stored).max()


QUESTIONS = {
    "everywhere": Question("white", region=Everywhere()),
    "rather than": Question("white", rather_than="grey"),
    "a box": Question("white", region=Box((20.0, -15.0, 50.0), (12.0, 12.0, 12.0))),
    "points": Question("grey", region=Points(((20.0, -15.0, 50.0),))),
    "probability": Question("white", value="probability"),
    "one": Question("white", start="one"),
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_the_question_is_asked_again_as_it_was(place, name):
    image = sitk.ReadImage(str(place / "t1.nrrd"))
    middle = image.TransformContinuousIndexToPhysicalPoint([n / 2 for n in image.GetSize()])
    question = QUESTIONS[name]
    if isinstance(question.region, (Box, Points)):  # moved to the middle of the volume
        ras = (-middle[0], -middle[1], middle[2])
        region = Box(ras, (12.0, 12.0, 12.0)) if isinstance(question.region, Box) else Points((ras,))
        question = Question(question.target, region=region)
    value = explain(place / "net.ts", [place / "t1.nrrd"], question, "epsilon", "cpu")
    with running():
        subject = Subject.of(value, device="cpu")
        assert subject.asked.facts == value.target
        told = value.ledger["target_value"]
        assert next(subject.values([subject.prepared.tensor])) == pytest.approx(told, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize(("value", "told"), [(4.0, "the target value 4"), (-4.0, "4, the size of the target value -4")])
def test_scores_of_an_answer_against_the_target_are_shares_of_its_size(found, value, told):
    faithfulness = found.facts["checks"]["faithfulness"] | {"target_value": value}
    sanity = found.facts["checks"]["sanity"]
    text = tables(found.facts | {"checks": {"faithfulness": faithfulness, "sanity": sanity}})
    assert f"scores as shares of {told}\n" in text
    assert "| 1 layer at random, " in text


def test_of_an_answer_against_the_target_what_speaks_against_it_is_compared(place):
    value = explain(place / "net.ts", [place / "t1.nrrd"], "white", "epsilon", "cpu")
    turned = dataclasses.replace(
        value,
        relevance=tuple(-1 * image for image in value.relevance),
        ledger=value.ledger | {"target_value": -value.ledger["target_value"]},
    )
    segments = read_segments(place / "expert.seg.nrrd")
    ours, theirs = (evaluate(one, segments, ["agreement"], FAST).checks["agreement"][0] for one in (value, turned))
    assert (ours["speaks"], theirs["speaks"]) == ("for", "against")
    assert ours["segments"] == theirs["segments"]


def test_a_classification_is_evaluated_too(place, tmp_path):
    model = save_model(tmp_path, classifier(), task="classification", output=classes("a", "b"))
    explain(model, [place / "t1.nrrd"], "b", "epsilon", "cpu").save(tmp_path / "explanation")
    found = evaluate(tmp_path / "explanation", settings=FAST, device="cpu")
    assert "agreement" not in found.checks
    assert problems(json.loads(json.dumps(found.facts))) == []


def test_two_volumes_are_told_apart_and_together(place, tmp_path):
    model = save_model(
        tmp_path,
        segmenter(2),
        inputs=[{"name": "T1"}, {"name": "T2"}],
        preprocessing={"intensity": RANGE},
        output=OUTPUT,
    )
    sitk.WriteImage(make_volume(seed=1), str(tmp_path / "t2.nrrd"))
    value = explain(model, [place / "t1.nrrd", tmp_path / "t2.nrrd"], "white", "epsilon", "cpu")
    found = evaluate(
        value, read_segments(place / "expert.seg.nrrd"), ["agreement", "complexity", "faithfulness"], FAST, device="cpu"
    )
    assert [row["volume"] for row in found.checks["complexity"]] == ["t1.nrrd", "t2.nrrd", None]
    assert [row["volume"] for row in found.checks["agreement"]] == ["t1.nrrd", "t2.nrrd", None]
    assert problems(json.loads(json.dumps(found.facts))) == []


def test_a_card_that_was_given_from_elsewhere_is_used_again_as_recorded(place, tmp_path):
    """One that turns the network's axes, besides: that is part of what is explained."""
    (tmp_path / "weights").mkdir()
    weights = save_model(tmp_path / "weights", segmenter())
    save_model(tmp_path, segmenter(), name="other", preprocessing={"intensity": RANGE, "axes": "ijk"}, output=OUTPUT)
    model = load_model(weights, tmp_path / "other.card.json")
    value = explain(model, [place / "t1.nrrd"], "white", "epsilon", "cpu")
    with running():
        subject = Subject.of(value, device="cpu")
        again = subject.on_volumes(subject.relevance())[0]
    stored = sitk.GetArrayFromImage(value.relevance[0])
    assert np.abs(again - stored).max() < 1e-5 * np.abs(stored).max()


def test_every_check_runs_on_a_real_tumour_with_the_experts_outline(shared_data, tmp_path):
    """A trained network in a box around the tumour, for time; it was not made for this volume."""
    card = {
        "schema": 1, "name": "MeshNet", "task": "segmentation", "weights": "meshnet_gwm.ts", "inputs": [{"name": "T1"}],
        "preprocessing": {"orientation": "LPS", "intensity": [{"type": "percentile"}]},
        "output": classes("background", "white matter", "grey matter"),
    }  # fmt: skip
    (tmp_path / "card.json").write_text(json.dumps(card))
    model = load_model(shared_data / "meshnet-gwm" / "meshnet_gwm.ts", tmp_path / "card.json")
    (outline,) = read_segments(shared_data / "brain-tumor" / "brain1_label.nrrd")
    box = sitk.ReadImage(str(shared_data / "brain-tumor" / "brain1_image.nrrd"))[156:216, 78:160, 10:19]
    sitk.WriteImage(box, str(tmp_path / "box.nrrd"))
    question = Question("white matter", rather_than="grey matter", region=outline)
    explain(model, [tmp_path / "box.nrrd"], question, "volume", "cpu").save(tmp_path / "explanation")
    found = evaluate(tmp_path / "explanation", [outline], settings=FAST, device="cpu")
    assert problems(json.loads(json.dumps(found.facts))) == []
    (row,) = found.checks["agreement"][0]["segments"]
    assert row["volume_ml"] == pytest.approx(4137 * 0.78125**2 * 6.5 / 1000, rel=0.01)
    assert row["measures"]["relevance_mass_accuracy"]["null"]["z"] > 0
    assert len(found.checks["sanity"]["mprt"]) == 5


# --- the shell -----------------------------------------------------------------------------------------------------


def test_the_command_writes_the_folder_and_prints_the_tables(place, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["evaluate", str(place / "explanation"), "--reference", f"{place / 'expert.seg.nrrd'}:rim", "--checks",
               "agreement,complexity", "--tolerance", "2", "--out", str(out)]  # fmt: skip
    assert main(command) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "relevance mass accuracy" in printed.out
    assert str(out) in printed.out
    checks = Evaluation.load(out).checks
    assert list(checks) == ["agreement", "complexity"]
    assert [row["segment"] for row in checks["agreement"][0]["segments"]] == ["rim"]
    assert checks["agreement"][0]["segments"][0]["tolerance_mm"] == 2


def test_a_dry_run_tells_how_often_the_model_is_run(place, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", str(place / "explanation"), "--device", "cpu", "--edge", "9", "--dry-run"]) == 0
    assert "predictions" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_the_plan_counts_what_is_run(place, monkeypatch):
    predicted, explained = [], []
    value, relevance = Subject.values, Subject.relevance

    def values(self, tensors, *more):
        return value(self, (predicted.append(1) or tensor for tensor in tensors), *more)

    def counted(self, *given, **more):
        explained.append(1)
        return relevance(self, *given, **more)

    told = plan(place / "explanation", settings=FAST, device="cpu")
    monkeypatch.setattr(Subject, "values", values)
    monkeypatch.setattr(Subject, "relevance", counted)
    evaluate(place / "explanation", settings=FAST, device="cpu")
    assert (told["predictions"], told["explanations"]) == (len(predicted), len(explained))
    assert told["seconds"] > 0


def test_a_plan_counts_how_long_it_takes_to_replace_pieces(place, monkeypatch):
    """Which of a small network in a large volume is nearly all."""
    monkeypatch.setattr(Perturbed, "seconds", lambda _: 3600.0)
    told = plan(place / "explanation", checks=["faithfulness"], settings=FAST, device="cpu")
    assert 3600 < told["seconds"] < 3700


def test_the_time_of_replacing_pieces_is_that_of_all_replacements(place, monkeypatch):
    """One is timed after what is done but once, by a clock that each replacement advances."""
    perturbed = Perturbed(Subject.of(Explanation.load(place / "explanation"), device="cpu"), FAST.perturbation)
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    mask = Perturbed._mask

    def advancing(self, pieces):
        now[0] += 0.5 if len(pieces) > 1 else 100.0
        return mask(self, pieces)

    monkeypatch.setattr(Perturbed, "_mask", advancing)
    assert perturbed.seconds() == 0.5 * (perturbed.runs - 1)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--checks", "agreement"], "--reference"),
        (["--checks", "beauty"], "no check 'beauty'"),
        (["--checks", ","], "No check"),
        (["--reference", "nowhere.seg.nrrd"], "no segmentation file"),
        (["--reference", "EXPERT:edema"], "no segment 'edema'"),
        (["--checks", "faithfulness", "--baselines", "zero"], "no baseline 'zero'"),
        (["--checks", "faithfulness", "--baselines", ","], "No baseline is named: choose from mean, blur"),
        (["--checks", "faithfulness", "--edge", "0"], "edge above 0"),
        (["--checks", "complexity", "--tolerance", "-1"], "0 or more"),
    ],
)
def test_wrong_input_is_one_sentence_and_leaves_nothing(place, tmp_path, capsys, more, words):
    more = [text.replace("EXPERT", str(place / "expert.seg.nrrd")) for text in more]
    assert main(["evaluate", str(place / "explanation"), "--out", str(tmp_path / "out"), "--device", "cpu", *more]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert len(error.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_another_folder_is_not_overwritten(place, tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("mine")
    assert main(["evaluate", str(place / "explanation"), "--checks", "complexity", "--out", str(tmp_path)]) == 2
    assert "other files" in capsys.readouterr().err


@pytest.mark.parametrize(("changed", "words"), [("net.ts", "model .* changed"), ("t1.nrrd", "volume .* changed")])
def test_files_that_have_changed_since_are_refused(tmp_path, changed, words):
    model = save_model(tmp_path, segmenter(), **CARD)
    sitk.WriteImage(make_volume(), str(tmp_path / "t1.nrrd"))
    value = explain(model, [tmp_path / "t1.nrrd"], "white", "epsilon", "cpu")
    if changed == "net.ts":
        network = segmenter()
        network[0].weight.data += 1
        save_model(tmp_path, network, **CARD)
    else:
        sitk.WriteImage(make_volume(seed=2), str(tmp_path / "t1.nrrd"))
    with pytest.raises(UserError, match=words):
        evaluate(value, checks=["faithfulness"], device="cpu")


@pytest.mark.parametrize("memory", [-1.0, float("nan"), float("inf")])
def test_no_amount_of_memory_is_refused_whatever_is_checked(place, memory):
    with pytest.raises(UserError, match="give a number above 0"):
        evaluate(place / "explanation", checks=["complexity"], device="cpu", memory=memory)


def test_an_evaluation_keeps_to_the_memory_that_it_may_use(place):
    with pytest.raises(UserError, match=r"GiB of memory for one window .* allow so much"):
        evaluate(place / "explanation", checks=["faithfulness"], device="cpu", memory=1e-6)


def test_a_volume_from_memory_cannot_be_perturbed_but_its_map_can_be_looked_at(place):
    value = explain(place / "net.ts", [make_volume()], "white", "epsilon", "cpu")
    assert evaluate(value, checks=["complexity"]).checks["complexity"][0]["sparseness"] > 0
    with pytest.raises(UserError, match="from memory"):
        evaluate(value, checks=["faithfulness"], device="cpu")


def test_a_file_that_is_no_evaluation_is_refused(tmp_path):
    (tmp_path / "evaluation.json").write_text('{"format": "other"}')
    with pytest.raises(UserError, match="no evaluation"):
        Evaluation.load(tmp_path)
    with pytest.raises(UserError, match="lrpexplain evaluate"):
        Evaluation.load(tmp_path / "none")


def test_each_segment_of_a_label_map_by_its_value(tmp_path):
    labels = np.zeros((4, 4, 4), dtype=np.uint8)
    labels[0, 0, :2], labels[3, 3, 3] = 2, 7
    sitk.WriteImage(sitk.GetImageFromArray(labels), str(tmp_path / "labels.nii.gz"))
    segments = read_segments(tmp_path / "labels.nii.gz")
    assert [segment.name for segment in segments] == ["label 2", "label 7"]
    assert [int(sitk.GetArrayFromImage(segment.image).sum()) for segment in segments] == [2, 1]
