"""explain(..., method=...): the same volumes, targets, folder and geometry as LRP, and an honest ledger."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from helpers.networks import RANGE, classes, classifier, save_model, segmenter
from helpers.volumes import make_volume
from LRPExplainLib.cli import main
from LRPExplainLib.comparison import compare
from LRPExplainLib.errors import UserError
from LRPExplainLib.evaluation import Perturbation, Settings, Subject, evaluate
from LRPExplainLib.explain import explain, plan
from LRPExplainLib.explanation import Explanation
from LRPExplainLib.findings.account import ledger_line
from LRPExplainLib.findings.caution import warnings_of
from LRPExplainLib.imaging import Everywhere, Grid
from LRPExplainLib.methods import METHODS, IntegratedGradients, method_named
from LRPExplainLib.models import load_model
from LRPExplainLib.running import running
from LRPExplainLib.summaries import plan_summary
from torch import Tensor, nn

FAST = {
    "integrated-gradients": {"steps": 4},
    "smoothgrad": {"samples": 2},
    "occlusion": {"edge": 12},
    "rise": {"masks": 4},
}
CARD = {"preprocessing": {"orientation": "RAS", "intensity": RANGE}, "output": classes("background", "grey", "white")}


def array(image: sitk.Image) -> np.ndarray:
    return sitk.GetArrayFromImage(image)


@pytest.fixture
def model(tmp_path):
    return load_model(save_model(tmp_path, segmenter(), **CARD))


@pytest.mark.parametrize("name", METHODS)
def test_every_method_gives_an_explanation_of_the_same_question_in_the_same_folder(name, model, tmp_path):
    volume = make_volume()
    found = explain(model, [volume], "white", device="cpu", method=name, parameters=FAST.get(name))
    by_lrp = explain(model, [volume], "white", device="cpu")
    assert found.target == by_lrp.target
    assert found.prediction == by_lrp.prediction
    assert found.ledger["target_value"] == pytest.approx(by_lrp.ledger["target_value"], rel=1e-6)
    assert Grid.of(found.relevance[0]) == Grid.of(volume)
    assert np.abs(array(found.relevance[0])).max() > 0
    assert found.composite["method"] == found.composite["name"] == name
    assert FAST.get(name, {}).items() <= found.composite["parameters"].items()
    assert set(by_lrp.ledger) <= set(found.ledger)
    assert found.ledger["conserves"] is (name == "integrated-gradients")
    found.save(tmp_path / "out")
    assert Explanation.load(tmp_path / "out") == found


def test_gradient_times_input_is_carried_back_by_the_adjoint(tmp_path):
    """Of a linear network, through a coarser grid: no part of the target value is lost on the way."""
    network = nn.Conv3d(1, 2, 3, padding=1, bias=False).eval()
    nn.init.constant_(network.weight, 0.1)
    card = {"preprocessing": {"spacing": [2, 2, 2], "intensity": RANGE}, "output": classes("a", "b")}
    model = load_model(save_model(tmp_path, network, **card))
    found = explain(
        model, [make_volume()], 1, device="cpu", region=Everywhere(), method="gradient-x-input",
        window={"size": [8, 8, 8]},
    )  # fmt: skip
    assert found.provenance["run"]["windows"] > 8
    assert found.ledger["relative_gap"] < 1e-5
    assert found.ledger["in_volume"] == pytest.approx(float(array(found.relevance[0]).sum(dtype=np.float64)))


def test_integrated_gradients_book_the_baseline_and_leave_the_completeness_gap_open(model):
    ledger = explain(model, [make_volume()], "white", device="cpu", method=IntegratedGradients(steps=60)).ledger
    assert abs(ledger["absorbed"]) > 1e-3 * abs(ledger["target_value"])
    assert ledger["changed"] == ledger["absorbed"]
    assert ledger["relative_gap"] < 0.01
    coarse = explain(model, [make_volume()], "white", device="cpu", method=IntegratedGradients(steps=1)).ledger
    assert coarse["relative_gap"] > 2 * ledger["relative_gap"]


def test_a_map_that_shares_nothing_out_does_not_claim_to(model):
    ledger = explain(model, [make_volume()], "white", device="cpu", method="gradient").ledger
    assert ledger["absorbed"] == 0
    assert ledger["gap"] == pytest.approx(ledger["target_value"] - ledger["in_volume"] - ledger["outside"])
    assert "sum means nothing" in ledger["note"]
    assert "absorbed" not in ledger_line(ledger)
    assert ledger["note"] in ledger_line(ledger)
    assert warnings_of([], [], [], ledger, {}) == [ledger["note"]]


def test_a_large_baseline_is_not_said_to_be_absorbed_by_biases(model):
    ledger = explain(model, [make_volume()], "white", device="cpu", method=IntegratedGradients(steps=60)).ledger
    assert not any("biases" in sentence for sentence in warnings_of([], [], [], ledger | {"absorbed": 1e9}, {}))


def test_a_probability_is_explained_by_its_own_gradient(tmp_path):
    """The gradient of the summed softmax, which the coefficients of the logits hold."""
    volume = make_volume()
    card = {"preprocessing": {"intensity": RANGE}, "output": classes("background", "grey", "white")}
    found = explain(
        load_model(save_model(tmp_path, segmenter(), **card)), [volume], "white", device="cpu", value="probability",
        region=Everywhere(), method="gradient",
    )  # fmt: skip
    x = torch.from_numpy(array(volume) / 100).clamp(0, 1)[None, None].requires_grad_()
    (gradient,) = torch.autograd.grad(segmenter()(x).softmax(1)[0, 2].sum(), x)
    np.testing.assert_allclose(array(found.relevance[0]), gradient[0, 0], atol=1e-5, rtol=1e-3)
    assert found.ledger["by_layer"][0]["role"] == "softmax"


def test_a_classifier_is_explained_by_grad_cam_at_a_named_layer(tmp_path):
    card = {"task": "classification", "preprocessing": {"intensity": RANGE}, "output": classes("no", "yes")}
    model = load_model(save_model(tmp_path, classifier(), **card))
    found = explain(model, [make_volume()], 1, device="cpu", method="grad-cam", parameters={"layer": "0"})
    assert found.composite["parameters"] == {"layer": "0"}
    automatic = explain(model, [make_volume()], 1, device="cpu", method="grad-cam")
    assert automatic.composite["parameters"]["layer"]


class Seeing(nn.Module):
    """Gives back what it sees, by two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.see, self.last = nn.Conv3d(1, 1, 1, bias=False), nn.Conv3d(1, 2, 1, bias=False)
        for layer in (self.see, self.last):
            nn.init.ones_(layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.see(x)))


