"""Maps of the same volumes as numbers: how alike two are, what all agree on, and their mean.

A map is all voxels of all input volumes in one row, float32 [N].
"""

from collections.abc import Sequence

import numpy as np
from scipy.stats import rankdata

Array = np.ndarray


def ranks(values: Array, looked_at: Array) -> Array:
    """Rank of each voxel that is looked at, over their number: above 0, up to 1, ties sharing theirs; float64."""
    return rankdata(values[looked_at]) / max(1, int(looked_at.sum()))


def most_relevant(values: Array, k: int) -> Array:
    """The indices of the k largest values, sorted; fewer where fewer are above 0. Ties go to the first voxels."""
    above = np.flatnonzero(values > 0)
    if len(above) > k:
        above = above[np.argsort(-values[above], kind="stable")[:k]]
    return np.sort(above)


def overlap(one: Array, other: Array) -> float:
    """The share of most relevant voxels that two maps have in common, of the larger of both sets; NaN without any."""
    larger = max(len(one), len(other))
    return len(np.intersect1d(one, other, assume_unique=True)) / larger if larger else np.nan


def consensus(maps: Sequence[Array], looked_at: Array) -> Array:
    """What all maps agree on: where they have one sign, that sign times the lowest of their voxels' ranks by magnitude.

    A voxel with 0.99 is among the hundredth that matters most in each of the maps, and speaks for the target in each.

    Returns:
        float32 [N], from -1 to 1; 0 where the maps disagree.
    """
    lowest = np.min([ranks(np.abs(values), looked_at) for values in maps], axis=0)
    signs = np.sign(maps[0][looked_at])
    agreed = np.all([np.sign(values[looked_at]) == signs for values in maps], axis=0)
    result = np.zeros(len(looked_at), dtype=np.float32)
    result[looked_at] = np.where(agreed, signs * lowest, 0)
    return result


def combined(maps: Sequence[Array], weights: Sequence[float]) -> Array:
    """The weighted mean of the maps, each as a share of its summed magnitude; float32 [N]."""
    whole = float(sum(weights))
    mean = np.zeros(len(maps[0]))
    for values, weight in zip(maps, weights, strict=True):
        mean += weight / whole * values / np.abs(values).sum(dtype=np.float64)
    return mean.astype(np.float32)
