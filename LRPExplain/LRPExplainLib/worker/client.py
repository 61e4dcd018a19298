"""The other end of the worker's pipes: requests, and what comes of them. Standard library alone, no Qt.

The process itself comes from outside, so that Slicer can use QProcess and tests something else.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Protocol

from ..sentences import Sentences

_ = Sentences("worker.client")
Message = dict[str, Any]
MAIN, CROSSHAIR = "main", "crosshair"
LEAVE = json.dumps({"id": 0, "verb": "leave"}) + "\n"
PATIENCE = 0.7  # seconds that a cancelled request has to end by itself
CRASHED = _(
    "The computation ended without saying why: it may have run out of memory. Try again, or with a smaller volume."
)

REPLACED = _("Another request has taken the place of this one: start it again when that one is done.")


class Process(Protocol):
    """A running worker: JSON lines go in, and its end is told by `Client.ended`."""

    def write(self, line: str) -> None: ...

    def kill(self) -> None:
        """End it now, its folder stays; nothing is told about it any more."""

    def close(self) -> None:
        """Let it end by itself, and wait for that."""


class Request:
    """One question to the worker. After `cancel` none of its callbacks is called."""

    def __init__(self, client: Client, verb: str, arguments: Message, lane: str, callbacks: dict[str, Any]) -> None:
        self._client, self._callbacks = client, callbacks
        self.verb, self.arguments, self.lane = verb, arguments, lane
        self.number = 0

    def cancel(self) -> None:
        self._callbacks = {}
        self._client.drop(self)

    def give_way(self) -> None:
        """Another takes its place: as `cancel`, but in the main lane whoever waits for it is told."""
        callbacks = self._callbacks
        self.cancel()
        if self.lane == MAIN and "on_failed" in callbacks:
            callbacks["on_failed"]({"sentence": REPLACED, "kind": "replaced"})

    def tell(self, name: str, *content: Any) -> None:
        """Call a callback, if there is one and the request is still wanted."""
        callback = self._callbacks.get(name)
        if callback is not None:
            callback(*content)


class Client:
    """Starts the worker when it is first needed, and again after it has ended; one request runs at a time.

    Args:
        spawn: starts a worker; it calls the client's `received` with each line and `ended` when the process is gone.
        later: calls a function after so many seconds.
    """

    def __init__(self, spawn: Callable[[Client], Process], later: Callable[[float, Callable[[], None]], None]) -> None:
        self._spawn, self._later = spawn, later
        self._process: Process | None = None
        self._running: Request | None = None
        self._waiting: list[Request] = []
        self._count = 0

    def request(self, verb: str, arguments: Message, lane: str = MAIN, **callbacks: Any) -> Request:
        """Ask; ``callbacks``: on_progress(stage, share, seconds_left), on_prediction(said), on_done(event),
        on_failed(event).

        In a lane only the newest of the waiting requests counts; what runs is finished, so that the crosshair's lane,
        fed by the mouse, shows something all the time. It gives way to the main lane, where the newest counts alone:
        one whose place it takes has failed.
        """
        new = Request(self, verb, arguments, lane, callbacks)
        gone = {MAIN, CROSSHAIR} if lane == MAIN else {lane}
        replaced = [old for old in self._waiting if old.lane in gone]
        if self._running is not None and lane == MAIN and self._running.lane in gone:
            replaced.append(self._running)
        self._waiting = [*(old for old in self._waiting if old not in replaced), new]
        self._next()
        for old in replaced:
            old.give_way()
        return new

    @property
    def idle(self) -> bool:
        """Nothing runs and nothing waits."""
        return self._running is None and not self._waiting

    def drop(self, request: Request) -> None:
        """A request is not wanted any more."""
        if request in self._waiting:
            self._waiting.remove(request)
        if request is not self._running or self._process is None:
            return
        self._process.write(json.dumps({"id": request.number, "verb": "cancel"}) + "\n")

        def insist() -> None:
            if self._running is request:
                self._end(kill=True)
                self._next()

        self._later(PATIENCE, insist)

    def received(self, process: Process, line: str) -> None:
        """A line of the worker."""
        if process is not self._process or self._running is None:
            return
        event = json.loads(line)
        request = self._running
        if event["id"] != request.number:
            return
        kind = event["event"]
        if kind == "progress":
            request.tell("on_progress", event["stage"], event["share"], event["seconds_left"])
        elif kind == "prediction":
            request.tell("on_prediction", event["said"])
        else:
            self._running = None
            try:
                if kind != "cancelled":
                    request.tell(f"on_{kind}", event)
            finally:
                self._next()

    def ended(self, process: Process) -> None:
        """The worker is gone, and nobody had asked it to go."""
        if process is not self._process:
            return
        self._process = None
        self._fail({"sentence": CRASHED, "kind": "crash"})

    def close(self) -> None:
        """No process any more, and nothing that waits; the client can be used again."""
        gone = [old for old in (*self._waiting, self._running) if old is not None]
        self._waiting = []
        self._end(kill=self._running is not None)
        for old in gone:
            old.give_way()

    def _end(self, kill: bool) -> None:
        process, self._process, self._running = self._process, None, None
        if process is not None:
            process.kill() if kill else process.close()

    def _fail(self, event: Message) -> None:
        """What runs has failed; the next request is served whatever its callback does."""
        request, self._running = self._running, None
        try:
            if request is not None:
                request.tell("on_failed", event)
        finally:
            self._next()

    def _next(self) -> None:
        if self._running is not None or not self._waiting:
            return
        request = self._running = self._waiting.pop(0)
        self._count += 1
        request.number = self._count
        if self._process is None:
            try:
                self._process = self._spawn(self)
            except OSError as error:
                self._fail({"sentence": str(error), "kind": "user"})
                return
        message = {"id": request.number, "verb": request.verb, **request.arguments}
        self._process.write(json.dumps(message) + "\n")
