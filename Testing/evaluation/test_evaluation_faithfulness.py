"""Perturbation through the inference road: a network whose answer is the volume itself, and Quantus as an oracle."""

import dataclasses

import numpy as np
import pytest
import torch
from LRPExplainLib.errors import UserError
from LRPExplainLib.evaluation import Perturbation, Perturbed, faithfulness
from LRPExplainLib.forward import Forward
from LRPExplainLib.imaging import Everywhere
from LRPExplainLib.question import Question
from subjects import (
    PLAIN,
    as_image_network,
    bright,
    classifying,
    gradient_times_input,
    image_batch,
    in_windows,
    itself,
)

BLOCKS = Perturbation(edge_mm=2.0, baselines=("mean",), runs=12, subset=0.2)


def expected(values: np.ndarray, mask: np.ndarray, blocks: np.ndarray, order) -> list[float]:
    """The sum over the mask after 0, 1, 4 ... blocks were set to the mean, over the first sum."""
    sums = []
    for n in (0, 1, 4, 16, 64):
        replaced = np.where(np.isin(blocks, order[:n]), values.mean(), values)
        sums.append(replaced[mask].sum())
    return (np.array(sums) / sums[0]).tolist()


def by_hand(values: np.ndarray, relevance: np.ndarray):
    """Blocks of 2 x 2 x 2 voxels and their order, the most relevant first."""
    k, j, i = np.indices(values.shape) // 2
    blocks = (k * 4 + j) * 4 + i
    return blocks, np.argsort(-np.bincount(blocks.ravel(), relevance.ravel()))


def scores(curve) -> list[float]:
    return [point["score"] for point in curve]


def test_curves_of_a_network_whose_answer_is_the_volume():
    values = bright()
    relevance = np.where(values > 0, values, 0)
    blocks, order = by_hand(values, relevance)
    found = faithfulness(Perturbed(itself(values), BLOCKS), [relevance])
    most = expected(values, values > 0, blocks, order)
    least = expected(values, values > 0, blocks, order[::-1])
    row = found["baselines"]["mean"]
    assert found["pieces"] == 64
    assert found["target_value"] == pytest.approx(relevance.sum(), rel=1e-5)
    assert [point["pieces"] for point in row["most_relevant_first"]] == [0, 1, 4, 16, 64]
    assert scores(row["most_relevant_first"]) == pytest.approx(most, abs=1e-5)
    assert scores(row["least_relevant_first"]) == pytest.approx(least, abs=1e-5)
    assert row["aopc_most_relevant_first"] == pytest.approx(1 - np.mean(most), abs=1e-5)
    assert row["abpc"] == pytest.approx(np.mean(least) - np.mean(most), abs=1e-5)
    assert row["abpc"] > 0.05
    shares = np.array([0, 1, 4, 16, 64]) / 64
    assert row["deletion_auc"] == pytest.approx(np.trapezoid(most, shares), abs=1e-5)


def test_pieces_are_the_blocks_that_hold_anything_darker_or_brighter_and_no_padding():
    values = np.full((8, 8, 8), -1.0)
    values[0, 0, 0], values[4::2, ::2, ::4] = -3.0, 2.0
    k, j, i = np.indices(values.shape) // 2
    blocks = (k * 4 + j) * 4 + i + 1
    padded = dataclasses.replace(PLAIN, size_multiple=12)  # with 0, which is nothing like the -1 of air
    perturbed = Perturbed(itself(values, padded), BLOCKS)
    assert perturbed.subject.prepared.tensor.shape[2:] == (12, 12, 12)
    assert perturbed.pieces.tolist() == np.unique(blocks[values != -1]).tolist()
    relevance = np.random.default_rng(2).normal(size=values.shape)
    expected = [relevance[blocks == piece].sum() for piece in perturbed.pieces]
    assert perturbed.relevance([relevance]).tolist() == pytest.approx(expected)


