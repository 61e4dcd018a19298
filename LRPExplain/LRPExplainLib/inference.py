"""Running a network over a volume, view by view, within the memory there is; and its relevance, view by view.

The first pass blends the outputs of all views. The second runs again only the views that the question touches, keeps
what relevance needs, and starts each with exactly its share of the blended output. A network that takes the whole
volume at once is run once.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from math import ceil
from typing import Any

import torch
from torch import Tensor, nn

from . import lrp
from .errors import UserError
from .imaging.windows import View, Windows
from .lrp.graph import shape_of
from .memory import GIB, check_memory, refuse_more_than_there_is, short_of_memory, usable_memory
from .models.adapting import Adapted, captured
from .outcome import require_tensor
from .progress import ViewProgress

Work = Callable[[Sequence[View], Callable[[float], None]], None]
# Views, their inputs [n, C', ...] on the device, the coefficients of their answers, and who is told the share done.
# Where there are fewer views than a batch holds, the last input is repeated, with coefficients 0.
Visit = Callable[[Sequence[View], Tensor, Tensor, Callable[[float], None]], None]
Told = Callable[[float], None]
# The forward pass of a batch of views, the start relevance of its output, whether nothing else will be asked of it, and
# who is told the share done -> one attribution for each walk.
Ask = Callable[[lrp.Evaluation, Tensor, bool, Told], Sequence[lrp.Attribution]]

# So many voxels keep a device busy; more of them at once only take memory. Two small windows at once are much faster on
# the CPU than one: PyTorch gives a single sample of few channels to a slower convolution.
VOXELS_AT_ONCE = {"cpu": 1 << 19, "cuda": 1 << 21}
_MOST_AT_ONCE = 16
# The composite whose memory is that of a gradient: every layer keeps its input.
RECKONED_LIKE = "epsilon"


@dataclass(frozen=True)
class Setting:
    """One way to run: how many views at once, on which device, and what one view is reckoned to need there."""

    batch: int
    device: torch.device
    single: lrp.Estimate

    @property
    def estimate(self) -> lrp.Estimate:
        """What all views at once are reckoned to need."""
        return self.single.times(self.batch)


class Inference:
    """A network before a prepared volume, ready to run.

    Attributes:
        windows: how it sees the volume.
        answer: bytes of the CPU's memory that the answers of all windows take, blended; 0 of a volume that is run at
            once, where that is part of what the network needs.
        budget: bytes that it may use on its device.
        setting: how it runs. When the device runs out of memory all the same, one that needs less takes its place.
    """

    def __init__(
        self,
        module: nn.Module,
        volume: Tensor,
        windows: Windows,
        composite: lrp.Composite | None,
        device: torch.device,
        memory: float | None = None,
        keep: bool = False,
        precision: torch.dtype | None = None,
    ) -> None:
        """Capture the network for a view of this volume and choose the fastest way to run that fits the memory.

        Args:
            module: in eval mode; it is moved to the device.
            volume: the prepared tensor [1, C, D, H, W], on the CPU.
            composite: of the relevance walk; None: another method asks (see `each`), whose memory is a gradient's.
            memory: GiB that the run may use on its device; None: most of what is free there.
            keep: several questions will follow: of a volume that is run at once, the activations stay in memory.
            precision: in which it is all computed (see `lrp.Graph.to`); None: the network as it is, relevance in
                float32.

        Raises:
            lrp.LRPError: the network cannot be captured, or an operator of it has no rule.
            UserError: the CPU has far too little memory, of which there is no second chance; or `memory` is no amount.
        """
        check_memory(memory)
        self.windows, self._module, self._volume = windows, module, volume
        self._composite, self._walks = composite or lrp.composite_named(RECKONED_LIKE), composite is not None
        self._graph: tuple[tuple[int, torch.device], lrp.Graph] | None = None
        self._evaluation: lrp.Evaluation | None = None
        self._keep, self._precision, self._stated = keep, precision, memory is not None
        here, self.answer = device.type == "cpu", self._answer(self._captured(1, device))
        left = max(0, usable_memory(device) - (self.answer if here else 0))
        self.budget = int(memory * GIB) if memory is not None else left
        ways, tried = self._settings(device), []
        for setting in ways:
            tried.append(setting)
            if setting.estimate.peak <= self.budget:
                break
        # where nothing fits by the estimate, which errs on the safe side, the thriftiest is tried
        fits = tried[-1].estimate.peak <= self.budget
        self.setting = tried[-1] if fits else min(tried, key=lambda setting: setting.estimate.peak)
        beyond = here and not fits and not self._stated
        refuse_more_than_there_is(self.setting.estimate.peak if beyond else 0, self.answer)
        self._most = self.setting.batch  # views at once; a question about fewer takes fewer, the next one may take all
        self._tighter = chain(ways, () if device.type == "cpu" else self._settings(torch.device("cpu")))

    def keep_to_budget(self) -> None:
        """Refuse a run, before anything is computed, that would take more memory than its user has allowed.

        Raises:
            UserError: even the way that needs least needs more.
        """
        needed = self.setting.estimate.peak  # told with what three digits may round off, so that so much is enough
        if self._stated and needed > self.budget:
            raise UserError(
                f"The network needs about {needed * 1.005 / GIB:.3g} GiB of memory for one window where it is"
                f" thriftiest, but may use {self.budget / GIB:.3g}: allow so much (--memory), or use smaller windows"
                " (--window)."
            )

    def predict(self, progress: ViewProgress) -> object:
        """The network's answer for the whole volume: [1, K, D, H, W] or [1, K], blended from its views."""
        blended: list[Tensor] = []

        def work(views: Sequence[View], inner: Callable[[float], None]) -> None:
            if self.windows.whole:
                self._evaluation = self._evaluate(views, inner)
                return
            answers = require_tensor(self.graph.forward(self._inputs(views))).cpu()
            for view, answer in zip(views, answers.split(1), strict=False):  # what fills a batch up is left out
                if not blended:
                    blended.append(self.windows.blank(answer))
                self.windows.blend(answer, view, blended[0])

        self._through(self.windows.views, work, progress)
        return self._evaluation.output if self._evaluation is not None else blended[0]

    def attribute(self, coefficients: Tensor, progress: ViewProgress) -> lrp.Attribution:
        """Relevance of the sum of coefficients times the blended output.

        Args:
            coefficients: of the shape that `predict` returned; views at whose answers they are 0 are left out.

        Returns:
            Relevance of the volume [1, C, D, H, W], and the ledger over all views.

        Raises:
            UserError: no coefficient differs from 0.
        """

        def ask(evaluation: lrp.Evaluation, start: Tensor, last: bool, told: Told) -> list[lrp.Attribution]:
            return [evaluation.attribute(start, last=last, progress=told)]

        return self.ask(coefficients, ask, progress)[0]

    def ask(self, coefficients: Tensor, ask: Ask, progress: ViewProgress) -> list[lrp.Attribution]:
        """Several walks for the same coefficients, each summed over the views; arguments and errors as above.

        Args:
            ask: makes the walks of a batch of views; is called again with fewer of them where memory ran out, so it
                leaves nothing behind until it is done.

        Returns:
            For each walk the relevance of the volume [1, C, D, H, W], and the ledger over all views.
        """
        summed: list[lrp.Attribution] = []
        views = self._asked_about(coefficients)

        def work(views: Sequence[View], inner: Callable[[float], None]) -> None:
            evaluation, self._evaluation = self._evaluation, self._evaluation if self._keep else None
            ran = evaluation is None
            evaluation = evaluation or self._evaluate(views, lambda share: inner(share / 4))
            y = require_tensor(evaluation.output)
            start = self._asked(coefficients, views, y) * y
            told = (lambda share: inner(0.25 + 0.75 * share)) if ran else inner
            found = ask(evaluation, start, ran or not self._keep, told)
            if not summed:
                summed.extend(lrp.Attribution(torch.zeros_like(self._volume), None, f.ledger, {}) for f in found)
            else:
                summed[:] = [replace(s, ledger=s.ledger + f.ledger) for s, f in zip(summed, found, strict=True)]
            for whole, part in zip(summed, found, strict=True):
                self._give_back(part.relevance, views, whole.relevance)

        self._through(views, work, progress)
        return summed

    def _give_back(
        self, found: Tensor | tuple[Tensor, ...], views: Sequence[View], relevance: Tensor | tuple[Tensor, ...]
    ) -> None:
        assert isinstance(found, Tensor)  # the graph is captured for one input
        assert isinstance(relevance, Tensor)
        for view, part in zip(views, found.to(relevance).split(1), strict=False):
            self.windows.give_back(part, view, relevance)

    def each(self, coefficients: Tensor, visit: Visit, progress: ViewProgress) -> None:
        """Visit the views that a question touches, a batch at a time, for other methods than relevance propagation.

        Args:
            coefficients: as for `attribute`.
            visit: is called again with fewer views where memory ran out, so it leaves nothing behind until it is done.

        Raises:
            UserError: no coefficient differs from 0.
        """
        self._evaluation = None
        views = self._asked_about(coefficients)

        def work(views: Sequence[View], inner: Callable[[float], None]) -> None:
            y = torch.empty(shape_of(self.graph.outputs[0]), device=self.setting.device)
            visit(views, self._inputs(views), self._asked(coefficients, views, y), inner)

        self._through(views, work, progress)

    def explained(self, coefficients: Tensor) -> Sequence[View]:
        """The views that these coefficients of the blended output touch."""
        return self.windows.views if self.windows.whole else self.windows.touching(coefficients.cpu())

    def facts(self, coefficients: Tensor | None = None) -> dict[str, Any]:
        """How the volume is run, JSON-ready; with coefficients also how many views were explained."""
        setting, views = self.setting, len(self.windows.views)
        return {
            "windows": len(self.windows.starts),
            "window_size": list(reversed(self.windows.extent)),
            "views": views,
            "explained": views if coefficients is None else len(self.explained(coefficients)),
            "batch": setting.batch,
            "precision": "bfloat16" if self._precision is torch.bfloat16 else "float32",
            "segments": len(setting.estimate.schedule.starts),
            "offload": setting.estimate.schedule.offload,
            "memory": setting.estimate.peak,
            "memory_forward": setting.estimate.forward,
            "memory_budget": self.budget,
            "memory_answer": self.answer,
        }

    def trial(self) -> tuple[object, float]:
        """What the network returns for the first views, and the seconds that took."""
        views = self.windows.views[: self.setting.batch]
        begin = time.perf_counter()
        output = self.graph.forward(self._inputs(views))
        if self.setting.device.type == "cuda":
            torch.cuda.synchronize()
        return output, time.perf_counter() - begin

    def seconds(self, once: float, explained: int) -> tuple[float, float]:
        """About how long it takes to predict, and to explain so many views, by what a `trial` took."""
        again = len(self.setting.estimate.schedule.starts) > 1
        passes = (not self.windows.whole) + again + lrp.products(self.graph, self._composite)
        predicting, explaining = (ceil(n / self.setting.batch) * once for n in (len(self.windows.views), explained))
        return predicting, explaining * passes

    @property
    def volume(self) -> Tensor:
        """The prepared tensor [1, C, D, H, W], on the CPU."""
        return self._volume

    @property
    def turned(self) -> bool:
        """Whether the network's inner layers have the spatial axes in the opposite order of ours."""
        return isinstance(self._module, Adapted) and self._module.turned

    @property
    def graph(self) -> lrp.Graph:
        """The network, captured for the setting's batch on the setting's device."""
        return self._captured(self.setting.batch, self.setting.device)

    def _answer(self, graph: lrp.Graph) -> int:
        """See `answer`: a score for each class at each voxel, if the network's answer has places."""
        shape = shape_of(graph.outputs[0])
        voxels = torch.Size(self.windows.shape if shape[2:].numel() > 1 else ()).numel()
        return 0 if self.windows.whole else torch.float32.itemsize * shape[1:2].numel() * voxels

    def _settings(self, device: torch.device) -> Iterator[Setting]:
        """Ways to run on a device, the fastest first."""
        graph, away = self._captured(1, device), device.type == "cuda"
        ways = lrp.estimates(graph, self._composite, offload=away, remaking=self._walks)
        plain = next(ways)
        fitting = (self.budget - plain.weights) // max(1, plain.peak - plain.weights)
        most = min(_MOST_AT_ONCE, VOXELS_AT_ONCE[device.type] // torch.Size(self.windows.extent).numel(), fitting)
        batch = _even(len(self.windows.views), most)
        while batch > 1:
            if self._takes(batch, device):
                yield Setting(batch, device, plain)
            batch //= 2
        yield from (Setting(1, device, estimate) for estimate in chain([plain], ways))

    def _captured(self, batch: int, device: torch.device) -> lrp.Graph:
        """The network captured for so many views at once; the one of before is let go."""
        key = (batch, device)
        if self._graph is None or self._graph[0] != key:
            self._graph = None
            shape = self.windows.input_shape(self._volume.shape[1])
            x = torch.zeros((batch, *shape[1:]), dtype=self._volume.dtype, device=device)
            graph = captured(self._module.to(device), x)
            self._graph = key, graph if self._precision is None else graph.to(self._precision)
        return self._graph[1]

    def _takes(self, batch: int, device: torch.device) -> bool:
        """Whether the network takes several views at once; one that was exported for a batch of one does not."""
        try:
            outputs = self._captured(batch, device).outputs
        except lrp.LRPError:
            return False
        return all(len(node.meta["val"]) == batch for node in outputs)

    def _inputs(self, views: Sequence[View]) -> Tensor:
        """What the network sees at once: these views, the last one again and again where there are too few."""
        cuts = [self.windows.cut(self._volume, view) for view in views]
        cuts += cuts[-1:] * (self.setting.batch - len(cuts))
        return torch.cat(cuts).to(self.setting.device)

    def _asked_about(self, coefficients: Tensor) -> Sequence[View]:
        """The views to explain, shared out evenly over the batches, so that there are none to fill up with."""
        views = self.explained(coefficients)
        if not views:
            raise UserError("Nothing in the model's output is asked about: choose another target.")
        self.setting = replace(self.setting, batch=_even(len(views), self._most))
        return views

    def _evaluate(self, views: Sequence[View], progress: Callable[[float], None]) -> lrp.Evaluation:
        schedule = self.setting.estimate.schedule
        return lrp.evaluate(self.graph, self._inputs(views), self._composite, progress=progress, schedule=schedule)

    def _asked(self, coefficients: Tensor, views: Sequence[View], y: Tensor) -> Tensor:
        """The coefficients of these views' answers `y`; 0 for what fills the batch up."""
        if self.windows.whole:
            return coefficients.to(y)
        asked = torch.zeros_like(y)
        for n, view in enumerate(views):
            asked[n] = self.windows.unblend(coefficients.cpu(), view).reshape(y.shape[1:])
        return asked

    def _through(self, views: Sequence[View], work: Work, progress: ViewProgress) -> None:
        """Do some work with all views, batch by batch; with a tighter setting from where memory ran out."""
        done = 0
        while done < len(views):
            batch = views[done : done + self.setting.batch]
            detail = f"{done + len(batch)}/{len(views)}" if len(views) > 1 else ""

            def inner(share: float, done: int = done, n: int = len(batch), detail: str = detail) -> None:
                progress((done + share * n) / len(views), detail)

            inner(0.0)
            if self._done_in_memory(work, batch, inner):
                done += len(batch)

    def _done_in_memory(self, work: Work, views: Sequence[View], inner: Callable[[float], None]) -> bool:
        """Whether the work was done; if memory ran out, the next setting takes over."""
        try:
            work(views, inner)
            return True
        except (MemoryError, RuntimeError) as error:
            if not short_of_memory(error):
                raise
            following = next((setting for setting in self._tighter if self._needs_less(setting)), None)
            if following is None:
                raise
        self.setting, self._most, self._evaluation = following, following.batch, None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return False

    def _needs_less(self, setting: Setting) -> bool:
        now = self.setting
        return setting.device != now.device or setting.estimate.peak < now.estimate.peak


def _even(count: int, most: int) -> int:
    """The batch that shares `count` views out evenly, `most` at a time."""
    return ceil(count / ceil(count / max(1, most)))
