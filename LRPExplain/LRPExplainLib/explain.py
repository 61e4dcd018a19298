"""explain(model, volumes, target, composite) -> Explanation: the one road from volumes to relevance on them."""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import SimpleITK as sitk
import torch
from torch import Tensor

from . import lrp
from .cascade import previous_segmentation, with_geometry
from .errors import UserError, number_of
from .explanation import Explanation
from .imaging import Grid, Prepared, Region, Windows, check_volume, least_size, prepare, read_volume
from .imaging.reading import volume_files
from .imaging.segmentation import check_labels, read_labels
from .inference import RECKONED_LIKE, Inference, check_memory, slices_of
from .ledgers import ledger_facts
from .methods import LRP, Method, method_named
from .models import ExplainableModel, ModelCard, load_model
from .models.loading import sha256_of
from .outcome import read_outcome, require_tensor
from .question import Asked, Question, as_question
from .refusals import said_plainly
from .running import running, versions

PathLike = str | os.PathLike[str]
Progress = Callable[[str, float], None]
Found = tuple[lrp.Attribution, dict[str, Any]]  # relevance of the prepared volumes, and what was asked

# The stages of the road and the share of the whole at which each begins, as seen with a network of usual size.
STAGES = {"reading": 0.0, "preparing": 0.05, "capturing": 0.1, "predicting": 0.2, "propagating": 0.4, "returning": 0.95}
# In what the network is computed: None, as it is.
PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16}


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
        composite: name of a preset or a composite; None: the card's, or the engine's default.
        device: "cpu", "cuda" or "auto" (CUDA where there is one).
        progress: called with the stage and the share done (0..1).
        rules: rules (or their names) for roles or layer name patterns, put before the composite's own and the card's.
        biases: "share" what biases receive among the contributions they were added to, so that the map accounts for
            the target value, or let them "absorb" it, as the named composites do in the literature. None: the card's
            choice, else "share"; a composite that is given as such keeps its own.
        rather_than, region, value, start: further parts of the question; see `question.Question`.
        window: entries of a card's `preprocessing.window` that replace the card's; {"size": None}: no windows.
        memory: GiB that the network may use on its device, refused where even the thriftiest way needs more; None: most
            of what is free there.
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
    chosen = method_named(method, parameters)
    stage = _Stages(progress or (lambda name, share: None))
    with running():
        ready = _made_ready(
            stage, model, volumes, composite, device, rules, biases, window, memory, question, keep, chosen, precision
        )
        ready.inference.keep_to_budget()
        with stage("predicting"):
            output = require_tensor(ready.inference.predict(stage.part("predicting")))
            card = ready.model.card.completed(output.shape, lrp.ends_in(ready.inference.graph))
            outcome = read_outcome(output, card, ready.prepared)
            prediction = outcome.prediction(ready.prepared)
    return Answered(ready, output, card, outcome, prediction, stage.timings)


@dataclass(frozen=True, eq=False)
class Answered:
    """What a model said about one examination, ready for questions.

    Attributes:
        prediction: what it said.
    """

    _ready: "Ready"
    _output: Tensor
    _card: ModelCard
    _outcome: Any
    prediction: Any
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
        stage = _Stages(progress or (lambda name, share: None))
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
                model={"name": card.name, "path": str(loaded.path), "sha256": loaded.sha256, "card": card.as_dict()},
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
    chosen = method_named(method, parameters)
    with running():
        ready = _made_ready(
            _Stages(lambda name, share: None), model, volumes, composite, device, rules, biases, window, memory,
            method=chosen, precision=precision,
        )  # fmt: skip
        facts = ready.inference.facts(question.known(ready.prepared, ready.model.card))
        predicting, explaining = ready.inference.seconds(facts["explained"])
        if ready.method is not None:
            explaining = predicting * facts["explained"] / facts["views"] * ready.method.passes(ready.inference)
    return {
        "grid": ready.prepared.grid.as_dict(),
        "device": _device_name(ready.device),
        "composite": ready.composite.name if ready.method is None else None,
        "method": LRP if ready.method is None else ready.method.name,
        **facts,
        "memory_stated": memory is not None,
        "seconds": {"predicting": predicting, "explaining": explaining},
    }


def make_ready(
    model: ExplainableModel,
    volumes: Sequence[sitk.Image | PathLike],
    question: Question,
    composite: lrp.Composite,
    device: str = "auto",
    memory: float | None = None,
) -> "Ready":
    """What `explain` does before the network runs, for those who put a question again; arguments and errors as there.

    To be called, like what is done with it, within `running`.
    """
    stage = _Stages(lambda name, share: None)
    return _made_ready(stage, model, volumes, composite, device, None, None, None, memory, question)


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

    def attribute(
        self, coefficients: Tensor, output: Tensor, progress: Callable[[float, str], None]
    ) -> lrp.Attribution:
        """Relevance of the prepared volumes for coefficients of the network's output, by LRP or another method."""
        if self.method is None:
            return self.inference.attribute(coefficients, progress)
        return self.method.attribute(self.inference, coefficients, output, progress)


