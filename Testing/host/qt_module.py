"""The modules `qt` and `ctk` of Slicer's Python, over PySide6."""

from __future__ import annotations

import enum
import inspect
import types
from typing import Any

from PySide6 import QtCore, QtGui, QtNetwork, QtSvg, QtWidgets

from . import pythonqt

_SOURCES = (QtCore, QtGui, QtWidgets, QtNetwork, QtSvg)
# Names that PySide6 has for Python and Qt does not; PythonQt knows none of them
_PYSIDE_ONLY = {"Signal", "SignalInstance", "Slot", "Property", "ClassProperty", "SIGNAL", "SLOT", "QtMsgType", "QEnum"}


class ValueClass:
    """A class of Qt that is no QObject: its instances are PySide6's own, its enumerators sit on the class."""

    def __init__(self, kind: type) -> None:
        self._kind = kind
        self.__name__ = kind.__name__

    def __call__(self, *arguments: Any) -> Any:
        return self._kind(*pythonqt.unwrap(arguments))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return pythonqt.class_attribute(self._kind, name)

    def __instancecheck__(self, value: Any) -> bool:
        return isinstance(value, self._kind)

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type, ...]:
        return (self._kind,)


class _Module(types.ModuleType):
    """Finds a class when it is first asked for, as there are a thousand of them."""

    _replacements: dict[str, Any]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in _PYSIDE_ONLY:
            raise AttributeError(f"module '{self.__name__}' has no attribute '{name}'")
        found = self._replacements.get(name)
        if found is None:
            found = next((getattr(source, name) for source in _SOURCES if hasattr(source, name)), None)
        if found is None or (inspect.isclass(found) and issubclass(found, enum.Enum)):
            raise AttributeError(f"module '{self.__name__}' has no attribute '{name}'")
        made = _as_python_sees_it(found)
        setattr(self, name, made)
        return made


def _as_python_sees_it(found: Any) -> Any:
    if not inspect.isclass(found):
        return found
    if issubclass(found, pythonqt.Wrapper):
        return found
    return pythonqt.class_for(found) if issubclass(found, QtCore.QObject) else ValueClass(found)


def qt_module(replacements: dict[str, Any]) -> types.ModuleType:
    """The module ``qt``; ``replacements`` stand for classes that the host keeps from blocking, such as QMessageBox."""
    result = _Module("qt")
    result._replacements = replacements
    return result


def ctk_module(widgets: dict[str, type]) -> types.ModuleType:
    """The module ``ctk`` with the stand-ins of this folder and nothing else."""
    result = types.ModuleType("ctk")
    for name, kind in widgets.items():
        setattr(result, name, pythonqt.class_for(kind))
    return result