def test_grad_cam_of_a_network_with_turned_axes_lies_where_its_input_does(tmp_path):
    card = {"preprocessing": {"axes": "ijk", "intensity": RANGE}, "output": classes("a", "b")}
    model = load_model(save_model(tmp_path, Seeing(), **card))
    volume = make_volume(size=(9, 7, 5))
    found = explain(
        model, [volume], 1, device="cpu", region=Everywhere(), method="grad-cam", parameters={"layer": "see"}
    )
    seen, expected = array(found.relevance[0]), array(volume).clip(0, 100) / 100
    np.testing.assert_allclose(seen, expected, rtol=1e-3, atol=1e-5)


def test_progress_is_told_through_the_many_passes_of_a_method(model):
    told = []
    explain(
        model, [make_volume()], "white", device="cpu", method="rise", parameters={"masks": 6},
        progress=lambda stage, share: told.append((stage, share)),
    )  # fmt: skip
    shares = [share for stage, share in told if stage.startswith("propagating")]
    assert len(set(shares)) >= 6
    assert shares == sorted(shares)


def test_a_method_can_be_cancelled_between_passes(model):
    class Stop(Exception):
        pass

    def progress(stage: str, share: float) -> None:
        if stage.startswith("propagating") and share > 0.5:
            raise Stop

    with pytest.raises(Stop):
        explain(
            model, [make_volume()], "white", device="cpu", method="rise", parameters={"masks": 6}, progress=progress
        )  # fmt: skip


@pytest.mark.parametrize("more", [{"composite": "epsilon"}, {"rules": {"input": "flat"}}, {"biases": "absorb"}])
def test_rules_belong_to_lrp(model, more):
    with pytest.raises(UserError, match="belong to lrp"):
        explain(model, [make_volume()], "white", device="cpu", method="gradient", **more)


