"""Does relevance lie where an expert says that the reason is? Measures of a map against a mask, in mm and ml.

All take a map [K, J, I] and a mask of its shape (bool). Only relevance for the target counts as mass: negative values
are none. A measure is NaN where it is not defined: an empty mask, a mask that is everything, a map without mass.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import SimpleITK as sitk
from scipy.stats import rankdata

Array = np.ndarray
# Thresholds as shares of the map's largest value.
THRESHOLDS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
_ROUNDING_MM = 1e-4  # distances are float32: a peak at exactly the tolerance is a hit


@dataclass(frozen=True)
class Overlap:
    """A thresholded map against a mask."""

    threshold: float
    dice: float
    iou: float
    volume_ml: float


class Ranked:
    """A map with what its measures share, so that many masks and many shifts of it cost little.

    Attributes:
        relevance: float64 [K, J, I].
        spacing: mm along k, j and i.
    """

    def __init__(self, relevance: Array, spacing: Sequence[float] = (1.0, 1.0, 1.0)) -> None:
        """
        Raises:
            ValueError: the map is not of three dimensions or not finite.
        """
        self.relevance = np.asarray(relevance, dtype=np.float64)
        self.spacing = tuple(float(step) for step in spacing)
        if self.relevance.ndim != 3 or not np.isfinite(self.relevance).all():
            raise ValueError("a map has three dimensions and finite values")

    @property
    def shape(self) -> tuple[int, ...]:
        return self.relevance.shape

    @property
    def voxel_ml(self) -> float:
        """The volume of a voxel."""
        return float(np.prod(self.spacing)) / 1000

    @cached_property
    def mass(self) -> float:
        """The sum of what is positive."""
        return float(self.relevance.sum(where=self.relevance > 0))

    @cached_property
    def ascending(self) -> Array:
        """All values, the smallest first."""
        return np.sort(self.relevance, axis=None)

    @cached_property
    def ranks(self) -> Array:
        """Each voxel's rank from below, ties sharing theirs."""
        return np.asarray(rankdata(self.relevance, axis=None)).reshape(self.shape)

    @cached_property
    def peak(self) -> tuple[int, ...]:
        """The index (k, j, i) of the largest value; of several alike the first."""
        return tuple(int(n) for n in np.unravel_index(int(self.relevance.argmax()), self.shape))

    def at_least(self, value: float) -> int:
        """How many voxels have at least this value."""
        return self.ascending.size - int(np.searchsorted(self.ascending, value, side="left"))

    def above(self, value: float) -> int:
        """How many voxels have more than this value."""
        return self.ascending.size - int(np.searchsorted(self.ascending, value, side="right"))


def relevance_mass_accuracy(ranked: Ranked, places: Array) -> float:
    """The share of positive relevance at these places (Arras 2022).

    Args:
        places: indices [n, 3] (k, j, i) of the mask's voxels, or of where a shifted map would have to be looked up.
    """
    values = _values(ranked.relevance, places)
    return float(values.sum(where=values > 0)) / ranked.mass if ranked.mass > 0 and len(places) else np.nan


def relevance_rank_accuracy(ranked: Ranked, places: Array) -> float:
    """Of as many voxels as the mask has, the most relevant ones: the share that lies in it (Arras 2022)."""
    return _among_top(ranked, places, len(places)) / len(places) if len(places) else np.nan


def top_k_intersection(ranked: Ranked, places: Array, k: int) -> float:
    """The share of the k most relevant voxels that lies in the mask (Theiner 2022)."""
    k = min(k, ranked.relevance.size)
    return _among_top(ranked, places, k) / k if len(places) and k > 0 else np.nan


def auc(ranked: Ranked, places: Array) -> float:
    """Area under the ROC curve of the map as a detector of the mask's voxels (Fawcett 2006).

    It is the probability that a voxel of the mask has more relevance than another one; ties count half.
    """
    inside = len(places)
    outside = ranked.relevance.size - inside
    if not inside or not outside:
        return np.nan
    return float((_values(ranked.ranks, places).sum() - inside * (inside + 1) / 2) / (inside * outside))


def overlaps(ranked: Ranked, places: Array, thresholds: Sequence[float] = THRESHOLDS) -> list[Overlap]:
    """Dice and IoU of the voxels with at least these shares of the map's largest value."""
    top = float(ranked.ascending[-1])
    values = _values(ranked.relevance, places)
    rows = []
    for threshold in thresholds:
        if top <= 0 or not len(places):
            rows.append(Overlap(threshold, np.nan, np.nan, np.nan))
            continue
        found, common = ranked.at_least(threshold * top), int((values >= threshold * top).sum())
        union = found + len(places) - common
        dice = 2 * common / (found + len(places))
        rows.append(Overlap(threshold, dice, common / union, found * ranked.voxel_ml))
    return rows


def best_dice(ranked: Ranked, places: Array, thresholds: Sequence[float] = THRESHOLDS) -> float:
    """The largest Dice over the thresholds."""
    return max(row.dice for row in overlaps(ranked, places, thresholds))


def distances_mm(mask: Array, spacing: Sequence[float]) -> Array:
    """Each voxel's distance in mm from the nearest voxel of the mask, centre to centre, 0 within it; [K, J, I]."""
    if not mask.any():
        return np.full(mask.shape, np.nan)
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    image.SetSpacing(tuple(float(step) for step in reversed(tuple(spacing))))
    distance = sitk.SignedMaurerDistanceMap(image, insideIsPositive=False, squaredDistance=False, useImageSpacing=True)
    return np.maximum(sitk.GetArrayFromImage(distance), 0)


def peak_distance_mm(ranked: Ranked, distances: Array, shift: Sequence[int] = (0, 0, 0)) -> float:
    """The distance of the map's largest value from the mask.

    Args:
        distances: see `distances_mm`.
        shift: by how many voxels the map is moved first, on a torus.
    """
    if ranked.mass <= 0:
        return np.nan
    place = tuple((n + step) % size for n, step, size in zip(ranked.peak, shift, ranked.shape, strict=True))
    return float(distances[place])


def pointing_game(distance_mm: float, tolerance_mm: float = 0.0) -> float:
    """1 where the largest value lies in the mask or at most so far from it (Zhang 2018), else 0."""
    return np.nan if np.isnan(distance_mm) else float(distance_mm <= tolerance_mm + _ROUNDING_MM)


def places_of(mask: Array) -> Array:
    """Indices [n, 3] (k, j, i) of a mask's voxels."""
    return np.argwhere(mask)


def _values(volume: Array, places: Array) -> Array:
    return volume[tuple(places.T)]


def _among_top(ranked: Ranked, places: Array, k: int) -> float:
    """How many of these places are among the k largest values; where the k-th has ties, the expected number."""
    least = float(ranked.ascending[-k])
    values = _values(ranked.relevance, places)
    above, at = int((values > least).sum()), int((values == least).sum())
    beyond = ranked.above(least)
    return above + at * (k - beyond) / (ranked.at_least(least) - beyond)
