"""A cohort for people, as Markdown."""

from collections.abc import Mapping
from typing import Any


def table(facts: Mapping[str, Any]) -> str:
    """Clusters, the odd ones first, and what was left out."""
    rows = [
        f"| {row['number']} | {row['size']} ({row['share']:.0%}) | {row['overlap_with_rest']:.2f} |"
        f" {', '.join(f'{value:.0f}' for value in row['strongest_ras'])} | {', '.join(row['examples'])} |"
        f" {'looks elsewhere' if row['odd'] else ''} |"
        for row in ordered(facts)
    ]
    return "\n".join([
        f"# {len(facts['members'])} explanations of '{facts['target']['class']}' by {facts['model']['name']}",
        "",
        sentence(facts),
        "",
        "| cluster | explanations | overlap with the rest | strongest at R, A, S (mm) | typical | |",
        "|---|---|---|---|---|---|",
        *rows,
        "",
        "Overlap: of the positive relevance of the cluster's mean map, the part that lies where the other clusters'"
        " mean map has its own. A cluster of at most half of the cohort with less than 0.5 is called odd.",
        *(f"\nLeft out: {entry['folder']}: {entry['reason']}" for entry in facts["left_out"]),
    ])  # fmt: skip


def ordered(facts: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The clusters, the odd ones first, then by size."""
    return sorted(facts["clusters"], key=lambda row: (not row["odd"], -row["size"]))


def sentence(facts: Mapping[str, Any]) -> str:
    """What was found, in one or two sentences."""
    clusters = facts["clusters"]
    odd = [row for row in clusters if row["odd"]]
    how = "as the eigengap tells" if facts["clusters_from"] == "eigengap" else "as asked"
    if len(clusters) == 1:
        return f"The model has one strategy for all of them ({how})."
    if not odd:
        return f"There are {len(clusters)} clusters ({how}); none looks somewhere else than the rest."
    share = sum(row["share"] for row in odd)
    return (
        f"There are {len(clusters)} clusters ({how}). {_count(len(odd))} {share:.0%} of the explanations"
        f" {'looks' if len(odd) == 1 else 'look'} somewhere else than the rest: see whether there is a reason to."
    )


def _count(odd: int) -> str:
    return "One of them with" if odd == 1 else f"{odd} of them with"
