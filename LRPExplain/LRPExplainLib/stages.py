"""The stages from volumes to relevance on them: who is told how far it is, and how long each took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from .progress import Progress, ViewProgress

# The stages of the road and the share of the whole at which each begins, as seen with a network of usual size.
STAGES = {"reading": 0.0, "preparing": 0.05, "capturing": 0.1, "predicting": 0.2, "propagating": 0.4, "returning": 0.95}


class Stages:
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

    def part(self, name: str) -> ViewProgress:
        """Progress within a stage: the share of the stage that is done becomes the share of the whole."""
        begin = STAGES[name]
        end = min([share for share in STAGES.values() if share > begin], default=1.0)
        return lambda share, which: self._progress(f"{name} {which}".strip(), begin + share * (end - begin))

    def finish(self) -> None:
        self._progress("done", 1.0)
