"""Curves, baselines, pieces and similarity: closed forms, and Quantus and scikit-image as oracles."""

import numpy as np
import pytest
from helpers.volumes import make_volume
from LRPExplainLib.correlation import pearson
from LRPExplainLib.errors import UserError
from LRPExplainLib.evaluation import baselines, curves, similarity, supervoxels
from LRPExplainLib.evaluation.imputation import imputed
from LRPExplainLib.imaging import Grid
from scipy.ndimage import convolve

SMALL = Grid((6, 5, 4), (1.0, 2.0, 5.0), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape)


# --- curves --------------------------------------------------------------------------------------------------------


def test_the_area_over_the_curve_is_the_mean_drop():
    assert curves.aopc([10, 7, 4, 1]) == pytest.approx((0 + 3 + 6 + 9) / 4)


def test_the_area_between_the_curves_is_their_mean_difference():
    most, least = [10, 4, 1], [10, 9, 7]
    assert curves.abpc(most, least) == pytest.approx((0 + 5 + 6) / 3)
    assert curves.abpc(most, least) == pytest.approx(curves.aopc(most) - curves.aopc(least))


def test_the_area_under_a_straight_line():
    assert curves.area([0, 0.25, 1], [1, 0.75, 0]) == pytest.approx(0.5)


def test_relevance_in_proportion_to_the_drop_is_perfectly_faithful():
    drops = noise(9)
    assert curves.faithfulness_correlation(3 * drops + 1, drops) == pytest.approx(1)
    assert curves.faithfulness_correlation(-drops, drops) == pytest.approx(-1)
    assert np.isnan(curves.faithfulness_correlation(np.ones(9), drops))


def test_counts_grow_by_factors_up_to_all():
    assert curves.steps(300) == [0, 1, 4, 16, 64, 256, 300]
    assert curves.steps(1) == [0, 1]


def test_the_area_is_that_of_quantus(quantus, monkeypatch):
    from quantus.helpers.utils import calculate_auc

    monkeypatch.setattr(np, "trapz", np.trapezoid, raising=False)  # which it asks for, and NumPy 2 renamed
    scores = noise(11)
    assert curves.area(np.arange(11), scores) == pytest.approx(float(calculate_auc(scores)), abs=1e-4)


# --- baselines -----------------------------------------------------------------------------------------------------


def original(x: np.ndarray) -> baselines.Original:
    return baselines.Original(x.astype(np.float32), np.ones(x.shape[1:], dtype=bool), (2.0, 2.0, 2.0))


def box(shape=(6, 7, 8)) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[2:5, 1:6, 3:7] = True
    return mask


@pytest.mark.parametrize("name", baselines.BASELINES)
def test_a_baseline_replaces_what_is_masked_and_nothing_else(name):
    x = noise(2, 6, 7, 8).astype(np.float32)
    replaced = baselines.BASELINES[name](original(x))(box())
    assert np.array_equal(replaced[:, ~box()], x[:, ~box()])
    assert not np.isclose(replaced[:, box()], x[:, box()]).any(axis=0).all()
    assert replaced.dtype == np.float32


def test_the_mean_is_each_channels_own():
    x = np.stack([np.full((4, 4, 4), 2.0), np.arange(64.0).reshape(4, 4, 4)])
    replaced = baselines.mean(original(x))(np.ones((4, 4, 4), dtype=bool))
    assert replaced[:, 1, 1, 1] == pytest.approx([2, 31.5])


def test_a_linear_ramp_is_imputed_exactly():
    """Every weight is symmetric, so that the mean of a voxel's neighbours on a ramp is the voxel."""
    k, j, i = np.meshgrid(*(np.arange(float(n)) for n in (6, 7, 8)), indexing="ij")
    ramp = (2 * k - j + 0.5 * i)[None]
    assert np.abs(imputed(ramp, box()) - ramp).max() < 1e-4


def test_imputation_in_a_slice_is_that_of_quantus(quantus):
    from quantus.functions.perturb_func import noisy_linear_imputation

    x, mask = noise(2, 12, 13), np.zeros((12, 13), dtype=bool)
    mask[3:9, 4:13] = True
    mask[0, 0] = True
    theirs = noisy_linear_imputation(x, np.flatnonzero(mask), noise=0.0).reshape(x.shape)
    ours = imputed(x[:, None], mask[None])[:, 0]
    assert np.abs(ours - theirs).max() < 1e-4


