"""The question that is asked of a model, as a value, and what it means for the model's output.

A question becomes *coefficients* c of the output's shape. The target value is sum(c * output), and c * output is the
start relevance. That is linear in the output, so that each window of a sliding-window inference starts with exactly its
own share of it.

A probability is explained through its softmax or sigmoid; `activations` has the formulas.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from . import lrp
from .activations import ACTIVATIONS, PerChannel, total
from .errors import UserError, number_of
from .imaging import Everywhere, Prepared, Region
from .models import ModelCard
from .outcome import Outcome, class_index

VALUES = ("logit", "probability")
STARTS = ("value", "one")
# A voxel cannot start with 1 where its value is 0, or where what two classes say cancels to this share of itself.
_CANCELLED = 1e-6


@dataclass(frozen=True)
class Question:
    """Why this class, rather than that one, there?

    Attributes:
        target: name or index of a class (or of a regression's value); None: what the model predicts: in a region the
            class predicted in most of its voxels, foreground first; else the most voluminous foreground class.
        rather_than: a second class, whose value is subtracted voxel by voxel.
        region: where to ask; None: the voxels predicted as the target. For one answer for the whole volume None or
            `Everywhere()`.
        value: "logit" (the score before a softmax or sigmoid that the network ends in, else its output as it is) or
            "probability" (that softmax or sigmoid, or the one that the card names, is explained too).
        start: "value": each voxel starts with its value; "one": each voxel starts with 1, so that voxels count alike
            (where the value is below 0, what pulls it down then counts as speaking for it). A voxel whose value is 0,
            or a contrast that cancels, has nothing to scale and is left out.
    """

    target: str | int | None = None
    rather_than: str | int | None = None
    region: Region | None = None
    value: str = VALUES[0]
    start: str = STARTS[0]

    def __post_init__(self) -> None:
        if self.region is not None and not hasattr(self.region, "mask"):
            raise TypeError(
                f"a region is a Segment, a Box, Points or Everywhere, not {type(self.region).__name__}: make a Segment"
                " of a file with read_segment"
            )
        for given, choice, what in ((self.value, VALUES, "value to explain"), (self.start, STARTS, "start")):
            if given not in choice:
                raise UserError(f"There is no {what} '{given}': choose {' or '.join(choice)}.")

    def check(self, prepared: Prepared, card: ModelCard) -> None:
        """Refuse what can be refused before the network has run.

        Raises:
            UserError: a class that the card does not name, or a region that cannot be asked about.
        """
        if card.output.classes:
            self._classes(card)
        if self.region is not None and card.task is not None:
            self._region(card.task == "segmentation", prepared)

    def known(self, prepared: Prepared, card: ModelCard) -> Tensor | None:
        """Where it asks, bool [1, 1, D, H, W], as far as that does not depend on the answer."""
        region = self._region(True, prepared) if self.region is not None and card.task == "segmentation" else None
        return None if region is None else region[None, None]

    def ask(self, output: Tensor, outcome: Outcome, prepared: Prepared, card: ModelCard) -> "Asked":
        """What the question means for this output.

        Args:
            output: [1, K, D, H, W] or [1, K], blended where it comes from windows.
            outcome: the output as read.
            prepared: tells where the voxels are.
            card: completed.

        Raises:
            UserError: no such class, the region is outside or empty, or there is nothing to explain in it.
        """
        index, against = self._classes(card)
        region = None
        if self.region is not None:
            region = self._region(outcome.placed, prepared)
            region = None if region is None else region.to(output.device)
        where = "output" if self.region is None or region is None else self.region.kind
        if index is None:
            index = outcome.default_target(region)
            _differ(index, against, card)
        if outcome.placed and region is None:
            region, where = _predicted(outcome, index, card), "prediction"
        x = output.detach().float() if output.dtype.itemsize == 2 else output.detach()
        weights = torch.ones(x.shape[2:], dtype=x.dtype, device=x.device) if region is None else region.to(x.dtype)
        signs = {index: 1.0} | ({} if against is None else {against: -1.0})
        name = self._activation(card)
        left_out = 0
        if self.start == "one":
            weights, left_out = _each_one(weights, ACTIVATIONS[name].values(x, signs), signs)
        weighted = {k: sign * weights for k, sign in signs.items()}
        voxels = None if region is None else int(region.sum())
        names = [card.output.classes[k].name for k in signs]
        facts = self._facts(names, list(signs), where, voxels, name, left_out)
        mask = outcome.mask(index)
        if "region" in facts and mask is not None and region is not None:
            facts["predicted"] = int((mask & region).sum())
        return Asked.of(x, weighted, name, facts)

    def _facts(
        self, names: list[str], channels: list[int], where: str, voxels: int | None, activation: str, left_out: int
    ) -> dict[str, Any]:
        """What was asked, for explanation.json; see `Asked`."""
        facts: dict[str, Any] = {"class": names[0], "index": channels[0], "where": where}
        facts |= {"value": self.value, "start": self.start}
        if len(names) > 1:
            facts |= {"rather_than": names[1], "rather_than_index": channels[1]}
        if voxels is not None:
            facts["voxels"] = voxels
        if activation != "none":
            facts["activation"] = activation
        if self.region is not None and where != "output":
            facts["region"] = self.region.as_dict()
        if left_out:
            facts["left_out"] = left_out
        return facts | {"text": self._text(facts)}

    def _classes(self, card: ModelCard) -> tuple[int | None, int | None]:
        """The output channels asked for and against."""
        classes = card.output.classes
        index = None if self.target is None else class_index(classes, self.target)
        against = None if self.rather_than is None else class_index(classes, self.rather_than)
        _differ(index, against, card)
        return index, against

    def _region(self, placed: bool, prepared: Prepared) -> Tensor | None:
        """bool [D, H, W] on the CPU; None for an answer that has no place."""
        assert self.region is not None
        if placed:
            return torch.from_numpy(self.region.mask(prepared.grid, prepared.inside.cpu().numpy()).copy())
        if not isinstance(self.region, Everywhere):
            raise UserError(
                f"The model gives one answer for the whole volume, so it cannot be asked about {self.region} alone:"
                " leave the region out."
            )
        return None

    def _activation(self, card: ModelCard) -> str:
        """What is explained besides the network."""
        if card.task == "regression":
            if self.value != "logit":
                raise UserError(f"'{card.name}' gives values and no probabilities: explain the value itself (logit).")
            return card.output.activation or "none"  # of a network that ends in a sigmoid: the value is behind it
        return "none" if self.value == "logit" else card.output.activation or "none"

    def _text(self, facts: dict[str, Any]) -> str:
        against = f" rather than {facts['rather_than']}" if "rather_than" in facts else ""
        place = "" if facts["where"] == "output" else f" over {number_of(facts['voxels'], 'voxel')} of {self.region}"
        if facts["where"] == "prediction":
            place = f" over the {number_of(facts['voxels'], 'voxel')} predicted as it"
        value = ", as probability" if self.value == "probability" else ""
        start = ", each voxel counting 1" if self.start == "one" else ""
        return f"{facts['class']}{against}{place}{value}{start}"


@dataclass(frozen=True, eq=False)
class Asked:
    """A question that has met an output.

    Attributes:
        coefficients: c, of the output's shape; c * output is the start relevance.
        target_value: what is explained: sum(c * output), or the weighted sum of probabilities.
        activation: "none", or what lies between the output and that value.
        taken: what the activation's expansion took of the target value before the output, summed from its own terms.
        facts: JSON-ready, for explanation.json: "class", "index", "where" ("prediction", "output", "everywhere",
            "segment", "box", "points"), "value", "start", "text" (the question in words), and where they apply
            "voxels", "rather_than", "rather_than_index", "activation" (explained too), "region" (RAS, mm), "predicted"
            (how many of the region's voxels are predicted as the class) and "left_out" (voxels that cannot start with
            1, because they say 0).
        weights: channel -> [D, H, W] or [], by which the target value weighs what is explained of each voxel. They are
            what the question is fixed by when it is put to other outputs.
    """

    coefficients: Tensor
    target_value: float
    activation: str
    taken: float
    facts: dict[str, Any]
    weights: PerChannel

    @classmethod
    def of(cls, output: Tensor, weights: PerChannel, activation: str, facts: dict[str, Any]) -> "Asked":
        """The question that these weights ask of an output."""
        explained = ACTIVATIONS[activation]
        values = explained.values(output, weights)
        coefficients, taken = explained.back(output, values, weights)
        target_value = sum(total(w * values[k]) for k, w in weights.items())
        return cls(coefficients, target_value, activation, taken, facts, weights)

    def again(self, output: Tensor) -> "Asked":
        """The same question, about the same voxels, put to another output of the same shape."""
        x = output.detach().float() if output.dtype.itemsize == 2 else output.detach()
        weights = {k: w.to(x) for k, w in self.weights.items()}
        return Asked.of(x, weights, self.activation, self.facts)

    def instead(self, index: int, output: Tensor) -> "Asked":
        """The same question about another class (an output channel that it does not ask about yet)."""
        weights = {index if k == self.facts["index"] else k: w for k, w in self.weights.items()}
        return replace(self, weights=weights, facts=self.facts | {"index": index}).again(output)

    def value(self, output: Tensor) -> float:
        """The target value in another output of the same shape."""
        values = ACTIVATIONS[self.activation].values(output, self.weights)
        return float(sum(total(w.to(output) * values[k]) for k, w in self.weights.items()))

    def start(self, output: Tensor) -> Tensor:
        """Start relevance of an output, or of a window's share of it with the coefficients cut to the window."""
        return self.coefficients * output

    def booked(self, ledger: lrp.Ledger) -> lrp.Ledger:
        """The network's ledger with a row for the activation, if that is explained too."""
        if self.activation == "none":
            return ledger
        row = lrp.LedgerRow(
            layer=self.activation,
            operator=f"aten.{self.activation}",
            role=self.activation,
            rule="taylor",
            relevance_out=self.target_value,
            relevance_in=ledger.target_value,
            absorbed_bias=0.0,
            absorbed_stabiliser=0.0,
            changed=self.taken,
        )
        return replace(ledger, target_value=self.target_value, by_layer=(row, *ledger.by_layer))


def as_question(
    target: "str | int | Question | None",
    rather_than: str | int | None = None,
    region: Region | None = None,
    value: str = VALUES[0],
    start: str = STARTS[0],
) -> Question:
    """The question, given as one or in parts."""
    if not isinstance(target, Question):
        return Question(target, rather_than, region, value, start)
    if (rather_than, region, value, start) != (None, None, VALUES[0], STARTS[0]):
        raise TypeError("a Question is whole: put the region and the rest into it")
    return target


def _predicted(outcome: Outcome, index: int, card: ModelCard) -> Tensor:
    mask = outcome.mask(index)
    assert mask is not None
    if bool(mask.any()):
        return mask
    classes = card.output.classes
    masks = [outcome.mask(n) for n in range(len(classes))]
    found = [entry.name for entry, m in zip(classes, masks, strict=True) if m is not None and bool(m.any())]
    raise UserError(
        f"The model predicts '{classes[index].name}' in no voxel, so there is nothing to explain: choose another target"
        f" (predicted: {', '.join(found) or 'none'}), or ask about '{classes[index].name}' in a region."
    )


def _differ(index: int | None, against: int | None, card: ModelCard) -> None:
    if against is not None and index == against:
        raise UserError(
            f"'{card.output.classes[against].name}' cannot be explained rather than itself: choose two classes."
        )


def _each_one(weights: Tensor, values: PerChannel, signs: dict[int, float]) -> tuple[Tensor, int]:
    """Weights with which each voxel's value is 1, and how many voxels have none to be scaled."""
    value = sum((sign * values[k] for k, sign in signs.items()), torch.zeros_like(weights))
    scale = sum((values[k].abs() for k in signs), torch.zeros_like(weights))
    scalable = value.abs() > _CANCELLED * scale
    asked = weights > 0
    left_out = int((asked & ~scalable).sum())
    if left_out == int(asked.sum()):
        raise UserError(
            "The model says exactly 0 wherever you asked, so that no voxel can start with 1: ask elsewhere."
        )
    return torch.where(scalable, weights / torch.where(scalable, value, 1), 0), left_out
