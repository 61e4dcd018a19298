"""The question that is asked: where relevance starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral

import torch
from torch import Tensor

from .errors import LRPError


@dataclass(frozen=True)
class Target:
    """Explain a class's output, optionally against another class, optionally only where a mask says.

    Attributes:
        index: channel of the output [N, C, ...]; one for all samples or one per sample
            (a sequence or an integer tensor [N]).
        mask: where to ask, bool or weights, broadcastable to [N, ...] without the channel axis; None: everywhere.
        rather_than: a second channel whose output is subtracted ("class A rather than class B").
    """

    index: int | Sequence[int] | Tensor
    mask: Tensor | None = None
    rather_than: int | None = None

    def start(self, output: Tensor) -> Tensor:
        """The start relevance, of the output's shape: the chosen outputs themselves, zero elsewhere.

        Raises:
            LRPError: there is no such channel, or the mask is no tensor, does not fit or leaves nothing to explain.
        """
        relevance = torch.zeros_like(output)
        for sample, index in enumerate(self._indices(output)):
            if index == self.rather_than:
                raise LRPError(f"The target asks for class {index} rather than itself; choose two classes.")
            relevance[sample, index] = output[sample, index]
            if self.rather_than is not None:
                relevance[sample, self.rather_than] = -output[sample, self.rather_than]
        if self.mask is None:
            return relevance
        if not isinstance(self.mask, Tensor):
            raise LRPError(
                f"The target's mask is a tensor on the output's grid, but got {type(self.mask).__name__}; make one of"
                " an array with torch.from_numpy."
            )
        try:
            mask = torch.broadcast_to(self.mask.to(output), (output.shape[0], *output.shape[2:]))
        except RuntimeError:
            raise LRPError(
                f"The target's mask has shape {list(self.mask.shape)} but the output's grid is "
                f"{list(output.shape[2:])}; give a mask on that grid."
            ) from None
        if not mask.any():
            raise LRPError(
                "The target's mask is empty, so there is nothing to explain; choose another region or class."
            )
        return relevance * mask.unsqueeze(1)

    def _indices(self, output: Tensor) -> tuple[int, ...]:
        if output.dim() < 2:
            raise LRPError(
                f"The model's output has shape {list(output.shape)} and so no classes to choose from; give the start "
                "relevance as a tensor of that shape."
            )
        chosen = self.index
        if isinstance(chosen, Tensor):
            chosen = chosen.tolist()
        if isinstance(chosen, Sequence) and not isinstance(chosen, str):
            indices = tuple(_index(i) for i in chosen)
        else:
            indices = (_index(chosen),) * output.shape[0]
        channels = output.shape[1]
        asked = [*indices, *(() if self.rather_than is None else (_index(self.rather_than),))]
        for index in asked:
            if not 0 <= index < channels:
                raise LRPError(
                    f"The target asks for class {index} but the model's output has classes 0 to {channels - 1}."
                )
        if len(indices) != output.shape[0]:
            raise LRPError(
                f"The number of target classes ({len(indices)}) is not that of the batch ({output.shape[0]}); give one"
                " each."
            )
        return indices


def start_relevance(target: Tensor | Target | int, output: Tensor) -> Tensor:
    """Relevance at the output for a target object, a class index or a tensor that is the start relevance itself.

    Raises:
        LRPError: it does not fit the output, or is not finite.
    """
    start = _start(target, output)
    if not start.isfinite().all():
        raise LRPError(
            "The values that are asked about are not finite, so there is nothing to share out; look for NaN or"
            " infinity in the input, the weights or the start relevance."
        )
    return start


def _start(target: Tensor | Target | int, output: Tensor) -> Tensor:
    if isinstance(target, Target):
        return target.start(output)
    if not isinstance(target, Tensor):
        return Target(_index(target)).start(output)
    if target.shape != output.shape:
        raise LRPError(
            f"The start relevance has shape {list(target.shape)} but the model's output has {list(output.shape)}; "
            "they must agree."
        )
    return target.to(output)


def _index(chosen: object) -> int:
    """A class index, of NumPy's kinds too."""
    if isinstance(chosen, Integral):
        return int(chosen)
    raise LRPError(
        f"The target asks for {chosen!r}, which is no class index; give the number of an output channel, from 0 on (a"
        " captured graph does not know the names of classes)."
    )
