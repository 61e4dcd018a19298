"""A cohort for people: its sentences, and its tables as Markdown."""

from collections.abc import Mapping
from typing import Any

from ..markdown import table_lines

ALIGNED = {
    "space": "places are compared in patient space (mm)",
    "centre": "places are compared by their distance from the centre of the field of view",
    "frame": "fields of view are turned upright and stretched onto each other",
    "target": "places are compared by their distance from the centre of what is predicted as the target",
}
HEADER = ("cluster", "explanations", "of all", "silhouette", "elsewhere", "alike", "strongest at R, A, S (mm)")
LEGEND = (
    "Silhouette: beside the largest cluster, 1 for a tight cluster far from it and 0 for one that lies among it; above"
    " 0.5, or alone, a cluster is called odd. Elsewhere: how much of the cluster's mean relevance lies where the"
    " largest one's has none. Alike: how much of a map's relevance lies where its cluster's others have it."
)
CAVEAT = (
    "Odd does not mean wrong, nor the largest cluster right: a shortcut that most volumes carry is the largest one."
    " Look at where each cluster's relevance lies."
)


def tables(facts: Mapping[str, Any]) -> str:
    """Clusters, explanations, and what was left out."""
    parts = [
        f"# {title(facts)}", "", summary(facts), "",
        *table_lines(HEADER, [cluster_row(row) for row in facts["clusters"]]),
        "", LEGEND, "", CAVEAT, "",
        *table_lines(["cluster", "explanations, the most typical first"], [
            [str(row["number"]), ", ".join(dict.fromkeys([*row["examples"], *row["members"]]))]
            for row in facts["clusters"]
        ]),
    ]  # fmt: skip
    if facts["left_out"]:
        parts += ["", *table_lines(["left out", "why"], [[row["name"], row["why"]] for row in facts["left_out"]])]
    return "\n".join([*parts, *(f"\nNote: {note}" for note in facts["notes"])])


def title(facts: Mapping[str, Any]) -> str:
    """What the cohort is of."""
    question = facts["question"]
    rather = f" rather than {question['rather_than']}" if "rather_than" in question else ""
    return f"{facts['model']['name']}: {question['class']}{rather}, {len(facts['explanations'])} explanations"


def summary(facts: Mapping[str, Any]) -> str:
    """How the clusters were made, in a sentence or two."""
    made, space = facts["clustering"], facts["space"]
    number = len(facts["clusters"])
    chosen = "by the widest gap between eigenvalues" if made["number_from"] == "eigengap" else "as asked"
    return (
        f"{number} cluster{'s' if number > 1 else ''} ({chosen}) of maps by '{facts['method']}', each divided by the"
        f" sum of its magnitudes, in blocks of {space['edge_mm']:.3g} mm; {ALIGNED[space['align']]}."
    )


def warning(row: Mapping[str, Any], whole: int) -> str:
    """What sets an odd cluster apart."""
    place = ", ".join(f"{value:.0f}" for value in row["strongest_ras_mm"])
    told = f"silhouette {row['silhouette']:.2f}" if row["silhouette"] is not None else "it stands alone"
    return (
        f"Cluster {row['number']} stands apart ({told}): {row['size']} of {whole} explanations look where the largest"
        f" cluster does not with {row['elsewhere']:.0%} of their relevance, most around R, A, S {place} mm."
    )


def cluster_row(row: Mapping[str, Any]) -> list[str]:
    """A cluster's line under `HEADER`."""
    kind = " (odd)" if row["odd"] else " (largest)" if row["main"] else ""
    return [
        f"{row['number']}{kind}", f"{row['size']}", f"{row['share']:.0%}", _figure(row["silhouette"], ".2f"),
        _figure(row["elsewhere"], ".0%"), _figure(row["alike"], ".0%"),
        ", ".join(f"{value:.0f}" for value in row["strongest_ras_mm"]),
    ]  # fmt: skip


def _figure(value: float | None, shape: str) -> str:
    return "–" if value is None else format(value, shape)
