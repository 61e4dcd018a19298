"""A relevance map against an expert's segments, and what chance would give: the same map, shifted.

The null is the map itself, moved by random steps on a torus within its field of view (what leaves on one side comes in
on the other): its values, their sizes and their neighbourhood stay, and only the place is lost. How the real place
compares with these says whether a number is large.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from ..errors import UserError
from ..folders import json_number
from ..progress import Progress, nobody
from ..seeds import check_seed
from .localisation import (
    Array,
    Ranked,
    auc,
    best_dice,
    distances_mm,
    overlaps,
    peak_distance_mm,
    places_of,
    pointing_game,
    relevance_mass_accuracy,
    relevance_rank_accuracy,
    top_k_intersection,
)

TOLERANCE_MM = 5.0
SHIFTS = 200
TOP_ML = 1.0

# What is told by name, measured as measure(map, places, k): larger is better.
Measure = Callable[[Ranked, Array, int], float]
_MEASURES: dict[str, Measure] = {
    "relevance_mass_accuracy": lambda ranked, places, k: relevance_mass_accuracy(ranked, places),
    "relevance_rank_accuracy": lambda ranked, places, k: relevance_rank_accuracy(ranked, places),
    "top_k_intersection": top_k_intersection,
    "auc": lambda ranked, places, k: auc(ranked, places),
    "best_dice": lambda ranked, places, k: best_dice(ranked, places),
}
_LESS_IS_MORE = ("peak_distance_mm",)


def agreement(
    relevance: Array,
    masks: Mapping[str, Array],
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
    *,
    tolerance_mm: float = TOLERANCE_MM,
    top_ml: float = TOP_ML,
    shifts: int = SHIFTS,
    seed: int = 0,
    progress: Progress = nobody,
) -> list[dict[str, Any]]:
    """Every measure for each segment, and for all of them together where there are several.

    Args:
        relevance: [K, J, I].
        masks: name -> bool [K, J, I].
        spacing: mm along k, j and i.
        tolerance_mm: how far from the segment the largest value may lie and still be a hit.
        top_ml: the volume of the most relevant voxels that are looked for in the segment; one voxel at least.
        shifts: how many random shifts make the null; 0: none.

    Returns:
        JSON-ready rows: "segment" (None: all), "volume_ml", "measures" (name -> "value", "null": {"mean", "std", "z",
        "percentile", "p"} or None), "pointing_game" with "tolerance_mm", "top_k" in voxels, "overlaps" over thresholds.
        A figure that is not defined is None. The percentile is the share of shifts (in per cent, ties counted half)
        that do worse; p is (1 + shifts that do as well) / (1 + shifts).

    Raises:
        UserError: a mask of another shape, an empty one, a map that holds nothing for the target, or a seed that is
            none.
    """
    check_seed(seed)
    ranked = Ranked(relevance, spacing)
    if ranked.mass <= 0:
        raise UserError("The map holds no relevance for the target, so nothing can agree: choose another target.")
    segments: dict[str | None, Array] = dict(masks.items())
    if len(masks) > 1:
        segments[None] = np.any(list(masks.values()), axis=0)
    steps = _shifts(ranked.shape, shifts, seed)
    k = min(max(1, round(top_ml / ranked.voxel_ml)), ranked.relevance.size)
    rows = []
    for n, (name, mask) in enumerate(segments.items()):
        progress("agreement", n / len(segments))
        if mask.shape != ranked.shape:
            raise UserError(f"The segment '{name}' has the shape {mask.shape} and the map {ranked.shape}: resample it.")
        if not mask.any():
            raise UserError(f"The segment '{name}' is empty: choose another one.")
        rows.append(_row(name, ranked, np.asarray(mask, dtype=bool), steps, k, tolerance_mm))
    progress("agreement", 1.0)
    return rows


def _row(name: str | None, ranked: Ranked, mask: Array, steps: Array, k: int, tolerance_mm: float) -> dict[str, Any]:
    places, distances = places_of(mask), distances_mm(mask, ranked.spacing)
    measured = {key: measure(ranked, places, k) for key, measure in _MEASURES.items()}
    measured["peak_distance_mm"] = peak_distance_mm(ranked, distances)
    measured["pointing_game"] = pointing_game(measured["peak_distance_mm"], tolerance_mm)
    null: dict[str, list[float]] = {key: [] for key in measured}
    for step in steps:
        moved = (places - step) % np.asarray(ranked.shape)
        for key, measure in _MEASURES.items():
            null[key].append(measure(ranked, moved, k))
        null["peak_distance_mm"].append(peak_distance_mm(ranked, distances, step))
        null["pointing_game"].append(pointing_game(null["peak_distance_mm"][-1], tolerance_mm))
    return {
        "segment": name,
        "volume_ml": len(places) * ranked.voxel_ml,
        "tolerance_mm": tolerance_mm,
        "top_k": k,
        "measures": {
            key: {"value": json_number(value), "null": against_null(value, null[key], key in _LESS_IS_MORE)}
            for key, value in measured.items()
        },
        "overlaps": [
            {key: json_number(value) for key, value in asdict(row).items()} for row in overlaps(ranked, places)
        ],
    }  # fmt: skip


def against_null(value: float, null: Sequence[float], less_is_more: bool = False) -> dict[str, float | None] | None:
    """How a figure compares with those of chance; see `agreement`."""
    if not len(null) or np.isnan(value):
        return None
    sample, sign = np.asarray(null, dtype=float), -1 if less_is_more else 1
    better = (sample - value) * sign
    deviation = float(sample.std())
    return {
        "mean": float(sample.mean()),
        "std": deviation,
        "z": sign * (value - float(sample.mean())) / deviation if deviation > 0 else None,
        "percentile": 100 * float((better < 0).mean() + (better == 0).mean() / 2),
        "p": (1 + int((better >= 0).sum())) / (1 + len(sample)),
    }


def _shifts(shape: Sequence[int], count: int, seed: int) -> Array:
    """Random steps [count, 3] on the torus, none of them 0."""
    voxels = int(np.prod(shape))
    drawn = np.random.default_rng(seed).integers(1, voxels, size=count if voxels > 1 else 0)
    return np.stack(np.unravel_index(drawn, tuple(shape)), axis=-1)
