"""Requests as JSON lines on standard input, events as JSON lines on standard output; one request at a time.

Requests: {"id", "verb", ...}, where the verb is "cancel", "leave", one of `Answers`, or one of `checks.VERBS` or
`concepts.VERBS`. Events: {"id", "event": "progress" | "prediction" | "done" | "failed" | "cancelled", ...}; a failure
has "sentence" and "kind" ("user", "trust", "memory", "bug"), that for want of trust also "what" would run, whose
"sha256" is given back as the request's "trust" by who agrees. When standard input closes, because Slicer was left or
has crashed, the process ends and takes its folder along; told to leave, it ends at once and leaves the folder, which
has the answers that are still wanted.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from ..errors import UserError
from ..file_names import read_as_utf8
from ..loading import loading
from .remaining import Stopwatch
from .writing import WRITING

Message = dict[str, Any]
_SPEAK = 0.1  # seconds between two events of progress


class Cancelled(Exception):
    """The request is not wanted any more."""


class NeedsTrust(Exception):
    """The model would run code of its own; the message is why it was refused."""

    def __init__(self, sentence: str, what: Message) -> None:
        super().__init__(sentence)
        self.what = what


def main() -> int:
    parser = argparse.ArgumentParser(prog="LRPExplainLib.worker")
    parser.add_argument("--folder", type=Path, required=True, help="for results; removed at the end")
    folder = parser.parse_args().folder
    read_as_utf8()
    events = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # what libraries print must not come between events
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder / "torch")  # which PyTorch would leave among temporary files
    sys.stdout = sys.stderr
    Server(folder, events).serve()
    return 0


class Server:
    """Reads requests on a thread of its own, so that a cancellation is heard while another thread computes."""

    def __init__(self, folder: Path, events: TextIO) -> None:
        self._folder, self._events = folder, events
        self._waiting: queue.Queue[Message] = queue.Queue()
        self._cancelled: set[int] = set()

    def serve(self) -> None:
        listener = threading.Thread(target=self._listen, daemon=True)
        listener.start()  # first: Slicer may be left during what follows
        with loading():
            from .answers import STAGES, Answers  # loads PyTorch: here, and not in Slicer
        self._answers, self._watch = Answers(), Stopwatch(STAGES, time.monotonic)
        try:
            self._handle(self._waiting.get())
            self._answers.get_ready()  # a model has been told of, and somebody looks at it
            while True:
                self._handle(self._waiting.get())
        except OSError:  # nobody hears the answers any more: the listener clears up and ends the process
            listener.join()

    def _listen(self) -> None:
        for line in sys.stdin.buffer:
            try:
                message = json.loads(line)
            except ValueError:
                print(f"not a request: {line!r}", file=sys.stderr)
                continue
            if message["verb"] == "leave":
                os._exit(0)
            if message["verb"] == "cancel":
                self._cancelled.add(message["id"])
            else:
                self._waiting.put(message)
        with WRITING:
            shutil.rmtree(self._folder, ignore_errors=True)
            os._exit(0)

    def _handle(self, message: Message) -> None:
        number = message["id"]
        progress = self._progress(number)
        try:
            progress("starting", 0.0)
            verb = self._verb(message["verb"])
            done = verb(message, progress, lambda said: self._tell(number, "prediction", said=said))
            self._watch.finish()
            progress("done", 1.0)
            self._tell(number, "done", **done)
        except Cancelled:
            self._tell(number, "cancelled")
        except NeedsTrust as refused:
            self._tell(number, "failed", sentence=str(refused), kind="trust", what=refused.what)
        except Exception as error:
            self._tell(number, "failed", sentence=_sentence(error), kind=_kind(error))
        self._cancelled.discard(number)

    def _verb(self, name: str) -> Callable[..., Message]:
        """What answers a request: (message, progress, predicted) -> the content of "done"."""
        own: dict[str, Callable[..., Message]] = {"describe": self._answers.describe, "explain": self._answers.explain}
        if name in own:
            return own[name]
        from . import checks, concepts  # when they are first needed: explaining does without

        verbs = checks.VERBS | concepts.VERBS
        if name not in verbs:
            raise UserError(f"The worker does not know the request '{name}': restart Slicer after an update.")
        return lambda message, progress, _predicted: verbs[name](message, progress)

    def _progress(self, number: int) -> Callable[[str, float], None]:
        """Tells how far it is, not more often than somebody can read, and ends what is not wanted any more."""
        self._watch.start()
        told, told_at, furthest = "", 0.0, 0.0

        def progress(stage: str, share: float) -> None:
            if number in self._cancelled:
                raise Cancelled
            nonlocal told, told_at, furthest
            now, name = time.monotonic(), stage.split(" ")[0]
            left = self._watch.left(name, share)
            share = furthest = max(share, furthest)  # a model that was loaded first does not set the bar back
            if name == told and now - told_at < _SPEAK:
                return
            told, told_at = name, now
            self._tell(number, "progress", stage=name, share=share, seconds_left=left)

        return progress

    def _tell(self, number: int, event: str, **content: Any) -> None:
        self._events.write(json.dumps({"id": number, "event": event, **content}) + "\n")
        self._events.flush()


def _sentence(error: Exception) -> str:
    from ..lrp import LRPError

    if isinstance(error, UserError | LRPError):
        return str(error)
    if isinstance(error, MemoryError):
        return "There is not enough memory for this volume: crop it, or use a device with more."
    traceback.print_exception(error)  # to standard error: Slicer's log has it
    return f"The computation failed ({type(error).__name__}: {error}): please report it with Slicer's log."


def _kind(error: Exception) -> str:
    from ..lrp import LRPError
    from ..memory import short_of_memory

    if short_of_memory(error) or (error.__cause__ is not None and short_of_memory(error.__cause__)):
        return "memory"
    return "user" if isinstance(error, UserError | LRPError) else "bug"
