"""The question asked: what is explained, where, and that the ledger closes over it."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from helpers.networks import RANGE, BlobFinder, classes, classifier, save_model, segmenter
from helpers.volumes import make_volume
from LRPExplainLib import lrp
from LRPExplainLib.cli import main
from LRPExplainLib.errors import UserError
from LRPExplainLib.explain import explain
from LRPExplainLib.explanation import Explanation
from LRPExplainLib.imaging import Box, Everywhere, Grid, Points, Segment, prepare
from LRPExplainLib.models import ExplainableModel, load_model
from LRPExplainLib.outcome import read_outcome
from LRPExplainLib.question import Question
from torch import Tensor, nn

RAS = np.array([-1, -1, 1])
LANDMARK = (6, 20, 9)  # i, j, k
WISHES = {"intensity": RANGE}
SPACE = {"orientation": "RAS", "spacing": [1.0, 1.0, 1.0], "size_multiple": 8, "intensity": RANGE}
NAMES = ("background", "grey", "white")


def array(image: sitk.Image) -> np.ndarray:
    return sitk.GetArrayFromImage(image)


def ras_of(image: sitk.Image, index: tuple[float, ...]) -> tuple[float, ...]:
    return tuple((np.array(Grid.of(image).point(index)) * RAS).tolist())


def assert_closed(explanation: Explanation, tolerance: float = 1e-3) -> None:
    ledger = explanation.ledger
    in_volume = sum(float(array(image).sum(dtype=np.float64)) for image in explanation.relevance)
    absorbed = sum(row["absorbed_bias"] + row["absorbed_stabiliser"] + row["changed"] for row in ledger["by_layer"])
    gap = ledger["target_value"] - in_volume - absorbed - ledger["outside"]
    assert abs(gap) <= tolerance * abs(ledger["target_value"])
    for row in ledger["by_layer"]:
        assert abs(row["gap"]) <= tolerance * max(abs(row["relevance_out"]), abs(ledger["target_value"]))


@pytest.fixture
def model(tmp_path) -> ExplainableModel:
    return load_model(save_model(tmp_path, segmenter(), preprocessing=WISHES, output=classes(*NAMES)))


@pytest.fixture
def segment(oblique_volume) -> Segment:
    """A ball around the landmark, drawn on another grid."""
    drawn = make_volume((30, 30, 30), (0.7, 0.7, 0.7), (0.1, 0.5, -0.3))
    shift = np.array(Grid.of(oblique_volume).point(LANDMARK)) - Grid.of(drawn).point((14.5, 14.5, 14.5))
    drawn.SetOrigin((np.array(drawn.GetOrigin()) + shift).tolist())
    k, j, i = np.indices((30, 30, 30)) - 14.5
    return Segment(Grid.of(drawn).image((i**2 + j**2 + k**2 < 60).astype(np.uint8)), "ball")


def logits(model: ExplainableModel, image: sitk.Image) -> Tensor:
    with torch.no_grad():
        return model.module((torch.from_numpy(array(image)) / 100).clamp(0, 1)[None, None])


# --- regions hit the right voxels ----------------------------------------------------------------------------------


def bright_at_the_landmark(image: sitk.Image) -> sitk.Image:
    """One bright voxel in the dark."""
    voxels = np.zeros(array(image).shape, np.float32)
    voxels[LANDMARK[::-1]] = 100
    return Grid.of(image).image(voxels)


@pytest.mark.parametrize("kind", ["points", "box", "segment"])
@pytest.mark.parametrize("wishes", [WISHES, SPACE], ids=["own grid", "resampled"])
def test_relevance_is_on_the_planted_landmark_that_a_region_names(tmp_path, oblique_volume, segment, kind, wishes):
    """A network without neighbourhood: relevance can only be where the question is."""
    network = nn.Conv3d(1, 2, 1, bias=False)
    network.weight.data[:, 0, 0, 0, 0] = torch.tensor([0.0, 1.0])
    model = save_model(tmp_path, network, preprocessing=wishes, output=classes("background", "bright"))
    volume = bright_at_the_landmark(oblique_volume)
    here = ras_of(volume, LANDMARK)
    region = {"points": Points((here,)), "box": Box(here, (2, 2, 2)), "segment": segment}[kind]
    explanation = explain(model, [volume], "bright", composite="epsilon", region=region)
    values = array(explanation.relevance[0])
    assert np.unravel_index(values.argmax(), values.shape) == LANDMARK[::-1]
    if wishes is WISHES:  # interpolation spreads a voxel to its neighbours
        assert values[LANDMARK[::-1]] == pytest.approx(values.sum(), rel=1e-6)
    assert explanation.target["where"] == kind
    assert_closed(explanation, 1e-5)
    elsewhere = ras_of(volume, (25, 3, 2))
    with pytest.raises(UserError, match="exactly 0"):
        explain(model, [volume], "bright", region=Points((elsewhere,)))


def test_a_point_is_its_voxels_logit(model, oblique_volume):
    x = logits(model, oblique_volume)
    place = Points((ras_of(oblique_volume, LANDMARK),))
    explanation = explain(model, [oblique_volume], "white", region=place)
    assert explanation.ledger["target_value"] == pytest.approx(float(x[0, 2][LANDMARK[::-1]]), rel=1e-5)
    assert explanation.target["voxels"] == 1
    assert explanation.target["region"] == {"points_ras": [list(place.points[0])]}
    assert_closed(explanation)


def test_the_default_class_in_a_region_is_the_one_predicted_there(model, oblique_volume):
    labels = logits(model, oblique_volume).argmax(1)[0]
    for label in range(3):
        k, j, i = np.argwhere(labels.numpy() == label)[0]
        explanation = explain(model, [oblique_volume], region=Points((ras_of(oblique_volume, (i, j, k)),)))
        assert explanation.target["index"] == label


def test_the_default_class_of_sigmoid_classes_in_a_region_without_any_is_the_likeliest(tmp_path, oblique_volume):
    network = nn.Conv3d(1, 2, 1)
    network.weight.data[:] = 0.1
    network.bias.data[:] = torch.tensor([-5.0, -3.0])
    output = classes("core", "whole", activation="sigmoid")
    model = save_model(tmp_path, network, preprocessing=WISHES, output=output)
    explanation = explain(model, [oblique_volume], region=Everywhere())
    assert explanation.target["class"] == "whole"
    with pytest.raises(UserError, match="nothing but background"):
        explain(model, [oblique_volume])


def test_everywhere_is_the_whole_field_of_view_without_padding(tmp_path, oblique_volume):
    model = load_model(
        save_model(tmp_path, segmenter(), preprocessing={**WISHES, "size_multiple": 16}, output=classes(*NAMES))
    )
    explanation = explain(model, [oblique_volume], "grey", region=Everywhere())
    assert explanation.target["voxels"] == array(oblique_volume).size
    assert explanation.target["where"] == "everywhere"
    assert_closed(explanation)


def test_a_segment_of_another_geometry_is_summed_over_its_voxels(model, oblique_volume, segment):
    mask = segment.mask(Grid.of(oblique_volume), np.ones(array(oblique_volume).shape, bool))
    explanation = explain(model, [oblique_volume], "grey", region=segment)
    expected = logits(model, oblique_volume)[0, 1].numpy()[mask].sum()
    assert explanation.ledger["target_value"] == pytest.approx(expected, rel=1e-4)
    assert explanation.target["voxels"] == mask.sum()
    assert explanation.target["text"] == f"grey over {mask.sum()} voxels of the segment 'ball'"


# --- contrast ------------------------------------------------------------------------------------------------------


def test_a_rather_than_b_is_the_map_of_a_less_the_map_of_b(tmp_path, oblique_volume):
    """On a linear network, and with a linear composite, exactly."""
    torch.manual_seed(4)
    network = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1, bias=False), nn.Conv3d(4, 3, 3, padding=1, bias=False))
    model = load_model(save_model(tmp_path, network, preprocessing=WISHES, output=classes(*NAMES)))
    composite = lrp.Composite("plain", "", (lrp.Row("*", lrp.rules.epsilon(0.0)),))
    box = Box(ras_of(oblique_volume, LANDMARK), (8, 8, 8))

    def relevance(**question: Any) -> np.ndarray:
        explanation = explain(model, [oblique_volume], composite=composite, region=box, **question)
        assert_closed(explanation, 1e-3)
        return array(explanation.relevance[0])

    contrast = relevance(target="white", rather_than="grey")
    apart = relevance(target="white") - relevance(target="grey")
    np.testing.assert_allclose(contrast, apart, atol=1e-4 * np.abs(apart).max())
    assert np.abs(contrast).max() > 0


def test_a_contrast_asks_where_the_target_is_predicted(model, oblique_volume):
    x = logits(model, oblique_volume)
    mask = x.argmax(1)[0] == 2
    explanation = explain(model, [oblique_volume], "white", rather_than="grey")
    expected = float((x[0, 2] - x[0, 1])[mask].sum())
    assert explanation.ledger["target_value"] == pytest.approx(expected, rel=1e-4)
    facts = explanation.target
    assert (facts["class"], facts["rather_than"], facts["rather_than_index"]) == ("white", "grey", 1)
    assert facts["text"] == f"white rather than grey over the {int(mask.sum())} voxels predicted as it"
    assert_closed(explanation)


# --- one answer for the whole volume -------------------------------------------------------------------------------


def test_a_regression_is_explained_as_its_value(tmp_path, oblique_volume):
    network = classifier(outputs=1)
    model = load_model(save_model(tmp_path, network, task="regression", preprocessing=WISHES))
    explanation = explain(model, [oblique_volume], composite="epsilon")
    value = float(logits(model, oblique_volume))
    assert explanation.ledger["target_value"] == pytest.approx(value, rel=1e-4)
    assert explanation.prediction.probabilities == {"value": pytest.approx(value, rel=1e-4)}
    assert explanation.target["class"] == "value"
    assert_closed(explanation)


def test_of_several_values_one_must_be_named(tmp_path, oblique_volume):
    output = {"classes": [{"name": "age"}, {"name": "volume"}]}
    model = load_model(save_model(tmp_path, classifier(), task="regression", preprocessing=WISHES, output=output))
    with pytest.raises(UserError, match="2 values: choose one of age, volume"):
        explain(model, [oblique_volume])
    values = logits(model, oblique_volume)[0]
    explanation = explain(model, [oblique_volume], "age", rather_than="volume")
    assert explanation.ledger["target_value"] == pytest.approx(float(values[0] - values[1]), rel=1e-4)
    assert_closed(explanation)


# --- probabilities -------------------------------------------------------------------------------------------------

ASKED = {
    "logit": {},
    "contrast": {"rather_than": "grey"},
    "probability": {"value": "probability"},
    "probabilities apart": {"value": "probability", "rather_than": "grey"},
    "one": {"start": "one"},
    "contrast from one": {"start": "one", "rather_than": "grey"},
    "probability from one": {"start": "one", "value": "probability"},
}


def expected_value(x: Tensor, activation: str, asked: dict[str, str]) -> Tensor:
    """Value per voxel of "white", by torch alone."""
    values = {"softmax": x.softmax(1), "sigmoid": x.sigmoid()}[activation] if "value" in asked else x
    return values[0, 2] - values[0, 1] if "rather_than" in asked else values[0, 2]


@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED)
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("where", ["prediction", "box", "everywhere"])
def test_the_ledger_closes_whatever_is_asked(tmp_path, oblique_volume, activation, where, asked):
    output = classes(*NAMES, activation=activation)
    network = segmenter()
    network[-1].bias.data += torch.tensor([0.0, 0.05, 0.2])  # by itself it says 0 on the average, a sum of nothing
    model = load_model(save_model(tmp_path, network, preprocessing=WISHES, output=output))
    x = logits(model, oblique_volume)
    box = Box(ras_of(oblique_volume, LANDMARK), (12, 9, 14))
    masks = {
        "prediction": x[0, 2] > 0 if activation == "sigmoid" else x.argmax(1)[0] == 2,
        "box": torch.from_numpy(box.mask(Grid.of(oblique_volume), np.ones(x.shape[2:], bool))),
        "everywhere": torch.ones(x.shape[2:], dtype=torch.bool),
    }
    region = {"prediction": None, "box": box, "everywhere": Everywhere()}[where]
    explanation = explain(model, [oblique_volume], "white", region=region, **asked)
    value = expected_value(x, activation, asked)[masks[where]].double()
    expected = float(len(value)) if "start" in asked else float(value.sum())
    assert explanation.ledger["target_value"] == pytest.approx(expected, rel=1e-3)
    assert explanation.target["voxels"] == int(masks[where].sum())
    assert_closed(explanation)
    first = explanation.ledger["by_layer"][0]
    assert (first["layer"] == activation) == ("value" in asked)
    assert explanation.target.get("activation") == (activation if "value" in asked else None)


def ask(network: nn.Module, x: Tensor, question: Question, activation: str):
    """A question put to a network's output on a volume given as a tensor [1, 1, D, H, W]."""
    image = sitk.GetImageFromArray(x[0, 0].numpy())
    model = ExplainableModel(network, _card(activation), Path("net.ts"), "")
    prepared = prepare([image], model.card.preprocessing)
    with torch.no_grad():
        output = network(x)
    card = model.card.completed(output.shape)
    return output, question.ask(output, read_outcome(output, card, prepared), prepared, card)


