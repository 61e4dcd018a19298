"""A captured network run again so that autograd can follow it, and told to behave otherwise at some of its calls.

Working on the ATen graph, which LRP explains too, reaches what hooks on modules do not: TorchScript, functional calls
and activations used several times. Where the memory plan cuts the network into segments, activations within them are
computed again for the backward pass (Chen 2016), and where it keeps them on the CPU, autograd's are kept there too.
"""

from collections.abc import Callable, Collection, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, fx
from torch.autograd.graph import save_on_cpu
from torch.utils.checkpoint import checkpoint

from .. import lrp
from ..inference import Inference, Told
from ..lrp.graph import kernel_of
from ..lrp.inner import steps_to
from ..lrp.optimizations import without

Values = dict[fx.Node, Any]


class Scored:
    """The target value that a view of the volume has, as a function of its input [n, C', ...] -> float64 [n].

    With gradients enabled autograd can follow it; without, nothing is kept.
    """

    def __init__(self, inference: Inference, coefficients: Tensor, ran: Callable[[], None] = lambda: None) -> None:
        """
        Args:
            coefficients: of the answers, one per input or one for all.
            ran: called after each pass, of at most a batch.
        """
        self._replay = Replay(inference.graph, inference.setting.estimate.schedule)
        self._graph, self._batch = inference.graph, inference.setting.batch
        self._coefficients, self._ran = coefficients, ran

    def __call__(self, x: Tensor) -> Tensor:
        scores = []
        for start in range(0, len(x), self._batch):
            part = x[start : start + self._batch]
            c = self._coefficients
            scores.append(self._answers(part, c if len(c) == 1 else c[start : start + self._batch]))
            self._ran()
        return torch.cat(scores)

    def _answers(self, x: Tensor, c: Tensor) -> Tensor:
        n = len(x)
        if n < self._batch:  # the graph is made for whole batches
            x = torch.cat([x, x[-1:].expand(self._batch - n, *x.shape[1:])])
        y = self._replay(x) if torch.is_grad_enabled() else self._graph.forward(x)
        return scored(y[:n], c)


def counted(told: Told, passes: int) -> Callable[[], None]:
    """Tells the share of so many passes each time one is done."""
    done = 0

    def ran() -> None:
        nonlocal done
        done += 1
        told(done / passes)

    return ran


def scored(y: Tensor, c: Tensor) -> Tensor:
    """sum(c y) of each answer, [n], in float64: differences of two such sums have to be right."""
    return (y * c).flatten(1).sum(1, dtype=torch.float64)


class Replay:
    """A graph's first output, computed within autograd."""

    def __init__(
        self,
        graph: lrp.Graph,
        schedule: lrp.Schedule,
        instead: Mapping[fx.Node, Callable[[Tensor], Tensor]] | None = None,
        watched: Collection[fx.Node] = (),
    ) -> None:
        """
        Args:
            instead: what the first operand of some calls goes through before.
            watched: nodes whose values are kept in `values` after a run.
        """
        self._graph, self._instead, self._watched = graph, instead or {}, set(watched)
        self._output = graph.outputs[0]
        self.values: Values = {}
        steps = steps_to(graph, self._output)
        ends = [*schedule.starts[1:], len(steps)]
        self._segments = [steps[a:b] for a, b in zip(schedule.starts, ends, strict=True)]
        self._all = set(steps)
        self._offload = schedule.offload

    def __call__(self, x: Tensor) -> Tensor:
        """The network's answers [n, K, ...] for a batch."""
        values: Values = {**self._graph.constants, self._graph.inputs[0]: x}
        with without("onednn", "channels-last"), save_on_cpu() if self._offload else nullcontext():
            for n, steps in enumerate(self._segments):
                last = n == len(self._segments) - 1
                given = dict(values)
                made = self._run(steps, given) if last else checkpoint(self._run, steps, given, use_reentrant=False)
                values.update(made)
        self.values = {node: values[node] for node in self._watched}
        return values[self._output].contiguous()

    def _run(self, steps: list[fx.Node], given: Values) -> Values:
        """What some steps make of what is there, as far as later steps read it."""
        values = dict(given)
        with without("onednn", "channels-last"):  # also when autograd runs it again
            for node in steps:
                values[node] = self._call(node, values)
        later = self._all - set(steps)
        live = {node for node in steps if node in self._watched or not later.isdisjoint(node.users)}
        return {node: values[node] for node in steps if node in live or node is self._output}

    def _call(self, node: fx.Node, values: Values) -> Any:
        called: Any = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
        args, kwargs = called
        if node in self._instead:
            args = (self._instead[node](args[0]), *args[1:])
        return kernel_of(node)(*args, **kwargs)
