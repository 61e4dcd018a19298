"""Randomisation, other classes and noise: closed forms, an edge detector that fails, and Quantus as an oracle."""

import copy
import math

import numpy as np
import pytest
import torch
from helpers.networks import classifier
from LRPExplainLib.errors import UserError
from LRPExplainLib.evaluation import Perturbation, Settings, lrp_method, randomisation, stability
from LRPExplainLib.evaluation.sanity import sanity
from subjects import as_image_network, bright, classifying, edges, gradient_times_input, image_batch, itself
from torch import Tensor, nn

SLICE = (1, 16, 16)


def state(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


# --- weights -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("order", "expected"),
    [("top_down", [["4"], ["0", "4"]]), ("bottom_up", [["0"], ["0", "4"]]), ("independent", [["0"], ["4"]])],
)
def test_layers_become_random_one_after_the_other(order, expected):
    network = classifier()
    before = state(network)
    found = [
        sorted({name.split(".")[0] for name in changed(before, state(module))})
        for _, module in randomisation.randomised(network, order)
    ]
    assert found == expected
    assert not changed(before, state(network))


def test_layers_that_cannot_be_drawn_anew_have_their_weights_permuted():
    network = torch.jit.script(classifier())
    before = state(network)
    drawn = randomisation.fully_randomised(network, 1)
    assert all(parameter.is_leaf for parameter in drawn.parameters())
    after = state(drawn)
    assert {name.split(".")[0] for name in changed(before, after)} == {"0", "4"}
    for name, tensor in before.items():
        assert torch.equal(tensor.flatten().sort().values, after[name].flatten().sort().values)


def test_randomising_leaves_the_random_numbers_of_others_alone():
    network = classifier()
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    randomisation.fully_randomised(network)
    assert torch.equal(torch.rand(3), expected)


def test_a_network_of_constants_is_refused():
    with pytest.raises(UserError, match="no parameters"):
        randomisation.fully_randomised(nn.ReLU())


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_that_is_none_is_refused(seed):
    subject = classifying(bright())
    original = subject.relevance()
    for ask in (
        lambda: randomisation.fully_randomised(classifier(), seed),
        lambda: randomisation.mprt(subject, original, seed=seed),
        lambda: randomisation.smooth_mprt(subject, classifier(), seed=seed),
        lambda: randomisation.random_logit(subject, original, seed=seed),
        lambda: stability.stability(subject, original, seed=seed),
        lambda: sanity(subject, original, seed),
        lambda: Settings(seed=seed),
        lambda: Perturbation(seed=seed),
    ):
        with pytest.raises(UserError, match="is no seed: give a whole number from 0 to 4294967295"):
            ask()


def test_random_networks_are_those_of_quantus(quantus):
    from quantus.helpers.model.pytorch_model import PyTorchModel

    network = classifier()
    theirs = [
        (name, state(module))
        for name, module in PyTorchModel(copy.deepcopy(network)).get_random_layer_generator("top_down", 5)
    ]
    ours = [(name, state(module)) for name, module in randomisation.randomised(network, "top_down", 6)]
    assert [name for name, _ in ours] == [name for name, _ in theirs]
    for (_, mine), (_, other) in zip(ours, theirs, strict=True):
        assert not changed(mine, other)


# --- maps ----------------------------------------------------------------------------------------------------------


def test_the_randomisation_test_separates_lrp_from_an_edge_detector():
    values = bright((10, 10, 10))
    lrp, detector = classifying(values, lrp_method("epsilon")), classifying(values, edges)
    fooled = randomisation.mprt(detector, detector.relevance())
    honest = randomisation.mprt(lrp, lrp.relevance())
    assert [row["layer"] for row in honest] == ["4", "0"]
    assert all(row[key] == pytest.approx(1) for row in fooled for key in randomisation.LIKENESS)
    assert honest[-1]["spearman_abs"] < 0.8
    assert abs(honest[-1]["pearson"]) < 0.8


def test_an_edge_detector_answers_alike_about_every_class():
    values = bright((6, 6, 6))
    (row,) = randomisation.random_logit(classifying(values, edges), classifying(values, edges).relevance())
    assert row["class"] == "b"
    assert row["spearman"] == pytest.approx(1)


def test_about_another_class_an_odd_map_turns_around():
    """Background and bright in this network are 0 and the voxel, so that the background has no relevance at all."""
    subject = itself(bright())
    original = subject.relevance()
    assert subject.asked.instead(0, subject.output).target_value == 0
    assert randomisation.likeness(original, -original)["spearman"] == pytest.approx(-1)
    assert randomisation.likeness(original, -original)["spearman_abs"] == pytest.approx(1)


def test_the_entropy_rises_by_its_share():
    even = torch.arange(100.0).reshape(1, 1, 4, 5, 5)
    two = (even > 49).float()
    assert randomisation.emprt(two, even) == pytest.approx((math.log(100) - math.log(2)) / math.log(2))
    assert randomisation.emprt(even, even) == 0


def test_smoothed_over_noise_of_no_size_the_maps_are_the_plain_ones():
    subject = classifying(bright((8, 8, 8)), gradient_times_input)
    random = randomisation.fully_randomised(subject.model.module)
    plain = randomisation.likeness(subject.relevance(), subject.relevance(random))
    assert randomisation.smooth_mprt(subject, random, samples=2, noise=0.0) == pytest.approx(plain, abs=1e-5)
    smoothed = randomisation.smooth_mprt(subject, random, samples=2, noise=0.5)
    assert smoothed["spearman"] != pytest.approx(plain["spearman"], abs=1e-3)


