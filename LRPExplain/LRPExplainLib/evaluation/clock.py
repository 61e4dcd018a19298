"""Progress of a check with how long the rest will take."""

import time

from ..progress import Progress
from ..summaries import duration


class Clock:
    """Counts the steps of a stage."""

    def __init__(self, progress: Progress, stage: str, total: int) -> None:
        self._progress, self._stage, self._total, self._done = progress, stage, max(1, total), 0
        self._begin = time.perf_counter()
        progress(stage, 0.0)

    def tell(self, steps: int = 1) -> None:
        """So many more steps are done."""
        self._done = min(self._total, self._done + steps)
        each = (time.perf_counter() - self._begin) / max(1, self._done)
        left = each * (self._total - self._done)
        self._progress(f"{self._stage}, about {duration(left)} left", self._done / self._total)


def part(progress: Progress, begin: float, end: float) -> Progress:
    """Progress of a part of the whole."""
    return lambda stage, share: progress(stage, begin + share * (end - begin))
