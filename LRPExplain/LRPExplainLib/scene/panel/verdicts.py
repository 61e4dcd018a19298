"""What checks found, in one sentence each: how to read it, from the figures alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from slicer.i18n import tr as _

CLEAR = 3.0  # standard deviations above the shifted map
_MOST = 100  # a larger z tells nothing more
ALIKE = 0.5  # rank correlation: above it two maps show much the same


def verdicts(facts: Mapping[str, Any]) -> list[str]:
    """A sentence for each check of an evaluation (evaluation.json)."""
    return [sentence for name, found in facts["checks"].items() if (sentence := _SAY[name](found))]


def compared(facts: Mapping[str, Any]) -> str:
    """A sentence on a comparison (comparison.json) with one other method."""
    row = facts["agreement"][0]
    return _(
        "{a} and {b}: rank correlation {spearman}, and {overlap} of their most relevant {top} ml are the same"
        " (by chance {chance})."
    ).format(
        a=row["a"],
        b=row["b"],
        spearman=_number(row["spearman"]),
        overlap=_percent(row["top_k_overlap"]),
        top=f"{facts['top_ml']:g}",
        chance=_percent(facts["chance_overlap"]),
    )


def _agreement(found: Sequence[Mapping[str, Any]]) -> str:
    segments = [segment for volume in found for segment in volume["segments"]]
    if not segments:
        return _("Agreement: nothing in the map speaks for the answer, so nothing can agree.")
    measures = segments[0]["measures"]
    mass, distance = measures["relevance_mass_accuracy"], measures["peak_distance_mm"]["value"]
    z = (mass["null"] or {}).get("z")
    if z is None:
        reading = _("chance cannot be told")
    else:
        reading = _("far more than by chance") if z >= CLEAR else _("no more than a shifted map may have")
    return _(
        "Agreement with {segment}: {mass} of the relevance lies in it ({reading}, z {z}); the peak is {distance} mm"
        " away."
    ).format(
        segment=segments[0]["segment"] or _("the reference"),
        mass=_percent(mass["value"]),
        reading=reading,
        z=_("above {most}").format(most=_MOST) if z is not None and z > _MOST else _number(z),
        distance=_number(distance),
    )


def _faithfulness(found: Mapping[str, Any]) -> str:
    scores = {name: row["abpc"] for name, row in found["baselines"].items()}
    figures = ", ".join(f"{name} {score:.2f}" for name, score in scores.items())
    if min(scores.values()) > 0:
        reading = _("the answer falls faster where the map is strong: it goes by what the map shows")
    elif max(scores.values()) <= 0:
        reading = _("the answer does not go by what the map shows")
    else:
        reading = _("it depends on what pieces are replaced by, so it cannot be said")
    return _("Faithfulness: {reading} (ABPC {figures}; 0 is by chance).").format(reading=reading, figures=figures)


def _sanity(found: Mapping[str, Any]) -> str:
    last = found["mprt"][-1]["spearman_abs"] if found["mprt"] else None
    others = [row["spearman"] for row in found["random_logit"] if row["spearman"] is not None]
    if last is None:
        model = _("a random model leaves no map")
    elif last > ALIKE:
        model = _("the map of a random model is much like it, so it shows the image as much as the model")
    else:
        model = _("the map of a random model is another one, as it should be")
    question = ""
    if others:
        alike = max(others)
        question = (
            _("; asked about another class it is much the same")
            if alike > ALIKE
            else _("; another class has another map")
        )
    noise = found["stability"]["max_sensitivity"]
    return _("Sanity: {model} (rank correlation {last}){question}; noise moves it by {noise} of its norm.").format(
        model=model, last=_number(last), question=question, noise=_percent(noise)
    )


def _complexity(found: Sequence[Mapping[str, Any]]) -> str:
    masses = {entry["mass"]: entry["volume_ml"] for entry in found[0]["mass_ml"]}
    parts = [
        _("{mass} of the relevance in {volume} ml").format(mass=_percent(mass), volume=_number(volume))
        for mass, volume in masses.items()
    ]
    if None in masses.values():  # the relevance has another sign than an answer that biases decide
        parts = [_("no relevance speaks for the answer")]
    return _("Complexity: {parts} (Gini {gini}; 1 is a single voxel).").format(
        parts=", ".join(parts), gini=_number(found[0]["sparseness"])
    )


_SAY: dict[str, Callable[[Any], str]] = {
    "agreement": _agreement, "faithfulness": _faithfulness, "sanity": _sanity, "complexity": _complexity,
}  # fmt: skip


def _number(value: float | None) -> str:
    return "\N{EN DASH}" if value is None else f"{value:.3g}"


def _percent(share: float | None) -> str:
    return "\N{EN DASH}" if share is None else f"{share:.0%}".replace("%", " %")
