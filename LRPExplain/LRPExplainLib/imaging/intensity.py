"""Intensities as a model wants them. Each step is a row of `INTENSITY`; a card names its steps in order.

A step maps a voxel's value to a new value of the same voxel, so relevance simply stays where it is.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError

Step = Callable[[Tensor, Mapping[str, Any]], Tensor]


def normalise(values: Tensor, steps: Sequence[Mapping[str, Any]], name: str) -> Tensor:
    """Apply the steps of a card to the voxels of one volume that lie in its field of view.

    Args:
        values: float32, any shape.
        steps: rows such as {"type": "percentile", "lower": 1, "upper": 99.8, "clip": true}.
        name: how an error calls the volume.

    Raises:
        UserError: a step cannot be applied, as the voxels it looks at are all alike.
    """
    for step in steps:
        try:
            values = INTENSITY[step["type"]](values, step)
        except _Flat as error:
            raise UserError(
                f"The intensities of '{name}' cannot be brought to the model's scale, as {error}:"
                " choose another volume, or another intensity step in the model's card."
            ) from None
    return values


class _Flat(Exception):
    """A spread of zero: there is nothing to divide by."""


def _percentile(values: Tensor, step: Mapping[str, Any]) -> Tensor:
    percentiles = (step.get("lower", 1.0), step.get("upper", 99.8))
    low, high = np.percentile(values.numpy(), percentiles).tolist()
    if not high > low:
        raise _Flat(f"their percentiles {percentiles[0]} and {percentiles[1]} are the same")
    return _rescale(values, low, high, step)


def _range(values: Tensor, step: Mapping[str, Any]) -> Tensor:
    return _rescale(values, float(step["lower"]), float(step["upper"]), step)


def _zscore(values: Tensor, step: Mapping[str, Any]) -> Tensor:
    counted = values != 0 if step.get("nonzero", False) else torch.ones_like(values, dtype=torch.bool)
    sample = values[counted].double()
    mean = float(step["mean"]) if "mean" in step else float(sample.mean()) if len(sample) else 0.0
    deviation = float(step["std"]) if "std" in step else float(sample.std(correction=0)) if len(sample) else 0.0
    if not deviation > 0:
        raise _Flat("their standard deviation is zero")
    return torch.where(counted, (values - mean) / deviation, values)


def _rescale(values: Tensor, low: float, high: float, step: Mapping[str, Any]) -> Tensor:
    """Linear, low..high -> 0..1 or to the step's "to" range; clipped to it unless "clip" is false."""
    start, stop = step.get("to", (0.0, 1.0))
    unit = (values - low) / (high - low)
    if step.get("clip", True):
        unit = unit.clamp(0, 1)
    return unit * (stop - start) + start


INTENSITY: dict[str, Step] = {
    "percentile": _percentile,  # "lower", "upper": percentiles of the volume
    "range": _range,  # "lower", "upper": fixed values, such as Hounsfield units
    "zscore": _zscore,  # mean 0, deviation 1; "nonzero": only voxels not 0; "mean", "std": fixed values
}
