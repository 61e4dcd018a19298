"""Sparseness, entropy, effective complexity: closed forms, and Quantus as an oracle."""

import math

import numpy as np
import pytest
from LRPExplainLib.evaluation import complexity as c


def one_voxel(n: int) -> np.ndarray:
    x = np.zeros((1, 1, n))
    x[0, 0, n // 2] = -7.0
    return x


def some(count: int, n: int) -> np.ndarray:
    x = np.zeros((1, 1, n))
    x[..., :count] = 3.0
    return x


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(4, 5, 6))


@pytest.mark.parametrize("n", [4, 50])
def test_gini_is_zero_for_an_even_map_and_one_less_one_nth_for_one_voxel(n):
    assert c.sparseness(np.full((1, 1, n), 2.0)) == pytest.approx(0, abs=1e-12)
    assert c.sparseness(one_voxel(n)) == pytest.approx(1 - 1 / n)
    assert c.sparseness(some(n // 2, n)) == pytest.approx(0.5)


@pytest.mark.parametrize("count", [1, 3, 20])
def test_entropy_is_the_logarithm_of_how_many_voxels_share(count):
    assert c.complexity(some(count, 20)) == pytest.approx(math.log(count), abs=1e-12)


@pytest.mark.parametrize("scale", [1e-9, -0.5, 1e6])
def test_how_much_relevance_there_is_does_not_matter(scale):
    x = noise(3)
    for measure in (c.sparseness, c.complexity, c.effective_complexity):
        assert measure(scale * x) == pytest.approx(measure(x))


def test_effective_complexity_counts_what_is_not_negligible():
    x = np.array([[[1.0, -0.5, 1e-4, 1e-6, 0.0]]])
    assert c.effective_complexity(x) == 3
    assert c.effective_complexity(x, 0.01) == 2


def test_half_of_the_relevance_lies_in_so_many_voxels():
    x = np.array([[[4.0, 3.0, 2.0, 1.0, -9.0]]])
    assert [c.mass_voxels(x, share) for share in (0.4, 0.5, 0.7, 0.9, 1.0)] == [1, 2, 2, 3, 4]
    facts = c.complexity_facts(x, (1, 2, 3))
    assert facts["mass_ml"] == [{"mass": 0.5, "volume_ml": 0.012}, {"mass": 0.9, "volume_ml": pytest.approx(0.018)}]
    assert facts["effective_ml"] == pytest.approx(0.03)
    against = c.complexity_facts(-np.ones((1, 2, 3)), (1, 2, 3))  # "0 ml" would be told as a very small place
    assert [entry["volume_ml"] for entry in against["mass_ml"]] == [None, None]


def test_the_entropy_of_a_histogram():
    x = np.repeat([0.0, 1.0], 8).reshape(1, 4, 4)
    assert c.discrete_entropy(x) == pytest.approx(math.log(2))
    assert c.discrete_entropy(np.arange(100.0).reshape(1, 10, 10)) == pytest.approx(math.log(100))


def test_a_map_of_zeros_has_no_sparseness():
    facts = c.complexity_facts(np.zeros((2, 2, 2)), (1, 1, 1))
    assert facts["sparseness"] is None
    assert facts["complexity"] is None
    assert facts["effective_complexity"] == 0


@pytest.mark.parametrize(
    ("name", "ours"),
    [("Sparseness", c.sparseness), ("Complexity", c.complexity), ("EffectiveComplexity", c.effective_complexity)],
)
@pytest.mark.parametrize("seed", range(3))
def test_complexity_is_that_of_quantus(quantus, name, ours, seed):
    relevance = noise(seed)
    metric = getattr(quantus, name)(abs=True, normalise=True, disable_warnings=True)
    theirs = metric(
        model=None, x_batch=np.zeros((1, 1, 20, 6)), y_batch=np.zeros(1, dtype=int),
        a_batch=relevance.reshape(1, 1, 20, 6).copy(),
    )  # fmt: skip
    assert ours(relevance) == pytest.approx(float(theirs[0]), abs=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_the_histogram_entropy_is_that_of_quantus(quantus, seed):
    from quantus.functions.complexity_func import discrete_entropy

    relevance = noise(seed)
    assert c.discrete_entropy(relevance) == pytest.approx(discrete_entropy(relevance, relevance), abs=1e-4)