def test_insertion_of_the_last_piece_gives_the_whole_answer():
    values = bright()
    found = faithfulness(Perturbed(itself(values), BLOCKS), [np.maximum(values, 0)])
    row = found["baselines"]["mean"]
    assert scores(row["insertion"])[0] == scores(row["most_relevant_first"])[-1]
    assert scores(row["insertion"])[-1] == 1
    assert scores(row["insertion"])[-2] > scores(row["insertion"])[0]


def test_a_map_of_what_replacing_costs_is_perfectly_faithful_and_its_opposite_is_not():
    values = bright()
    perturbed = Perturbed(itself(values), BLOCKS)
    cost = np.where(values > 0, values - values.mean(), 0)
    right, wrong = (faithfulness(perturbed, [sign * cost])["baselines"]["mean"] for sign in (1, -1))
    assert right["faithfulness_correlation"] == pytest.approx(1, abs=1e-4)
    assert wrong["faithfulness_correlation"] == pytest.approx(-1, abs=1e-4)
    assert wrong["abpc"] == pytest.approx(-right["abpc"], abs=1e-5)


@pytest.mark.parametrize("baseline", ["mean", "blur", "noisy-linear"])
def test_windows_give_the_same_curves_as_the_whole(baseline):
    """Each window of this network answers as the whole does, so that blending changes nothing."""
    values = bright()
    how = dataclasses.replace(BLOCKS, baselines=(baseline,))
    whole, windows = (
        faithfulness(Perturbed(itself(values, wishes), how), [np.maximum(values, 0)])
        for wishes in (PLAIN, in_windows())
    )
    for name in ("most_relevant_first", "least_relevant_first", "insertion"):
        pair = [scores(found["baselines"][baseline][name]) for found in (whole, windows)]
        assert pair[0] == pytest.approx(pair[1], abs=1e-5)


def test_the_voxels_asked_about_stay_those_of_the_first_answer():
    """Replaced by a mean above 0, dark voxels would be predicted as bright and count, were they asked about again."""
    values = bright() - 0.2
    subject = itself(values)
    raised = subject.prepared.tensor + 10
    assert next(subject.values([raised])) == pytest.approx((values + 10)[values > 0].sum(), rel=1e-4)


def test_a_probability_is_followed_as_a_probability():
    values = bright()
    subject = itself(values, question=Question("bright", region=Everywhere(), value="probability"))
    doubled = 2 * subject.prepared.tensor
    assert next(subject.values([doubled])) == pytest.approx((1 / (1 + np.exp(-2 * values))).sum(), rel=1e-4)


def test_pieces_of_empty_space_are_left_out():
    values = bright()
    values[:4] = 0.5
    perturbed = Perturbed(itself(values), BLOCKS)
    assert len(perturbed.pieces) == 32


def test_supervoxels_can_be_pieces_too():
    values = bright()
    perturbed = Perturbed(itself(values), dataclasses.replace(BLOCKS, pieces="slic", edge_mm=3.0), values)
    assert len(perturbed.pieces) >= 8
    found = faithfulness(perturbed, [np.maximum(values, 0)])
    assert found["baselines"]["mean"]["abpc"] > 0


def test_too_few_pieces_are_refused():
    with pytest.raises(UserError, match="too few to rank"):
        Perturbed(itself(bright()), Perturbation(edge_mm=8.0))


@pytest.mark.parametrize(
    "wrong", [{"pieces": "cubes"}, {"baselines": ("zero",)}, {"baselines": ()}, {"subset": 1.0}, {"runs": -1}]
)
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(UserError):
        Perturbation(**wrong)


def test_progress_tells_how_long_it_will_take_and_ends_at_one():
    told = []
    values = bright()
    perturbed = Perturbed(itself(values), BLOCKS)
    faithfulness(perturbed, [np.maximum(values, 0)], lambda stage, share: told.append((stage, share)))
    shares = [share for _, share in told]
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1)
    assert "left" in told[-1][0]


def test_raising_from_progress_cancels_between_predictions():
    class Cancelled(Exception):
        pass

    def cancel(stage: str, share: float) -> None:
        if share > 0.3:
            raise Cancelled

    with pytest.raises(Cancelled):
        faithfulness(Perturbed(itself(bright()), BLOCKS), [np.ones((8, 8, 8))], cancel)


