"""Intensities as a model wants them. Each step is a row of `INTENSITY`; a card names its steps in order.

A step maps a voxel's value to a new value of the same voxel, so relevance simply stays where it is. Between them the
rows do what MONAI's ScaleIntensity, ScaleIntensityRange, ScaleIntensityRangePercentiles, NormalizeIntensity and
ClipIntensity and nnU-Net's normalisation schemes do.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError

Step = Callable[[Tensor, Mapping[str, Any], Tensor | None], Tensor]


def check_steps(steps: Sequence[Mapping[str, Any]]) -> None:
    """Refuse bounds in the wrong order, which would turn intensities around or make them all alike.

    To turn them around on purpose there is "to".

    Raises:
        UserError: a step's lower bound is not below its upper one.
    """
    for step in steps:
        usual = _BOUNDS.get(step["type"])
        if usual is None:
            continue
        low, high = (float(step.get(key, end)) for key, end in zip(("lower", "upper"), usual, strict=True))
        if not low < high:
            kind = step["type"]
            raise UserError(
                f"The card's intensity step '{kind}' goes from lower {low:g} to upper {high:g}: correct it, the lower"
                " bound has to be below the upper one."
            )


def normalise_all(
    volumes: Sequence[Tensor],
    steps: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    foregrounds: Sequence[Tensor | None],
) -> list[Tensor]:
    """Apply the steps of a card to the volumes of one examination.

    Args:
        volumes: float32, any shape: voxels in the field of view, one entry per channel.
        steps: rows such as {"type": "percentile", "lower": 1, "upper": 99.8, "clip": true}. "channels": only for
            these (by index); "together": over the voxels of all its channels at once.
        names: how errors call the volumes.
        foregrounds: bool, like `volumes`, or None where no step asks for it.

    Raises:
        UserError: a step cannot be applied, as the voxels it looks at are all alike.
    """
    values = list(volumes)
    for step in steps:
        channels = [n for n in step.get("channels", range(len(values))) if n < len(values)]
        for group in [channels] if step.get("together", False) else [[n] for n in channels]:
            masks = [foregrounds[n] for n in group]
            known = [mask.flatten() for mask in masks if mask is not None]
            try:
                changed = INTENSITY[step["type"]](
                    torch.cat([values[n].flatten() for n in group]),
                    step,
                    torch.cat(known) if len(known) == len(group) else None,
                )
            except _Flat as error:
                raise UserError(
                    f"The intensities of '{names[group[0]]}' cannot be brought to the model's scale, as {error}:"
                    " choose another volume, or another intensity step in the model's card."
                ) from None
            parts = changed.split([values[n].numel() for n in group])
            for n, part in zip(group, parts, strict=True):
                values[n] = part.reshape(values[n].shape)
    return values


# The bounds where a step names none; those of a range are named always.
_BOUNDS = {"percentile": (1.0, 99.8), "range": (np.nan, np.nan), "clip": (-np.inf, np.inf)}


class _Flat(Exception):
    """A spread of zero: there is nothing to divide by."""


def _percentile(values: Tensor, step: Mapping[str, Any], foreground: Tensor | None) -> Tensor:
    lowest, highest = _BOUNDS["percentile"]
    percentiles = (step.get("lower", lowest), step.get("upper", highest))
    low, high = np.percentile(values.numpy(), percentiles).tolist()
    if not high > low:
        raise _Flat(f"their percentiles {percentiles[0]} and {percentiles[1]} are the same")
    return _rescale(values, low, high, step, [percentile / 100 for percentile in percentiles])


def _range(values: Tensor, step: Mapping[str, Any], foreground: Tensor | None) -> Tensor:
    return _rescale(values, float(step["lower"]), float(step["upper"]), step)


def _minmax(values: Tensor, step: Mapping[str, Any], foreground: Tensor | None) -> Tensor:
    low, high = (float(value) for value in values.aminmax())
    if not high > low:
        raise _Flat("they are all the same")
    return _rescale(values, low, high, step)


def _zscore(values: Tensor, step: Mapping[str, Any], foreground: Tensor | None) -> Tensor:
    counted = torch.ones_like(values, dtype=torch.bool)
    if step.get("foreground", False):
        if foreground is None:
            raise ValueError("a foreground is needed")
        counted = foreground
    elif step.get("nonzero", False):
        counted = values != 0
    sample = values[counted].double()
    mean = float(step["mean"]) if "mean" in step else float(sample.mean()) if len(sample) else 0.0
    deviation = float(step["std"]) if "std" in step else float(sample.std(correction=0)) if len(sample) else 0.0
    if not deviation > 0:
        raise _Flat("their standard deviation is zero")
    return torch.where(counted, (values - mean) / deviation, values)


def _clip(values: Tensor, step: Mapping[str, Any], foreground: Tensor | None) -> Tensor:
    return values.clamp(step.get("lower", -torch.inf), step.get("upper", torch.inf))


def _linear(values: Tensor, step: Mapping[str, Any], foreground: Tensor | None) -> Tensor:
    return values * float(step.get("factor", 1.0)) + float(step.get("offset", 0.0))


def _rescale(
    values: Tensor, low: float, high: float, step: Mapping[str, Any], shares: Sequence[float] = (0.0, 1.0)
) -> Tensor:
    """Linear, low..high -> the step's "to" (default 0..1; null: low..high), or the `shares` of it where the step is
    "relative"; clipped to it unless "clip" is false."""
    start, stop = step.get("to", (0.0, 1.0)) or (low, high)
    if step.get("relative", False):
        start, stop = (start + (stop - start) * share for share in shares)
    unit = (values - low) / (high - low)
    if step.get("clip", True):
        unit = unit.clamp(0, 1)
    return unit * (stop - start) + start


INTENSITY: dict[str, Step] = {
    "percentile": _percentile,  # "lower", "upper": percentiles of the volume
    "range": _range,  # "lower", "upper": fixed values, such as Hounsfield units
    "minmax": _minmax,  # the volume's smallest and largest value
    "zscore": _zscore,  # mean 0, deviation 1; "nonzero", "foreground": only those voxels; "mean", "std": fixed values
    "clip": _clip,  # "lower", "upper": values beyond become these
    "linear": _linear,  # "factor", then "offset"
}
