"""A network over many volumes of one shape, several at once: predictions alone, with nothing kept for relevance."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from math import ceil

import torch
from torch import Tensor, nn

from . import lrp
from .imaging.windows import View
from .inference import VOXELS_AT_ONCE, Inference
from .memory import short_of_memory
from .models.adapting import captured
from .outcome import require_tensor

_MOST_AT_ONCE = 64


class Forward:
    """Blended answers for volumes like the one that an `Inference` was made for, on its device and in its memory.

    Attributes:
        batch: how many views are run at once; it is halved where memory runs out all the same.
    """

    def __init__(self, inference: Inference, module: nn.Module, where: Tensor | None = None) -> None:
        """
        Args:
            where: bool like the blended output; views that do not touch it are left out, so that the answers hold
                there alone.
        """
        setting = inference.setting
        self._module, self._windows, self._device = module, inference.windows, setting.device
        self._of_scores = inference.graph.taken_off is not None
        self._graph: tuple[tuple[int, torch.device], lrp.Graph] | None = None
        whole = where is None or self._windows.whole
        self._views: Sequence[View] = self._windows.views if whole else self._windows.touching(where)  # type: ignore[arg-type]
        single = setting.single
        room = (inference.budget - single.weights) // max(1, single.forward - single.weights)
        busy = VOXELS_AT_ONCE[setting.device.type] // torch.Size(self._windows.extent).numel()
        self.batch = max(1, min(_MOST_AT_ONCE, room, busy))

    @property
    def views(self) -> int:
        """How many views one volume takes."""
        return len(self._views)

    def __call__(self, volumes: Iterable[Tensor], told: Callable[[int], None] = lambda done: None) -> Iterator[Tensor]:
        """The blended output [1, K, D, H, W] or [1, K] of each volume [1, C, D, H, W], on the CPU, in their order.

        Args:
            volumes: taken as they are needed.
            told: called with the number of views that have been run.
        """
        waiting = iter(volumes)
        while group := list(islice(waiting, max(1, self.batch // len(self._views)))):
            yield from self._blended(group, told)

    def _blended(self, group: Sequence[Tensor], told: Callable[[int], None]) -> list[Tensor]:
        jobs = [(n, view) for n in range(len(group)) for view in self._views]
        blended: list[Tensor | None] = [None] * len(group)
        done = 0
        while done < len(jobs):
            some = jobs[done : done + self.batch]
            answers = self._answers([self._windows.cut(group[n], view) for n, view in some])
            if answers is None:
                continue
            for (n, view), answer in zip(some, answers.split(1), strict=True):
                blended[n] = self._added(answer, view, blended[n])
            done += len(some)
            told(len(some))
        return [output for output in blended if output is not None]

    def _added(self, answer: Tensor, view: View, output: Tensor | None) -> Tensor:
        if self._windows.whole:
            return answer
        output = self._windows.blank(answer) if output is None else output
        self._windows.blend(answer, view, output)
        return output

    def _answers(self, cuts: Sequence[Tensor]) -> Tensor | None:
        """The network's answers on the CPU; None where it takes fewer at once, which is tried next."""
        try:
            with torch.inference_mode():
                found = require_tensor(self._run(torch.cat(list(cuts)).to(self._device))).cpu()
        except (MemoryError, RuntimeError, lrp.LRPError) as error:
            if len(cuts) == 1 and not (short_of_memory(error) and self._device.type == "cuda"):
                raise
            self._retreat(len(cuts))
            return None
        if len(found) != len(cuts):  # exported for a batch of one
            self._retreat(len(cuts))
            return None
        return found.clone()  # an ordinary tensor, which can be written to

    def _run(self, x: Tensor) -> object:
        """The network's answers; the scores before its last activation where an `Inference` gives these."""
        module = self._module.to(self._device)  # whoever explains in between may have moved it
        if not self._of_scores:
            return module(x)
        n, key = len(x), (self.batch, self._device)
        x = torch.cat([x, x[-1:].expand(self.batch - n, *x.shape[1:])])
        if self._graph is None or self._graph[0] != key:
            self._graph = None
            self._graph = key, captured(module, x)
        return require_tensor(self._graph[1].forward(x))[:n]

    def _retreat(self, tried: int) -> None:
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        if tried == 1:
            self._device = torch.device("cpu")
        self.batch = ceil(tried / 2) if tried > 1 else 1
