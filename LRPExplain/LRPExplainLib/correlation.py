"""Pearson's correlation, which of ranks is Spearman's."""

from collections.abc import Sequence

import numpy as np


def pearson(one: np.ndarray | Sequence[float], other: np.ndarray | Sequence[float]) -> float:
    """Of as many figures in each, of any shape, in float64; NaN where either does not vary."""
    a, b = (np.asarray(x, dtype=np.float64).ravel() for x in (one, other))
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a**2).sum() * (b**2).sum()))
    return float((a * b).sum()) / scale if scale > 0 else np.nan
