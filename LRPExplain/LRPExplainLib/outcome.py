"""What a network's output says, read as its card asks: which class, where, and how sure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Protocol

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from .errors import UserError, one_of
from .explanation import Prediction
from .imaging import Grid, Prepared
from .models import ClassInfo, ModelCard

_BACKGROUND: dict[str, object] = {"name": "background", "color": [0, 0, 0]}
# Above what a single channel speaks for its class: a logit under sigmoid, a probability where the network made one.
_THRESHOLDS = {"sigmoid": 0.0, "none": 0.5, "softmax": 0.0}


class Outcome(Protocol):
    """The network's answer in its own space."""

    @property
    def placed(self) -> bool:
        """Whether there is an answer for each voxel rather than one for the whole volume."""
        ...

    def default_target(self, region: Tensor | None = None) -> int:
        """The class (output channel) that is most worth explaining; in a region (bool [D, H, W]), if one is given."""
        ...

    def mask(self, index: int) -> Tensor | None:
        """Where the answer is this class: bool [D, H, W], or None where the answer has no place."""
        ...

    def prediction(self, prepared: Prepared) -> Prediction:
        """The answer for the user, in the geometry of the first volume."""
        ...


def read_outcome(output: object, card: ModelCard, prepared: Prepared) -> Outcome:
    """Read the output of a network.

    Args:
        output: a tensor [1, K, D, H, W] (segmentation) or [1, K] (classification, regression).
        card: a completed card.

    Raises:
        UserError: the output does not suit the card's task or holds NaN.
    """
    tensor = require_tensor(output)
    if not bool(torch.isfinite(torch.stack(tensor.aminmax())).all()):  # NaN too, and without a copy of all classes
        raise UserError("The model's output holds NaN or infinite values: check its intensity steps and weights.")
    single = SINGLE.get(card.task or "")
    if single is not None:
        if prod(tensor.shape[2:]) != 1:
            raise UserError(
                f"The model's output has size {list(tensor.shape[2:])}, but a {card.task} has one answer for the whole"
                " volume: export the model with its last pooling, or correct the card's task."
            )
        return single(tensor.flatten(1)[0].float(), card)
    if tuple(tensor.shape[2:]) != prepared.grid.shape:
        raise UserError(
            f"The model's output has size {list(tensor.shape[2:])} for an input of {list(prepared.grid.shape)}, but a"
            " segmentation must have the input's size: export the model with its last resampling, or correct the task."
        )
    return Segmentation(tensor[0], prepared.inside.to(tensor.device), card)


def require_tensor(output: object) -> Tensor:
    """The output, if it is one tensor [1, K, ...].

    Raises:
        UserError: a list, a dictionary or another shape.
    """
    if not isinstance(output, Tensor) or output.dim() < 2:
        kind = f"a tensor of shape {list(output.shape)}" if isinstance(output, Tensor) else f"a {type(output).__name__}"
        raise UserError(f"The model returns {kind}, but one tensor [1, classes, ...] is needed: export it so.")
    return output


class Segmentation:
    """A class for each voxel; under sigmoid, be it the network's own, each by itself, so that classes may overlap."""

    placed = True

    def __init__(self, scores: Tensor, inside: Tensor, card: ModelCard) -> None:
        self._classes = card.output.classes
        self._each = _each_by_itself(len(scores), card)
        self._inside = inside
        self._scores = scores
        self._labels = labels_of_scores(scores, len(scores), card)
        if self._each:
            self._found = scores > _THRESHOLDS[card.output.activation or "sigmoid"]

    @property
    def labels(self) -> Tensor:
        """int64 [D, H, W]: indices of the legend (see `Prediction.classes`)."""
        return self._labels

    def mask(self, index: int) -> Tensor:
        found = self._found[index] if self._each else self._labels == index
        return found & self._inside

    def default_target(self, region: Tensor | None = None) -> int:
        """The most voluminous foreground class; in a region without any, what the model says there instead."""
        where = self._inside if region is None else region
        first = 0 if self._each else 1
        volumes = {index: int((self.mask(index) & where).sum()) for index in range(first, len(self._classes))}
        largest = max(volumes, key=lambda index: volumes[index])
        if volumes[largest]:
            return largest
        if region is None:
            raise UserError(
                "The model finds nothing but background in this volume, so there is nothing to explain: check that it"
                " is the kind of volume the model was made for, choose the background as the target, or ask about a"
                " class in a region."
            )
        return int(self._scores[:, region].mean(dim=1).argmax()) if self._each else 0

    def prediction(self, prepared: Prepared) -> Prediction:
        legend = self._legend()
        if self._each and len(self._scores) > 1:  # of what overlaps a label map shows one class alone
            for index, entry in enumerate(legend[1:]):
                found = prepared.labels_to_source(self._found[index])
                mask = sitk.GetArrayViewFromImage(found) != 0
                entry["voxels"] = int(np.count_nonzero(mask))
                if middle := Grid.of(found).middle_of(mask):
                    entry["centre_ras"] = [-middle[0], -middle[1], middle[2]]
        return Prediction(prepared.labels_to_source(self._labels), {}, legend)

    def _legend(self) -> list[dict[str, object]]:
        """What each label means: an index of this list."""
        return [dict(_BACKGROUND), *_entries(self._classes)] if self._each else _entries(self._classes)


