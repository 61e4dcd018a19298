"""Checks of a presented explanation: the requests to the worker, and what they found as tables and charts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import agreed, asking, overlay
from .answers import answer_of, evaluation_beside, evaluation_of, volumes_of
from .host import tr as _
from .photographs import photograph
from .tables import Line, write_chart, write_table

if TYPE_CHECKING:
    from .presented import PresentedNodes
    from .session import Run, Session

_RED, _BLUE, _GREEN = (0.84, 0.19, 0.10), (0.10, 0.35, 0.85), (0.0, 0.55, 0.35)
_COLORS = (_RED, _BLUE, _GREEN)
_EDITED = (
    "The reference segmentation was edited after agreement with it was measured:"
    " the agreement told here is that with the reference as it was before."
)


def evaluate(
    session: Session,
    presented: PresentedNodes,
    checks: Sequence[str],
    references: Sequence[tuple[Any, str]] = (),
    on_done: Callable[[dict[str, Any]], None] | None = None,
    **callbacks: Any,
) -> Run:
    """Make checks; ``on_done`` gets {"facts"}: evaluation.json, with the checks that were made before.

    Args:
        references: segmentation node and segment (its ID or name), for "agreement".

    Raises UserError for what can be seen to be wrong at once.
    """
    folder = answer_of(presented)
    given = []
    for node, segment in references:
        place = asking.place((node, segment), presented.relevance[0], session.place("reference").with_suffix(".nrrd"))
        found = node.GetSegmentation().GetSegment(segment)
        assert place is not None
        given.append({**place, "shown": found.GetName() if found is not None else segment})
    message = {
        "explanation": str(folder), "checks": list(checks), "references": given, "out": str(evaluation_beside(folder)),
    }  # fmt: skip
    first, held = presented.relevance[0], agreed.held(references, presented.relevance[0])

    def done(event: dict[str, Any]) -> None:
        if "agreement" in checks:
            agreed.keep(first, list(dict.fromkeys(node for node, _segment in references)), held)
        if on_done is not None:
            on_done(event)

    return session.ask("evaluate", message, on_done=done, **callbacks)


def compare(
    session: Session,
    presented: PresentedNodes,
    method: str,
    on_progress: Callable[..., None] | None = None,
    on_done: Callable[[dict[str, Any]], None] | None = None,
    on_failed: Callable[[str], None] | None = None,
) -> Run:
    """Explain the same answer by another method, and compare.

    Its map, the consensus and the combination join the scene; the views show what they showed before. ``on_done`` gets
    comparison.json. Raises UserError for what can be seen to be wrong at once.
    """
    volumes = volumes_of(presented)
    evaluation = evaluation_of(presented)
    message = {
        "explanation": str(answer_of(presented)), "method": method, "out": str(session.place("compared")),
        "evaluation": None if evaluation is None else str(evaluation),
    }  # fmt: skip

    def done(event: dict[str, Any]) -> None:
        in_views = overlay.shown(presented)

        def shown(_others: Any) -> None:
            if in_views:  # the others wait to be chosen
                overlay.show(presented)
            if on_done is not None:
                on_done(event["facts"])

        session.show(run, [Path(folder) for folder in event["folders"]], volumes, shown, on_failed)

    run = session.ask("compare", message, on_progress=on_progress, on_done=done, on_failed=on_failed)
    return run


def record(session: Session, presented: PresentedNodes, path: Path, **callbacks: Any) -> Run:
    """Write the record to an .html file; ``on_done`` gets {"files"}. Raises UserError as `evaluate`."""
    folder, evaluation = answer_of(presented), evaluation_of(presented)
    pictures = photograph(presented, session.place("pictures"))
    message = {
        "explanation": str(folder), "evaluation": None if evaluation is None else str(evaluation), "out": str(path),
        "pictures": {view: str(file) for view, file in pictures.items()},
        "remarks": [_EDITED] if evaluation is not None and agreed.changed(presented.relevance[0]) else [],
    }  # fmt: skip
    return session.ask("record", message, **callbacks)


def export_dicom(
    session: Session, presented: PresentedNodes, series: Sequence[Sequence[str]], folder: Path, **callbacks: Any
) -> Run:
    """Write DICOM objects into an empty folder; ``series`` has the files of each volume's slices, or none.

    ``on_done`` gets {"files"}. Raises UserError as `evaluate`.
    """
    message = {
        "explanation": str(answer_of(presented)), "series": [list(files) for files in series], "out": str(folder),
        "together": str(session.place("series")),
    }  # fmt: skip
    return session.ask("export-dicom", message, **callbacks)


def write_evaluation(presented: PresentedNodes, facts: Mapping[str, Any]) -> None:
    """A table for each check that was made, and charts where there is a curve to see."""
    for name, found in facts["checks"].items():
        _WRITERS[name](presented, found)


def write_comparison(presented: PresentedNodes, facts: Mapping[str, Any]) -> None:
    """Pairwise agreement of maps."""
    rows = facts["agreement"]
    write_table(
        presented,
        "comparison",
        {
            "map": [row["a"] for row in rows],
            "and": [row["b"] for row in rows],
            "Spearman": _numbers(rows, "spearman"),
            "Spearman of magnitudes": _numbers(rows, "spearman_abs"),
            f"overlap of the top {facts['top_ml']:g} ml": _numbers(rows, "top_k_overlap"),
            "overlap by chance": np.full(len(rows), facts["chance_overlap"]),
        },
    )


def _agreement(presented: PresentedNodes, found: Sequence[Mapping[str, Any]]) -> None:
    rows = [
        {
            "volume": volume["volume"] or _("all volumes"),
            "segment": segment["segment"] or _("all segments"),
            "measure": name.replace("_", " "),
            "value": measure["value"],
            **{key: (measure["null"] or {}).get(key) for key in ("mean", "z", "p")},
        }
        for volume in found
        for segment in volume["segments"]
        for name, measure in segment["measures"].items()
    ]
    write_table(
        presented,
        "agreement",
        {
            **{key: [str(row[key]) for row in rows] for key in ("volume", "segment", "measure")},
            "value": _numbers(rows, "value"),
            "by chance": _numbers(rows, "mean"),
            "z": _numbers(rows, "z"),
            "p": _numbers(rows, "p"),
        },
    )
    first = next((segment for volume in found for segment in volume["segments"]), None)
    if first is not None:
        columns = {
            "threshold (% of peak)": np.array([100 * row["threshold"] for row in first["overlaps"]]),
            "Dice": _numbers(first["overlaps"], "dice"),
            "IoU": _numbers(first["overlaps"], "iou"),
            "volume (ml)": _numbers(first["overlaps"], "volume_ml"),
        }
        table = write_table(presented, "agreement over thresholds", columns)
        lines = [Line(name, "threshold (% of peak)", name, color) for name, color in (("Dice", _RED), ("IoU", _BLUE))]
        titles = (_("Overlap with the segment"), _("threshold (% of peak)"), _("overlap"))
        write_chart(presented, "agreement over thresholds", table, lines, titles)


def _faithfulness(presented: PresentedNodes, found: Mapping[str, Any]) -> None:
    baselines = found["baselines"]
    keys = {
        "ABPC": "abpc", "AOPC, most relevant first": "aopc_most_relevant_first",
        "AOPC, least relevant first": "aopc_least_relevant_first", "deletion AUC": "deletion_auc",
        "insertion AUC": "insertion_auc", "faithfulness correlation": "faithfulness_correlation",
    }  # fmt: skip
    rows = list(baselines.values())
    write_table(
        presented,
        "faithfulness",
        {"replaced by": list(baselines), **{title: _numbers(rows, key) for title, key in keys.items()}},
    )
    # pieces on a scale of square roots: the first of them, where maps differ, get their room
    some = next(iter(rows))["most_relevant_first"]
    most = max(1, some[-1]["pieces"])
    axis = "share of the pieces (square root)"
    columns: dict[str, Any] = {
        "pieces": np.array([point["pieces"] for point in some], np.int32),
        axis: np.array([(point["pieces"] / most) ** 0.5 for point in some]),
    }
    lines = []
    for (name, row), color in zip(baselines.items(), _COLORS, strict=False):
        for key, what, dashed in (
            ("most_relevant_first", _("most relevant first"), False),
            ("least_relevant_first", _("least relevant first"), True),
        ):
            column = f"{name}: {key.replace('_', ' ')}"
            columns[column] = np.array([point["score"] for point in row[key]])
            lines.append(Line(f"{name}: {what}", axis, column, color, dashed))
    table = write_table(presented, "perturbation curves", columns)
    titles = (
        _("Pieces replaced: most (lines) and least relevant first (dashes)"),
        _("share of the pieces (square root)"),
        _("target value (share)"),
    )
    write_chart(presented, "perturbation curves", table, lines, titles)


def _sanity(presented: PresentedNodes, found: Mapping[str, Any]) -> None:
    rows = [
        {"what": _("{count} layers at random, down to {layer}").format(count=row["layers"], layer=row["layer"]), **row}
        for row in found["mprt"]
    ]
    rows.append({"what": _("all layers at random, smoothed"), **found["smooth_mprt"]})
    rows += [{"what": _("asked about {name}").format(name=row["class"]), **row} for row in found["random_logit"]]
    alike = {"Spearman": "spearman", "Spearman of magnitudes": "spearman_abs", "Pearson": "pearson", "SSIM": "ssim"}
    write_table(
        presented,
        "sanity",
        {"likeness of the map": [row["what"] for row in rows]}
        | {title: _numbers(rows, key) for title, key in alike.items()},
    )
    stable = found["stability"]
    keys = ("max_sensitivity", "average_sensitivity", "relative_input_stability", "target_value_change")
    write_table(
        presented,
        "stability under noise",
        {
            "measure": [key.replace("_", " ") for key in keys],
            "value": _numbers([{"v": stable[key]} for key in keys], "v"),
        },
    )
    stages = found["mprt"]
    columns = {"layers at random": np.array([row["layers"] for row in stages], np.int32)}
    columns |= {title: _numbers(stages, key) for title, key in list(alike.items())[:3]}
    table = write_table(presented, "randomisation", columns)
    lines = [
        Line(title, "layers at random", title, color) for title, color in zip(list(columns)[1:], _COLORS, strict=True)
    ]
    titles = (_("The map of a model made random"), _("layers at random"), _("likeness to the map"))
    write_chart(presented, "randomisation", table, lines, titles)


def _complexity(presented: PresentedNodes, found: Sequence[Mapping[str, Any]]) -> None:
    masses = [entry["mass"] for entry in found[0]["mass_ml"]]
    write_table(
        presented,
        "complexity",
        {
            "volume": [row["volume"] or _("all volumes") for row in found],
            "sparseness (Gini)": _numbers(found, "sparseness"),
            "complexity (entropy)": _numbers(found, "complexity"),
            "effective complexity (voxels)": _numbers(found, "effective_complexity"),
            "effective complexity (ml)": _numbers(found, "effective_ml"),
            **{
                f"{mass:.0%} of the relevance (ml)": np.array([row["mass_ml"][n]["volume_ml"] for row in found], float)
                for n, mass in enumerate(masses)
            },
        },
    )


_WRITERS: dict[str, Callable[[Any, Any], None]] = {
    "agreement": _agreement, "faithfulness": _faithfulness, "sanity": _sanity, "complexity": _complexity,
}  # fmt: skip


def _numbers(rows: Sequence[Mapping[str, Any]], key: str) -> np.ndarray:
    """A column; what is not defined is not a number."""
    return np.array([np.nan if row[key] is None else float(row[key]) for row in rows])
