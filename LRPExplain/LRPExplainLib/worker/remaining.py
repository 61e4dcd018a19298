"""How long a request will still take, from how fast it goes. Standard library alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

# The stages whose length follows from the size of the work, so that one tells of the others.
_TELLING = ("predicting", "propagating", "returning")
# Before a stage has gone this far, in share of itself and in seconds, its speed is a guess.
_LEAST_SHARE, _LEAST_SECONDS = 0.05, 0.5


@dataclass
class Stopwatch:
    """Times requests, one after the other, by the stages that they report.

    Args:
        begins: the share of the whole (0..1) at which each stage begins, in order.
        clock: seconds.

    Within a stage the time left is what its speed so far says. The stages that follow are longer or shorter than it by
    the ratio that the last request showed which ran through all of them; before there was one, by their shares. Of
    stages that are not in the table, as checks have them, the whole is taken to go on as fast as it went.
    """

    begins: Mapping[str, float]
    clock: Callable[[], float]
    _weights: dict[str, float] = field(init=False)
    _began: dict[str, float] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        names, edges = list(self.begins), [*self.begins.values(), 1.0]
        self._weights = {name: end - begin for name, (begin, end) in zip(names, pairwise(edges), strict=True)}
        self._widths = dict(self._weights)

    def start(self) -> None:
        """A new request."""
        self._began = {}

    def left(self, stage: str, share: float) -> float | None:
        """Seconds until the request is done; None as long as nothing can be said.

        Args:
            stage: the name of one that `begins` knows, or of another.
            share: of the whole request.
        """
        now = self.clock()
        gone = now - self._began.setdefault(stage, now)
        if stage not in self._weights:
            gone = now - min(self._began.values())
            return gone * (1 - share) / share if share >= _LEAST_SHARE and gone >= _LEAST_SECONDS else None
        if stage not in _TELLING:
            return None
        part = min(1.0, max(0.0, (share - self.begins[stage]) / self._widths[stage]))
        if part < _LEAST_SHARE or gone < _LEAST_SECONDS:
            return None
        length = gone / part
        following = _TELLING[_TELLING.index(stage) + 1 :]
        return gone * (1 - part) / part + length * sum(self._weights[name] for name in following) / self._weights[stage]

    def finish(self) -> None:
        """The request was answered: one that ran through all stages tells how they compare."""
        times = [self._began.get(name) for name in _TELLING]
        if any(time is None for time in times):
            return  # a further question, of which the first stages were known
        lengths = [end - begin for begin, end in pairwise([*times, self.clock()])]  # type: ignore[operator]
        if min(lengths) > 0:
            self._weights |= dict(zip(_TELLING, lengths, strict=True))
