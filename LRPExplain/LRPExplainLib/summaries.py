"""What the command line says of a model, a plan and an explanation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .findings.account import how_to_read, shares_tell

if TYPE_CHECKING:
    from .explanation import Explanation


def defaults() -> str:
    """What is assumed of a model without a card."""
    return (
        "This model has no card. Assumed: one channel per given volume; the volume's own orientation and voxel size;\n"
        "intensities from the 1st and 99.8th percentile to 0..1, clipped; classes by index; probabilities by softmax\n"
        "(of one channel by sigmoid) or by what the network ends in itself; slices along k for a network of two\n"
        "dimensions."
    )


def plan_summary(facts: Mapping[str, Any]) -> str:
    """What a run would do, for people."""
    grid, seconds = facts["grid"], facts["seconds"]
    sides = " x ".join(str(n) for n in facts["window_size"])
    mirrored = f", {facts['views']} with mirrored ones" if facts["views"] > facts["windows"] else ""
    known = facts["explained"] < facts["views"]
    explained = (
        f"{facts['explained']} to explain" if known else "those that the target does not touch are not explained"
    )
    ways = [f"{facts['batch']} at once"]
    if facts["precision"] != "float32":
        ways.append(f"in {facts['precision']}")
    if facts["segments"] > 1:
        ways.append(f"{facts['segments']} segments recomputed")
    if facts["offload"]:
        ways.append("activations wait in the CPU's memory")
    rules = f"composite {facts['composite']}" if facts["composite"] else f"method {facts['method']}"
    gib, free = facts["memory"] / 2**30, facts["memory_budget"] / 2**30
    over = "A run is refused" if facts["memory_stated"] else "It may not fit: the way that needs least is taken"
    fits = "" if gib <= free else f" {over}."
    answer = facts["memory_answer"] / 2**30  # a few classes or small volumes are not worth a word
    beside = f"; the answer of all windows takes {answer:.2f} GiB of the CPU's besides" if answer >= 0.1 else ""
    return "\n".join([
        f"Grid       {' x '.join(str(n) for n in grid['size'])} voxels of"
        f" {' x '.join(f'{step:.3g}' for step in grid['spacing'])} mm",
        f"Windows    {facts['windows']} of {sides}{mirrored}; {explained}",
        f"Run        {', '.join(ways)}; {rules}; device {facts['device']}",
        f"Memory     about {gib:.2f} GiB of {free:.2f} GiB that may be used"
        f" (the forward pass alone: {facts['memory_forward'] / 2**30:.2f}){beside}.{fits}",
        f"Time       about {duration(seconds['predicting'])} to predict and"
        f" {duration(seconds['explaining'])} to explain, judged by one forward pass",
    ])  # fmt: skip


def evaluation_plan_summary(facts: Mapping[str, Any]) -> str:
    """What an evaluation would do, for people."""
    return (
        f"Checks     {', '.join(facts['checks'])}\n"
        f"Runs       {facts['predictions']} predictions and {facts['explanations']} explanations\n"
        f"Time       about {duration(facts['seconds'])}, judged by one of each step"
    )


def duration(seconds: float) -> str:
    """So long, for people."""
    if seconds < 60:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def _percent(share: float) -> str:
    return f"{round(share, 4) + 0.0:7.2%}"  # without the sign of a negative zero


def _shares(explanation: Explanation) -> list[str]:
    """Which of several volumes mattered: of the target value, of the relevance in all of them, of its absolute."""
    ledger = explanation.ledger
    parts, whole = ledger["in_volume_by_input"], ledger["target_value"]
    if len(parts) == 1:
        return []
    names = [entry["name"] for entry in explanation.model["card"]["inputs"]] or [v["name"] for v in explanation.volumes]
    alike = "    (alike, as the rule 'flat' gives them; another composite, such as epsilon-plus, tells which mattered)"
    totals = zip(ledger["share_by_input"], ledger["absolute_share_by_input"], strict=True)
    return [
        f"    {name:<26}{part:>14.6g}  {_percent(part / whole)}  ({share:.1%} of the relevance, {size:.1%} of its size)"
        for name, part, (share, size) in zip(names, parts, totals, strict=True)
    ] + ([] if shares_tell(ledger) else [alike])


def _unseen(ledger: Mapping[str, Any]) -> list[str]:
    """What the network did not look at."""
    voxels = sum(ledger["unseen_voxels_by_input"])
    return [f"  {'in ' + str(voxels) + ' unseen voxels':<28}{ledger['unseen_relevance']:>14.6g}"] if voxels else []


def _how(composite: Mapping[str, Any]) -> str:
    """By which rules, or which other method."""
    if "method" not in composite:
        return f"Composite: {composite['name']}, biases {composite['biases']}"
    chosen = ", ".join(f"{name} {value}" for name, value in composite["parameters"].items())
    return f"Method: {composite['method']}" + (f" ({chosen})" if chosen else "")


def summary(explanation: Explanation) -> str:
    """What was explained, how, and where the relevance is, for people."""
    ledger, target, composite = explanation.ledger, explanation.target, explanation.composite
    whole = ledger["target_value"]
    rows = [
        ("in the volume", "in_volume"),
        ("  for the target", "in_volume_positive"),
        ("  against it", "in_volume_negative"),
        ("absorbed", "absorbed"),
        ("outside the field of view", "outside"),
    ]
    said = explanation.prediction.probabilities
    answer = [f"Prediction: {', '.join(f'{name} {value:.3f}' for name, value in said.items())}"] if said else []
    figures = [(label, ledger[key]) for label, key in rows]
    reading = how_to_read(ledger, explanation.model["card"], target)
    if "activation" in target:
        figures.insert(4, (f"  by the {target['activation']}", ledger["by_layer"][0]["changed"]))
    return "\n".join([
        *answer,
        f"Explained: {target['text']}",
        f"{_how(composite)}; device: {explanation.provenance['device']}",
        f"  {'target value':<28}{whole:>14.6g}",
        *(f"  {label:<28}{figure:>14.6g}  {_percent(figure / whole)}" for label, figure in figures[:1]),
        *_shares(explanation),
        *(f"  {label:<28}{figure:>14.6g}  {_percent(figure / whole)}" for label, figure in figures[1:]),
        *_unseen(ledger),
        f"  {'unaccounted for':<28}{ledger['gap']:>14.2g}  {ledger['relative_gap']:7.1e}",
        *([f"Note: {ledger['note']}"] if "note" in ledger else []),
        *([f"Note: {reading}"] if reading else []),
    ])  # fmt: skip
