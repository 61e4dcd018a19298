"""The worker as a QProcess of Slicer. No thread: Python threads starve while Slicer's event loop holds the lock."""

from __future__ import annotations

import shutil
import traceback
from collections.abc import Callable
from pathlib import Path

import qt
from slicer.i18n import tr as _

from ..worker.client import LEAVE, Client

LIBRARY = Path(__file__).resolve().parents[1]
_AT_ONCE = 3000  # ms that a process has to end


class SlicerProcess:
    """A worker that runs in Slicer's own Python; see `worker.client.Process`."""

    def __init__(self, client: Client, folder: Path) -> None:
        python = shutil.which("PythonSlicer")
        if python is None:
            raise OSError(_("PythonSlicer was not found on the path of this Slicer installation."))
        self._client, self._rest, self._over = client, b"", False
        self._process = qt.QProcess()
        self._process.setWorkingDirectory(str(LIBRARY.parent))  # where `-m` finds the library
        self._process.connect("readyReadStandardOutput()", self._read)
        self._process.connect("readyReadStandardError()", self._log)
        self._process.connect("finished(int,QProcess::ExitStatus)", self._finished)
        self._process.connect("errorOccurred(QProcess::ProcessError)", self._failed)
        self._process.start(python, ["-m", f"{LIBRARY.name}.worker", "--folder", str(folder)])
        if self._process.state() == qt.QProcess.NotRunning:  # some systems say so at once, before the client knows it
            self._over = True
            raise OSError(
                _("PythonSlicer could not be started ({reason}): check this Slicer installation.").format(
                    reason=self._process.errorString()
                )
            )

    def write(self, line: str) -> None:
        self._process.write(line.encode())

    def kill(self) -> None:
        self._over = True
        # PythonSlicer is Slicer's launcher, whose child does the work and would outlive it: both are told
        self.write(LEAVE)
        self._process.waitForBytesWritten(_AT_ONCE)
        self._process.kill()
        self._process.waitForFinished(_AT_ONCE)

    def close(self) -> None:
        self._over = True
        self._process.closeWriteChannel()
        if not self._process.waitForFinished(_AT_ONCE):
            self.kill()

    def _read(self) -> None:
        *lines, self._rest = (self._rest + self._process.readAllStandardOutput().data()).split(b"\n")
        for line in lines:
            if self._over:
                return
            try:
                self._client.received(self, line.decode())
            except Exception:  # of who is told, not of the line: those after it are told all the same
                traceback.print_exc()

    def _log(self) -> None:
        text = self._process.readAllStandardError().data().decode(errors="replace").rstrip()
        if text:
            print(text)  # Slicer's Python console and log

    def _finished(self, _code: int, _status: int) -> None:
        self._end()

    def _failed(self, _error: int) -> None:
        if self._process.state() == qt.QProcess.NotRunning:
            self._end()

    def _end(self) -> None:
        if not self._over:
            self._over = True
            self._client.ended(self)


def later(seconds: float, function: Callable[[], None]) -> None:
    """Call a function after a while, from the event loop."""
    qt.QTimer.singleShot(round(1000 * seconds), _Once(function))


class _Once:
    """Lets go of a function when it is called: PythonQt never lets go of what it called after a while (seen in Slicer
    5.13), and with a function of all that this knows, such as an answer and the map's node."""

    def __init__(self, function: Callable[[], None]) -> None:
        self._function: Callable[[], None] | None = function

    def __call__(self) -> None:
        function, self._function = self._function, None
        if function is not None:
            function()