NEIGHBOURS = 2.0 ** (1 - np.abs(np.indices((3, 3, 3)) - 1).sum(0))
NEIGHBOURS[1, 1, 1] = 0
HOLES = {
    "one large hole": lambda k, j, i: (k - 14) ** 2 + (j - 25) ** 2 + (i - 20) ** 2 < 16**2,
    "all but a corner": lambda k, j, i: k + j + i > 2,
    "blocks, up to the border": lambda k, j, i: (k // 7 + j // 5 + i // 9) % 2 == 0,
    "all but single voxels": lambda k, j, i: (k * 7 + j * 3 + i) % 97 != 0,
}


@pytest.mark.parametrize("shape", [(29, 50, 41), (1, 64, 47)])
@pytest.mark.parametrize("name", HOLES)
def test_every_voxel_of_a_hole_is_the_mean_of_its_neighbours(name, shape):
    """However large the hole is; beyond the border there are none."""
    mask = HOLES[name](*np.indices(shape))
    x = noise(2, *shape).astype(np.float32)
    found = imputed(x, mask)
    assert np.array_equal(found[:, ~mask], x[:, ~mask])
    count = convolve(np.ones(shape), NEIGHBOURS, mode="constant")
    for channel in found.astype(float):
        around = convolve(channel, NEIGHBOURS, mode="constant") / count
        assert np.abs(around - channel)[mask].max() < 1e-5 * np.abs(x).max()


def test_everything_masked_leaves_the_mean():
    x = noise(1, 4, 5, 6)
    assert np.allclose(imputed(x, np.ones((4, 5, 6), dtype=bool)), x.mean())
    assert np.array_equal(imputed(x, np.zeros((4, 5, 6), dtype=bool)), x)


def test_the_noise_of_the_imputation_is_a_share_of_the_deviation():
    x = noise(1, 20, 20, 20)
    mask = np.zeros(x.shape[1:], dtype=bool)
    mask[5:15, 5:15, 5:15] = True
    drawn = baselines.noisy_linear(original(x), noise=0.5)(mask) - imputed(x, mask)
    assert drawn[0, mask].std() == pytest.approx(0.5 * x.std(), rel=0.1)


# --- pieces --------------------------------------------------------------------------------------------------------


def test_blocks_measure_what_was_asked_in_mm():
    labels = supervoxels.blocks(SMALL, 4.0)  # 4 x 2 x 1 voxels
    sizes = np.bincount(labels.ravel())[1:]
    assert labels.shape == SMALL.shape
    assert len(sizes) == 2 * 3 * 4
    assert set(sizes.tolist()) == {8, 4, 2}
    assert (labels[0, :2, :4] == 1).all()


def test_supervoxels_follow_an_edge():
    voxels = np.zeros((8, 12, 12))
    voxels[:, :, 7:] = 100.0
    grid = Grid((12, 12, 8), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
    labels = supervoxels.slic(grid, 4.0, voxels)
    assert labels.min() == 1
    assert not set(labels[voxels > 0].tolist()) & set(labels[voxels == 0].tolist())


def test_pieces_are_found_again_on_another_grid():
    grid = Grid.of(make_volume())
    labels = supervoxels.blocks(grid, 6.0)
    assert np.array_equal(supervoxels.brought_to(labels, grid, grid), labels)


def test_the_relevance_of_pieces_adds_up_over_maps():
    labels = supervoxels.blocks(SMALL, 4.0)
    one, other = noise(*SMALL.shape), noise(*SMALL.shape, seed=1)
    sums = supervoxels.relevance_of([labels, labels], [one, other])
    assert sums[0] == 0
    assert sums[1] == pytest.approx((one + other)[labels == 1].sum())
    assert sums.sum() == pytest.approx(one.sum() + other.sum())


def cube(side: int) -> Grid:
    return Grid((side,) * 3, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))


@pytest.mark.parametrize("edge", [1e-3, 1e-200])
def test_supervoxels_smaller_than_voxels_are_refused(edge):
    with pytest.raises(UserError, match="smaller than the voxels: give a larger edge"):
        supervoxels.slic(cube(8), edge, noise(8, 8, 8))


@pytest.mark.parametrize("kind", supervoxels.PIECES)
def test_more_pieces_than_can_be_followed_are_refused(kind):
    with pytest.raises(UserError, match=r"fall into 1.03e\+06 pieces of 1 mm, more than 1000000 that can be followed"):
        supervoxels.PIECES[kind](cube(101), 1.0, np.zeros((101, 101, 101), dtype=np.float32))


@pytest.mark.parametrize("edge", [1e300, float("inf")])
def test_a_piece_larger_than_the_volume_is_the_volume(edge):
    assert (supervoxels.blocks(SMALL, edge) == 1).all()


def test_pieces_of_no_size_are_refused():
    with pytest.raises(UserError, match="edge above 0"):
        supervoxels.blocks(SMALL, 0.0)


# --- similarity ----------------------------------------------------------------------------------------------------


def test_ranks_do_not_see_a_monotone_change():
    x = noise(3, 4, 5)
    assert similarity.spearman(x, np.exp(x)) == pytest.approx(1)
    assert similarity.spearman(x, -x) == pytest.approx(-1)
    assert np.isnan(similarity.spearman(x, np.ones_like(x)))


def test_correlations_are_those_of_quantus(quantus):
    from quantus.functions import similarity_func as theirs

    a, b = noise(3, 4, 5), noise(3, 4, 5, seed=1)
    assert similarity.spearman(a, b) == pytest.approx(theirs.correlation_spearman(a.ravel(), b.ravel()), abs=1e-4)
    assert pearson(a, b) == pytest.approx(theirs.correlation_pearson(a.ravel(), b.ravel()), abs=1e-4)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("shape", [(9, 11, 13), (1, 20, 16)])
def test_structural_similarity_is_that_of_scikit_image(shape, sign):
    metrics = pytest.importorskip("skimage.metrics")
    a, b = noise(*shape), noise(*shape, seed=1) + 0.2
    a, b = sign * a / np.abs(a).max(), b / np.abs(b).max()
    spread = max(a.max(), b.max()) - min(a.min(), b.min())
    theirs = metrics.structural_similarity(np.squeeze(a), np.squeeze(b), data_range=spread, win_size=7)
    assert similarity.ssim(a, b) == pytest.approx(theirs, abs=1e-4)
    assert similarity.ssim(a, a) == pytest.approx(1)
