"""What perturbation curves say. A curve holds a model's score after 0, n1, n2 ... regions were replaced."""

from collections.abc import Sequence

import numpy as np
from scipy.integrate import trapezoid

from ..correlation import pearson

Figures = Sequence[float] | np.ndarray


def aopc(scores: Figures) -> float:
    """Area over the perturbation curve: the mean drop below the first score, which is the unperturbed one's (Samek
    2017). Large for the most relevant regions first, if the map knows what the model goes by."""
    values = np.asarray(scores, dtype=np.float64)
    return float((values[0] - values).mean())


def abpc(most: Figures, least: Figures) -> float:
    """Area between the curves of the least and of the most relevant regions first: their mean difference (Šimić 2022;
    Blücher 2024 call it symmetric relevance gain). About 0 for a map that knows nothing."""
    return float((np.asarray(least, dtype=np.float64) - np.asarray(most, dtype=np.float64)).mean())


def area(shares: Figures, scores: Figures) -> float:
    """Area under a curve over the share of regions replaced or inserted, 0..1, by trapezia: the deletion and the
    insertion score (Petsiuk 2018)."""
    return float(trapezoid(np.asarray(scores, dtype=np.float64), np.asarray(shares, dtype=np.float64)))


def faithfulness_correlation(relevance: Figures, drops: Figures) -> float:
    """Pearson's correlation between the relevance of random sets of regions and the drop of the score when each set is
    replaced (Bhatt 2020); NaN where either does not vary."""
    return pearson(relevance, drops)


def steps(count: int, factor: int = 4) -> list[int]:
    """0, 1, 4, 16 ... and `count`: how many of so many regions are replaced."""
    found = [0]
    n = 1
    while n < count:
        found.append(n)
        n *= factor
    return [*found, count]
