"""The ledger for people: as one line, and what its shares tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..sentences import Sentence, Sentences

_ = Sentences("findings.account")
_ALIKE = 1e-5  # of a volume's relevance: rounding of float32 sums


def ledger_line(ledger: Mapping[str, Any]) -> str:
    """Such as "Target value 358.8 = 100.0 % in the volume + 0.0 % absorbed + 0.0 % outside the field of view; ..."."""
    whole = float(ledger["target_value"])

    def part(name: str) -> str:
        value = float(ledger.get(name, 0.0))
        share = round(value / whole, 3) + 0.0 if whole else 0.0  # without the sign of a negative zero
        return f"{share:.1%}".replace("%", " %") if whole else f"{value:.3g}"

    if "note" in ledger:
        return _("Target value {whole}; the map sums to {sum}. {note}").format(
            whole=f"{whole:.4g}", sum=f"{float(ledger.get('in_volume', 0.0)):.4g}", note=ledger["note"]
        )
    gap = float(ledger.get("relative_gap", 0.0))
    return _(
        "Target value {whole} = {inside} in the volume + {absorbed} absorbed + {outside} outside the field of view;"
        " {closes}."
    ).format(
        whole=f"{whole:.4g}",
        inside=part("in_volume"),
        absorbed=part("absorbed"),
        outside=part("outside"),
        closes=_("closes to {gap}").format(gap=f"{gap:.0e}") if gap else _("closes exactly"),
    )


def how_to_read(ledger: Mapping[str, Any], card: Mapping[str, Any], target: Mapping[str, Any]) -> Sentence | None:
    """A sentence where a map does not show why the model found what was asked about; None: it does."""
    return _below_zero(ledger, card, target) or _not_predicted(target)


def _below_zero(ledger: Mapping[str, Any], card: Mapping[str, Any], target: Mapping[str, Any]) -> Sentence | None:
    """How to read the map of an answer below 0; None: it is above, the value of a regression, which may be, or nothing
    was shared out.

    Relevance -|z| of a neuron goes by z+ to its positive contributions: a missed lesion may be the most negative place,
    although the score would be lower still without it.
    """
    whole, reached = float(ledger["target_value"]), float(ledger.get("in_volume", 0.0))
    if min(whole, reached) >= 0 or "note" in ledger or card.get("task") == "regression":
        return None
    # a probability is above 0, but the score behind it may not be; and biases that absorb may turn a sign
    what = _("The target value") if whole < 0 else _("What of the target value reaches the volume")
    if (card.get("output") or {}).get("activation") == "softmax" and "rather_than" not in target:
        return _(
            "{what} is below 0, which says nothing by itself: under softmax only the differences between classes count."
            " Ask about this class rather than another one to see what decided between them."
        ).format(what=what)
    if reached > 0:
        return _(
            "The target value is below 0, but what of it reaches the volume is above: what the model sees there speaks"
            " for what was asked about, and what was absorbed or fell outside the field of view outweighs it."
        )
    return _(
        "{what} is below 0: what the model sees speaks against what was asked about, and the map shares that out. What"
        " speaks for it may be negative there, too, as rules that go by positive contributions have it; compare another"
        " method, such as occlusion."
    ).format(what=what)


def _not_predicted(target: Mapping[str, Any]) -> Sentence | None:
    """How to read the map of a class that the model does not predict where it was asked about.

    Of many classes under softmax most have a score above 0 that is not the highest.
    """
    if target.get("predicted", 1) or "rather_than" in target:
        return None
    return _(
        "'{name}' is predicted in none of the voxels that were asked about: the map shows what its score there is made"
        " of, not that the model found it."
    ).format(name=target["class"])


def shares_by_input(ledger: Mapping[str, Any], names: list[str]) -> list[tuple[str, float, float]]:
    """For each input volume: name, relevance in it, and that as a share of the target value."""
    whole = float(ledger["target_value"])
    parts = ledger.get("in_volume_by_input") or [ledger.get("in_volume", 0.0)]
    return [(name, float(part), float(part) / whole if whole else 0.0) for name, part in zip(names, parts, strict=True)]


def shares_tell(ledger: Mapping[str, Any]) -> bool:
    """Whether the volumes' shares tell which of them mattered.

    A first layer that spreads relevance evenly over what it reads (flat) gives all volumes alike, whatever is in them.
    """
    within = ledger.get("in_volume_by_input", ())
    outside = ledger.get("outside_by_input") or [0.0] * len(within)
    parts = [inside + beyond for inside, beyond in zip(within, outside, strict=True)]
    return len(parts) < 2 or not any(parts) or max(parts) - min(parts) > _ALIKE * max(abs(part) for part in parts)
