"""Everything that happens before the network runs: model and volumes are read, checked, prepared and captured."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import SimpleITK as sitk
import torch
from torch import Tensor

from . import lrp
from .cascade import previous_segmentation, with_geometry
from .errors import UserError, number_of
from .imaging import Grid, Prepared, Windows, check_volume, least_size, prepare, read_volume
from .imaging.reading import volume_digest
from .imaging.segmentation import check_labels, read_labels
from .inference import RECKONED_LIKE, Inference
from .memory import check_memory
from .methods import Method
from .models import ExplainableModel, ModelCard, load_model
from .models.card import as_json, preprocessing_problem
from .models.example import slices_of
from .progress import nobody
from .question import Question
from .refusals import said_plainly
from .stages import Stages

PathLike = str | os.PathLike[str]

OF_SEVERAL = "epsilon-plus"  # `volume` spreads the first layer evenly, so that of several volumes none would stand out
# In what the network is computed: None, as it is.
PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class How:
    """How an answer is to be computed; see the arguments of `explain.explain`.

    Attributes:
        method: None: LRP.
        keep: several questions will follow: activations stay in memory for all of them.
    """

    composite: str | lrp.Composite | None = None
    device: str = "auto"
    rules: Mapping[str, str | lrp.rules.Rule] | None = None
    biases: lrp.Biases | None = None
    window: Mapping[str, Any] | None = None
    memory: float | None = None
    precision: str | None = None
    method: Method | None = None
    keep: bool = False


@dataclass(frozen=True)
class Ready:
    """Everything that is known before the network runs."""

    model: ExplainableModel
    composite: lrp.Composite
    device: torch.device
    sources: list[dict[str, Any]]
    prepared: Prepared
    inference: Inference
    method: Method | None = None

    def completed(self, output: Tensor) -> ModelCard:
        """The model's card, with what it leaves open read off an output [1, K, ...] of the network; errors as there."""
        return self.model.card.completed(output.shape, lrp.ending(self.inference.graph))

    def attribute(
        self, coefficients: Tensor, output: Tensor, progress: Callable[[float, str], None]
    ) -> lrp.Attribution:
        """Relevance of the prepared volumes for coefficients of the network's output, by LRP or another method."""
        if self.method is None:
            return self.inference.attribute(coefficients, progress)
        return self.method.attribute(self.inference, coefficients, output, progress)


def get_ready(
    model: ExplainableModel | PathLike,
    volumes: Sequence[sitk.Image | PathLike],
    how: How,
    question: Question | None = None,
    stage: Stages | None = None,
) -> Ready:
    """What `explain` does before the network runs; arguments and errors as there.

    To be called, like what is done with it, within `running`.

    Args:
        question: refused here already where that does not need the answer.
    """
    stage = stage or Stages(nobody)
    with stage("reading"):
        if how.method is not None and (how.composite or how.rules or how.biases):
            raise UserError(f"Composite, rules and biases belong to lrp: leave them out with {how.method.name}.")
        place, lowered = _device(how.device), _precision(how.precision, how.method)
        check_memory(how.memory)
        if how.composite is not None:
            lrp.composite_named(how.composite)  # a misspelt name is said before a model is read
        _check_kinds(model, volumes)
        loaded = _windowed(model if isinstance(model, ExplainableModel) else load_model(model), how.window)
        chosen = choose_composite(loaded.card, len(volumes), how)
        if how.method is not None:
            chosen = lrp.composite_named(RECKONED_LIKE)
        _check_count(loaded, volumes)
        images, sources = _read(volumes, loaded.card)
    with stage("preparing"):
        wishes = loaded.card.preprocessing
        least = least_size(wishes.window, wishes.slices)
        names = [source["name"] for source in sources]
        inputs = loaded.card.inputs
        if loaded.previous is not None and len(images) < len(inputs):
            told = stage.part("preparing")
            made, maker = previous_segmentation(loaded.previous, images, names, place, how.memory, told)
            images, names = [*images, made], [*names, inputs[-1].name]
            sources.append(with_geometry(made, names[-1], maker))
        labels = [entry.labels or None for entry in inputs] or [None] * len(images)
        prepared = prepare(images, wishes, names, least, labels)
        if question is not None:
            question.check(prepared, loaded.card)
        windows = Windows(prepared.grid.shape, wishes.window, wishes.slices)
    with stage("capturing"), said_plainly(loaded, len(images), windows.input_shape(prepared.tensor.shape[1])):
        walk = chosen if how.method is None else None
        inference = Inference(loaded.module, prepared.tensor, windows, walk, place, how.memory, how.keep, lowered)
        settled = None if how.method is None else how.method.settled(inference)
    return Ready(loaded, chosen, place, sources, prepared, inference, settled)


