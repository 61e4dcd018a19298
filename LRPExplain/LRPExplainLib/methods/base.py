"""What a method is: parameters, a map of the model's input, and an honest account of what that map sums to."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from .. import lrp
from ..activations import total
from ..errors import UserError
from ..imaging.windows import View
from ..inference import Inference
from ..progress import ViewProgress

Told = Callable[[float], None]
# (views, their inputs [n, C', ...], the coefficients of their answers [n, K, ...], told) -> maps [n, C', ...]
Explain = Callable[[Sequence[View], Tensor, Tensor, Told], Tensor]
# The same for one view: (its number in the volume, input [1, C', ...], coefficients [1, K, ...], told) -> [1, C', ...]
ExplainOne = Callable[[int, Tensor, Tensor, Told], Tensor]
# What voxels are compared with, per input channel; the model's own intensities, behind the card's steps.
BASELINES: dict[str, Callable[[Tensor], Tensor]] = {
    "zero": lambda x: x.new_zeros(len(x)),
    "mean": lambda x: x.flatten(1).mean(1),
    "minimum": lambda x: x.flatten(1).amin(1),
}
AnyMethod = TypeVar("AnyMethod", bound="Method")


@dataclass(frozen=True)
class Found:
    """A method's map of the model's input.

    Attributes:
        relevance: [1, C, D, H, W].
        at_baseline: the target value of the baseline, for a method that explains the difference from it.
    """

    relevance: Tensor
    at_baseline: float = 0.0


@dataclass(frozen=True)
class Method(ABC):
    """An attribution method with its parameters, which are the fields of the subclass.

    Attributes:
        name: as users write it.
        description: what it is, with its source.
        conserves: whether the map sums to the target value (but for what is booked) by theory.
        account: what the map's sum means.
        needs_captum: whether captum does the work.
    """

    name: ClassVar[str]
    description: ClassVar[str]
    conserves: ClassVar[bool] = False
    account: ClassVar[str]
    needs_captum: ClassVar[bool] = False

    def settled(self: AnyMethod, inference: Inference) -> AnyMethod:
        """The method with what depends on the network decided."""
        return self

    @abstractmethod
    def passes(self, inference: Inference) -> float:
        """About how many forward passes explaining one view takes (a backward pass counts two)."""

    @abstractmethod
    def relevance(self, inference: Inference, coefficients: Tensor, progress: ViewProgress) -> Found:
        """The map, for the sum of coefficients times the network's blended output."""

    def attribute(
        self, inference: Inference, coefficients: Tensor, output: Tensor, progress: ViewProgress
    ) -> lrp.Attribution:
        """The map with its ledger, like `Inference.attribute`.

        The ledger has one row for the whole network. What the map does not sum to stays open as the row's gap, since
        nothing absorbed it; of a method that explains a difference the baseline's target value is booked as `changed`.

        Args:
            output: what `predict` returned.
        """
        target_value = sum(total(c * y) for c, y in zip(coefficients[0], output[0], strict=True))
        found = self.relevance(inference, coefficients, progress)
        at_input = float(found.relevance.sum(dtype=torch.float64))
        row = lrp.LedgerRow(
            "network", "network", "method", self.name, target_value, at_input, 0.0, 0.0, found.at_baseline
        )
        return lrp.Attribution(found.relevance, None, lrp.Ledger(target_value, at_input, (row,)), {})

    def facts(self) -> dict[str, Any]:
        """What stands in the place of a composite in explanation.json, JSON-ready."""
        return {
            "name": self.name,
            "description": self.description,
            "method": self.name,
            "parameters": asdict(self),
            "normalization": None,
            "biases": None,
            "rules": [],
        }

    def ledger_facts(self) -> dict[str, Any]:
        """What a reader of the ledger has to know besides its figures, JSON-ready."""
        return {"conserves": self.conserves, "note": self.account}


def summed(inference: Inference, coefficients: Tensor, explain: Explain, progress: ViewProgress) -> Tensor:
    """The sum of the views' maps, each put back where its view was cut from: [1, C, D, H, W]."""
    relevance = torch.zeros_like(inference.volume)

    def visit(views: Sequence[View], x: Tensor, c: Tensor, told: Told) -> None:
        parts = explain(views, x, c, told).detach().to(relevance)
        for view, part in zip(views, parts.split(1), strict=False):
            inference.windows.give_back(part, view, relevance)

    inference.each(coefficients, visit, progress)
    return relevance


def one_by_one(inference: Inference, explain: ExplainOne) -> Explain:
    """Views explained one after another, for methods that run the network many times for each."""
    numbers = {view: n for n, view in enumerate(inference.windows.views)}

    def explain_all(views: Sequence[View], x: Tensor, c: Tensor, told: Told) -> Tensor:
        parts = []
        for n, view in enumerate(views):

            def inner(share: float, n: int = n) -> None:
                told((n + min(share, 1.0)) / len(views))

            parts.append(explain(numbers[view], x[n : n + 1], c[n : n + 1], inner))
        return torch.cat(parts)

    return explain_all


def baseline_of(inference: Inference, name: str) -> Tensor:
    """A volume [1, C, D, H, W] that holds the baseline."""
    values = BASELINES[name](inference.volume[0])
    return values.reshape(1, -1, 1, 1, 1).expand_as(inference.volume)


def require(holds: bool, sentence: str) -> None:
    """UserError with the sentence unless the condition holds."""
    if not holds:
        raise UserError(sentence)


def require_baseline(name: str) -> None:
    """UserError unless there is such a baseline."""
    require(name in BASELINES, f"There is no baseline '{name}': choose {', '.join(BASELINES)}.")
