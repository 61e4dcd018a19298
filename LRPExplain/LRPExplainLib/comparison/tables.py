"""A comparison for people, as Markdown."""

from collections.abc import Mapping
from typing import Any

from ..markdown import table_lines


def table(facts: Mapping[str, Any]) -> str:
    """Pairwise agreement, and what each map weighs."""
    pairs = [
        [row["a"], row["b"], *(_figure(row[key]) for key in ("spearman", "spearman_abs", "top_k_overlap"))]
        for row in facts["agreement"]
    ]
    weighed = [
        [row["name"], _figure(row["faithfulness"]), f"{row['weight']:.3g}"] for row in facts["explanations"]
    ]  # fmt: skip
    return "\n".join([
        f"Explained: {facts['target']}",
        "",
        *table_lines(["map", "and", "Spearman", "of magnitudes", f"overlap of the top {facts['top_ml']:g} ml"], pairs),
        "",
        f"Ranks over the {facts['voxels']} voxels where any map differs from 0; two random maps would overlap by"
        f" {facts['chance_overlap']:.3f}.",
        "",
        *table_lines(["map", "faithfulness (ABPC)", "weight in the combined map"], weighed),
        "",
        f"Weights: {_SOURCES[facts['weights_from']]}.",
        *(f"Note: {note}" for note in facts["notes"]),
    ])  # fmt: skip


_SOURCES = {
    "given": "as given",
    "faithfulness": "each map's faithfulness",
    "equal": "all alike; 'lrpexplain evaluate --checks faithfulness' tells which map to trust more",
}


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
