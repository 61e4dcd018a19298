"""An evaluation as Markdown tables."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import number_of
from ..markdown import table_lines
from .randomisation import LIKENESS

_LABELS = {
    "relevance_mass_accuracy": "relevance mass accuracy",
    "relevance_rank_accuracy": "relevance rank accuracy",
    "top_k_intersection": "top-k intersection",
    "auc": "AUC",
    "best_dice": "best Dice",
    "peak_distance_mm": "peak to segment, mm",
    "pointing_game": "pointing game",
}


def tables(facts: Mapping[str, Any]) -> str:
    """All figures of evaluation.json for people."""
    about = facts["explanation"]
    lines = [
        f"# {about['model']['name']}: {about['target']['text']}",
        f"Composite or method {about['composite']}; volumes {', '.join(entry['name'] for entry in about['volumes'])}.",
    ]
    for name, found in facts["checks"].items():
        lines += ["", *_WRITERS[name](found)]
    return "\n".join(lines)


def _agreement(found: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = ["## Agreement with the expert"]
    for volume in found:
        for row in volume["segments"]:
            which = f"{_volume(volume)}, {row['segment'] or 'all segments'} ({row['volume_ml']:.3g} ml)"
            lines += ["", f"{which}, relevance {volume['speaks']} the target", ""]
            lines += table_lines(
                ["measure", "value", "by chance", "z", "percentile", "p"],
                [[_LABELS[key], _number(m["value"]), *_chance(m["null"])] for key, m in row["measures"].items()],
            )
            thresholds = [
                [f"{o['threshold']:.0%}", *(_number(o[key]) for key in ("dice", "iou", "volume_ml"))]
                for o in row["overlaps"]
            ]
            lines += ["", *table_lines(["threshold", "Dice", "IoU", "ml"], thresholds)]
            lines += ["", f"Pointing game: within {row['tolerance_mm']:g} mm. Top-k: {row['top_k']} voxels."]
        if not volume["segments"]:
            lines += ["", f"{_volume(volume)}: no relevance {volume['speaks']} the target."]
    return [*lines, "", "By chance: the same map, shifted at random within the volume."]


def _faithfulness(found: Mapping[str, Any]) -> list[str]:
    keys = {
        "aopc_most_relevant_first": "AOPC, most first", "aopc_least_relevant_first": "AOPC, least first",
        "abpc": "ABPC", "deletion_auc": "deletion AUC", "insertion_auc": "insertion AUC",
        "faithfulness_correlation": "faithfulness correlation",
    }  # fmt: skip
    rows = [[name, *(_number(row[key]) for key in keys)] for name, row in found["baselines"].items()]
    lines = ["## Faithfulness", "", *table_lines(["baseline", *keys.values()], rows)]
    for name, row in found["baselines"].items():
        curves = ("most_relevant_first", "least_relevant_first", "insertion")
        points = zip(*(row[curve] for curve in curves), strict=True)
        lines += ["", f"Replaced by {name}; scores as shares of {_whole(found)}", ""]
        lines += table_lines(
            ["pieces", "most relevant first", "least relevant first", "insertion"],
            [[str(point[0]["pieces"]), *(_number(curve["score"]) for curve in point)] for point in points],
        )
    how = found["settings"]
    return [*lines, "", f"{found['pieces']} pieces ({how['pieces']} of about {how['edge_mm']:g} mm)."]


def _whole(found: Mapping[str, Any]) -> str:
    """What scores are shares of; below 0 they start at -1, since only the size is divided by."""
    value = found["target_value"]
    return f"the target value {value:.6g}" if value > 0 else f"{-value:.6g}, the size of the target value {value:.6g}"


def _sanity(found: Mapping[str, Any]) -> list[str]:
    header = ["", "Spearman", "Spearman of magnitudes", "Pearson", "SSIM"]
    rows = [
        [f"{number_of(row['layers'], 'layer')} at random, down to {row['layer'] or 'the only one'}", *_alike(row)]
        for row in found["mprt"]
    ]
    rows.append(["all at random, smoothed", *_alike(found["smooth_mprt"])])
    rows += [[f"asked about {row['class']}", *_alike(row)] for row in found["random_logit"]]
    stable = found["stability"]
    return [
        "## Sanity",
        "",
        "How like the map is to the original one; where it should change, the lower the better:",
        "",
        *table_lines(header, rows),
        "",
        f"Efficient MPRT: the map's entropy changes by {_number(found['emprt'])} of itself in the random model.",
        f"Under noise of ±{stable['radius']:.3g} on the input, {stable['samples']} times: max sensitivity"
        f" {_number(stable['max_sensitivity'])}, average {_number(stable['average_sensitivity'])}, relative input"
        f" stability {_number(stable['relative_input_stability'])}; the target value changes by"
        f" {stable['target_value_change']:.2%} at most.",
    ]  # fmt: skip


def _complexity(found: Sequence[Mapping[str, Any]]) -> list[str]:
    masses = [entry["mass"] for entry in found[0]["mass_ml"]]
    header = ["volume", "sparseness (Gini)", "complexity (entropy)", "effective complexity, voxels", "ml"]
    header += [f"{mass:.0%} of the relevance for the answer, ml" for mass in masses]
    rows = [
        [_volume(row), _number(row["sparseness"]), _number(row["complexity"]), str(row["effective_complexity"]),
         _number(row["effective_ml"]), *(_number(entry["volume_ml"]) for entry in row["mass_ml"])]
        for row in found
    ]  # fmt: skip
    return ["## Complexity", "", *table_lines(header, rows)]


_WRITERS: dict[str, Callable[[Any], list[str]]] = {
    "agreement": _agreement, "faithfulness": _faithfulness, "sanity": _sanity, "complexity": _complexity,
}  # fmt: skip


def _volume(row: Mapping[str, Any]) -> str:
    return row["volume"] or "all volumes"


def _alike(row: Mapping[str, Any]) -> list[str]:
    return [_number(row[key]) for key in LIKENESS]


def _chance(null: Mapping[str, float | None] | None) -> list[str]:
    if null is None:
        return ["–"] * 4
    return [
        f"{_number(null['mean'])} ± {_number(null['std'])}",
        *(_number(null[key]) for key in ("z", "percentile", "p")),
    ]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"
