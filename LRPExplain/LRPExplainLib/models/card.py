"""The model card: JSON next to the weights, validated against card.schema.json, which documents every field."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..errors import UserError, number_of, reason
from ..schemas import read_schema, schema_problem

if TYPE_CHECKING:
    from ..lrp import Ending

SCHEMA = Path(__file__).with_name("card.schema.json")

# Okabe and Ito's colours, told apart by colour-blind people too; for classes whose card gives none. Those that no
# relevance has in Slicer's views (fire and ice) come first: an orange outline is lost on an orange map.
_PALETTE = ((0, 158, 115), (204, 121, 167), (86, 180, 233), (230, 159, 0), (0, 114, 178), (240, 228, 66), (213, 94, 0))
DEFAULT_INTENSITY: tuple[Mapping[str, Any], ...] = ({"type": "percentile", "lower": 1, "upper": 99.8, "clip": True},)


@dataclass(frozen=True)
class CardInput:
    """One volume, which is one input channel or several alike; or a label map, with a channel for each label.

    Attributes:
        mean, std: of each of an image's channels, by which the network's input is standardised; empty: it is not.
        labels: the label values that have a channel each; empty: the volume is an image.
    """

    name: str
    modality: str | None = None
    channels: int = 1
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    labels: tuple[int, ...] = ()

    @property
    def width(self) -> int:
        """Channels of the prepared tensor."""
        return len(self.labels) or 1


@dataclass(frozen=True)
class Preprocessing:
    """How volumes become the network's input; see card.schema.json and `imaging.prepare`."""

    orientation: str | None = None
    spacing: tuple[float | None, float | None, float | None] | None = None
    size: tuple[int, int, int] | None = None
    size_multiple: int = 1
    minimum_size: tuple[int, int, int] | None = None
    resize: Mapping[str, Any] | None = None
    axes: str = "kji"
    intensity: tuple[Mapping[str, Any], ...] = ()
    resampling: str = "extent"
    interpolation: str = "linear-antialiased"
    intensity_first: bool = False
    crop: Mapping[str, Any] | None = None
    window: Mapping[str, Any] | None = None
    slices: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class ClassInfo:
    """One output channel."""

    name: str
    color: tuple[int, int, int]


@dataclass(frozen=True)
class OutputInfo:
    """How the network's output is read; None or empty until an output has been seen (see `ModelCard.completed`).

    Attributes:
        separate: whether each class is by itself in an output that is probabilities already (activation "none").
    """

    activation: str | None = None
    classes: tuple[ClassInfo, ...] = ()
    overlap: str = "strongest"
    separate: bool | None = None


