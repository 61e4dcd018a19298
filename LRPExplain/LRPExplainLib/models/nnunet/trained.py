"""From the files of a trained model to its network and card."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ...errors import UserError
from ..card import ModelCard
from ..formats.base import PreviousStage
from ..states import read_checkpoint
from .card import make_card, painted_values
from .files import DATASET, PLANS, TrainedModel, trained_model
from .network import Ensemble, make_network, transpose
from .plans import configuration

__all__ = ["digest", "load_trained_model", "trained_model"]


def load_trained_model(path: Path) -> tuple[nn.Module, ModelCard, str, PreviousStage | None]:
    """The network (the mean of the folds' logits), in eval mode and float32; its card; SHA-256 of what was read; and
    the cascade's stage before it, if there is one and it lies beside it.

    Raises:
        UserError: files are missing, damaged or not as nnU-Net v2 writes them, or ask for what is not supported.
    """
    files, names, note = _files(path)
    plans, dataset = files.json(PLANS), files.json(DATASET)
    checkpoints = [read_checkpoint(files.source(name), f"{files.name}/{name}") for name in names]
    try:
        module, card, before = _assembled(files, plans, dataset, dict(zip(names, checkpoints, strict=True)))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise UserError(
            f"'{files.name}' is not as nnU-Net v2 writes it ({type(error).__name__} {error}): fetch or train it again."
        ) from error
    card = card if note is None else replace(card, notes=(*card.notes, note))
    return module.float().eval(), card, files.digest(names), _stage_before(files.path, before, dataset)


def digest(path: Path) -> str:
    """SHA-256 of all that `load_trained_model` reads."""
    files, names, _ = _files(path)
    return files.digest(names)


def _files(path: Path) -> tuple[TrainedModel, list[str], str | None]:
    """The trained model, the checkpoints to read, and what to say of others."""
    found = trained_model(path)
    if found is None:
        raise UserError(f"'{path}' is no trained model of nnU-Net v2: it has no {PLANS} and {DATASET}.")
    files, wanted = found
    if wanted:
        return files, wanted, None
    names = files.checkpoints()
    return files, names, files.left_out(names)


def _assembled(
    files: TrainedModel, plans: Mapping[str, Any], dataset: Mapping[str, Any], checkpoints: Mapping[str, Any]
) -> tuple[nn.Module, ModelCard, str | None]:
    first = next(iter(checkpoints.values()))
    name = str(first["init_args"]["configuration"])
    chosen = configuration(plans, name)
    folds = [checkpoint.split("/")[0] for checkpoint in checkpoints]
    card = make_card(
        plans, dataset, chosen, first.get("inference_allowed_mirroring_axes"),
        f"{plans['dataset_name']} {name}", files.path.name,
        {"trainer": str(first.get("trainer_name")), "configuration": name, "folds": folds},
    )  # fmt: skip
    members = []
    for file, checkpoint in checkpoints.items():
        if checkpoint["init_args"]["configuration"] != name:
            raise UserError(f"The folds of '{files.name}' are of different configurations: give one of them.")
        members.append(
            make_network(
                chosen["architecture"],
                sum(entry.width for entry in card.inputs),
                len(card.output.classes),
                _weights(checkpoint),
                f"{files.name}/{file}",
            )
        )  # fmt: skip
    module = members[0] if len(members) == 1 else Ensemble(members)
    transpose(module, [int(axis) for axis in plans["transpose_forward"]])
    return module, card, chosen.get("previous_stage")


def _stage_before(folder: Path, configuration: str | None, dataset: Mapping[str, Any]) -> PreviousStage | None:
    """The trained model of another configuration, of the same trainer and plans."""
    trainer_and_plans, parted, _ = folder.resolve().name.rpartition("__")
    beside = folder.resolve().with_name(f"{trainer_and_plans}__{configuration}")
    if configuration is None or not parted or trained_model(beside) is None:
        return None
    return PreviousStage(beside, painted_values(dataset))


def _weights(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """By the names that the network has without nn.DataParallel."""
    found = checkpoint["network_weights"]
    return {str(key).removeprefix("module."): value for key, value in found.items() if isinstance(value, Tensor)}
