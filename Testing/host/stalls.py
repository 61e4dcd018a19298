"""How long the event loop was held: a timer that should fire all the time tells when it did not."""

from __future__ import annotations

import time

from PySide6 import QtCore


class Stalls:
    """Measures from its making until `stop`; ``longest`` in milliseconds."""

    INTERVAL = 5  # ms between two ticks of an idle loop

    def __init__(self) -> None:
        self.longest = 0.0
        self.ticks = 0
        self._last = time.perf_counter()
        self._timer = QtCore.QTimer()
        self._timer.setTimerType(QtCore.Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._tick)
        self._timer.start(self.INTERVAL)

    def _tick(self) -> None:
        now = time.perf_counter()
        self.longest = max(self.longest, (now - self._last) * 1000 - self.INTERVAL)
        self._last = now
        self.ticks += 1

    def stop(self) -> float:
        """End measuring; the longest time in ms that the loop was held."""
        self._tick()
        self._timer.stop()
        return self.longest
