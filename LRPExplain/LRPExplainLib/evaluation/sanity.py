"""All sanity checks of a subject."""

from typing import Any

from torch import Tensor

from ..folders import json_number
from ..progress import Progress, nobody
from .clock import part
from .randomisation import (
    SMOOTH_SAMPLES,
    STAGES,
    emprt,
    explanations,
    fully_randomised,
    mprt,
    random_logit,
    smooth_mprt,
)
from .stability import SAMPLES, stability
from .subject import Subject


def sanity(subject: Subject, original: Tensor, seed: int = 0, progress: Progress = nobody) -> dict[str, Any]:
    """Randomisation, other classes and input noise.

    Args:
        original: the subject's own map [1, C, D, H, W].

    Returns:
        JSON-ready: "mprt" (rows), "emprt", "smooth_mprt", "random_logit" (rows; empty for a model of one answer) and
        "stability"; see there.
    """
    maps = [STAGES, 1 + 2 * SMOOTH_SAMPLES, 1, SAMPLES]  # how many each check makes, about
    ends = [sum(maps[: n + 1]) / sum(maps) for n in range(len(maps))]
    cascade = mprt(subject, original, seed=seed, progress=part(progress, 0.0, ends[0]))
    random = fully_randomised(subject.model.module, seed)
    return {
        "mprt": cascade,
        "emprt": json_number(emprt(original, subject.relevance(random))),
        "smooth_mprt": smooth_mprt(subject, random, seed=seed, progress=part(progress, ends[0], ends[1])),
        "random_logit": random_logit(subject, original, seed, part(progress, ends[1], ends[2])),
        "stability": stability(subject, original, seed=seed, progress=part(progress, ends[2], ends[3])),
    }


def runs(subject: Subject) -> tuple[int, int]:
    """How many predictions and how many maps all sanity checks take, the subject's own map included."""
    return SAMPLES, 1 + explanations(subject) + SAMPLES
