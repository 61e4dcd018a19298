"""nnU-Net v2's trained models; what is read and what not is said in `nnunet/__init__.py`."""

from pathlib import Path

from ..card import ModelCard
from ..nnunet import digest, load_trained_model, trained_model
from .base import Format, Loaded


def _recognises(path: Path) -> bool:
    return trained_model(path) is not None


def _load(path: Path, card: ModelCard | None, trust: bool) -> Loaded:
    module, own, sha256, previous = load_trained_model(path)
    return Loaded(module, card or own, sha256, previous)


def _trusted(path: Path) -> tuple[list[str], str]:
    return [], digest(path)  # nothing is ever run


NNUNET = Format("nnU-Net v2 trained model (folder, fold, checkpoint, or exported .zip)", _recognises, _load, _trusted)
