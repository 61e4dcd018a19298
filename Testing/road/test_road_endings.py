"""A network that makes probabilities itself is explained, evaluated and shown as one that leaves that to its card."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from helpers.networks import classes, classifier, save_model, segmenter
from helpers.questions import NAMES, WISHES, array
from LRPExplainLib.evaluation import Subject
from LRPExplainLib.explain import explain
from LRPExplainLib.explanation import Explanation
from LRPExplainLib.imaging import Everywhere
from LRPExplainLib.models import ExplainableModel, load_model
from LRPExplainLib.question import Question
from torch import nn

ENDS = {"softmax": nn.Softmax(1), "sigmoid": nn.Sigmoid()}
BODIES = {"segmentation": segmenter, "classification": lambda: classifier(3)}
WINDOWED = {**WISHES, "window": {"size": [8, 8, 8], "overlap": 0.5, "blending": "gaussian"}}


def body_of(task: str) -> nn.Module:
    """Its scores are negative, so that their probabilities have another sign."""
    body = BODIES[task]()
    with torch.no_grad():
        body[-1].bias -= 3
    return body


def pair(folder: Path, task: str, end: str, wishes: dict) -> list[ExplainableModel]:
    """The network without its ending and with it; the cards of both say which."""
    output = classes(*NAMES, activation=end)
    networks = {"bare": body_of(task), "ends": nn.Sequential(body_of(task), ENDS[end])}
    return [
        load_model(save_model(folder, network, name, task=task, preprocessing=wishes, output=output))
        for name, network in networks.items()
    ]


def assert_same(a: Explanation, b: Explanation) -> None:
    for one, other in zip(a.relevance, b.relevance, strict=True):
        values = array(one)
        np.testing.assert_allclose(array(other), values, rtol=1e-3, atol=1e-4 * np.abs(values).max())
    assert a.prediction.probabilities == pytest.approx(b.prediction.probabilities)
    if a.prediction.segmentation is not None:
        assert (array(a.prediction.segmentation) == array(b.prediction.segmentation)).mean() > 0.999
    assert a.target == b.target
    for key in ("target_value", "in_volume", "absorbed"):
        assert a.ledger[key] == pytest.approx(b.ledger[key], rel=1e-4)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("task", BODIES)
@pytest.mark.parametrize("value", ["logit", "probability"])
def test_it_is_explained_alike(tmp_path: Path, oblique_volume: sitk.Image, task: str, end: str, value: str) -> None:
    bare, ends = pair(tmp_path, task, end, WISHES)
    question = Question("white", region=Everywhere(), value=value)
    assert_same(*(explain(m, [oblique_volume], question, composite="epsilon") for m in (bare, ends)))


@pytest.mark.parametrize("end", ENDS)
def test_it_is_blended_before_its_ending(tmp_path: Path, oblique_volume: sitk.Image, end: str) -> None:
    bare, ends = pair(tmp_path, "segmentation", end, WINDOWED)
    question = Question("white", region=Everywhere())
    found = [explain(m, [oblique_volume], question) for m in (bare, ends)]
    assert found[1].provenance["run"]["views"] > 1
    assert_same(*found)


@pytest.mark.parametrize("end", ENDS)
def test_it_is_resized_before_its_ending(tmp_path: Path, oblique_volume: sitk.Image, end: str) -> None:
    bare, ends = pair(tmp_path, "segmentation", end, {**WISHES, "resize": {"size": [12, 16, 20], "mode": "linear"}})
    question = Question("white", region=Everywhere())
    assert_same(*(explain(m, [oblique_volume], question) for m in (bare, ends)))


class Upsampled(nn.Module):
    """Probabilities of a score that is 8 where a voxel is brighter than 0.5, else -8; resampled to what they are."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.score = nn.Conv3d(1, outputs, 1)
        nn.init.constant_(self.score.weight, 16.0)
        nn.init.constant_(self.score.bias, -8.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = self.score((x > 0.5).to(x.dtype) + 0 * x)
        size = [x.shape[2], x.shape[3], x.shape[4]]
        return nn.functional.interpolate(torch.sigmoid(z), size=size, mode="trilinear")


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("stated", ["sigmoid", "none"])
def test_probabilities_that_stay_are_read_as_such(
    tmp_path: Path, oblique_volume: sitk.Image, outputs: int, stated: str
) -> None:
    """Each class by itself, above 0.5; not squeezed a second time, whatever the card says."""
    output = classes(*NAMES[:outputs], activation=stated)
    path = save_model(tmp_path, Upsampled(outputs), task="segmentation", preprocessing=WISHES, output=output)
    found = explain(load_model(path), [oblique_volume], NAMES[0], composite="epsilon")
    bright = array(oblique_volume) > 50
    assert found.target["voxels"] == int(bright.sum())
    assert found.prediction.segmentation is not None
    assert ((array(found.prediction.segmentation) > 0) == bright).all()
    assert found.ledger["target_value"] == pytest.approx(bright.sum() / (1 + np.exp(-8)), rel=1e-4)
    assert found.model["card"]["output"]["activation"] == "none"
    told = ["give the network without its last sigmoid" in note for note in found.model["card"]["notes"]]
    assert told == [True] * (stated != "none")


def test_a_network_that_averages_probabilities_keeps_its_signs(tmp_path: Path, oblique_volume: sitk.Image) -> None:
    """All that is bright speaks for a class whose score is negative and grows with brightness."""

    class Mean(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv3d(1, 1, 3, padding=1, bias=False), nn.Conv3d(1, 1, 1)
            nn.init.constant_(self.a.weight, 0.1)
            nn.init.constant_(self.b.weight, 0.5)
            nn.init.constant_(self.b.bias, -4.0)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            z = self.b(torch.relu(self.a(x)))
            return (torch.sigmoid(z) + torch.sigmoid(2 * z)) / 2

    path = save_model(tmp_path, Mean(), task="segmentation", preprocessing=WISHES, output=classes("a"))
    question = Question("a", region=Everywhere())
    found = explain(load_model(path), [oblique_volume], question, composite="epsilon", biases="absorb")
    assert float(array(found.relevance[0]).min()) >= 0
    assert float(array(found.relevance[0]).max()) > 0


def test_a_scaled_sigmoid_of_a_regression_keeps_its_signs(tmp_path: Path, oblique_volume: sitk.Image) -> None:
    """Of 100 p, x (1 - p) p 100 reaches the score x, which is negative: relevance with the score's sign."""

    class Age(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = classifier(1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 100 * torch.sigmoid(self.body(x) - 3)

    model = load_model(save_model(tmp_path, Age(), task="regression", preprocessing=WISHES))
    found = explain(model, [oblique_volume], composite="epsilon")
    p = found.ledger["target_value"] / 100
    score = np.log(p / (1 - p))
    assert score < 0
    (row,) = [row for row in found.ledger["by_layer"] if row["role"] == "ending"]
    assert row["relevance_in"] == pytest.approx(100 * score * p * (1 - p), rel=1e-4)
    assert "in rows of the role 'ending'" in found.model["card"]["notes"][-1]


@pytest.mark.parametrize("method", ["gradient-x-input", "occlusion"])
def test_other_methods_explain_the_score_as_well(tmp_path: Path, oblique_volume: sitk.Image, method: str) -> None:
    models = pair(tmp_path, "classification", "sigmoid", WISHES)
    assert_same(*(explain(model, [oblique_volume], "white", method=method) for model in models))


@pytest.mark.parametrize("task", BODIES)
@pytest.mark.parametrize("wishes", [WISHES, WINDOWED], ids=["whole", "windows"])
def test_it_is_put_to_the_test_by_its_scores(
    tmp_path: Path, oblique_volume: sitk.Image, task: str, wishes: dict
) -> None:
    values = []
    for model in pair(tmp_path, task, "sigmoid", wishes):
        subject = Subject(model, [oblique_volume], Question("white", region=Everywhere()), device="cpu")
        x = subject.prepared.tensor
        values.append([subject.asked.target_value, *subject.values([x, x * 0.5, x * 0])])
    assert values[1] == pytest.approx(values[0], rel=1e-4)
    assert values[1][0] == pytest.approx(values[1][1], rel=1e-4)


def test_a_regression_between_0_and_1_is_explained_through_its_sigmoid(
    tmp_path: Path, oblique_volume: sitk.Image
) -> None:
    """The target value is the value itself; of it x p (1 - p) reaches the score x, and so with the score's sign."""
    network = nn.Sequential(classifier(1), nn.Sigmoid())
    with torch.no_grad():
        network[0][-1].bias -= 3
    model = load_model(save_model(tmp_path, network, task="regression", preprocessing=WISHES))
    found = explain(model, [oblique_volume], composite="epsilon")
    x = (torch.from_numpy(array(oblique_volume)) / 100).clamp(0, 1)[None, None]
    with torch.no_grad():
        score = float(network[0](x))
    p = 1 / (1 + np.exp(-score))
    assert score < 0
    assert found.prediction.probabilities == pytest.approx({"value": p}, rel=1e-4)
    assert found.ledger["target_value"] == pytest.approx(p, rel=1e-4)
    row = found.ledger["by_layer"][0]
    assert (row["layer"], row["relevance_in"]) == ("sigmoid", pytest.approx(score * p * (1 - p), rel=1e-4))
    assert "which the ledger shows as its first row" in found.model["card"]["notes"][-1]


class MeanOfTwo(nn.Module):
    """The mean of two networks' probabilities, as ensembles give it."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = body_of("classification"), body_of("classification")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.one(x).sigmoid() + self.other(x).sigmoid()) / 2


@pytest.mark.parametrize("activation", ["sigmoid", "none", None])
def test_probabilities_that_more_is_made_of_are_not_squeezed_again(
    tmp_path: Path, oblique_volume: sitk.Image, activation: str | None
) -> None:
    network = MeanOfTwo()
    card = {} if activation is None else {"output": classes(*NAMES, activation=activation)}
    model = load_model(save_model(tmp_path, network, task="classification", preprocessing=WISHES, **card))
    found = explain(model, [oblique_volume], 1)
    x = (torch.from_numpy(array(oblique_volume)) / 100).clamp(0, 1)[None, None]
    with torch.no_grad():
        wanted = network(x)[0]
    assert list(found.prediction.probabilities.values()) == pytest.approx(wanted.tolist(), rel=1e-4)
    assert found.ledger["target_value"] == pytest.approx(float(wanted[1]), rel=1e-4)
    assert found.ledger["relative_gap"] < 1e-4
    notes = [note for note in found.model["card"]["notes"] if "makes probabilities by sigmoid itself" in note]
    assert len(notes) == (activation != "none")


def test_lesion_or_not_by_one_probability_is_a_segmentation_with_background(
    tmp_path: Path, oblique_volume: sitk.Image
) -> None:
    """1 - p and p exclude each other: class 0 is the background, and not a class of its own beside the lesion."""

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = segmenter(outputs=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            p = self.body(x).sigmoid()
            return torch.cat([1 - p, p], 1)

    output = classes("background", "lesion", activation="none")
    model = load_model(save_model(tmp_path, Both(), preprocessing=WISHES, output=output))
    found = explain(model, [oblique_volume])
    x = (torch.from_numpy(array(oblique_volume)) / 100).clamp(0, 1)[None, None]
    with torch.no_grad():
        wanted = (Both().body(x)[0, 0] > 0).numpy()
    assert found.target["class"] == "lesion"
    assert found.prediction.segmentation is not None
    assert 0 < wanted.mean() < 1
    assert ((array(found.prediction.segmentation) > 0) == wanted).mean() > 0.999
