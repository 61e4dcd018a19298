"""Does the map stay when the input hardly changes? Noise too small to matter should not move it."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..folders import json_number
from ..progress import Progress, nobody
from ..seeds import check_seed
from .clock import Clock
from .localisation import Array
from .subject import Subject

SAMPLES = 3
RADIUS = 0.05  # of the input's standard deviation


def sensitivity(original: Array, other: Array) -> float:
    """How far a map moved: the norm of the difference over the norm of the original (Yeh 2019, Bhatt 2020)."""
    norm = float(np.linalg.norm(original))
    return float(np.linalg.norm(np.asarray(other, dtype=np.float64) - original)) / norm if norm > 0 else np.nan


def relative_input_stability(x: Array, noisy: Array, original: Array, other: Array) -> float:
    """The norm of the map's relative changes over the norm of the input's relative changes (Agarwal 2022).

    A voxel of which the map or the input says exactly 0 has no relative change and is left out of that norm.
    """
    changes = []
    for before, after in ((original, other), (x, noisy)):
        before, after = (np.asarray(values, dtype=np.float64) for values in (before, after))
        seen = before != 0
        changes.append(float(np.linalg.norm((before[seen] - after[seen]) / before[seen])))
    return changes[0] / changes[1] if changes[1] > 0 else np.nan


def stability(
    subject: Subject,
    original: Tensor,
    samples: int = SAMPLES,
    radius: float = RADIUS,
    seed: int = 0,
    progress: Progress = nobody,
) -> dict[str, Any]:
    """Noise, even between -r and r in each voxel of the field of view, on the model's input.

    Args:
        original: the subject's own map [1, C, D, H, W].
        radius: r as a share of the input's standard deviation.

    Returns:
        JSON-ready: "samples", "radius" (in the input's units), "max_sensitivity", "average_sensitivity",
        "relative_input_stability" (the worst), and "target_value_change": the largest relative change of the target
        value, by which the maps' changes can be judged.
    """
    check_seed(seed)
    clock = Clock(progress, "adding noise", samples)
    x, inside = subject.prepared.tensor, subject.prepared.inside
    reach = radius * float(x[:, :, inside].std(correction=0))
    generator = torch.Generator().manual_seed(seed)
    before = original.double().numpy()
    moved, relative, values = [], [], []
    for _ in range(samples):
        noisy = x + reach * (2 * torch.rand(x.shape, generator=generator) - 1) * inside
        after = subject.relevance(tensor=noisy).double().numpy()
        moved.append(sensitivity(before, after))
        relative.append(relative_input_stability(x.numpy(), noisy.numpy(), before, after))
        values.append(abs(next(subject.values([noisy])) / subject.asked.target_value - 1))
        clock.tell()
    return {
        "samples": samples,
        "radius": reach,
        "max_sensitivity": json_number(max(moved)),
        "average_sensitivity": json_number(float(np.mean(moved))),
        "relative_input_stability": json_number(max(relative)),
        "target_value_change": max(values),
    }
