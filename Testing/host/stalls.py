"""How long the event loop was held: a timer that should fire all the time tells when it did not."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable

from helpers.slowness import slowness
from PySide6 import QtCore


class Stalls:
    """Measures within its ``with``: the longest time between two ticks, in milliseconds.

    ``longest`` is by the clock, ``busy`` by the processor time that this thread used meanwhile: on a crowded machine
    the clock also counts the time in which others ran. Limits are those of one machine (`helpers.slowness`): a slower
    one has as much longer. Python's collector of garbage is kept from going through what other tests have left in
    memory, which takes longer than anything that the panel does.
    """

    INTERVAL = 5  # ms between two ticks of an idle loop

    def __init__(self) -> None:
        self.longest = self.busy = 0.0
        self._timer = QtCore.QTimer()
        self._timer.setTimerType(QtCore.Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._tick)

    def __enter__(self) -> Stalls:
        gc.collect()
        gc.freeze()
        self.slowness = slowness()
        self._last, self._used = time.perf_counter(), time.thread_time()
        self._timer.start(self.INTERVAL)
        return self

    def _tick(self) -> None:
        now, used = time.perf_counter(), time.thread_time()
        self.longest = max(self.longest, (now - self._last) * 1000 - self.INTERVAL)
        self.busy = max(self.busy, (used - self._used) * 1000)
        self._last, self._used = now, used

    def __exit__(self, *_error: object) -> None:
        self._tick()
        self._timer.stop()
        gc.unfreeze()
        self.slowness = max(self.slowness, slowness())

    def problem(self, limit: float) -> str:
        """What went wrong, if the loop was held for more than ``limit`` ms; empty otherwise."""
        crowded = os.getloadavg()[0] > (os.cpu_count() or 1)
        held = self.busy if crowded and self.longest < 10 * limit else self.longest
        said = (
            f"the event loop was held for {self.longest:.0f} ms ({self.busy:.0f} ms of them busy) on a machine "
            f"{self.slowness:.1f} times as slow as the one of the limit, {limit:.0f} ms"
        )
        return said if held > limit * self.slowness else ""


def held(act: Callable[[], None], limit: float) -> str:
    """What went wrong, if ``act`` held the loop for more than ``limit`` ms each of three times; empty otherwise.

    A step that takes too long does so every time; what else the machine is busy with does not.
    """
    for _ in range(3):
        with Stalls() as stalls:
            act()
        problem = stalls.problem(limit)
        if not problem:
            break
    return problem
