"""The first draft of a model card, for the user to complete: `lrpexplain card MODEL`."""

import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import lrp
from ..errors import UserError
from .adapting import captured
from .card import CardInput, ModelCard, OutputInfo, Preprocessing
from .example import check_shape, example_input, input_channels, kernel_dimensions
from .loading import ExplainableModel, card_path, load_model, load_with, named
from .monai import Untranslated, bundle_card, bundle_files

# Cubes that a network is tried with to see what it returns.
_SIDES = (32, 64, 96, 128, 224, 256)
_COLOURS = 3
_COLOURED = (
    "A network of images with three channels is taken for one of colour, which sees a grey image three times: give"
    ' "mean" and "std" of the input if it was trained with those of ImageNet; an input for each channel if it takes'
    " three volumes; one input of one channel, and slices.neighbours, if it takes a slice and those beside it."
)
# Of the preprocessing, what is written even where it says nothing, as every card should be asked for it.
_ASKED = ("orientation", "spacing", "intensity")


def draft_card(
    path: str | os.PathLike[str], trust: bool = False, shape: Sequence[int] | None = None
) -> tuple[dict[str, Any], list[str]]:
    """What can be known of a model without asking, in the layout of a card file.

    Args:
        shape: [D, H, W] that the network takes, where none of the usual ones do.

    Returns:
        The card, and sentences on what the user should look at.

    Raises:
        UserError: the model cannot be loaded, or the shape is no size of a volume.
    """
    if shape is not None:
        check_shape(shape)
    model, notes = _loaded(named(path), trust)
    output, ending = _output(model, shape)
    card = model.card
    if output is None:
        notes.append("The network took no input of a usual size: complete task and classes yourself, or give --shape.")
        card = replace(card, task=card.task or "segmentation")
    else:
        card = card.completed(output.shape, ending)
    flat = kernel_dimensions(model) == 2
    if not card.inputs:
        channels = input_channels(model)
        if flat and channels == _COLOURS:
            card = replace(card, inputs=(CardInput("image", channels=channels),))
            notes.append(_COLOURED)
        else:
            card = replace(card, inputs=tuple(CardInput(f"channel {n + 1}") for n in range(channels)))
    if card.preprocessing.slices is None and flat:
        card = replace(card, preprocessing=replace(card.preprocessing, slices={"axis": "k"}))
    if not card.stated:
        notes.append("Inputs, orientation, spacing, intensity, activation and class names are guesses: correct them.")
    return _content(card, model), [*card.notes, *notes]


def default_place(path: str | os.PathLike[str]) -> Path:
    """Where the card of a model is looked for."""
    return card_path(path)


def _loaded(path: Path, trust: bool) -> tuple[ExplainableModel, list[str]]:
    try:
        return load_model(path, trust=trust), []
    except Untranslated as error:
        found = bundle_files(path)
        if found is None:
            raise
        facts = bundle_card(found[0], path.name, translate=False)
        return load_with(path, facts, trust), [str(error)]


def _output(model: ExplainableModel, shape: Sequence[int] | None) -> tuple[Tensor | None, lrp.Ending | None]:
    """What the network returns for a size that it takes, and how it makes probabilities itself; None: unknown."""
    for sides in [shape] if shape else [None, *[(side,) * 3 for side in _SIDES]]:
        try:
            x = example_input(model, sides)
            with torch.no_grad():
                output = model.module(x)
        except Exception:  # this network does not take this size; each kind of file says so in its own way
            continue
        if isinstance(output, Tensor) and output.dim() >= 2:
            return output, _ending(model, x)
        raise UserError(
            f"The model returns a {type(output).__name__}, but one tensor [1, classes, ...] is needed: export it so."
        )
    return None, None


def _ending(model: ExplainableModel, x: Tensor) -> lrp.Ending | None:
    try:
        return lrp.ending(captured(model.module, x))
    except lrp.LRPError:  # what cannot be captured cannot be explained; that is said there
        return None


def _content(card: ModelCard, model: ExplainableModel) -> dict[str, Any]:
    defaults = asdict(Preprocessing())
    wishes = {
        key: value for key, value in asdict(card.preprocessing).items() if key in _ASKED or value != defaults[key]
    }
    content = {
        "schema": 1,
        "name": card.name,
        "task": card.task,
        "weights": model.path.name,
        "sha256": model.sha256,
        **({"network": card.network} if card.network else {}),
        "inputs": [_without_defaults(asdict(entry)) for entry in card.inputs],
        "preprocessing": wishes,
        "output": {
            "activation": card.output.activation,
            **({"overlap": card.output.overlap} if card.output.overlap != OutputInfo().overlap else {}),
            "classes": [{"name": entry.name, "color": list(entry.color)} for entry in card.output.classes],
        },
        **card.texts,
    }
    if not card.output.classes:
        del content["output"]
    return content


def _without_defaults(entry: dict[str, Any]) -> dict[str, Any]:
    usual = asdict(CardInput("")) | {"modality": ...}  # the modality is written in any case
    return {key: value for key, value in entry.items() if value != usual[key]}
