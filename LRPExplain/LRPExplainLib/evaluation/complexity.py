"""How much of the volume a map needs: fewer voxels are easier to grasp, right or wrong."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..folders import json_number

Array = np.ndarray
# A voxel with less than this share of the largest magnitude does not count as part of the explanation.
EFFECTIVE = 1e-5
MASSES = (0.5, 0.9)


def sparseness(relevance: Array) -> float:
    """The Gini index of magnitudes (Chalasani 2020): 0 where all voxels are alike, towards 1 where one has it all."""
    values = np.sort(np.abs(relevance), axis=None).astype(np.float64)
    n, total = values.size, float(values.sum())
    if not total > 0:
        return np.nan
    return float(((2 * np.arange(1, n + 1) - n - 1) * values).sum() / (n * total))


def complexity(relevance: Array) -> float:
    """The entropy, in nats, of the voxels' shares of all magnitude (Bhatt 2020): 0 for one voxel, at most log n."""
    values = np.abs(relevance[relevance != 0]).astype(np.float64)
    total = float(values.sum())
    if not total > 0:
        return np.nan
    shares = values / total
    return float(-(shares * np.log(shares, where=shares > 0, out=np.zeros_like(shares))).sum())


def effective_complexity(relevance: Array, share: float = EFFECTIVE) -> int:
    """How many voxels have more than this share of the largest magnitude (Nguyen 2020)."""
    values = np.abs(relevance)
    return int((values > share * float(values.max())).sum())


def discrete_entropy(relevance: Array, bins: int = 100) -> float:
    """The entropy, in nats, of the histogram of the map's values: what rises when a model is made random (Hedström
    2024)."""
    counts, _ = np.histogram(relevance, bins=bins)
    shares = counts[counts > 0] / relevance.size
    return float(-(shares * np.log(shares)).sum())


def mass_voxels(relevance: Array, mass: float) -> int:
    """How many voxels, the most relevant first, hold this share of the positive relevance."""
    positive = np.sort(relevance[relevance > 0], axis=None)[::-1].astype(np.float64)
    if not len(positive):
        return 0
    sums = np.cumsum(positive)
    return int(np.searchsorted(sums, mass * sums[-1] * (1 - 1e-12))) + 1


def complexity_facts(relevance: Array, spacing: Sequence[float]) -> dict[str, Any]:
    """All of them, JSON-ready; volumes in ml, without a number where nothing speaks for the answer."""
    ml = float(np.prod(tuple(spacing))) / 1000
    effective = effective_complexity(relevance)
    figures = {"sparseness": sparseness(relevance), "complexity": complexity(relevance)}
    return {
        **{name: json_number(value) for name, value in figures.items()},
        "effective_complexity": effective,
        "effective_ml": effective * ml,
        "mass_ml": [{"mass": mass, "volume_ml": mass_voxels(relevance, mass) * ml or None} for mass in MASSES],
    }
