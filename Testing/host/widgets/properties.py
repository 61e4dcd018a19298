"""Properties of stand-in widgets: kept in the object, told to a hook when they change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from PySide6 import QtCore


def kept(kind: Any, name: str, default: Any, changed: Callable[[Any, Any], None] | None = None) -> Any:
    """A writable property; ``changed(widget, value)`` is called after a write that made a difference."""

    def read(self: Any) -> Any:
        return self.__dict__.get("_" + name, default)

    def write(self: Any, value: Any) -> None:
        value = list(value) if kind == "QStringList" else value
        if value != read(self):
            self.__dict__["_" + name] = value
            if changed:
                changed(self, value)

    return QtCore.Property(kind, read, write)


def derived(kind: Any, read: Callable[[Any], Any], write: Callable[[Any, Any], None] | None = None) -> Any:
    """A property that is computed."""
    return QtCore.Property(kind, read, write) if write else QtCore.Property(kind, read)