def _card(activation: str):
    from LRPExplainLib.models import ClassInfo, ModelCard, OutputInfo

    named = tuple(ClassInfo(name, (0, 0, 0)) for name in NAMES)
    return ModelCard("net", "net.ts", "segmentation", output=OutputInfo(activation, named))


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("rather_than", [None, "grey"])
def test_coefficients_of_a_probability_are_its_gradient(activation, rather_than):
    x = torch.from_numpy(np.random.default_rng(3).random((1, 1, 5, 6, 7)).astype(np.float32))
    question = Question("white", rather_than, Everywhere(), "probability")
    output, asked = ask(segmenter(), x, question, activation)
    leaf = output.clone().requires_grad_()
    p = {"softmax": leaf.softmax(1), "sigmoid": leaf.sigmoid()}[activation]
    (p[0, 2] - p[0, 1] if rather_than else p[0, 2]).sum().backward()
    torch.testing.assert_close(asked.coefficients, leaf.grad, rtol=1e-4, atol=1e-6)
    assert asked.target_value == pytest.approx(float((asked.coefficients * output).sum()) + asked.taken, rel=1e-5)


def test_the_softmax_is_treated_as_the_engine_treats_one_within_the_network(oblique_volume):
    """The same network with its softmax inside, explained by the engine, gives the same map and the same row."""
    network = segmenter()
    x = (torch.from_numpy(array(oblique_volume)) / 100).clamp(0, 1)[None, None]
    output, asked = ask(network, x, Question("white", region=Everywhere(), value="probability"), "softmax")
    composite = lrp.composite_named("epsilon").override({"softmax": "taylor"})
    ours = lrp.attribute(lrp.capture(network, x), x, asked.start(output), composite)
    inside = nn.Sequential(network, nn.Softmax(1))
    theirs = lrp.attribute(lrp.capture(inside, x), x, lrp.Target(2), composite)
    scale = float(theirs.relevance.abs().max())
    torch.testing.assert_close(ours.relevance, theirs.relevance, rtol=1e-3, atol=1e-4 * scale)
    row, engine = asked.booked(ours.ledger).by_layer[0], theirs.ledger.by_layer[0]
    assert engine.rule == row.rule == "taylor"
    assert (row.relevance_out, row.changed) == pytest.approx((engine.relevance_out, engine.changed), rel=1e-4)