def _made_ready(
    stage: "_Stages",
    model: ExplainableModel | PathLike,
    volumes: Sequence[sitk.Image | PathLike],
    composite: str | lrp.Composite | None,
    device: str,
    rules: Mapping[str, str | lrp.rules.Rule] | None,
    biases: lrp.Biases | None,
    window: Mapping[str, Any] | None,
    memory: float | None,
    question: Question | None = None,
    keep: bool = False,
    method: Method | None = None,
    precision: str | None = None,
) -> Ready:
    with stage("reading"):
        if method is not None and (composite or rules or biases):
            raise UserError(f"Composite, rules and biases belong to lrp: leave them out with {method.name}.")
        place, lowered = _device(device), _precision(precision, method)
        check_memory(memory)
        if composite is not None:
            lrp.composite_named(composite)  # a misspelt name is said before a model is read
        _check_kinds(model, volumes)
        loaded = _windowed(model if isinstance(model, ExplainableModel) else load_model(model), window)
        chosen = choose_composite(loaded.card, composite, rules, biases)
        if method is not None:
            chosen = lrp.composite_named(RECKONED_LIKE)
        _check_count(loaded, volumes)
        images, sources = _read(volumes, loaded.card)
    with stage("preparing"):
        wishes = loaded.card.preprocessing
        least = least_size(wishes.window, wishes.slices)
        names = [source["name"] for source in sources]
        inputs = loaded.card.inputs
        if loaded.previous is not None and len(images) < len(inputs):
            made, maker = previous_segmentation(loaded.previous, images, names, place, memory, stage.part("preparing"))
            images, names = [*images, made], [*names, inputs[-1].name]
            sources.append(with_geometry(made, names[-1], maker))
        labels = [entry.labels or None for entry in inputs] or [None] * len(images)
        prepared = prepare(images, wishes, names, least, labels)
        if question is not None:
            question.check(prepared, loaded.card)
        windows = Windows(prepared.grid.shape, wishes.window, wishes.slices)
    with stage("capturing"), said_plainly(loaded, len(images), windows.input_shape(prepared.tensor.shape[1])):
        walk = chosen if method is None else None
        inference = Inference(loaded.module, prepared.tensor, windows, walk, place, memory, keep, lowered)
        settled = None if method is None else method.settled(inference)
    return Ready(loaded, chosen, place, sources, prepared, inference, settled)


def _windowed(model: ExplainableModel, window: Mapping[str, Any] | None) -> ExplainableModel:
    """The model with what the caller says of windows, and what its network says of slices, in its card."""
    wishes = model.card.preprocessing
    merged = {**(wishes.window or {}), **(window or {})}
    if merged and "size" not in merged:
        raise UserError("The model's card asks for no windows: give the size of a window as well.")
    wanted = replace(wishes, window=merged if merged.get("size") else None, slices=slices_of(model))
    return replace(model, card=replace(model.card, preprocessing=wanted))


def choose_composite(
    card: ModelCard,
    composite: str | lrp.Composite | None,
    rules: Mapping[str, str | lrp.rules.Rule] | None,
    biases: lrp.Biases | None = None,
) -> lrp.Composite:
    """The composite asked for, else the card's with the card's rules, else the default; the caller's rules go first."""
    chosen = lrp.composite_named(composite or card.composite or lrp.DEFAULT_COMPOSITE)
    if composite is None and card.rules:
        chosen = chosen.override(card.rules)
    if biases is not None or not isinstance(composite, lrp.Composite):
        chosen = chosen.with_biases(biases or card.biases or "share")
    return chosen.override(rules) if rules else chosen


class _Stages:
    """Tells progress and keeps the time of each stage in seconds."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.timings: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        self._progress(name, STAGES[name])
        start = time.perf_counter()
        yield
        self.timings[name] = round(time.perf_counter() - start, 3)

    def part(self, name: str) -> Callable[[float, str], None]:
        """Progress within a stage: the share of the stage that is done becomes the share of the whole."""
        begin = STAGES[name]
        end = min([share for share in STAGES.values() if share > begin], default=1.0)
        return lambda share, which: self._progress(f"{name} {which}".strip(), begin + share * (end - begin))

    def finish(self) -> None:
        self._progress("done", 1.0)


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


def _device_name(place: torch.device) -> str:
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
            digest = sha256_of(*volume_files(file))
        images.append(image)
        sources.append({"name": name, "path": path, "sha256": digest, "geometry": Grid.of(image).as_dict()})
    return images, sources


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
        "device": _device_name(place),
        "timings": timings,
    }
