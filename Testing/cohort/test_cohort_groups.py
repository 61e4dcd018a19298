"""Grouping by distances, and what sets a group apart: figures with known answers."""

import numpy as np
import pytest
from LRPExplainLib.cohort.groups import distances, embed, group
from LRPExplainLib.cohort.oddness import figures, largest, typical
from LRPExplainLib.errors import UserError


def cliques(*sizes: int, near: float = 1.0, far: float = 1000.0) -> np.ndarray:
    """Distances of groups whose members are all equally near to each other, and equally far from all others."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    apart = np.where(labels[:, None] == labels, near, far)
    np.fill_diagonal(apart, 0)
    return apart


def test_the_eigenvalues_of_complete_graphs_are_those_of_the_textbook():
    """Of K_n with equal weights the normalised Laplacian has 0 once and n / (n - 1) for the rest."""
    found = group(cliques(6, 6), neighbours=5)
    assert found.eigenvalues[:2] == pytest.approx(0, abs=1e-12)
    assert found.eigenvalues[2:] == pytest.approx(6 / 5)
    assert len(found.eigenvalues) == 7


@pytest.mark.parametrize("sizes", [(12,), (6, 6), (5, 6, 7), (4, 20), (5, 5, 5, 5)])
def test_the_gap_finds_as_many_groups_as_there_are(sizes):
    found = group(cliques(*sizes), neighbours=4)
    groups = [
        set(found.labels[start : start + size]) for start, size in zip(np.cumsum((0, *sizes)), sizes, strict=False)
    ]
    assert all(len(each) == 1 for each in groups)
    assert len(set.union(*groups)) == len(sizes)


def test_maps_that_are_all_the_same_are_one_group():
    apart = distances(np.ones((8, 2, 3, 4)))
    assert not group(apart).labels.any()
    assert not embed(apart).any()


def test_the_number_can_be_given_within_reason():
    assert len(set(group(cliques(6, 6), number=3).labels)) == 3
    with pytest.raises(UserError, match="from 1 to 12"):
        group(cliques(6, 6), number=13)
    with pytest.raises(UserError, match="1 neighbour at least"):
        group(cliques(6, 6), neighbours=-1)


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5])
def test_a_seed_that_is_none_is_refused(seed):
    for function in (group, embed):
        with pytest.raises(UserError, match="is no seed"):
            function(cliques(6, 6), seed=seed)


def test_groups_and_picture_are_the_same_every_time():
    maps = np.random.default_rng(0).random((20, 5, 5, 5))
    apart = distances(maps)
    assert (group(apart, 3, seed=2).labels == group(apart, 3, seed=2).labels).all()
    assert (embed(apart, 1) == embed(apart, 1)).all()
    assert np.abs(embed(apart, 1)).max() == 1


def test_distances_are_euclidean():
    maps = np.random.default_rng(0).standard_normal((5, 2, 3, 4))
    expected = np.sqrt(((maps[:, None] - maps[None]) ** 2).sum(axis=(2, 3, 4)))
    assert distances(maps) == pytest.approx(expected)


# --- what sets a group apart ------------------------------------------------------------------------------------------

# three maps of four blocks in the largest group, two in another
MAPS = np.array([[0.5, 0.5, 0, 0], [0.25, 0.75, 0, 0], [0.75, 0.25, 0, 0], [0, 0.2, -0.8, 0], [0, 0, -0.6, 0.4]])
LABELS = np.array([4, 4, 4, 7, 7])


def test_the_silhouette_is_rousseeuws_beside_the_largest_group():
    apart = cliques(3, 2, near=1, far=4)
    found = figures(7, 4, LABELS, apart, MAPS)
    assert found.silhouette == pytest.approx((4 - 1) / 4)
    assert found.odd
    close = figures(7, 4, LABELS, cliques(3, 2, near=1, far=1.5), MAPS)
    assert close.silhouette == pytest.approx(0.5 / 1.5)
    assert not close.odd


def test_elsewhere_and_alike_are_shares_of_relevance():
    """Means by magnitude: (0.5, 0.5, 0, 0) and (0, 0.1, 0.7, 0.2), which share 0.1; the two maps share 0.6."""
    found = figures(7, 4, LABELS, cliques(3, 2), MAPS)
    assert found.elsewhere == pytest.approx(0.9)
    assert found.alike == pytest.approx(0.6)
    main = figures(4, 4, LABELS, cliques(3, 2), MAPS)
    assert (main.silhouette, main.elsewhere, main.odd) == (None, None, False)
    assert main.alike == pytest.approx((1 + 0.625 + 0.625) / 3)


def test_no_map_has_more_neighbours_than_there_are_others():
    assert group(cliques(3, 3), neighbours=50).neighbours == 5


@pytest.mark.parametrize("sizes", [(5, 2), (4, 4), (6, 3)])
def test_with_two_groups_the_silhouette_is_scikit_learns(sizes):
    metrics = pytest.importorskip("sklearn.metrics")
    labels = np.repeat([4, 7], sizes)
    rng = np.random.default_rng(1)
    points, maps = rng.normal(size=(len(labels), 3)) + (labels == 7)[:, None], rng.dirichlet(np.ones(6), len(labels))
    apart = np.linalg.norm(points[:, None] - points, axis=-1)
    expected = metrics.silhouette_samples(apart, labels, metric="precomputed")[labels == 7].mean()
    assert figures(7, 4, labels, apart, maps).silhouette == pytest.approx(expected)


def test_one_that_stands_alone_is_odd():
    found = figures(7, 4, np.array([4, 4, 4, 7]), cliques(3, 1), MAPS[:4])
    assert found.odd
    assert (found.silhouette, found.alike) == (None, None)


def test_of_groups_of_one_size_the_looser_one_is_called_the_largest():
    apart = cliques(3, 3)
    apart[3:, 3:] *= 5
    assert largest(np.array([0, 0, 0, 1, 1, 1]), apart) == 1
    assert largest(np.array([0, 0, 0, 0, 1, 1]), cliques(4, 2)) == 0


def test_the_most_typical_map_is_nearest_to_the_mean():
    assert typical(np.array([[0.0, 9], [1, 5], [2, 4], [9, 0]])).tolist()[0] == 2
