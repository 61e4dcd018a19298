"""What a radiologist should know before trusting a map: each warning is one sentence, with its figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..sentences import Sentence, Sentences
from .account import how_to_read, shares_tell
from .body import padding_of, relevance_outside, tissue
from .field import Field
from .reference import Share

_ = Sentences("findings.caution")

OUTSIDE_BODY = 0.05  # share of the |relevance|
AT_THING = 0.01  # small as it is, much relevance need not be on it ...
AT_THING_TIMES = 10.0  # ... to be far more than chance would put there
AT_BORDER = 0.10
BORDER_MM = 6.0
AVOIDED = 0.5  # of what chance would put into the reference
LEDGER_GAP = 1e-3  # of the target value; float32 sums close far better
ABSORBED = 0.5
OUTSIDE_VIEW = 0.05
BEYOND_RANGE = 0.05  # share of a body's voxels
NEARLY_ALL = 95.0  # percent of them
SPACING_RATIO = 2.0
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")  # formats that seldom tell the size of a pixel


def warnings_of(
    maps: Sequence[Field | None],
    volumes: Sequence[Field | None],
    names: Sequence[str],
    ledger: Mapping[str, Any],
    card: Mapping[str, Any],
    target: Mapping[str, Any] | None = None,
) -> list[Sentence | str]:
    """The sentences that apply, the most alarming first.

    Args:
        maps, volumes, names: relevance, source (None where these have gone) and name of each input.
        ledger: of the explanation.
        card: of the model, as `ModelCard.as_dict` gives it; may be empty.
        target: of the explanation.
    """
    found = of_answer(ledger, card, target)
    for n, (relevance, volume, name) in enumerate(zip(maps, volumes, names, strict=False)):
        found += of_input(relevance, volume, name, n, card, several=len(maps) > 1)
    return found


def of_answer(
    ledger: Mapping[str, Any], card: Mapping[str, Any], target: Mapping[str, Any] | None = None
) -> list[Sentence | str]:
    """Those about the whole explanation; arguments as for `warnings_of`."""
    reading = how_to_read(ledger, card, target or {})
    return _of_ledger(ledger) + ([] if reading is None else [reading])


def of_input(
    relevance: Field | None, volume: Field | None, name: str, number: int, card: Mapping[str, Any], several: bool
) -> list[Sentence | str]:
    """Those about one input, whose channel of the model is ``number``; ``several``: there are more of them."""
    if relevance is None:
        return []
    of = _(" of '{name}'").format(name=name) if several else ""
    outside = [] if volume is None else _outside_body(relevance, volume, of)
    found = [*outside, *_at_border(relevance, of), *_of_no_size(relevance, name)]
    if volume is not None:
        found += _padded(volume, name, number, card)
        found += _unlike_training(relevance, volume, name, number, card)
    return found


def _percent(share: float) -> str:
    return f"{share:.0%}".replace("%", " %")


def _of_ledger(ledger: Mapping[str, Any]) -> list[Sentence | str]:
    whole = float(ledger["target_value"])
    gap, absorbed, outside = (float(ledger.get(key, 0.0)) for key in ("relative_gap", "absorbed", "outside"))
    found: list[Sentence | str] = []
    if not ledger.get("conserves", True):  # another method than LRP, which says so itself
        return [str(ledger["note"])]
    if gap > LEDGER_GAP:
        found.append(
            _("The ledger is open: {gap} of the target value is unaccounted for; do not trust the map.").format(
                gap=f"{gap:.2%}"
            )
        )
    if whole and absorbed / whole > ABSORBED and "note" not in ledger:
        found.append(
            _(
                "{share} of the target value was absorbed by biases and stabilisers: the map shows little of the"
                " reason."
            ).format(share=_percent(absorbed / whole))
        )
    elif whole and absorbed / whole < -ABSORBED and "note" not in ledger:
        found.append(
            _(
                "The map sums to {inside} of the target value, of which biases and stabilisers take {share} away again:"
                " the answer is the difference of the two, which no part of the map tells by itself."
            ).format(inside=_percent(float(ledger.get("in_volume", 0.0)) / whole), share=_percent(-absorbed / whole))
        )
    if whole and abs(outside / whole) > OUTSIDE_VIEW:
        found.append(
            _("{share} of the target value fell outside the field of view.").format(
                share=_percent(abs(outside / whole))
            )
        )
    if not shares_tell(ledger):
        found.append(
            _(
                "All volumes have the same share of the relevance, as a first layer by the rule 'flat' gives it: ask"
                " another composite, such as epsilon-plus, which of them mattered."
            )
        )
    return found


def _outside_body(relevance: Field, volume: Field, of: str) -> list[Sentence | str]:
    air = relevance_outside(relevance, volume)
    if air is None or air.share <= OUTSIDE_BODY:
        return []
    found: list[Sentence | str] = []
    thing = air.thing
    if thing is not None and thing.share > AT_THING and thing.density > AT_THING_TIMES:
        found.append(
            _(
                "{share} of the relevance{of} lies at something bright in air ({ml} ml, {away} mm from the body),"
                " {times} times what chance would put there. A marker, an annotation, a device? The model may be right"
                " for the wrong reason."
            ).format(
                share=_percent(thing.share), of=of, ml=f"{thing.ml:.1f}", away=f"{thing.away_mm:.0f}",
                times=f"{thing.density:.0f}",
            )
        )  # fmt: skip
    found.append(
        _("{share} of the relevance{of} lies outside the body, in air.").format(share=_percent(air.share), of=of)
    )
    return found


def border_share(relevance: Field, margin_mm: float = BORDER_MM) -> float:
    """The share of the |relevance| within ``margin_mm`` of the sides of the field of view.

    A direction in which the volume has too few slices to have an inside is left out.
    """
    magnitude = np.abs(relevance.values)
    whole = float(magnitude.sum(dtype=np.float64))
    inner = []
    for size, step in zip(magnitude.shape, relevance.spacing[::-1], strict=True):
        margin = max(1, round(margin_mm / step))
        inner.append(slice(margin, size - margin) if size > 4 * margin else slice(None))
    within = float(magnitude[tuple(inner)].sum(dtype=np.float64))
    return 1 - within / whole if whole else 0.0


def _at_border(relevance: Field, of: str) -> list[Sentence | str]:
    share = border_share(relevance)
    if share <= AT_BORDER:
        return []
    return [
        _(
            "{share} of the relevance{of} lies within {margin} mm of the border of the field of view: what the model"
            " looked at may go on beyond it."
        ).format(share=_percent(share), of=of, margin=f"{BORDER_MM:g}")
    ]


def _of_no_size(relevance: Field, name: str) -> list[Sentence | str]:
    """Where pixels are taken for millimetres, of a picture or an X-ray."""
    if not np.allclose(relevance.spacing, 1.0):
        return []
    if name.lower().endswith(PICTURES):
        return [
            _(
                "'{name}' is a picture that does not tell how large it is: what is told in mm and ml counts its pixels."
            ).format(name=name)
        ]
    if len(relevance.values) > 1:
        return []
    return [  # a DICOM file may have any name, and of what Slicer has loaded that is a node's
        _(
            "'{name}' is one slice with pixels of exactly 1 mm, as an X-ray is read that does not tell how large they"
            " are: what is told in mm and ml may count its pixels."
        ).format(name=name)
    ]


def of_reference(shares: Sequence[Share]) -> list[Sentence | str]:
    """A sentence where the relevance avoids the segments: they hold less than half of what chance would put there.

    Args:
        shares: as `shares_of` gives them, the last row being what lies outside all segments; may be empty.
    """
    if not shares:
        return []
    outside = shares[-1]
    inside = 1 - outside.share
    # share = density x part of the field of view
    chance = 1 - outside.share / outside.density if outside.density else 0.0
    if inside >= AVOIDED * chance:
        return []
    return [
        _(
            "The relevance avoids the reference segmentation: its segments hold {share} of it, and {chance} of the"
            " field of view."
        ).format(share=f"{inside:.2%}".replace("%", " %"), chance=f"{chance:.2%}".replace("%", " %"))
    ]


def _padded(volume: Field, name: str, channel: int, card: Mapping[str, Any]) -> list[Sentence | str]:
    """Where the first step looks at the volume's own statistics, of which padding is a part: it darkens or brightens
    the whole body."""
    steps = (card.get("preprocessing") or {}).get("intensity") or ()
    own = next((step for step in steps if channel in step.get("channels", [channel])), None)
    if own is None or own["type"] not in ("percentile", "minmax", "zscore") or _known_range(own) is not None:
        return []
    padding = padding_of(volume.values)
    if padding is None or padding.mean() <= BEYOND_RANGE:
        return []
    return [
        _(
            "{share} of '{name}' is padding ({value}), which the model's intensity steps reckon with as if it had been"
            " scanned: set it to air (-1000) and explain again, if the model was not trained on such volumes."
        ).format(share=_percent(float(padding.mean())), name=name, value=f"{float(volume.values.min()):g}")
    ]


def _unlike_training(
    relevance: Field, volume: Field, name: str, channel: int, card: Mapping[str, Any]
) -> list[Sentence | str]:
    """Where the card knows what the model was trained on: fixed intensities and the voxel size."""
    wishes = card.get("preprocessing") or {}
    found: list[Sentence | str] = []
    for step in wishes.get("intensity") or ():
        if channel not in step.get("channels", [channel]):
            continue
        limits = _known_range(step)
        if limits is None:
            continue
        beyond = _beyond(volume, *limits)
        if beyond > BEYOND_RANGE:
            found.append(
                _(
                    "{share} of the tissue in '{name}' has intensities outside {lower} to {upper}, the range that the"
                    " model was trained on."
                ).format(share=_percent(beyond), name=name, lower=f"{limits[0]:g}", upper=f"{limits[1]:g}")
            )
        break  # later steps see changed intensities
    wanted = [float(step) for step in wishes.get("spacing") or ()]
    coarsest = max(relevance.spacing)
    if wanted and coarsest > SPACING_RATIO * max(wanted):
        found.append(
            _(
                "'{name}' has voxels of up to {coarsest} mm, the model was trained on {trained} mm: fine detail that it"
                " relies on may be missing."
            ).format(name=name, coarsest=f"{coarsest:.2g}", trained=f"{max(wanted):.2g}")
        )
    return found


def _known_range(step: Mapping[str, Any]) -> tuple[float, float] | None:
    """The intensities that a step of the card takes for granted; None where it looks at the volume itself."""
    if step.get("type") == "zscore" and "mean" in step and "std" in step:
        return float(step["mean"]) - 5 * float(step["std"]), float(step["mean"]) + 5 * float(step["std"])
    if step.get("type") in ("range", "clip") and "lower" in step and "upper" in step:
        return float(step["lower"]), float(step["upper"])
    return None


def _beyond(volume: Field, low: float, high: float) -> float:
    """The share of the body that is outside a range.

    A range cuts off lungs, fat and bone on purpose; only a body most of which is above it, or nearly all of which is
    below it, is unlike.
    """
    values = tissue(volume)
    if float(np.median(values)) <= high and float(np.percentile(values, NEARLY_ALL)) >= low:
        return 0.0
    return float(((values < low) | (values > high)).mean())
