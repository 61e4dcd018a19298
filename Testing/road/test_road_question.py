"""The question asked: what is explained, where, and that the ledger closes over it."""

from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from helpers.networks import RANGE, BlobFinder, classes, classifier, save_model, segmenter
from helpers.questions import LANDMARK, NAMES, WISHES, array, assert_closed, logits, ras_of
from helpers.volumes import make_volume
from LRPExplainLib import lrp
from LRPExplainLib.errors import UserError
from LRPExplainLib.explain import explain
from LRPExplainLib.explanation import Explanation
from LRPExplainLib.findings.caution import warnings_of
from LRPExplainLib.imaging import Box, Everywhere, Grid, Points, Segment
from LRPExplainLib.models import load_model
from LRPExplainLib.question import Question
from LRPExplainLib.summaries import summary
from torch import Tensor, nn

SPACE = {"orientation": "RAS", "spacing": [1.0, 1.0, 1.0], "size_multiple": 8, "intensity": RANGE}


@pytest.fixture
def segment(oblique_volume) -> Segment:
    """A ball around the landmark, drawn on another grid."""
    drawn = make_volume((30, 30, 30), (0.7, 0.7, 0.7), (0.1, 0.5, -0.3))
    shift = np.array(Grid.of(oblique_volume).point(LANDMARK)) - Grid.of(drawn).point((14.5, 14.5, 14.5))
    drawn.SetOrigin((np.array(drawn.GetOrigin()) + shift).tolist())
    k, j, i = np.indices((30, 30, 30)) - 14.5
    return Segment(Grid.of(drawn).image((i**2 + j**2 + k**2 < 60).astype(np.uint8)), "ball")


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


def test_a_class_that_is_not_predicted_where_it_was_asked_about_is_told(tmp_path, oblique_volume):
    """Of many classes several have a score above 0, of which the map is all "for" them."""
    network = nn.Conv3d(1, 3, 1, bias=False)
    network.weight.data[:, 0, 0, 0, 0] = torch.tensor([0.0, 1.0, 2.0])
    model = save_model(tmp_path, network, preprocessing=WISHES, output=classes("background", "spleen", "liver"))
    volume = bright_at_the_landmark(oblique_volume)
    box = Box(ras_of(volume, LANDMARK), (2, 2, 2))
    missing = "'spleen' is predicted in none of the voxels that were asked about"
    for target, against, predicted, told in (
        ("spleen", None, 0, True),
        ("spleen", "background", 0, False),
        ("liver", None, 1, False),
    ):
        explanation = explain(model, [volume], target, "epsilon", rather_than=against, region=box)
        assert explanation.target["predicted"] == predicted
        assert (f"Note: {missing}" in summary(explanation)) == told
        said = warnings_of([None], [None], ["CT"], explanation.ledger, {}, explanation.target)
        assert any(str(sentence).startswith(missing) for sentence in said) == told
    assert "predicted" not in explain(model, [volume], "liver").target


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