def test_each_voxel_starts_with_one(model, oblique_volume):
    x = (torch.from_numpy(array(oblique_volume)) / 100).clamp(0, 1)[None, None]
    for rather_than in (None, "grey"):
        output, asked = ask(model.module, x, Question("white", rather_than, Everywhere(), start="one"), "softmax")
        per_voxel = asked.start(output).sum(1)
        torch.testing.assert_close(per_voxel, torch.ones_like(per_voxel), rtol=1e-3, atol=1e-3)
        assert asked.target_value == pytest.approx(per_voxel.numel(), rel=1e-4)


def test_voxels_that_say_nothing_cannot_start_with_one_and_are_counted():
    network = nn.Conv3d(1, 3, 1, bias=False)
    network.weight.data[:, 0, 0, 0, 0] = torch.tensor([0.0, 1.0, 2.0])
    x = torch.zeros(1, 1, 4, 4, 4)
    x[0, 0, 1, 2, 3] = 3
    output, asked = ask(network, x, Question("white", region=Everywhere(), start="one"), "softmax")
    assert asked.facts["left_out"] == 63
    assert asked.target_value == pytest.approx(1)
    assert int((asked.start(output) != 0).sum()) == 1
    with pytest.raises(UserError, match="says exactly 0 wherever"):
        ask(network, x, Question("background", region=Everywhere(), start="one"), "softmax")


