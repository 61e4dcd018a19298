"""From a weights file and its card to a network that can be explained. Nothing is unpickled by Python."""

import hashlib
import os
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from ..errors import UserError, reason
from .architectures import ARCHITECTURES
from .card import ModelCard, default_card, read_card
from .formats.nnunet import NNUNET


@dataclass(frozen=True, eq=False)
class ExplainableModel:
    """A network with its card.

    Attributes:
        module: in eval mode, float32, on the CPU.
        path: the weights file.
        sha256: of the weights file.
    """

    module: nn.Module
    card: ModelCard
    path: Path
    sha256: str


def load_model(path: str | os.PathLike[str], card: str | os.PathLike[str] | None = None) -> ExplainableModel:
    """Load a model by its weights file or by its card.

    Args:
        path: TorchScript (.ts, .pt, .pth), .safetensors, or the card (.json).
        card: a card elsewhere than next to the weights as <stem>.card.json.

    Raises:
        UserError: a file is missing, corrupt, of another format, or does not fit its card.
    """
    path = Path(path)
    if path.suffix == ".json":
        facts = read_card(path)
        weights = path.parent / Path(facts.weights).name
    else:
        weights = path
        facts = _card_of(weights, card)
    if NNUNET.recognises(weights):
        loaded = NNUNET.load(weights, facts if facts.stated else None, False)
        _check_numbers(loaded.module, weights)
        return ExplainableModel(loaded.module, loaded.card or facts, weights.resolve(), loaded.sha256)
    if not weights.is_file():
        raise UserError(f"There is no model file '{weights}': check the path.")
    loader = LOADERS.get(weights.suffix.lower())
    if loader is None:
        raise UserError(
            f"'{weights}' is of no known model format: give one of {', '.join(LOADERS)}, or a card (.json)."
        )
    sha256 = sha256_of(weights)
    if facts.sha256 not in (None, sha256) and facts.weights == weights.name:
        raise UserError(f"'{weights}' is not the file its card describes (SHA-256 differs): fetch the weights again.")
    module = loader(weights, facts).float().eval()
    _check_numbers(module, weights)
    return ExplainableModel(module, facts, weights.resolve(), sha256)


def sha256_of(*files: Path) -> str:
    """SHA-256 of the contents of the files, one after another, as hexadecimal digits."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def _card_of(weights: Path, card: str | os.PathLike[str] | None) -> ModelCard:
    if card is not None:
        return read_card(card)
    neighbour = weights.with_name(f"{weights.stem}.card.json")
    return read_card(neighbour) if neighbour.is_file() else default_card(weights)


def _load_torchscript(weights: Path, card: ModelCard) -> nn.Module:
    if not _is_torchscript(weights):
        raise UserError(
            f"'{weights}' is not a TorchScript file (or is damaged), and pickled models are not opened for safety:"
            " save it with torch.jit.save, or its weights as .safetensors."
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            module: nn.Module = torch.jit.load(str(weights), map_location="cpu")
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"'{weights}' could not be loaded as TorchScript ({reason(error)}): export it again."
        ) from error
    return module


def _is_torchscript(weights: Path) -> bool:
    """TorchScript is a zip archive that holds code; a pickled model or a state dict holds none."""
    try:
        with zipfile.ZipFile(weights) as archive:
            return any(name.split("/")[1:2] == ["code"] for name in archive.namelist())
    except (zipfile.BadZipFile, OSError):
        return False


def _load_safetensors(weights: Path, card: ModelCard) -> nn.Module:
    if card.network is None:
        raise UserError(f"'{weights}' holds weights only: give it a card whose 'network' names an architecture.")
    name = card.network["architecture"]
    if name not in ARCHITECTURES:
        raise UserError(f"The card asks for the architecture '{name}', but there is only {', '.join(ARCHITECTURES)}.")
    try:
        module = ARCHITECTURES[name](**card.network.get("arguments", {}))
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"The card's arguments do not suit the architecture '{name}' ({reason(error)}).") from error
    try:
        state = load_file(weights, device="cpu")
    except (SafetensorError, OSError) as error:
        raise UserError(f"'{weights}' is not a whole safetensors file ({reason(error)}): fetch it again.") from error
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise UserError(f"The weights in '{weights}' do not fit the card's network ({reason(error)}).") from error
    return module


def _check_numbers(module: nn.Module, weights: Path) -> None:
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise UserError(
                f"The model '{weights}' holds NaN or infinite weights in '{name}': train or export it again."
            )


LOADERS: dict[str, Callable[[Path, ModelCard], nn.Module]] = {
    ".ts": _load_torchscript,
    ".pt": _load_torchscript,
    ".pth": _load_torchscript,
    ".safetensors": _load_safetensors,
}
