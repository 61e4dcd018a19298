"""What a network's refusal of its input means for the user: too many or too few volumes, or another size."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from .errors import UserError
from .lrp import LRPError, RefusedInput, capture
from .models import ExplainableModel
from .models.example import kernel_dimensions, possible_channels

_SIDE = 64  # of a cube that most networks take
WINDOWS = "use windows of a size that it takes (--window IxJxK)"
_CHANNELS = re.compile(r"to have (\d+) channels, but got (\d+) channels")  # PyTorch's convolutions say so


@contextmanager
def said_plainly(model: ExplainableModel, volumes: int, shape: Sequence[int], instead: str = WINDOWS) -> Iterator[None]:
    """Turn the refusal of an input into one sentence about the volumes.

    Args:
        volumes: how many were given.
        shape: of the input, [1, C, D, H, W] or [1, C, H, W].
        instead: what to do about a size that the network refuses.

    Raises:
        UserError: the network wants another number of channels, slices instead of a volume or a volume instead of a
            single slice, was exported for another size, or refuses this one.
    """
    try:
        yield
    except LRPError as error:
        wanted = _wanted_channels(model, error, shape)
        if wanted is not None:
            made = "" if shape[1] == volumes else f", which make {shape[1]} channels"
            repeated = f', or say in its card that one is for all of them ("channels": {wanted} of its input)'
            raise UserError(
                f"The model '{model.card.name}' takes {wanted} input channel{'s' if wanted != 1 else ''}, but {volumes}"
                f" volume{'s were' if volumes != 1 else ' was'} given{made}: give one volume for each channel"
                f"{repeated if volumes == 1 < wanted else ''}."
            ) from error
        if _wants_slices(model, shape):
            raise UserError(
                f"The model '{model.card.name}' takes images of two dimensions, but its card does not say so: add"
                ' "slices": {} to its preprocessing (for slices along k, and for X-rays).'
            ) from error
        if _wants_depth(model, shape):
            raise UserError(
                f"The model '{model.card.name}' wants a 3D volume, but what is given is a single slice, as an X-ray or"
                " a photograph is: give a volume, or choose a model of images of two dimensions."
            ) from error
        if model.shape is not None and _differ(model.shape[2:], shape[2:]):
            sides = " x ".join("any" if n is None else str(n) for n in reversed(model.shape[2:]))
            size = "x".join(str(n) for n in _window(model.shape[2:], shape[2:]))
            raise UserError(
                f"'{model.path.name}' was exported for inputs of {sides} voxels alone, but would get"
                f" {' x '.join(str(n) for n in reversed(shape[2:]))}: use windows of that size (--window {size}), or"
                f' "resize" in its card if it was trained on whole images brought to that size.'
            ) from error
        if isinstance(error, RefusedInput):
            sides = " x ".join(str(n) for n in reversed(shape[2:]))
            raise UserError(
                f"The model '{model.card.name}' refuses an input of {sides} voxels ({error.reason}):"
                f" {instead}, or state it in its card (size, size_multiple, or resize if it was trained on whole images"
                " brought to one size)."
            ) from error
        raise


def _wanted_channels(model: ExplainableModel, error: LRPError, shape: Sequence[int]) -> int | None:
    if model.shape is not None and model.shape[1] is not None:
        return model.shape[1] if model.shape[1] != shape[1] else None
    found = _CHANNELS.search(f"{error} {error.__cause__}")
    if found:  # deeper layers complain alike of what is no fault of the volumes
        return int(found[1]) if int(found[2]) == shape[1] else None
    # TorchScript gives no reason; with how many channels the same size is taken, does
    return next((n for n in possible_channels(model) if n != shape[1] and _takes(model, n, shape)), None)


def _wants_slices(model: ExplainableModel, shape: Sequence[int]) -> bool:
    """Whether the network is one of images and takes no volumes; without a card it would have got slices."""
    flat = len(shape) == 5 and kernel_dimensions(model) == 2
    return flat and not _takes(model, shape[1], (1, shape[1], *[_SIDE] * 3))


def _wants_depth(model: ExplainableModel, shape: Sequence[int]) -> bool:
    """Whether the network refuses single slices and takes volumes, whatever the size of the slice at hand."""
    if len(shape) != 5 or 1 not in shape[2:]:
        return False
    flat = [1 if n == 1 else _SIDE for n in shape[2:]]
    return _takes(model, shape[1], (1, shape[1], *[_SIDE] * 3)) and not _takes(model, shape[1], (1, shape[1], *flat))


def _takes(model: ExplainableModel, channels: int, shape: Sequence[int]) -> bool:
    try:
        capture(model.module, torch.zeros(1, channels, *shape[2:]))
    except LRPError:
        return False
    return True


def _differ(wanted: Sequence[int | None], given: Sequence[int]) -> bool:
    return len(wanted) != len(given) or any(n not in (None, m) for n, m in zip(wanted, given, strict=True))


def _window(wanted: Sequence[int | None], given: Sequence[int]) -> list[int]:
    """The size along i, j and k."""
    sides = [n or m for n, m in zip(wanted, given, strict=False)][::-1]
    return [*sides, *[1] * (3 - len(sides))]
