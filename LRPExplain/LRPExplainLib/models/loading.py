"""From a model's files and its card to a network that can be explained. Formats are in `formats/`.

Nothing is unpickled by Python and nothing from the files is run, unless the caller trusts a bundle (`trust=True`).
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import UserError
from .adapting import adapt
from .card import ModelCard, default_card, read_card, recorded_card
from .formats import FORMATS, Format
from .formats.base import PreviousStage

__all__ = ["ExplainableModel", "TrustRequest", "load_model", "trust_request"]

_NAMED = 5  # models of a folder, where none of them was chosen


@dataclass(frozen=True, eq=False)
class ExplainableModel:
    """A network with its card.

    Attributes:
        module: in eval mode, float32, on the CPU; it takes tensors [1, volumes, k, j, i].
        path: the weights file, or the folder of a bundle.
        sha256: of what was read there.
        previous: the stage whose segmentation it takes as its last input, where that lies beside it.
        shape: of the only input that its program takes, None where it takes any; see `formats.base.Loaded`.
        card_file: where the card lies, if it is another one than that which is looked for beside the model.
    """

    module: nn.Module
    card: ModelCard
    path: Path
    sha256: str
    previous: PreviousStage | None = None
    shape: tuple[int | None, ...] | None = None
    card_file: Path | None = None


@dataclass(frozen=True)
class TrustRequest:
    """What trusting a model would mean.

    Attributes:
        sentences: what would be run; empty: nothing, so that there is nothing to ask.
        sha256: of everything that this answer rests on; an answer may be remembered by it.
    """

    sentences: tuple[str, ...]
    sha256: str


def load_model(
    path: str | os.PathLike[str], card: str | os.PathLike[str] | None = None, trust: bool = False
) -> ExplainableModel:
    """Load a model by its file or folder, or by its card.

    Args:
        path: TorchScript (.ts, .pt, .pth), torch.export (.pt2), ONNX (.onnx), .safetensors, a MONAI bundle (folder,
            zip, or a file under its models/), a trained nnU-Net (folder, fold, checkpoint or zip), or the card (.json).
        card: a card elsewhere than next to the weights as <stem>.card.json.
        trust: let a bundle run what it asks for (see `trust_request`).

    Raises:
        UserError: a file is missing, corrupt, of another format, does not fit its card, or would have to be trusted.
    """
    weights = weights_of(path)
    found = _card_file(named(path), card)
    loaded = load_with(weights, None if found is None else read_card(found), trust)
    if found is None or found.resolve() == card_path(weights).resolve():
        return loaded
    return replace(loaded, card_file=found.resolve())


def weights_of(path: str | os.PathLike[str]) -> Path:
    """The model that a card (.json) is of; any other path is the model's own.

    Raises:
        UserError: there is no such card, or it is wrong.
    """
    path = named(path)
    return path.parent / Path(read_card(path).weights).name if path.suffix == ".json" else path


def named(path: str | os.PathLike[str]) -> Path:
    """The path; in place of "." and "..", which are no names to call a model or its card after, the folder's own."""
    path = Path(path)
    return path if path.name not in ("", "..") else path.resolve()


def stated_card(
    path: str | os.PathLike[str], trust: bool, card: str | os.PathLike[str] | None = None
) -> ModelCard | None:
    """What is said of a model besides its weights: by this card, by the one beside it, or by the model's own files.

    Args:
        path, card: as for `load_model`.

    Raises:
        UserError: the card is wrong.
    """
    path = named(path)
    found = _card_file(path, card)
    if found is not None:
        return read_card(found)
    try:
        return _format_of(path).load(path, None, trust).card
    except UserError:  # weights that cannot be loaded without a card
        return None


def load_with(weights: Path, facts: ModelCard | None, trust: bool) -> ExplainableModel:
    """Load a model with this card, or with what the model itself says (None); see `load_model`."""
    loaded = _format_of(weights).load(weights, facts, trust)
    found = loaded.card or default_card(weights)
    if found.sha256 not in (None, loaded.sha256) and found.weights == weights.name:
        raise UserError(f"'{weights}' is not the file its card describes (SHA-256 differs): fetch the weights again.")
    _check_numbers(loaded.module, weights)
    module = adapt(loaded.module, found)
    shape = loaded.shape if module is loaded.module else None  # what is adapted takes other shapes
    return ExplainableModel(module, found, weights.resolve(), loaded.sha256, loaded.previous, shape)


def load_recorded(model: Mapping[str, Any], trust: bool, path: Path | None = None) -> ExplainableModel:
    """Load a model that an explanation names, with the card that it records.

    Args:
        model: `Explanation.model`.
        path: where the model is now, if that is elsewhere.

    Raises:
        UserError: as `load_model`.
    """
    facts, card_file = recorded_card(model["card"]), model.get("card_file")
    loaded = load_with(Path(model["path"]) if path is None else path, facts if facts.stated else None, trust)
    return replace(loaded, card=facts, card_file=None if card_file is None else Path(card_file))


def trust_request(path: str | os.PathLike[str]) -> TrustRequest:
    """What `load_model(path, trust=True)` would run.

    Raises:
        UserError: the model's files are missing or damaged.
    """
    path = weights_of(path)
    sentences, sha256 = _format_of(path).trusted(path)
    return TrustRequest(tuple(sentences), sha256)


def _format_of(weights: Path) -> Format:
    if not weights.exists():
        raise UserError(f"There is no model file '{weights}': check the path.")
    found = next((row for row in FORMATS if row.recognises(weights)), None)
    if found is None:
        inside = _models_in(weights)
        if inside:
            raise UserError(f"'{weights}' is no model but a folder with some: give one of {', '.join(inside)}.")
        names = "; ".join(row.name for row in FORMATS)
        raise UserError(f"'{weights}' is of no known model format: give one of {names}; or a card (.json).")
    return found


def _models_in(folder: Path) -> list[str]:
    """The first few models in a folder, as they may be given; of nnU-Net and MONAI they are folders themselves."""
    if not folder.is_dir():
        return []
    found = (str(entry) for entry in sorted(folder.iterdir()) if any(row.recognises(entry) for row in FORMATS))
    return list(islice(found, _NAMED))


def _card_file(path: Path, card: str | os.PathLike[str] | None) -> Path | None:
    """The card that a path is, else the one that is given, else the one beside it."""
    if path.suffix == ".json":
        return path
    if card is not None:
        return Path(card)
    neighbour = card_path(path)
    return neighbour if neighbour.is_file() else None


def card_path(weights: str | os.PathLike[str]) -> Path:
    """Where the card of a model lies."""
    weights = named(weights)
    stem = weights.name if weights.is_dir() else weights.stem
    return weights.parent / f"{stem}.card.json"


def _check_numbers(module: nn.Module, weights: Path) -> None:
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise UserError(
                f"The model '{weights}' holds NaN or infinite weights in '{name}': train or export it again."
            )