@pytest.mark.parametrize("value", ["logit", "probability"])
@pytest.mark.parametrize("start", ["value", "one"])
def test_a_classification_can_be_asked_the_same(tmp_path, oblique_volume, value, start):
    model = load_model(
        save_model(tmp_path, classifier(3), task="classification", preprocessing=WISHES, output=classes(*NAMES))
    )
    explanation = explain(model, [oblique_volume], "white", rather_than="grey", value=value, start=start)
    x = logits(model, oblique_volume)
    said = x.softmax(1)[0] if value == "probability" else x[0]
    expected = 1 if start == "one" else float(said[2] - said[1])
    assert explanation.ledger["target_value"] == pytest.approx(expected, rel=1e-3)
    assert explanation.target["where"] == "output"
    assert_closed(explanation)


# --- facts, and what is refused ------------------------------------------------------------------------------------


def test_the_facts_come_back_from_the_folder(tmp_path, model, oblique_volume):
    box = Box(ras_of(oblique_volume, LANDMARK), (8, 8, 8))
    question = Question("white", "grey", box, "probability", "one")
    explanation = explain(model, [oblique_volume], question)
    explanation.save(tmp_path / "out")
    assert Explanation.load(tmp_path / "out") == explanation
    facts = explanation.target
    assert facts["region"] == {"centre_ras": list(box.centre), "size_mm": [8, 8, 8], "axes_ras": list(box.axes)}
    assert (facts["where"], facts["value"], facts["start"]) == ("box", "probability", "one")
    assert "white rather than grey over" in facts["text"]


