"""The value asked about: logit or probability, a contrast, or one to start with, and the ledger closes over each."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from helpers.networks import classes, classifier, save_model, segmenter
from helpers.questions import LANDMARK, NAMES, WISHES, array, assert_closed, logits, ras_of
from LRPExplainLib import lrp
from LRPExplainLib.errors import UserError
from LRPExplainLib.explain import explain
from LRPExplainLib.imaging import Box, Everywhere, Grid, prepare
from LRPExplainLib.models import ExplainableModel, Preprocessing, load_model
from LRPExplainLib.models.card import ClassInfo
from LRPExplainLib.outcome import class_index, read_outcome
from LRPExplainLib.question import Question
from LRPExplainLib.summaries import summary
from torch import Tensor, nn

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


@pytest.mark.parametrize("overlap", ["strongest", "last"])
def test_where_classes_overlap_the_card_says_which_one_is_shown(overlap):
    scores = torch.randn(1, 3, 4, 5, 6, generator=torch.Generator().manual_seed(1))
    prepared = prepare([sitk.GetImageFromArray(np.random.default_rng(0).random((4, 5, 6)))], Preprocessing())
    card = _card("sigmoid").completed(scores.shape)
    card = replace(card, output=replace(card.output, overlap=overlap))
    outcome = read_outcome(scores, card, prepared)
    expected = np.zeros((4, 5, 6), int)
    for place in np.ndindex(expected.shape):
        here = scores[(0, slice(None), *place)].tolist()
        said = [n for n in range(3) if here[n] > 0]
        if said:
            expected[place] = 1 + (said[-1] if overlap == "last" else max(said, key=here.__getitem__))
    assert np.array_equal(outcome.labels, expected)
    for n in range(3):
        assert torch.equal(outcome.mask(n), scores[0, n] > 0)  # whatever is shown


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_an_output_with_one_value_that_is_no_number_is_refused(value):
    scores = torch.randn(1, 3, 4, 5, 6)
    scores[0, 1, 2, 3, 4] = value
    prepared = prepare([sitk.GetImageFromArray(np.random.default_rng(0).random((4, 5, 6)))], Preprocessing())
    with pytest.raises(UserError, match="holds NaN or infinite values"):
        read_outcome(scores, _card("softmax").completed(scores.shape), prepared)


def test_one_answer_for_the_whole_volume_is_everywhere(tmp_path, oblique_volume):
    model = load_model(
        save_model(tmp_path, classifier(3), task="classification", preprocessing=WISHES, output=classes(*NAMES))
    )
    plain, everywhere = (explain(model, [oblique_volume], "white", region=region) for region in (None, Everywhere()))
    assert np.array_equal(array(plain.relevance[0]), array(everywhere.relevance[0]))
    assert everywhere.target["where"] == plain.target["where"] == "output"


def test_a_negative_score_is_told_as_what_it_is(tmp_path: Path, oblique_volume: sitk.Image) -> None:
    """Of z = x - 4 < 0 what is bright speaks for the class: occlusion says so, and z+ gives it all of z."""
    network = torch.nn.Conv3d(1, 1, 1)
    torch.nn.init.ones_(network.weight)
    torch.nn.init.constant_(network.bias, -4.0)
    path = save_model(tmp_path, network, preprocessing=WISHES, output=classes("lesion", activation="sigmoid"))
    question = Question("lesion", region=Everywhere())
    by_rules = explain(path, [oblique_volume], question, "excitation-backprop")
    by_trying = explain(path, [oblique_volume], question, method="occlusion")
    assert by_rules.ledger["target_value"] < 0
    assert array(by_rules.relevance[0]).max() <= 0
    assert array(by_trying.relevance[0]).min() >= 0
    assert "compare another method" in summary(by_rules)
    assert "compare another method" not in summary(by_trying)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("Kidney", "choose one of 2 kidney left, 3 kidney right and 116 more"),
        ("livr", "choose one of 1 liver and 117 more"),
        ("500", "choose one of 0 background, 1 liver, .* 19 rib 16 and 98 more"),
    ],
)
def test_of_many_classes_those_like_the_one_asked_for_are_named(asked, told):
    names = ["background", "liver", "kidney left", "kidney right", *(f"rib {n}" for n in range(1, 115))]
    with pytest.raises(UserError, match=f"no class '{asked}': {told}"):
        class_index([ClassInfo(name, (0, 0, 0)) for name in names], asked)
