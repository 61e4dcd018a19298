"""Small stand-ins for what Slicer's Python has and slicer-core lacks, with PythonQt's manners; no product logic.

`QProcess` really runs the program, at once and to its end, and then tells who is connected.
"""

import subprocess
import types
from collections.abc import Callable
from typing import Any


class ByteArray:
    """As QByteArray in PythonQt: `data()` gives bytes."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def data(self) -> bytes:
        return self._content


class QProcess:
    """The part of QProcess that the module uses; signals are connected by signature."""

    UnknownError, FailedToStart = 5, 0

    def __init__(self) -> None:
        self.arguments: list[str] = []
        self._slots: dict[str, Callable[..., None]] = {}
        self._folder: str | None = None
        self._result = subprocess.CompletedProcess[bytes]([], 0, b"", b"")
        self._error = self.UnknownError

    def connect(self, signature: str, slot: Callable[..., None]) -> None:
        assert signature in ("finished(int,QProcess::ExitStatus)", "errorOccurred(QProcess::ProcessError)")
        self._slots[signature] = slot

    def setWorkingDirectory(self, folder: str) -> None:
        self._folder = folder

    def start(self, program: str, arguments: list[str]) -> None:
        self.arguments = arguments
        try:
            self._result = subprocess.run([program, *arguments], cwd=self._folder, capture_output=True, check=False)
        except OSError:
            self._error = self.FailedToStart
            self._slots["errorOccurred(QProcess::ProcessError)"](self._error)
        else:
            self._slots["finished(int,QProcess::ExitStatus)"](self._result.returncode, 0)

    def error(self) -> int:
        return self._error

    def exitCode(self) -> int:
        return self._result.returncode

    def readAllStandardError(self) -> ByteArray:
        return ByteArray(self._result.stderr)

    def kill(self) -> None:
        self._slots.clear()

    def waitForFinished(self, milliseconds: int) -> bool:
        return milliseconds > 0


class Base:
    """Base class of module, widget, logic and test: keeps what it is given."""

    def __init__(self, parent: Any = None) -> None:
        self.parent = parent or types.SimpleNamespace()


class Choice:
    def __init__(self, choices: list[str]) -> None:
        self.choices = choices


def modules() -> dict[str, types.ModuleType]:
    """The modules by name, to be put into `sys.modules` while the module file is imported."""

    def module(name: str, **content: Any) -> types.ModuleType:
        result = types.ModuleType(name)
        vars(result).update(content)
        return result

    names = ("ScriptedLoadableModule", "ScriptedLoadableModuleWidget", "ScriptedLoadableModuleLogic",
             "ScriptedLoadableModuleTest")  # fmt: skip
    return {
        "qt": module("qt", QProcess=QProcess),
        "slicer.i18n": module("slicer.i18n", tr=str, translate=lambda context, text: text),
        "slicer.parameterNodeWrapper": module(
            "slicer.parameterNodeWrapper", parameterNodeWrapper=lambda kind: kind, Choice=Choice
        ),
        "slicer.ScriptedLoadableModule": module(
            "slicer.ScriptedLoadableModule", **{name: type(name, (Base,), {}) for name in names}
        ),
    }