# --- many volumes at once ------------------------------------------------------------------------------------------


class FewAtOnce(torch.nn.Module):
    """Says that memory ran out for more than two at once."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module, self.sizes = module, []

    def forward(self, x):
        if len(x) > 2:
            raise torch.OutOfMemoryError("tried to allocate")
        self.sizes.append(len(x))
        return self.module(x)


@pytest.mark.parametrize("wishes", [PLAIN, in_windows()])
def test_where_memory_runs_out_fewer_are_run_at_once(wishes):
    subject = itself(bright(), wishes)
    volumes = [subject.prepared.tensor + n for n in range(5)]
    module = FewAtOnce(subject.model.module)
    forward = Forward(subject.inference, module)
    assert forward.batch > 2
    answers = list(forward(volumes))
    assert [
        float((answer - x).abs().max()) < 1e-5 for answer, x in zip((a[:, 1:] for a in answers), volumes, strict=True)
    ]
    assert max(module.sizes) <= 2
    assert sum(module.sizes) == 5 * forward.views


def test_windows_that_the_question_does_not_touch_are_left_out():
    values = bright()
    values[4:] = -1  # nothing is bright there
    subject = itself(values, in_windows())
    assert subject.views < len(subject.inference.windows.views)
    assert next(subject.values([subject.prepared.tensor])) == pytest.approx(subject.asked.target_value, rel=1e-5)


# --- Quantus -------------------------------------------------------------------------------------------------------


def test_region_perturbation_is_that_of_quantus(quantus):
    values = bright((1, 12, 12))
    subject = classifying(values)
    relevance = np.random.default_rng(3).normal(size=values.shape)
    how = Perturbation(edge_mm=2.0, baselines=("mean",), runs=0)
    found = faithfulness(Perturbed(subject, how), [relevance])
    ours = scores(found["baselines"]["mean"]["most_relevant_first"])
    baseline = float(subject.prepared.tensor.mean())
    metric = quantus.RegionPerturbation(
        patch_size=2, order="morf", regions_evaluation=36, perturb_baseline=baseline, normalise=False,
        disable_warnings=True,
    )  # fmt: skip
    drops = np.ravel(
        metric(
            model=as_image_network(subject), x_batch=image_batch(subject), y_batch=np.array([0]),
            a_batch=relevance[None], device="cpu", softmax=False, channel_first=True,
        )
    )  # fmt: skip
    first = found["target_value"]
    points = [point["pieces"] for point in found["baselines"]["mean"]["most_relevant_first"]][1:]
    theirs = [(first - drops[n - 1]) / abs(first) for n in points]
    assert ours[1:] == pytest.approx(theirs, abs=1e-4)


def test_faithfulness_correlation_is_that_of_quantus(quantus):
    values = bright((1, 6, 6))
    subject = classifying(values, gradient_times_input)
    relevance = subject.on_volumes(subject.relevance())[0]
    runs, size = 20, 7
    np.random.seed(4)
    sets = [np.random.choice(36, size, replace=False) + 1 for _ in range(runs)]
    perturbed = Perturbed(subject, Perturbation(edge_mm=1.0, baselines=("mean",), runs=runs))
    perturbed.sets = sets  # pieces of one voxel are numbered from 1 on
    ours = faithfulness(perturbed, [relevance])["baselines"]["mean"]["faithfulness_correlation"]
    metric = quantus.FaithfulnessCorrelation(
        nr_runs=runs, subset_size=size, perturb_baseline=float(subject.prepared.tensor.mean()), normalise=False,
        return_aggregate=False, disable_warnings=True,
    )  # fmt: skip
    np.random.seed(4)
    theirs = metric(
        model=as_image_network(subject), x_batch=image_batch(subject), y_batch=np.array([0]),
        a_batch=relevance[None], device="cpu", softmax=False, channel_first=True,
    )  # fmt: skip
    assert ours == pytest.approx(float(theirs[0]), abs=1e-4)
