"""What the worker can be asked; it keeps the last model, and the last answer of it for further questions."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from ..errors import UserError
from ..explain import Answered, answer
from ..explanation import Prediction
from ..imaging import Box, Everywhere, Points, Region, read_segment
from ..lrp import capture
from ..models import ExplainableModel, load_model, trust_request
from ..progress import Progress
from ..question import Question
from ..stages import STAGES
from .server import NeedsTrust
from .writing import WRITING

Message = dict[str, Any]
__all__ = ["STAGES", "Answers"]
_SETTINGS = ("*.json", "*.yaml", "*.yml")  # what cards, bundles and trained nnU-Nets say of themselves
_MOST_FILES = 2000  # of a folder that are looked at: a model has fewer
_HOW = ("composite", "rules", "biases", "device", "memory", "precision", "method", "parameters")


class Answers:
    """Describes models and explains what they say."""

    def __init__(self) -> None:
        self._model: tuple[object, ExplainableModel] | None = None
        self._answered: tuple[object, Answered] | None = None

    def get_ready(self) -> None:
        """For the first graph of a process PyTorch loads modules for a second: better while nobody waits for it."""
        capture(torch.nn.Conv3d(1, 1, 1).eval(), torch.zeros(1, 1, 1, 1, 1))

    def describe(self, message: Message, progress: Progress, _predicted: Callable[[Message], None]) -> Message:
        """What a model is, without running it."""
        model = self._load(message, progress)
        card, cuda = model.card, torch.cuda.is_available()
        facts = {
            "name": card.name,
            "task": card.task,
            "inputs": [
                {"name": entry.name, "modality": entry.modality, "labels": bool(entry.labels)} for entry in card.inputs
            ],
            "classes": [entry.name for entry in card.output.classes],
            "composite": card.composite,
            "stated": card.stated,
            "notes": list(card.notes),
            "parameters": sum(tensor.numel() for tensor in model.module.parameters()),
            "sha256": model.sha256,
            "path": str(model.path),
            "device": "cuda" if cuda else "cpu",
            "device_name": torch.cuda.get_device_name() if cuda else "CPU",
            "trusted": bool(message.get("trust")),
        }
        return {"facts": facts}

    def explain(self, message: Message, progress: Progress, predicted: Callable[[Message], None]) -> Message:
        """Why a model says what it says; the explanation's folder is written to "out"."""
        model = self._load(message, progress)
        question = Question(
            message.get("target"),
            message.get("rather_than"),
            _region(message.get("where")),
            message.get("value") or "logit",
            message.get("start") or "value",
        )
        answered = self._answer(model, message, question, progress)
        predicted(_said(answered.prediction))
        explanation = answered.ask(question, progress)
        with WRITING:
            explanation.save(message["out"], compressed=False)  # it is read once, and at once
        return {"folder": message["out"]}

    def _load(self, message: Message, progress: Progress) -> ExplainableModel:
        """The model, read again when its files have changed; "trust" is the SHA-256 that was agreed to."""
        path, agreed = Path(message["model"]), message.get("trust")
        key = (agreed, *_model_stamp(path))
        if self._model is None or self._model[0] != key:
            progress("loading", 0.01)
            self._model = self._answered = None
            try:
                trust = agreed is not None and trust_request(path).sha256 == agreed
                self._model = key, load_model(path, trust=trust)
            except UserError as error:
                ask_for_trust(path, agreed, error)
                raise
        return self._model[1]

    def _answer(self, model: ExplainableModel, message: Message, question: Question, progress: Progress) -> Answered:
        how: dict[str, Any] = {name: message.get(name) for name in _HOW}
        how["device"] = how["device"] or "auto"
        files = [_stamp(Path(path)) for path in message["volumes"]]
        key = (id(model), *files, repr(how))
        if self._answered is None or self._answered[0] != key:
            self._answered = None  # its memory is wanted now
            self._answered = key, answer(
                model, message["volumes"], progress=progress, question=question, keep=True, **how
            )  # fmt: skip
        return self._answered[1]


def _stamp(path: Path) -> tuple[Path, int, int]:
    """What changes when a file does; one that is missing is refused when it is read."""
    try:
        facts = path.stat()
    except OSError:
        return path, 0, 0
    return path, facts.st_mtime_ns, facts.st_size


def _model_stamp(path: Path) -> tuple[tuple[Path, int, int], ...]:
    """What changes when one of a model's files does: weights, card, and the settings around them."""
    if path.is_dir():
        files = [*islice(path.rglob("*"), _MOST_FILES), path.with_name(f"{path.name}.card.json")]
    else:
        places = (path.parent, path.parent.parent, path.parent.parent / "configs")
        around = (file for place in places for pattern in _SETTINGS for file in place.glob(pattern))
        beside = path.parent.glob("*") if path.suffix == ".json" else ()  # the weights that a card names
        files = [path, *islice(around, _MOST_FILES), *islice(beside, _MOST_FILES)]
    return tuple(_stamp(file) for file in sorted(set(files)))


def ask_for_trust(path: Path, agreed: str | None, error: UserError) -> None:
    """Ask, also where the files are no longer those that were agreed to."""
    if not path.exists():
        return
    request = trust_request(path)
    if request.sentences and request.sha256 != agreed:
        raise NeedsTrust(str(error), {"sentences": list(request.sentences), "sha256": request.sha256}) from error


def _region(where: Message | None) -> Region | None:
    """The place of a question as the client writes it: RAS in mm, in the first volume's own space."""
    if where is None:
        return None
    kinds: dict[str, Callable[[Message], Region]] = {
        "everywhere": lambda values: Everywhere(),
        "points": lambda values: Points(tuple(tuple(point) for point in values["points"])),
        "box": lambda values: Box(tuple(values["centre"]), tuple(values["size"]), tuple(values["axes"])),
        "segment": lambda values: read_segment(values["file"], values["name"]),
    }
    return kinds[where["kind"]](where)


def _said(prediction: Prediction) -> Message:
    """What the panel shows of a prediction before the map is there."""
    if prediction.segmentation is None:
        return {"probabilities": prediction.probabilities}
    return {"volumes_ml": {entry["name"]: entry["ml"] for entry in prediction.sizes()[1:]}}
