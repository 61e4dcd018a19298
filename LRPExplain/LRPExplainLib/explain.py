"""explain(model, volumes, target, composite) -> Explanation: the one road from volumes to relevance on them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import SimpleITK as sitk
import torch
from torch import Tensor

from . import lrp
from .errors import UserError
from .explanation import Explanation, Prediction
from .imaging import Prepared, Region
from .ledgers import ledger_facts
from .methods import LRP, Method, method_named
from .models import ExplainableModel, ModelCard
from .outcome import Outcome, read_outcome, require_tensor
from .progress import Progress, nobody
from .question import Asked, Question, as_question
from .readying import How, PathLike, Ready, device_name, get_ready
from .running import running, versions
from .stages import Stages

Found = tuple[lrp.Attribution, dict[str, Any]]  # relevance of the prepared volumes, and what was asked


def explain(
    model: ExplainableModel | PathLike,
    volumes: Sequence[sitk.Image | PathLike],
    target: str | int | Question | None = None,
    composite: str | lrp.Composite | None = None,
    device: str = "auto",
    progress: Progress | None = None,
    rules: Mapping[str, str | lrp.rules.Rule] | None = None,
    *,
    biases: lrp.Biases | None = None,
    rather_than: str | int | None = None,
    region: Region | None = None,
    value: str = "logit",
    start: str = "value",
    window: Mapping[str, Any] | None = None,
    memory: float | None = None,
    precision: str | None = None,
    method: str | Method | None = LRP,
    parameters: Mapping[str, str | int | float] | None = None,
) -> Explanation:
    """Explain what a model says about one examination.

    Relevance starts as the question asks, by default as the target class's output: for a segmentation at the voxels
    predicted as that class (in the first volume's field of view), for a classification as it is. It ends on the voxels
    of the given volumes.

    Args:
        model: a weights file, a card, or a loaded model (which is moved to the device).
        volumes: one per input channel of the model: paths (see `imaging.read_volume`) or 3D scalar images.
        target: name or index of a class, or a whole `Question`; None: the most voluminous foreground class predicted
            (in the region, if one is given), or the predicted class.
        composite: name of a preset or a composite; None: the card's, else `volume`, of several volumes
            `epsilon-plus`.
        device: "cpu", "cuda" or "auto" (CUDA where there is one).
        progress: called with the stage and the share done (0..1).
        rules: rules (or their names) for roles or layer name patterns, put before the composite's own and the card's.
        biases: "share" what biases receive among the contributions they were added to, so that the map accounts for
            the target value (but for the last bias of a classification, which absorbs), or let them "absorb" it, as the
            named composites do in the literature. None: the card's choice, else "share"; a composite that is given as
            such keeps its own.
        rather_than, region, value, start: further parts of the question; see `question.Question`.
        window: entries of a card's `preprocessing.window` that replace the card's; {"size": None}: no windows.
        memory: GiB that the network may use on its device, refused where even the thriftiest way needs more; None: most
            of what is free there. The answer of all windows, a score for each class and voxel, takes some of the CPU's
            memory besides (see `plan`).
        precision: "float32" (or None), or "bfloat16": half as much memory, and less time where the hardware has
            arithmetic for it, at some per mille of error in each layer.
        method: "lrp", or another attribution method (see `methods.METHODS`), which takes neither composite nor rules;
            what its map sums to is told by `ledger["conserves"]` and `ledger["note"]`.
        parameters: of that method; see the fields of its class.

    Raises:
        UserError, lrp.LRPError: one sentence on what is wrong with the input and what to do.
    """
    question = as_question(target, rather_than, region, value, start)
    answered = answer(
        model, volumes, composite, device, progress, rules,
        biases=biases, window=window, memory=memory, precision=precision, question=question, method=method,
        parameters=parameters,
    )  # fmt: skip
    return answered.ask(question, progress)


def answer(
    model: ExplainableModel | PathLike,
    volumes: Sequence[sitk.Image | PathLike],
    composite: str | lrp.Composite | None = None,
    device: str = "auto",
    progress: Progress | None = None,
    rules: Mapping[str, str | lrp.rules.Rule] | None = None,
    *,
    biases: lrp.Biases | None = None,
    window: Mapping[str, Any] | None = None,
    memory: float | None = None,
    precision: str | None = None,
    question: Question | None = None,
    keep: bool = False,
    method: str | Method | None = LRP,
    parameters: Mapping[str, str | int | float] | None = None,
) -> "Answered":
    """The first half of `explain`: what the model says. Arguments and errors as there.

    Args:
        question: refused here already where that does not need the answer.
        keep: several questions will follow: activations stay in memory for all of them.
    """
    how = How(composite, device, rules, biases, window, memory, precision, method_named(method, parameters), keep)
    stage = Stages(progress or nobody)
    with running():
        ready = get_ready(model, volumes, how, question, stage)
        ready.inference.keep_to_budget()
        with stage("predicting"):
            output = require_tensor(ready.inference.predict(stage.part("predicting")))
            card = ready.completed(output)
            outcome = read_outcome(output, card, ready.prepared)
            prediction = outcome.prediction(ready.prepared)
    return Answered(ready, output, card, outcome, prediction, stage.timings)


@dataclass(frozen=True, eq=False)
class Answered:
    """What a model said about one examination, ready for questions.

    Attributes:
        prediction: what it said.
    """

    _ready: Ready
    _output: Tensor
    _card: ModelCard
    _outcome: Outcome
    prediction: Prediction
    _timings: dict[str, float]

    def ask(self, question: Question, progress: Progress | None = None) -> Explanation:
        """The second half of `explain`: why. Errors as there."""

        def attribute(ready: Ready, asked: Asked, told: Callable[[float, str], None]) -> list[Found]:
            found = ready.attribute(asked.coefficients, self._output, told)
            return [(replace(found, ledger=asked.booked(found.ledger)), asked.facts)]

        return self.explanations(question, attribute, progress)[0]

    def explanations(
        self,
        question: Question,
        attribute: "Callable[[Ready, Asked, Callable[[float, str], None]], Sequence[Found]]",
        progress: Progress | None = None,
    ) -> list[Explanation]:
        """An explanation of each attribution that is made of the question, with its own facts of the target.

        Args:
            attribute: (what the network runs with, the question, who is told the share done) -> attributions.
        """
        ready, prepared = self._ready, self._ready.prepared
        stage = Stages(progress or nobody)
        stage.timings.update(self._timings)
        brought: list[tuple[tuple[sitk.Image, ...], dict[str, Any], dict[str, Any]]] = []
        with running():
            asked = question.ask(self._output, self._outcome, prepared, self._card)
            with stage("propagating"):
                found = attribute(ready, asked, stage.part("propagating"))
            with stage("returning"):
                for attribution, facts in found:
                    relevance, ledger = _bring_back(attribution, prepared, facts["text"])
                    ledger |= {} if ready.method is None else ready.method.ledger_facts()
                    brought.append((relevance, ledger, facts))
        stage.finish()
        loaded, card, run = ready.model, self._card, ready.inference.facts(asked.coefficients)
        return [
            Explanation(
                relevance=relevance,
                prediction=self.prediction,
                target=facts,
                composite=_composite_facts(ready.composite) if ready.method is None else ready.method.facts(),
                ledger=ledger,
                model=_model_facts(loaded, card),
                volumes=ready.sources,
                provenance=_provenance(ready.device, stage.timings) | {"run": run},
            )
            for relevance, ledger, facts in brought
        ]


def plan(
    model: ExplainableModel | PathLike,
    volumes: Sequence[sitk.Image | PathLike],
    question: Question = Question(),
    composite: str | lrp.Composite | None = None,
    device: str = "auto",
    rules: Mapping[str, str | lrp.rules.Rule] | None = None,
    biases: lrp.Biases | None = None,
    window: Mapping[str, Any] | None = None,
    memory: float | None = None,
    precision: str | None = None,
    method: str | Method | None = LRP,
    parameters: Mapping[str, str | int | float] | None = None,
) -> dict[str, Any]:
    """What `explain` would do, arguments and errors as there; one forward pass of one batch is run, for the time.

    Returns:
        JSON-ready: "grid" (see `Grid.as_dict`), "device", "composite" (None but for lrp), "method", the facts of
        `Inference.facts`, "memory_stated" (whether `explain` would refuse to take more than the budget), and "seconds"
        for "predicting" and for "explaining"; of a question about a region, the views that hold it.
    """
    how = How(composite, device, rules, biases, window, memory, precision, method_named(method, parameters))
    with running():
        ready = get_ready(model, volumes, how, question)
        output, once = ready.inference.trial()
        card = ready.completed(require_tensor(output)[:1])
        question.check(ready.prepared, card)  # what a card did not say before
        facts = ready.inference.facts(question.known(ready.prepared, card))
        predicting, explaining = ready.inference.seconds(once, facts["explained"])
        if ready.method is not None:
            explaining = predicting * facts["explained"] / facts["views"] * ready.method.passes(ready.inference)
    return {
        "grid": ready.prepared.grid.as_dict(),
        "device": device_name(ready.device),
        "composite": ready.composite.name if ready.method is None else None,
        "method": LRP if ready.method is None else ready.method.name,
        **facts,
        "memory_stated": memory is not None,
        "seconds": {"predicting": predicting, "explaining": explaining},
    }


def _bring_back(
    attribution: lrp.Attribution, prepared: Prepared, name: str
) -> tuple[tuple[sitk.Image, ...], dict[str, Any]]:
    """Relevance on the source volumes and the ledger; each of its figures is summed from its own terms."""
    at_input = attribution.relevance
    assert isinstance(at_input, Tensor)
    if not bool(torch.isfinite(at_input).all()):
        raise UserError("The relevance overflows with this composite: choose another one.")
    account = attribution.ledger.as_dict()
    target_value = account["target_value"]
    if target_value == 0:
        raise UserError(f"The model's output for '{name}' is exactly 0, so there is nothing to share out.")
    images, outside = prepared.relevance_to_source(at_input)
    return tuple(images), ledger_facts(target_value, images, outside, account, prepared.unseen())


def _model_facts(loaded: ExplainableModel, card: ModelCard) -> dict[str, Any]:
    facts = {"name": card.name, "path": str(loaded.path), "sha256": loaded.sha256, "card": card.as_dict()}
    return facts if loaded.card_file is None else {**facts, "card_file": str(loaded.card_file)}


def _composite_facts(composite: lrp.Composite) -> dict[str, Any]:
    return {
        "name": composite.name,
        "description": composite.description,
        "normalization": composite.normalization,
        "biases": composite.biases,
        "rules": [{"match": match, "rule": rule} for match, rule in composite.as_rows()],
    }


def _provenance(place: torch.device, timings: dict[str, float]) -> dict[str, Any]:
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "device": device_name(place),
        "timings": timings,
    }
