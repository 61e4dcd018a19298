"""The command line of the child process, and what it said when it failed."""

from __future__ import annotations

from pathlib import Path

AS_THE_MODEL_SAYS = "as the model says"
# The presets of `lrp`, named here because importing that would load PyTorch into Slicer; a test compares them.
COMPOSITE_CHOICES = (
    AS_THE_MODEL_SAYS,
    "volume",
    "epsilon-plus-flat",
    "epsilon-plus",
    "epsilon-gamma-box",
    "gamma",
    "epsilon-alpha2-beta1-flat",
    "epsilon-alpha2-beta1",
    "excitation-backprop",
    "attn-lrp",
    "epsilon",
)
_SPEAKER = "lrpexplain: "


def explain_arguments(model: Path, volume: Path, target: str, composite: str, out: Path) -> list[str]:
    """Arguments for the Python interpreter; an empty ``target`` leaves the choice to the model's prediction."""
    arguments = ["-m", "LRPExplainLib", "explain", "--model", str(model), "--volume", str(volume), "--out", str(out)]
    if target.strip():
        arguments += ["--target", target.strip()]
    if composite != AS_THE_MODEL_SAYS:
        arguments += ["--composite", composite]
    return arguments


def error_sentence(said: str) -> str:
    """What the process said on standard error is wrong: its own sentence, else the last line of a traceback."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    sentences = [line.removeprefix(_SPEAKER) for line in lines if line.startswith(_SPEAKER)]
    return (sentences or lines or ["The computation ended without saying why: it may have run out of memory."])[-1]