def _windowed(model: ExplainableModel, window: Mapping[str, Any] | None) -> ExplainableModel:
    """The model with what the caller says of windows, and what its network says of slices, in its card."""
    if window is not None and not isinstance(window, Mapping):
        raise TypeError(f"a window is a mapping, as a card's preprocessing.window is, not {type(window).__name__}")
    wishes = model.card.preprocessing
    merged = {**(wishes.window or {}), **as_json(window or {})}
    if merged and "size" not in merged:
        raise UserError("The model's card asks for no windows: give the size of a window as well.")
    wanted = replace(wishes, window=merged if merged.get("size") else None, slices=slices_of(model))
    problem = preprocessing_problem(wanted) if window else None
    if problem is not None:
        raise UserError(f"The window is wrong ({problem}): give what a card's preprocessing.window may hold.")
    if wanted.window:
        merged["size"] = [int(n) for n in merged["size"]]  # 16.0 is a whole number too
    return replace(model, card=replace(model.card, preprocessing=wanted))


def choose_composite(card: ModelCard, volumes: int, how: How) -> lrp.Composite:
    """The composite asked for, else the card's with the card's rules, else a default; the caller's rules go first.

    What a card resizes to goes back to the voxels that it was made of as from any other grid: by how much each has to
    do with it, not by how bright it is, which would leave black ones without any.
    """
    default = lrp.DEFAULT_COMPOSITE if max(volumes, len(card.inputs)) < 2 else OF_SEVERAL
    chosen = lrp.composite_named(how.composite or card.composite or default)
    if how.composite is None and card.rules:
        chosen = chosen.override(card.rules)
    told = "resampled" in {*(row.match for row in chosen.rows), *(how.rules or ())}
    if card.preprocessing.resize is not None and not told:
        chosen = chosen.override({"resampled": "flat"})
    if how.biases is not None or not isinstance(how.composite, lrp.Composite):
        chosen = chosen.with_biases(how.biases or card.biases or "share")
    return chosen.override(how.rules) if how.rules else chosen


def _device(name: str) -> torch.device:
    if name not in ("auto", "cpu", "cuda"):
        raise UserError(f"There is no device '{name}': choose auto, cpu or cuda.")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("This computer has no CUDA device that PyTorch can use: choose cpu or auto.")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def _precision(name: str | None, method: Method | None) -> torch.dtype | None:
    """What the network is to be computed in; None: as it is."""
    if name is not None and name not in PRECISIONS:
        raise UserError(f"There is no precision '{name}': choose {' or '.join(PRECISIONS)}.")
    lowered = PRECISIONS[name or "float32"]
    if lowered is not None and method is not None:
        raise UserError(f"{name} is for lrp: leave it out with {method.name}.")
    return lowered


def device_name(place: torch.device) -> str:
    return torch.cuda.get_device_name(place) if place.type == "cuda" else "cpu"


def _check_kinds(model: object, volumes: object) -> None:
    """TypeError for what is neither read nor loaded."""
    if not isinstance(model, (str, os.PathLike, ExplainableModel)):
        raise TypeError(
            f"a model is a file or what load_model returns, not {type(model).__name__}: save a network as TorchScript"
            " first, or put it into an ExplainableModel"
        )
    if isinstance(volumes, (str, os.PathLike, sitk.Image)) or not isinstance(volumes, Sequence):
        raise TypeError("volumes is a sequence: put a single volume into a list")
    for volume in volumes:
        if not isinstance(volume, (str, os.PathLike, sitk.Image)):
            raise TypeError(
                f"a volume is a path or a SimpleITK image, not {type(volume).__name__}: an array alone does not say"
                " where in the patient it lies"
            )


def _check_count(model: ExplainableModel, volumes: Sequence[object]) -> None:
    card = model.card
    wanted = [entry.name for entry in card.inputs]
    made = model.previous is not None  # the last input, if it is not given
    if not volumes or (wanted and len(volumes) not in (len(wanted), len(wanted) - made)):
        needed = f"{number_of(len(wanted), 'volume')} ({', '.join(wanted)})" if wanted else "at least one volume"
        staged = bool(wanted) and bool(card.inputs[-1].labels) and not made
        instead = ", or put the trained model of the previous stage beside it" if staged else ""
        raise UserError(
            f"The model '{card.name}' takes {needed}, but got {len(volumes)}: give one for each input{instead}."
        )


def _read(volumes: Sequence[sitk.Image | PathLike], card: ModelCard) -> tuple[list[sitk.Image], list[dict[str, Any]]]:
    """The images, and where each came from."""
    images, sources = [], []
    for n, volume in enumerate(volumes):
        labels = card.inputs[n].labels if card.inputs else ()
        if isinstance(volume, sitk.Image):
            name, path = card.inputs[n].name if card.inputs else f"volume {n + 1}", None
            if labels:
                check_labels(volume, name, labels)
            else:
                check_volume(volume, name)
            image, digest = volume, None
        else:
            file = Path(volume)
            image, name, path = (
                read_labels(file, labels) if labels else read_volume(file),
                file.name,
                str(file.resolve()),
            )
            digest = volume_digest(file)
        images.append(image)
        sources.append({"name": name, "path": path, "sha256": digest, "geometry": Grid.of(image).as_dict()})
    return images, sources