def test_a_question_in_one_and_in_parts_is_the_same(model, oblique_volume):
    box = Box(ras_of(oblique_volume, LANDMARK), (8, 8, 8))
    whole = explain(model, [oblique_volume], Question("white", "grey", box))
    parts = explain(model, [oblique_volume], "white", rather_than="grey", region=box)
    assert whole.target == parts.target
    np.testing.assert_array_equal(array(whole.relevance[0]), array(parts.relevance[0]))
    with pytest.raises(TypeError, match="whole"):
        explain(model, [oblique_volume], Question("white"), rather_than="grey")


class Dense(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, -x], 1)


ELSEWHERE = Points(((500.0, 0.0, 0.0),))


@pytest.mark.parametrize(
    ("network", "card", "question", "expected"),
    [
        (segmenter(), {}, {"target": "white", "rather_than": "white"}, "rather than itself"),
        (segmenter(), {}, {"target": "white", "rather_than": "blue"}, "no class 'blue'"),
        (segmenter(), {}, {"region": ELSEWHERE}, "outside what the model sees"),
        (segmenter(), {}, {"value": "odds"}, "no value to explain 'odds': choose logit or probability"),
        (segmenter(), {}, {"start": "two"}, "no start 'two': choose value or one"),
        (classifier(3), {"task": "classification"}, {"region": Box((0, 0, 0), (9, 9, 9))}, "one answer for the whole"),
        (
            classifier(3),
            {"task": "regression", "output": {}},
            {"target": 0, "value": "probability"},
            "no probabilities",
        ),
        (classifier(3), {"task": "regression"}, {}, "wants softmax for a regression"),
        (Dense(), {"task": "regression", "output": {}}, {}, "a regression has one answer"),
        (Dense(), {"task": "classification", "output": {}}, {}, "a classification has one answer"),
    ],
)
def test_questions_that_make_no_sense_are_refused_in_one_sentence(
    tmp_path, oblique_volume, network, card, question, expected
):
    model = save_model(tmp_path, network, **{"output": classes(*NAMES), "preprocessing": WISHES, **card})
    with pytest.raises(UserError, match=expected) as caught:
        explain(model, [oblique_volume], **question)
    assert "\n" not in str(caught.value)


def test_what_can_be_refused_is_refused_before_the_network_runs(model, oblique_volume, monkeypatch):
    monkeypatch.setattr(lrp, "evaluate", lambda *_, **__: pytest.fail("the network has run"))
    for question in ({"target": "blue"}, {"region": ELSEWHERE}):
        with pytest.raises(UserError):
            explain(model, [oblique_volume], **question)


def test_an_empty_target_names_what_would_not_be_empty(tmp_path, oblique_volume):
    network = segmenter()
    network[-1].bias.data[1] = 1000.0
    model = save_model(tmp_path, network, preprocessing=WISHES, output=classes(*NAMES))
    with pytest.raises(UserError, match=r"'white' in no voxel.*\(predicted: grey\), or ask about 'white' in a region"):
        explain(model, [oblique_volume], "white")
    explanation = explain(model, [oblique_volume], "white", region=Everywhere())  # as the message proposes
    assert explanation.target["class"] == "white"


def test_an_image_without_the_blob_can_be_asked_why_not(tmp_path, oblique_volume):
    """A missed lesion: the region is known, the model says background there, and the lesion's logit is explained."""
    model = save_model(tmp_path, BlobFinder(), preprocessing=WISHES, output=classes("background", "blob"))
    voxels = np.zeros(array(oblique_volume).shape, np.float32)
    voxels[8:11, 18:23, 3:10] = 20  # too faint
    volume = Grid.of(oblique_volume).image(voxels)
    with pytest.raises(UserError, match="nothing but background"):
        explain(model, [volume])
    here = Points((ras_of(volume, LANDMARK),))
    assert explain(model, [volume], region=here).target["class"] == "background"
    explanation = explain(model, [volume], "blob", composite="epsilon", region=here)
    assert explanation.ledger["target_value"] == pytest.approx(0.2, rel=1e-4)
    assert array(explanation.relevance[0])[LANDMARK[::-1]] > 0


# --- the command line ----------------------------------------------------------------------------------------------


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
