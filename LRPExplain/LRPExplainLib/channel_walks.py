"""The walks of relevance through an inner layer, one for each part of what passes it; see `concepts`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from . import lrp
from .errors import UserError
from .explain import Found
from .explanation import NOT_THROUGH, OTHER_CHANNELS
from .question import Asked
from .readying import Ready

_RANKING = 0.3  # of the propagation's time: finding out which channels to show


class Walks:
    """The walks of one question: first which channels carry most, over all views; then a map for each.

    Attributes:
        layer: the layer, once it is known.
        held: relevance of each of its channels, summed over places and views, float64 [C].
    """

    def __init__(self, name: str, top: int) -> None:
        self._name, self._top = name, top
        self.layer = lrp.InnerLayer("", 0, ())
        self.held = torch.zeros(0, dtype=torch.float64)

    def attribute(self, ready: Ready, asked: Asked, progress: Callable[[float, str], None]) -> list[Found]:
        """The attribution of the whole and of each part, with what is told of it."""
        if ready.method is not None:
            raise UserError(f"Concepts are found by lrp, not by {ready.method.name}: leave the method out.")
        graph = ready.inference.graph
        self.layer = lrp.inner_layer(graph, self._name)
        self._rank(ready, asked, lambda share, which: progress(_RANKING * share, which))
        strongest = self.held.abs().argsort(descending=True, stable=True).tolist()
        alive = [channel for channel in strongest if self.held[channel] != 0]
        if not alive:
            raise UserError(
                f"No relevance reaches the layer '{self.layer.name}': choose a layer that the target depends on."
            )
        shown, rest = alive[: self._top], alive[self._top :]
        parts = [[channel] for channel in shown] + ([rest] if rest else [])
        around = lrp.goes_around(graph, self.layer.name)
        found = self._maps(ready, asked, parts, around, lambda s, which: progress(_RANKING + (1 - _RANKING) * s, which))
        whole, passing, through = found[0], found[1 : 1 + around], found[1 + around :]
        ledgers = [asked.booked(each.ledger) for each in (whole, *passing)] + [each.ledger for each in through]
        target_value = ledgers[0].target_value
        told = [asked.facts, *(self._told(asked.facts, NOT_THROUGH, None) for _ in passing)]
        told += [self._told(asked.facts, "channel", target_value, rank, [c]) for rank, c in enumerate(shown, 1)]
        told += [self._told(asked.facts, OTHER_CHANNELS, target_value, None, rest)] if rest else []
        return [
            (lrp.Attribution(each.relevance, None, ledger, {}), facts)
            for each, ledger, facts in zip(found, ledgers, told, strict=True)
        ]

    def _rank(self, ready: Ready, asked: Asked, progress: Callable[[float, str], None]) -> None:
        """Relevance per channel."""
        self.held = torch.zeros(self.layer.channels, dtype=torch.float64)

        def ask(evaluation: lrp.Evaluation, start: Tensor, last: bool, told: Callable[[float], None]) -> list[Any]:
            held = evaluation.held(start, self.layer.name, told)
            self.held += held.transpose(0, 1).flatten(1).sum(1, dtype=torch.float64).cpu()
            return []

        ready.inference.ask(asked.coefficients, ask, progress)

    def _maps(
        self,
        ready: Ready,
        asked: Asked,
        parts: Sequence[Sequence[int]],
        around: bool,
        progress: Callable[[float, str], None],
    ) -> list[lrp.Attribution]:
        """The whole, what goes around the layer if anything does, and what passes through each part's channels."""
        layer = self.layer.name

        def ask(evaluation: lrp.Evaluation, start: Tensor, last: bool, told: Callable[[float], None]) -> list[Any]:
            count = 1 + around + len(parts)

            def step(n: int) -> Callable[[float], None]:
                return lambda share: told((n + share) / count)

            found = [evaluation.attribute(start, at=[layer], progress=step(0))]
            if around:
                found.append(evaluation.attribute(start, channels={layer: []}, progress=step(1)))
            held = found[0].at[layer]
            for n, channels in enumerate(parts):
                final = last and n == len(parts) - 1
                begin, told_so = lrp.only(held, channels), step(1 + around + n)
                found.append(evaluation.attribute(begin, layer=layer, last=final, progress=told_so))
            return found

        return ready.inference.ask(asked.coefficients, ask, progress)

    def _told(
        self,
        facts: dict[str, Any],
        part: str,
        target_value: float | None,
        rank: int | None = None,
        channels: Sequence[int] = (),
    ) -> dict[str, Any]:
        """What is told of a part: the question's facts, and under "concept" which part of the answer this is."""
        name = self.layer.name
        concept: dict[str, Any] = {"layer": name, "part": part}
        if target_value is not None:
            relevance = float(self.held[list(channels)].sum())
            concept |= {"channels": list(channels), "relevance": relevance, "share": relevance / target_value}
        if rank is not None:
            concept |= {"channel": channels[0], "rank": rank}
        words = {
            "channel": f"channel {channels[0] if channels else None} of {name}",
            OTHER_CHANNELS: f"the other channels of {name}",
            NOT_THROUGH: f"not through {name}",
        }
        return facts | {"concept": concept, "text": f"{facts['text']}, {words[part]}"}