def test_sensitivity_is_the_relative_distance():
    one, other = np.array([3.0, 4.0]), np.array([3.0, 5.0])
    assert stability.sensitivity(one, other) == pytest.approx(1 / 5)
    x, noisy = np.array([2.0, 2.0]), np.array([2.0, 2.5])
    assert stability.relative_input_stability(x, noisy, one, other) == pytest.approx((1 / 4) / (0.5 / 2))


def test_the_map_of_a_linear_network_moves_as_its_input_does():
    """Relevance is the input itself where it was bright."""
    subject = itself(bright())
    found = stability.stability(subject, subject.relevance(), samples=4, radius=0.1)
    assert found["radius"] == pytest.approx(0.1 * float(subject.prepared.tensor.std(correction=0)), rel=1e-5)
    x = subject.prepared.tensor[subject.prepared.tensor > 0]
    even = found["radius"] / math.sqrt(3) * math.sqrt(len(x)) / float(x.norm())
    assert found["average_sensitivity"] == pytest.approx(even, rel=0.15)
    assert found["max_sensitivity"] >= found["average_sensitivity"]


def test_all_checks_of_one_subject():
    told = []
    subject = classifying(bright((8, 8, 8)))
    found = sanity(subject, subject.relevance(), progress=lambda stage, share: told.append(share))
    assert set(found) == {"mprt", "emprt", "smooth_mprt", "random_logit", "stability"}
    assert told == sorted(told)
    assert told[-1] == pytest.approx(1)


# --- Quantus -------------------------------------------------------------------------------------------------------


def explained(model, inputs, targets, **_) -> np.ndarray:
    """Gradient times input, as Quantus asks for it."""
    x = torch.as_tensor(inputs).float().clone().requires_grad_()
    output = model(x)[torch.arange(len(x)), torch.as_tensor(targets).long()]
    return (torch.autograd.grad(output.sum(), x)[0] * x).detach().numpy()


def asked(subject, metric, relevance: Tensor, **more):
    return metric(
        model=as_image_network(subject), x_batch=image_batch(subject), y_batch=np.array([0]),
        a_batch=relevance[:, :, 0].numpy().copy(), explain_func=explained, device="cpu", channel_first=True,
        **{"softmax": False, **more},
    )  # fmt: skip


def test_cascading_randomisation_is_that_of_quantus(quantus):
    subject = classifying(bright(SLICE), gradient_times_input)
    original = subject.relevance()
    rows = randomisation.mprt(subject, original, seed=6)
    metric = quantus.MPRT(layer_order="top_down", seed=5, abs=True, normalise=False, disable_warnings=True)
    theirs = asked(subject, metric, original)
    assert theirs.pop("original") == pytest.approx([1])
    assert [f"module.{row['layer']}" for row in rows] == list(theirs)
    for row, scores in zip(rows, theirs.values(), strict=True):
        assert row["spearman_abs"] == pytest.approx(float(scores[0]), abs=1e-4)


def test_the_efficient_variant_is_that_of_quantus(quantus):
    subject = classifying(bright(SLICE), gradient_times_input)
    original = subject.relevance()
    random = subject.relevance(randomisation.fully_randomised(subject.model.module, 6))
    metric = quantus.EfficientMPRT(layer_order="bottom_up", seed=5, normalise=False, disable_warnings=True)
    theirs = asked(subject, metric, original, softmax=True)  # it wants the entropy of the prediction besides
    assert randomisation.emprt(original, random) == pytest.approx(float(np.ravel(theirs)[0]), abs=1e-4)


def test_the_random_logit_test_is_that_of_quantus(quantus):
    from quantus.functions.similarity_func import correlation_spearman

    subject = classifying(bright(SLICE), gradient_times_input)
    original = subject.relevance()
    metric = quantus.RandomLogit(
        num_classes=2, similarity_func=correlation_spearman, normalise=False, disable_warnings=True
    )
    (row,) = randomisation.random_logit(subject, original)
    assert row["spearman"] == pytest.approx(float(np.ravel(asked(subject, metric, original))[0]), abs=1e-4)


@pytest.mark.parametrize("name", ["MaxSensitivity", "AvgSensitivity", "RelativeInputStability"])
def test_stability_is_that_of_quantus(quantus, name):
    subject = classifying(bright(SLICE), gradient_times_input)
    original = subject.relevance()
    rng = np.random.default_rng(2)
    noises = [1e-3 * rng.normal(size=(1, 256)).astype(np.float32) for _ in range(3)]
    waiting = iter(noises)

    def perturb(arr, **_):
        return arr + next(waiting)

    metric = getattr(quantus, name)(
        nr_samples=3, perturb_func=perturb, return_nan_when_prediction_changes=False, normalise=False,
        disable_warnings=True,
    )  # fmt: skip
    theirs = float(np.ravel(asked(subject, metric, original))[0])
    x = subject.prepared.tensor
    noisy = [x + torch.from_numpy(noise.reshape(x.shape)) for noise in noises]
    before, after = original.numpy(), [subject.relevance(tensor=one).numpy() for one in noisy]
    moved = [stability.sensitivity(before, one) for one in after]
    relative = [
        stability.relative_input_stability(x.numpy(), one.numpy(), before, other)
        for one, other in zip(noisy, after, strict=True)
    ]
    ours = {"MaxSensitivity": max(moved), "AvgSensitivity": np.mean(moved), "RelativeInputStability": max(relative)}
    assert ours[name] == pytest.approx(theirs, abs=1e-4, rel=1e-4)