@dataclass(frozen=True)
class ModelCard:
    """What must be known of a network besides its weights.

    Attributes:
        task: "segmentation", "classification" or "regression"; None in a default card until an output has been seen.
        weights: file name of the weights.
        network: architecture and arguments, for weights without code.
        inputs: one per volume; empty in a default card: as many as volumes are given, of one channel each.
        composite: the composite that suits the network, or None.
        rules: rules for roles or layer name patterns, put before the composite's own.
        biases: whether biases absorb or share what they receive, or None.
        stated: False where there was no card and defaults stand in.
        texts: description, licence, citation and training, as far as the card gives them.
        notes: sentences for the user on what was assumed where the model's own files say nothing.
    """

    name: str
    weights: str
    task: str | None = None
    sha256: str | None = None
    network: Mapping[str, Any] | None = None
    inputs: tuple[CardInput, ...] = ()
    preprocessing: Preprocessing = Preprocessing()
    output: OutputInfo = OutputInfo()
    composite: str | None = None
    rules: Mapping[str, str] = field(default_factory=dict)
    biases: Literal["absorb", "share"] | None = None
    stated: bool = True
    texts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def completed(self, output_shape: Sequence[int], ending: "Ending | None" = None) -> "ModelCard":
        """This card with what it leaves open read off the network's output shape [1, K, ...].

        Args:
            ending: how the network makes probabilities itself. Of the scores before it these are made by the same
                activation, whatever the card says; probabilities are read as they are.

        Raises:
            UserError: the card names another number of classes than the output has channels, or another task.
        """
        if len(output_shape) < 2 or output_shape[0] != 1:
            raise UserError(
                f"The model's output has shape {list(output_shape)}, but one with a batch of 1 and a channel per class"
                " is needed: export the model so that it returns [1, classes, ...]."
            )
        channels = output_shape[1]
        task = self.task or ("segmentation" if prod(output_shape[2:]) > 1 else "classification")
        if self.output.classes and len(self.output.classes) != channels:
            raise UserError(
                f"The card of '{self.name}' names {len(self.output.classes)} classes, but the model's output has"
                f" {channels} channels: correct the card's output.classes."
            )
        stated = self.output.activation
        own = made = None
        if ending is not None:
            own = ending.activation if ending.scores else "none"
            made = ending.activation if stated in (None, "none") else stated
        separate = self.output.separate
        if separate is None:
            separate = own == "none" and made == "sigmoid"
        if task == "regression":
            if self.output.activation not in (None, "none"):
                raise UserError(
                    f"The card of '{self.name}' wants {self.output.activation} for a regression, whose values are no"
                    " probabilities: correct the card's task or its output.activation."
                )
            names = [f"value {n}" for n in range(channels)] if channels > 1 else ["value"]
            usual, separate = "none", False
        else:
            names = [f"class {n}" for n in range(channels)]
            usual = "softmax" if channels > 1 else "sigmoid"
        classes = self.output.classes or tuple(ClassInfo(name, color(n)) for n, name in enumerate(names))
        notes = (*self.notes, *_on_ending(stated, ending, task))
        output = replace(self.output, activation=own or stated or usual, classes=classes, separate=separate)
        return replace(self, task=task, output=output, notes=notes)

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready, in the layout of the card file; `stated` tells a default card."""
        own = asdict(self)
        texts, wishes = own.pop("texts"), {key: own.pop(key) for key in ("composite", "rules", "biases")}
        stated = {key: value for key, value in wishes.items() if value}
        explanation = {"explanation": stated} if stated else {}
        result: dict[str, Any] = json.loads(json.dumps({"schema": 1, **own, **explanation, **texts}))
        return result


def default_card(weights: Path) -> ModelCard:
    """What is assumed of a model without a card: one channel per given volume, the volume's own grid, intensities from
    the 1st and 99.8th percentile to 0..1, classes by index."""
    return ModelCard(weights.stem, weights.name, preprocessing=Preprocessing(intensity=DEFAULT_INTENSITY), stated=False)


def read_card(path: str | os.PathLike[str]) -> ModelCard:
    """Read and validate a card.

    Raises:
        UserError: no such file, not JSON, or not as the schema asks.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"There is no model card '{path}': check the path.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"The model card '{path}' is not readable JSON ({error}): correct it.") from error
    problem = schema_problem(content, read_schema(SCHEMA))
    if problem is not None:
        raise UserError(f"The model card '{path}' is wrong ({problem}): correct it.")
    names = [entry["name"] for entry in content.get("output", {}).get("classes", ())]
    if len(set(names)) != len(names):
        raise UserError(f"The model card '{path}' gives two classes the same name: tell them apart.")
    mapped = ["labels" in entry for entry in content["inputs"]]
    if mapped != sorted(mapped) or mapped[0]:
        raise UserError(f"The model card '{path}' has a label map before an image: put it behind all images.")
    card = _card(content)
    problem = _contradiction(card)
    if problem is not None:
        raise UserError(f"The model card '{path}' contradicts itself: {problem}.")
    return card


def recorded_card(content: Mapping[str, Any]) -> ModelCard:
    """The card that `ModelCard.as_dict` wrote down.

    Raises:
        UserError: somebody else has changed it to what is no card.
    """
    try:
        card = replace(_card(content), stated=bool(content.get("stated", True)))
        problem = preprocessing_problem(card.preprocessing) or _rest_problem(card) or _contradiction(card)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"The recorded model card is damaged ({reason(error)}): explain the volume again.") from error
    if problem is not None:
        raise UserError(f"The recorded model card is wrong ({problem}): explain the volume again.")
    return card


def preprocessing_problem(wishes: Preprocessing) -> str | None:
    """Where and why the schema refuses this part of a card; None if it does not."""
    schema = read_schema(SCHEMA)
    part = {"$defs": schema["$defs"], **schema["properties"]["preprocessing"]}
    return schema_problem(as_json(asdict(wishes)), part)


def as_json(value: Any) -> Any:
    """As a card would have it: NumPy's numbers as Python's. What no card can hold, NaN too, becomes words, which the
    schema refuses."""
    text = json.dumps(value, default=lambda each: each.item() if hasattr(each, "item") else str(each))
    return json.loads(text, parse_constant=str)


