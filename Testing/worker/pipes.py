"""A real worker on real pipes, and a loop that hands its lines to the client: what QProcess does in Slicer."""

import heapq
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from helpers.slowness import slowness
from LRPExplainLib.worker.client import Client, Request

_LOOK = 0.05  # seconds after which a condition is looked at in any case


class Pipes:
    """The client's process; see `LRPExplainLib.worker.client.Process`."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "LRPExplainLib.worker", "--folder", str(folder)]
        # what it says on standard error goes where the tests' own does: in a pipe that nobody reads it would get stuck
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.child.stdout is not None
        os.set_blocking(self.child.stdout.fileno(), False)
        self._rest = b""
        self.over = False

    def write(self, line: str) -> None:
        assert self.child.stdin is not None
        with suppress(BrokenPipeError):  # it has just died, which is told by its end
            self.child.stdin.write(line.encode())
            self.child.stdin.flush()

    def kill(self) -> None:
        self.over = True
        self.child.kill()
        self.child.wait()

    def close(self) -> None:
        self.over = True
        assert self.child.stdin is not None
        with suppress(BrokenPipeError):
            self.child.stdin.close()
        self.child.wait(10 * slowness())

    def lines(self) -> list[str]:
        assert self.child.stdout is not None
        *lines, self._rest = (self._rest + (self.child.stdout.read() or b"")).split(b"\n")
        return [line.decode() for line in lines]


class Loop:
    """An event loop with one client in it; `worker` is the process that runs now, `started` counts them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self.started = 0
        self.worker: Pipes | None = None
        self.client = Client(self._spawn, self._later)

    def _spawn(self, client: Client) -> Pipes:
        self._folder.mkdir(exist_ok=True)
        self.started += 1
        self.worker = Pipes(self._folder)
        return self.worker

    def _later(self, seconds: float, function: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._timers, (time.monotonic() + seconds, self._count, function))

    def turn(self) -> None:
        """One round: lines that came, a process that ended, timers that are due."""
        worker = self.worker
        if worker is not None and not worker.over:
            ended = worker.child.poll() is not None  # looked up first, so that its last lines are read
            for line in worker.lines():
                if not worker.over:
                    self.client.received(worker, line)
            if ended and not worker.over:
                worker.over = True
                self.client.ended(worker)
        while self._timers and self._timers[0][0] <= time.monotonic():
            heapq.heappop(self._timers)[2]()

    def until(self, condition: Callable[[], object], seconds: float = 60.0) -> None:
        """Turn until something holds, for so many seconds on the machine of the limits at most."""
        end = time.monotonic() + seconds * slowness()
        while not condition():
            assert time.monotonic() < end, "it took too long"
            self.turn()
            self._rest()

    def _rest(self) -> None:
        """Until there is something to do: a line, the worker's end, or a timer; conditions may look at the clock."""
        due = self._timers[0][0] - time.monotonic() if self._timers else _LOOK
        seconds = min(max(due, 0.0), _LOOK)
        worker = self.worker
        if worker is not None and not worker.over and sys.platform != "win32":  # whose select knows sockets alone
            select.select([worker.child.stdout], [], [], seconds)
        else:
            time.sleep(min(seconds, 0.01) if worker is not None and not worker.over else seconds)

    def ask(self, verb: str, arguments: dict[str, Any], lane: str = "main") -> tuple[Request, dict[str, list[Any]]]:
        """Request something; returns the request and what its callbacks were told."""
        told: dict[str, list[Any]] = {"progress": [], "prediction": [], "done": [], "failed": []}
        callbacks = {
            f"on_{name}": (lambda *a, name=name: told[name].append(a if len(a) > 1 else a[0])) for name in told
        }
        return self.client.request(verb, arguments, lane=lane, **callbacks), told
