"""What is put to the test: a model before its volumes, and a question whose class and voxels stay fixed."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import SimpleITK as sitk
import torch
from torch import Tensor, nn

from .. import lrp, methods
from ..activations import total
from ..errors import UserError
from ..explanation import Explanation, given_volumes
from ..forward import Forward
from ..imaging import Windows
from ..imaging.reading import volume_digest
from ..inference import RECKONED_LIKE, Inference
from ..models import ExplainableModel
from ..models.loading import load_recorded
from ..outcome import read_outcome, require_tensor
from ..progress import nobody
from ..question import Asked, Question
from ..readying import How, PathLike, get_ready
from ..recorded import made_of_others, recorded_composite, recorded_method, recorded_question
from .localisation import Array

# An answer that differs by more than this share of what all voxels say is another answer than was explained.
_SAME_ANSWER = 0.01


@dataclass(frozen=True, eq=False)
class Request:
    """What a method is asked: why is the target value of this input what it is?

    Attributes:
        module: the network, in eval mode.
        tensor: its prepared input [1, C, D, H, W], on the CPU.
        windows: how the network sees it.
        ask: the question, put to the network's blended output; its `coefficients` are the target value's gradient with
            respect to that output where a logit is explained.
        device: where to run.
        memory: GiB that may be used there, or None.
    """

    module: nn.Module
    tensor: Tensor
    windows: Windows
    ask: Callable[[Tensor], Asked]
    device: torch.device
    memory: float | None


# Relevance [1, C, D, H, W] of the request's input.
Method = Callable[[Request], Tensor]


def lrp_method(composite: str | lrp.Composite) -> Method:
    """Layer-wise relevance propagation with this composite."""

    def explain(request: Request) -> Tensor:
        inference = Inference(
            request.module, request.tensor, request.windows, lrp.composite_named(composite), request.device,
            request.memory,
        )  # fmt: skip
        output = require_tensor(inference.predict(nobody))
        relevance = inference.attribute(request.ask(output).coefficients, nobody).relevance
        assert isinstance(relevance, Tensor)
        return relevance

    return explain


def attribution_method(chosen: methods.Method) -> Method:
    """Another method, with its parameters."""

    def explain(request: Request) -> Tensor:
        inference = Inference(request.module, request.tensor, request.windows, None, request.device, request.memory)
        output = require_tensor(inference.predict(nobody))
        settled = chosen.settled(inference)
        return settled.relevance(inference, request.ask(output).coefficients, nobody).relevance

    return explain


class Subject:
    """A model before its volumes, asked a question that is fixed by the answer it gets.

    Attributes:
        model: with the card that it was run with.
        prepared: the volumes in its space.
        inference: how the network sees them, and in what memory.
        output: its blended answer, on the CPU.
        asked: the question, met with this output.
        classes: how many channels the output has; `names` are their classes'.
        method: how relevance is found; the checks use it on other inputs, classes and weights.
    """

    def __init__(
        self,
        model: ExplainableModel,
        volumes: Sequence[sitk.Image | PathLike],
        question: Question = Question(),
        composite: str | lrp.Composite = lrp.DEFAULT_COMPOSITE,
        device: str = "auto",
        memory: float | None = None,
        method: Method | None = None,
    ) -> None:
        """To be made and used within `explain.running`; arguments and errors as those of `explain`.

        Args:
            method: another one than LRP with this composite.
        """
        chosen = lrp.composite_named(composite)
        ready = get_ready(model, volumes, How(chosen, device, memory=memory), question)
        ready.inference.keep_to_budget()
        self.inference, self._device, self._memory = ready.inference, ready.device, memory
        self.prepared, self.model = ready.prepared, ready.model
        output = next(Forward(self.inference, self.model.module)([self.prepared.tensor]))
        card = ready.completed(output)
        self.asked = question.ask(output, read_outcome(output, card, self.prepared), self.prepared, card)
        if self.asked.target_value == 0:
            raise UserError("The model's output is exactly 0 where it is asked, so there is nothing to test.")
        self.classes: int = output.shape[1]
        self.names = [entry.name for entry in card.output.classes]
        self.method = method or lrp_method(chosen)
        self.output = output
        where = self.asked.coefficients.any(dim=1, keepdim=True)
        self._forward = Forward(self.inference, self.model.module, where if output.dim() > 2 else None)

    @classmethod
    def of(
        cls, explanation: Explanation, trust: bool = False, device: str = "auto", memory: float | None = None
    ) -> "Subject":
        """The model, the volumes and the question that an explanation records.

        Raises:
            UserError: a file has gone or changed, or the model gives another answer now.
        """
        facts, target = explanation.model, explanation.target
        model = load_recorded(facts, trust)
        if model.sha256 != facts["sha256"]:
            raise UserError(f"The model '{facts['path']}' has changed since the explanation was made: explain again.")
        question = recorded_question(target)
        composite, method = _recorded(explanation.composite)
        subject = cls(model, _volumes(explanation), question, composite, device, memory, method)
        told, found = float(explanation.ledger["target_value"]), subject.asked.target_value
        pairs = zip(subject.asked.coefficients[0], subject.output[0], strict=True)
        said = sum(total((c * y).abs()) for c, y in pairs)  # voxels may cancel
        if abs(found - told) > _SAME_ANSWER * max(said, abs(told)):
            raise UserError(
                f"The model gives {found:.6g} where the explanation says {told:.6g}: explain the volume again."
            )
        return subject

    @property
    def views(self) -> int:
        """How many views of a volume the question needs."""
        return self._forward.views

    def seconds(self) -> tuple[float, float]:
        """About how long a prediction and an explanation by LRP take, judged by one forward pass."""
        inference = self.inference
        _, once = inference.trial()
        predicting, explaining = inference.seconds(once, len(inference.explained(self.asked.coefficients)))
        all_views = len(inference.windows.views)
        return predicting * self.views / all_views, predicting + explaining

    def values(
        self,
        tensors: Iterable[Tensor],
        told: Callable[[int], None] = lambda done: None,
        score: Callable[[Tensor], float] | None = None,
    ) -> Iterator[float]:
        """The target value (the same class, voxels and weights) for other inputs [1, C, D, H, W], several at once.

        Args:
            tensors: taken as they are needed.
            told: called with the number of views that have been run.
            score: what to read off an output instead; it holds where the question asks.
        """
        read = score or self.asked.value
        return (read(output) for output in self._forward(tensors, told))

    def relevance(
        self, module: nn.Module | None = None, tensor: Tensor | None = None, index: int | None = None
    ) -> Tensor:
        """The method's map [1, C, D, H, W], on the model's grid, for the same question.

        Args:
            module: other weights.
            tensor: another input.
            index: another class, at the same voxels.
        """
        asked = self.asked if index is None else self.asked.instead(index, self.output)
        request = Request(
            module or self.model.module,
            self.prepared.tensor if tensor is None else tensor,
            self.inference.windows,
            asked.again,
            self._device,
            self._memory,
        )
        return self.method(request)

    def on_volumes(self, relevance: Tensor) -> list[Array]:
        """A map brought back onto the voxels of each volume, [K, J, I]."""
        images, _ = self.prepared.relevance_to_source(relevance)
        return [sitk.GetArrayFromImage(image) for image in images]


def _recorded(facts: dict[str, Any]) -> tuple[str | lrp.Composite, Method | None]:
    """The composite of an explanation and, where it is none by LRP, the method."""
    name = facts.get("method", methods.LRP)
    if made_of_others(name):

        def refuse(request: Request) -> Tensor:
            raise UserError(f"A {name} map is made of others and cannot be computed anew: leave out the check sanity.")

        return RECKONED_LIKE, refuse
    chosen = recorded_method(facts)
    return (recorded_composite(facts), None) if chosen is None else (RECKONED_LIKE, attribution_method(chosen))


def _volumes(explanation: Explanation) -> list[Path]:
    paths = []
    for entry in given_volumes(explanation.volumes):
        if entry["path"] is None:
            raise UserError(f"'{entry['name']}' was given from memory, so it cannot be looked at again: use a file.")
        path = Path(entry["path"])
        if not path.exists():
            raise UserError(f"The volume '{path}' has gone: put it back, or explain it where it is now.")
        if volume_digest(path, entry["sha256"]) != entry["sha256"]:
            raise UserError(f"The volume '{path}' has changed since the explanation was made: explain it again.")
        paths.append(path)
    return paths