def _rest_problem(card: ModelCard) -> str | None:
    """The same for what else is computed with; names, and how many inputs and classes there are, are the model's."""
    own = read_schema(SCHEMA)["properties"]
    entry = {key: value for key, value in own["inputs"]["items"].items() if key != "required"}
    schema = {
        "task": own["task"],
        "inputs": {"items": entry},
        "output": {"properties": {key: own["output"]["properties"][key] for key in ("activation", "overlap")}},
        "explanation": own["explanation"],
    }
    told = {
        "task": card.task,
        "inputs": [
            {"channels": each.channels, **{key: list(getattr(each, key)) or None for key in ("mean", "std", "labels")}}
            for each in card.inputs
        ],
        "output": {"activation": card.output.activation, "overlap": card.output.overlap},
        "explanation": {"composite": card.composite, "rules": card.rules, "biases": card.biases},
    }
    return schema_problem(_told(as_json(told)), {"properties": schema})


def _contradiction(card: ModelCard) -> str | None:
    """What the schema cannot refuse, in words on what to do."""
    for entry in card.inputs:
        for key, values in (("mean", entry.mean), ("std", entry.std)):
            wanted = 0 if entry.labels else entry.channels
            if values and len(values) != wanted:
                return f"'{entry.name}' has {wanted} channels to standardise, but a {key} of {len(values)}: correct one"
    last = max((n for step in card.preprocessing.intensity for n in step.get("channels", ())), default=0)
    volumes = sum(entry.width for entry in card.inputs)
    if card.inputs and last >= volumes:
        return (
            f"an intensity step is for channel {last}, but there {'is' if volumes == 1 else 'are'}"
            f" {number_of(volumes, 'volume')}, of which the first is channel 0: correct the step (for the channels that"
            ' one volume is repeated over there are "mean" and "std" of the input)'
        )
    resize = card.preprocessing.resize or {}
    if "shorter" in resize and resize.get("aspect") != "crop":
        return '"shorter" of its resize goes with the aspect "crop" alone: correct one'
    if card.task == "segmentation" and resize.get("aspect") == "crop":
        return 'a segmentation cannot be resized with the aspect "crop", which leaves voxels without a class: use "pad"'
    return None


def _told(value: Any) -> Any:
    """Without entries that say nothing."""
    if isinstance(value, Mapping):
        return {key: _told(entry) for key, entry in value.items() if entry is not None}
    return [_told(entry) for entry in value] if isinstance(value, list) else value


def color(index: int) -> tuple[int, int, int]:
    """A colour for the class of this index: black for 0, which is most often the background."""
    return (0, 0, 0) if index == 0 else _PALETTE[(index - 1) % len(_PALETTE)]


def _card(content: Mapping[str, Any]) -> ModelCard:
    wishes = dict(content.get("preprocessing", {}))
    output = content.get("output", {})
    classes = [
        ClassInfo(entry["name"], tuple(entry.get("color", color(n))))
        for n, entry in enumerate(output.get("classes", ()))
    ]
    return ModelCard(
        name=content["name"],
        weights=content["weights"],
        task=content["task"],
        sha256=content.get("sha256"),
        network=content.get("network"),
        inputs=tuple(CardInput(**{k: _frozen(v) for k, v in entry.items()}) for entry in content["inputs"]),
        preprocessing=Preprocessing(**{key: _frozen(value) for key, value in wishes.items()}),
        output=OutputInfo(
            output.get("activation"), tuple(classes), output.get("overlap", "strongest"), output.get("separate")
        ),
        composite=content.get("explanation", {}).get("composite"),
        rules=content.get("explanation", {}).get("rules", {}),
        biases=content.get("explanation", {}).get("biases"),
        texts={key: content[key] for key in ("description", "licence", "citation", "training") if key in content},
    )


def _on_ending(stated: str | None, ending: "Ending | None", task: str) -> list[str]:
    """What the user should know of a network that makes probabilities itself."""
    if ending is None:
        return []
    name = ending.activation
    if stated not in (None, "none", name):
        return [
            f"The card asks for {stated}, but the network ends in {name} itself, which is used alone: set the card's"
            f" output.activation to {name if ending.scores else 'none'}."
        ]
    if task == "regression":
        rows = "as its first row" if ending.scores else "in rows of the role 'ending'"
        return [f"The network ends in {name} itself, which the ledger shows {rows}."]
    if ending.scores and stated != name:
        return [f"The network ends in {name} itself: explained is the logit before it, and windows are blended there."]
    if not ending.scores and stated != "none":
        return [
            f"The network makes probabilities by {name} itself and goes on from there, so its output is read as such,"
            " and what is explained as 'logit' is the probability that it gives, of which the ledger shows what the"
            f" {name} takes: to explain the logit, give the network without its last {name}."
        ]
    return []


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