def labels_of_scores(scores: Iterable[Tensor], count: int, card: ModelCard) -> Tensor:
    """The label of each voxel, int64 [D, H, W] (see `Segmentation.labels`), of `count` classes' scores that come one
    after the other, so that nobody has to hold all of them at once.

    Raises:
        UserError: there are more classes than a label map holds.
    """
    each = _each_by_itself(count, card)
    if count + each > 256:
        raise UserError(f"The model has {count} classes, but a label map holds 255: explain fewer at a time.")
    threshold = _THRESHOLDS[card.output.activation or "sigmoid"] if each else float("-inf")
    best, labels = None, torch.zeros(())
    for label, score in enumerate(scores, 1 if each else 0):
        if best is None:
            best, labels = torch.full_like(score, threshold), torch.zeros_like(score, dtype=torch.int64)
        ahead = score > best
        labels[ahead] = label
        if card.output.overlap != "last" or not each:
            best = torch.where(ahead, score, best)
    return labels


def _each_by_itself(count: int, card: ModelCard) -> bool:
    """Whether each class is there or not by its own score, so that classes may overlap."""
    return count == 1 or card.output.activation == "sigmoid" or bool(card.output.separate)


@dataclass(frozen=True)
class Classification:
    """One answer for the whole volume."""

    scores: Tensor
    card: ModelCard

    placed = False

    def mask(self, index: int) -> None:
        return None

    def default_target(self, region: Tensor | None = None) -> int:
        return int(self.scores.argmax())

    def prediction(self, prepared: Prepared) -> Prediction:
        activations = {"softmax": lambda x: x.softmax(0), "sigmoid": torch.sigmoid, "none": lambda x: x}
        values = activations[self.card.output.activation or "none"](self.scores).tolist()
        names = [entry.name for entry in self.card.output.classes]
        return Prediction(None, dict(zip(names, values, strict=True)), _entries(self.card.output.classes))


@dataclass(frozen=True)
class Regression(Classification):
    """Values for the whole volume, such as an age; the prediction holds them as they are."""

    def default_target(self, region: Tensor | None = None) -> int:
        names = [entry.name for entry in self.card.output.classes]
        if len(names) > 1:  # the largest of several values says nothing
            raise UserError(f"The model gives {len(names)} values: choose one of {', '.join(names)} as the target.")
        return 0


# What has one answer for the whole volume, by task.
SINGLE: dict[str, type[Classification]] = {"classification": Classification, "regression": Regression}


def class_index(classes: Sequence[ClassInfo], target: str | int) -> int:
    """The output channel of a class given by name (letter case aside) or by index.

    Raises:
        UserError: there is no such class.
    """
    names = [entry.name for entry in classes]
    wanted = str(target).strip()
    if isinstance(target, str) and wanted in names:
        return names.index(wanted)
    if isinstance(target, str) and [name.casefold() for name in names].count(wanted.casefold()) == 1:
        return [name.casefold() for name in names].index(wanted.casefold())
    if wanted.isdecimal() and int(wanted) < len(names):
        return int(wanted)
    choice = one_of([f"{index} {name}" for index, name in enumerate(names)], wanted)
    raise UserError(f"The model has no class '{target}': choose one of {choice}.")


def _entries(classes: Sequence[ClassInfo]) -> list[dict[str, object]]:
    return [{"name": entry.name, "color": list(entry.color)} for entry in classes]
