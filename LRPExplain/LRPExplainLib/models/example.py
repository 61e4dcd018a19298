"""An input that a model could be given, where no volume is at hand: from its card, or guessed from its weights."""

import re
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from ..errors import UserError
from .loading import ExplainableModel

# The side of the volume that a network without a stated size is tried with, unless its size multiple is larger.
_SIDE = 32
_AXES = ("k", "j", "i")
_MOST_GROUPS = 16
_NAMES = re.compile("weight|kernel")
_LENGTHS = ("weight_g", "weight.original0")  # of weight_norm, old and new
_MOST_VOXELS = 2**31  # some ten times the largest volumes there are


def example_input(model: ExplainableModel, shape: Sequence[int] | None = None) -> Tensor:
    """Zeros [1, channels, D, H, W], or [1, channels, H, W] for a network of two dimensions.

    Args:
        shape: [D, H, W] of a volume; None: the card's window or size, or a small cube.
    """
    slices = model.card.preprocessing.slices
    sides = list(shape or default_shape(model))
    if slices is not None or kernel_dimensions(model) == 2:
        del sides[_AXES.index((slices or {}).get("axis", "k"))]
    return torch.zeros(1, input_channels(model), *sides)


def check_shape(shape: Sequence[int]) -> None:
    """Refuse what is no size [D, H, W] of a volume.

    Raises:
        UserError: not three sides, a side below 1, or more voxels than any volume has.
    """
    if len(shape) != 3 or min(shape) < 1 or prod(shape) > _MOST_VOXELS:
        given = " x ".join(str(side) for side in shape) or "nothing"
        raise UserError(
            f"{given} is no size of a volume: give three whole numbers D, H and W, each 1 or more, of"
            f" {_MOST_VOXELS} voxels together at most."
        )


def input_channels(model: ExplainableModel) -> int:
    """Of the network's input: as the card says, else as the first convolution has it."""
    neighbours = 2 * (model.card.preprocessing.slices or {}).get("neighbours", 0) + 1
    if model.card.inputs:
        return sum(entry.width for entry in model.card.inputs) * neighbours
    kernels = _kernels(model)
    return int(kernels[0].shape[1]) if kernels else 1


def possible_channels(model: ExplainableModel) -> list[int]:
    """How many channels the first convolution may take, the likeliest first: its groups are not in its weights."""
    kernels = _kernels(model)
    if not kernels:
        return []
    outputs, inputs = kernels[0].shape[:2]
    return [int(inputs) * groups for groups in range(1, min(outputs, _MOST_GROUPS) + 1) if outputs % groups == 0]


def kernel_dimensions(model: ExplainableModel) -> int:
    """2 or 3: of the first convolution; 3 where there is none."""
    kernels = _kernels(model)
    return kernels[0].dim() - 2 if kernels else 3


def slices_of(model: ExplainableModel) -> Mapping[str, Any] | None:
    """The slices that a model's card asks for; without a card, those of a network whose convolutions are flat."""
    slices = model.card.preprocessing.slices
    if model.card.stated or slices is not None:
        return slices
    return {} if kernel_dimensions(model) == 2 else None


def _kernels(model: ExplainableModel) -> list[Tensor]:
    """Of the convolutions, over volumes or else over slices; in the order of the layers.

    Known by their names, since attention has biases of four axes; the lengths of normalised weights are none.
    """
    state = model.module.state_dict()
    weights = [tensor for name, tensor in state.items() if _NAMES.search(name) and not name.endswith(_LENGTHS)]
    for dimensions in (5, 4):
        if found := [tensor for tensor in weights if tensor.dim() == dimensions]:
            return found
    return []


def default_shape(model: ExplainableModel) -> list[int]:
    """[D, H, W] of a volume for a model of which none is given: the card's window or size, or a small cube."""
    wishes = model.card.preprocessing
    wanted = (wishes.window or {}).get("size") or wishes.size or (0, 0, 0)
    sides = [side or _SIDE for side in reversed(wanted)]
    return [-(-side // wishes.size_multiple) * wishes.size_multiple for side in sides]