def test_the_plan_of_a_method_tells_its_name_and_the_time_of_its_passes(model):
    volume = make_volume()
    facts = plan(model, [volume], device="cpu", method="rise", parameters={"masks": 10})
    assert (facts["composite"], facts["method"]) == (None, "rise")
    assert "method rise" in plan_summary(facts)
    assert facts["seconds"]["explaining"] == pytest.approx(11 * facts["seconds"]["predicting"], rel=1e-6)
    for name in METHODS:
        facts = plan(model, [volume], device="cpu", method=method_named(name, FAST.get(name)))
        assert facts["seconds"]["explaining"] > facts["seconds"]["predicting"]


def test_the_command_takes_a_method_and_says_what_its_map_sums_to(tmp_path, capsys):
    volume, weights = tmp_path / "t1.nrrd", save_model(tmp_path, segmenter(), **CARD)
    sitk.WriteImage(make_volume(), str(volume))
    base = ["explain", "--model", str(weights), "--volume", str(volume), "--target", "white", "--device", "cpu"]
    more = ["--method", "integrated-gradients", "--parameter", "steps=3", "--parameter", "baseline=mean"]
    assert main([*base, *more, "--out", str(tmp_path / "ig")]) == 0
    printed = capsys.readouterr().out
    assert "Method: integrated-gradients (steps 3, baseline mean)" in printed
    assert "Note: Integrated gradients sum to the target value less that of the baseline" in printed
    assert Explanation.load(tmp_path / "ig").composite["parameters"] == {"steps": 3, "baseline": "mean"}
    for wrong, sentence in (
        (["--method", "deeplift"], "no method 'deeplift'"),
        (["--parameter", "steps"], "NAME=VALUE"),
    ):
        assert main([*base, *wrong, "--out", str(tmp_path / "no")]) == 2
        assert sentence in capsys.readouterr().err
        assert not (tmp_path / "no").exists()


def test_the_evaluation_asks_the_method_that_made_the_map(tmp_path):
    """Sanity explains again, by the same method; a map made of others has its faithfulness, but no such check."""
    volume, weights = tmp_path / "t1.nrrd", save_model(tmp_path, segmenter(), **CARD)
    sitk.WriteImage(make_volume(), str(volume))
    for name in ("gradient-x-input", "grad-cam"):
        explain(weights, [volume], "white", device="cpu", method=name).save(tmp_path / name)
    explanation = Explanation.load(tmp_path / "gradient-x-input")
    with running():
        subject = Subject.of(explanation, device="cpu")
        again = subject.on_volumes(subject.relevance())[0]
    np.testing.assert_allclose(again, array(explanation.relevance[0]), rtol=1e-3, atol=1e-5)
    compare([tmp_path / "gradient-x-input", tmp_path / "grad-cam"]).save(tmp_path / "both")
    coarse = Settings(perturbation=Perturbation(edge_mm=12, baselines=("mean",), runs=2))
    combined = evaluate(tmp_path / "both" / "combined", (), ["faithfulness"], coarse, device="cpu")
    assert combined.checks["faithfulness"]["pieces"] > 1
    with pytest.raises(UserError, match="made of others"):
        evaluate(tmp_path / "both" / "consensus", (), ["sanity"], coarse, device="cpu")


def test_what_the_evaluation_writes_weighs_the_combined_map(tmp_path):
    volume, weights = tmp_path / "t1.nrrd", save_model(tmp_path, segmenter(), **CARD)
    sitk.WriteImage(make_volume(), str(volume))
    coarse = Settings(perturbation=Perturbation(edge_mm=12, baselines=("mean",), runs=2))
    for name in ("lrp", "gradient-x-input"):
        explain(weights, [volume], "white", device="cpu", method=name).save(tmp_path / name)
        evaluate(tmp_path / name, (), ["faithfulness"], coarse, device="cpu").save(tmp_path / f"{name} evaluated")
    found = compare(
        [tmp_path / "lrp", tmp_path / "gradient-x-input"],
        evaluations=[tmp_path / "gradient-x-input evaluated", tmp_path / "lrp evaluated"],
    ).facts["explanations"]  # fmt: skip
    for row, name in zip(found, ("lrp", "gradient-x-input"), strict=True):
        facts = json.loads((tmp_path / f"{name} evaluated" / "evaluation.json").read_text())
        assert row["faithfulness"] == facts["checks"]["faithfulness"]["baselines"]["mean"]["abpc"]
