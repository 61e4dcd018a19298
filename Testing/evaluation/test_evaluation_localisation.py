"""Agreement with an expert: planted maps with known answers, Quantus as an oracle, and what chance would give."""

import math

import numpy as np
import pytest
from LRPExplainLib.errors import UserError
from LRPExplainLib.evaluation import localisation as loc
from LRPExplainLib.evaluation.agreement import against_null, agreement

SPACING = (3.0, 1.0, 2.0)  # k, j, i


def planted() -> tuple[np.ndarray, np.ndarray]:
    """A map of 4 x 5 x 6 voxels: 6, 3 and 1 of relevance in three voxels of a mask of four, 2 outside, -5 against."""
    relevance, mask = np.zeros((4, 5, 6)), np.zeros((4, 5, 6), dtype=bool)
    mask[1, 2, 1:5] = True
    relevance[1, 2, 1:4] = 6, 3, 1
    relevance[3, 4, 5] = 2
    relevance[0, 0, 0] = -5
    return relevance, mask


def noise(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A map without ties and a mask of a tenth of it."""
    rng = np.random.default_rng(seed)
    return rng.random((6, 7, 8)), rng.random((6, 7, 8)) < 0.1


def measured(relevance, mask, spacing=SPACING):
    return loc.Ranked(relevance, spacing), loc.places_of(mask)


def test_mass_counts_what_speaks_for_the_target_alone():
    assert loc.relevance_mass_accuracy(*measured(*planted())) == pytest.approx(10 / 12)


def test_rank_accuracy_takes_as_many_voxels_as_the_mask_has():
    assert loc.relevance_rank_accuracy(*measured(*planted())) == pytest.approx(3 / 4)


@pytest.mark.parametrize(("k", "share"), [(1, 1.0), (2, 1.0), (3, 2 / 3), (4, 3 / 4)])
def test_the_k_most_relevant_voxels_in_the_mask(k, share):
    assert loc.top_k_intersection(*measured(*planted()), k) == pytest.approx(share)


def test_ties_for_the_last_place_count_by_their_share():
    """The fifth voxel is one of 115 zeros, one of which lies in the mask."""
    assert loc.top_k_intersection(*measured(*planted()), 5) == pytest.approx((3 + 1 / 115) / 5)


def test_auc_is_the_chance_that_a_voxel_inside_has_more():
    relevance, mask = planted()
    inside, outside = relevance[mask], relevance[~mask]
    wins = (inside[:, None] > outside).mean() + (inside[:, None] == outside).mean() / 2
    assert loc.auc(*measured(relevance, mask)) == pytest.approx(wins)


def test_dice_and_iou_over_thresholds_with_the_volume_in_ml():
    rows = loc.overlaps(*measured(*planted()), thresholds=(0.1, 0.4, 0.9))
    assert [row.dice for row in rows] == pytest.approx([2 * 3 / (4 + 4), 2 * 2 / (2 + 4), 2 * 1 / (1 + 4)])
    assert [row.iou for row in rows] == pytest.approx([3 / 5, 2 / 4, 1 / 4])
    assert [row.volume_ml for row in rows] == pytest.approx([0.024, 0.012, 0.006])
    assert loc.best_dice(*measured(*planted())) == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("peak", "distance"),
    [((1, 2, 3), 0.0), ((1, 2, 0), 2.0), ((1, 4, 2), 2.0), ((3, 2, 4), 6.0), ((0, 1, 5), math.sqrt(9 + 1 + 4))],
)
def test_the_peak_is_as_far_from_the_segment_as_its_voxels_are_in_mm(peak, distance):
    relevance, mask = planted()
    relevance[peak] = 100
    ranked, distances = loc.Ranked(relevance, SPACING), loc.distances_mm(mask, SPACING)
    assert loc.peak_distance_mm(ranked, distances) == pytest.approx(distance, abs=1e-5)
    assert loc.pointing_game(loc.peak_distance_mm(ranked, distances), distance) == 1
    assert loc.pointing_game(loc.peak_distance_mm(ranked, distances), distance - 0.01) == 0


@pytest.mark.parametrize("relevance", [np.zeros((3, 3, 3)), -np.ones((3, 3, 3))])
def test_a_map_without_relevance_for_the_target_has_no_figures(relevance):
    ranked, places = measured(relevance, np.eye(3, dtype=bool)[None].repeat(3, 0))
    assert math.isnan(loc.relevance_mass_accuracy(ranked, places))
    assert all(math.isnan(row.dice) for row in loc.overlaps(ranked, places))


# --- Quantus -------------------------------------------------------------------------------------------------------

# name -> (their class, its arguments, ours)
ALIKE = {
    "relevance mass accuracy": ("RelevanceMassAccuracy", {}, loc.relevance_mass_accuracy),
    "relevance rank accuracy": ("RelevanceRankAccuracy", {}, loc.relevance_rank_accuracy),
    "top-k intersection": ("TopKIntersection", {"k": 25}, lambda *m: loc.top_k_intersection(*m, 25)),
    "AUC": ("AUC", {}, loc.auc),
    "pointing game": (
        "PointingGame",
        {},
        lambda ranked, places: float(tuple(ranked.peak) in {tuple(p) for p in places.tolist()}),
    ),
}


@pytest.mark.parametrize("name", ALIKE)
@pytest.mark.parametrize("seed", range(4))
def test_localisation_is_that_of_quantus(quantus, name, seed):
    """Their volumes have two dimensions: the slices lie side by side, which no measure without mm sees."""
    relevance, mask = noise(seed)
    peer, arguments, ours = ALIKE[name]
    metric = getattr(quantus, peer)(**arguments, normalise=False, disable_warnings=True)
    theirs = metric(
        model=None, x_batch=np.zeros((1, 1, 42, 8)), y_batch=np.zeros(1, dtype=int),
        a_batch=relevance.reshape(1, 1, 42, 8), s_batch=mask.reshape(1, 1, 42, 8),
    )  # fmt: skip
    assert ours(*measured(relevance, mask)) == pytest.approx(float(theirs[0]), abs=1e-4)


# --- against chance ------------------------------------------------------------------------------------------------


def test_a_shifted_map_is_measured_as_if_it_had_been_moved():
    relevance, mask = noise()
    step = np.array([2, 3, 5])
    moved = np.roll(relevance, step, axis=(0, 1, 2))
    ranked, places = loc.Ranked(relevance, SPACING), (loc.places_of(mask) - step) % relevance.shape
    for measure in (loc.relevance_mass_accuracy, loc.relevance_rank_accuracy, loc.auc, loc.best_dice):
        assert measure(ranked, places) == pytest.approx(measure(*measured(moved, mask)))
    distances = loc.distances_mm(mask, SPACING)
    assert loc.peak_distance_mm(ranked, distances, step) == loc.peak_distance_mm(loc.Ranked(moved, SPACING), distances)


def test_a_map_on_the_segment_is_far_above_chance_and_noise_is_not():
    rng = np.random.default_rng(5)
    mask = np.zeros((16, 16, 16), dtype=bool)
    mask[4:8, 5:9, 6:10] = True
    background = rng.random(mask.shape)
    (found,) = agreement(background + 3 * mask, {"lesion": mask}, SPACING, shifts=100)
    for name in ("relevance_mass_accuracy", "relevance_rank_accuracy", "auc", "best_dice", "top_k_intersection"):
        null = found["measures"][name]["null"]
        assert null["z"] > 3
        assert null["percentile"] == 100
        assert null["p"] == pytest.approx(1 / 101)
    (random,) = agreement(background, {"lesion": mask}, SPACING, shifts=100)
    assert abs(random["measures"]["auc"]["null"]["z"]) < 3


def test_the_null_of_the_mass_is_the_segments_share_of_the_volume():
    """On a torus each place is as likely as any other."""
    relevance, mask = noise()
    (found,) = agreement(relevance, {"a": mask}, shifts=335)
    null = found["measures"]["relevance_mass_accuracy"]["null"]
    assert null["mean"] == pytest.approx(mask.mean(), rel=0.05)


def test_less_distance_is_better():
    near = against_null(1.0, [2.0, 4.0, 6.0, 0.5], less_is_more=True)
    assert near["percentile"] == 75
    assert near["z"] > 0
    assert near["p"] == pytest.approx(2 / 5)


def test_a_figure_is_compared_with_chance_in_deviations_in_percent_and_by_how_many_do_as_well():
    chance = [1.0, 2.0, 3.0, 4.0, 5.0]  # mean 3, variance 2; one shift does as well as 2
    more, less = (against_null(2.0, chance, less_is_more=sign) for sign in (False, True))
    assert more == pytest.approx(
        {"mean": 3, "std": math.sqrt(2), "z": -1 / math.sqrt(2), "percentile": 100 * (1 + 0.5) / 5, "p": 5 / 6}
    )
    assert less == pytest.approx(
        {"mean": 3, "std": math.sqrt(2), "z": 1 / math.sqrt(2), "percentile": 100 * (3 + 0.5) / 5, "p": 3 / 6}
    )
    assert against_null(2.0, [1.0, 1.0])["z"] is None
    assert against_null(2.0, []) is None
    assert against_null(math.nan, chance) is None


def test_an_empty_mask_has_no_figures():
    ranked, nowhere = loc.Ranked(noise()[0], SPACING), np.empty((0, 3), dtype=int)
    for measure in (loc.relevance_mass_accuracy, loc.relevance_rank_accuracy, loc.auc, loc.best_dice):
        assert math.isnan(measure(ranked, nowhere))
    assert math.isnan(loc.top_k_intersection(ranked, nowhere, 3))
    assert np.isnan(loc.distances_mm(np.zeros(ranked.shape, dtype=bool), SPACING)).all()


@pytest.mark.parametrize("seed", [-1, 0.5])
def test_what_is_no_seed_is_refused(seed):
    relevance, mask = noise()
    with pytest.raises(UserError, match="seed"):
        agreement(relevance, {"a": mask}, seed=seed)


def test_several_segments_and_all_of_them_together():
    relevance, mask = planted()
    other = np.zeros_like(mask)
    other[3, 4, 5] = True
    rows = agreement(relevance, {"one": mask, "other": other}, SPACING, shifts=3)
    assert [row["segment"] for row in rows] == ["one", "other", None]
    assert [row["volume_ml"] for row in rows] == pytest.approx([0.024, 0.006, 0.030])
    shares = [row["measures"]["relevance_mass_accuracy"]["value"] for row in rows]
    assert shares == pytest.approx([10 / 12, 2 / 12, 1])


def test_the_same_seed_gives_the_same_null():
    relevance, mask = noise()
    assert agreement(relevance, {"a": mask}, seed=3, shifts=5) == agreement(relevance, {"a": mask}, seed=3, shifts=5)


@pytest.mark.parametrize(
    ("relevance", "mask", "words"),
    [
        (np.zeros((2, 2, 2)), np.ones((2, 2, 2), dtype=bool), "no relevance for the target"),
        (np.ones((2, 2, 2)), np.zeros((2, 2, 2), dtype=bool), "empty"),
        (np.ones((2, 2, 2)), np.ones((2, 2, 3), dtype=bool), "shape"),
    ],
)
def test_what_cannot_be_compared_is_refused(relevance, mask, words):
    with pytest.raises(UserError, match=words):
        agreement(relevance, {"a": mask})
