"""Observations of VTK objects that end with the widget that made them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import shiboken6
import vtk
from PySide6 import QtCore


class Observations:
    """The observers of one widget."""

    def __init__(self, owner: QtCore.QObject) -> None:
        self._owner = owner
        self._made: list[tuple[Any, int]] = []
        owner.destroyed.connect(lambda *_: self.clear())

    def add(self, caller: Any, event: Any, function: Callable[[Any], None], with_node: bool = False) -> None:
        """Call ``function(node that comes with the event, or None)`` while the widget lives."""
        if caller is None:
            return

        def call(_caller: Any, _event: str, data: Any = None) -> None:
            if shiboken6.isValid(self._owner):
                function(data)

        if with_node:
            call.CallDataType = vtk.VTK_OBJECT  # type: ignore[attr-defined]
        self._made.append((caller, caller.AddObserver(event, call)))

    def clear(self) -> None:
        made, self._made = self._made, []
        for caller, tag in made:
            caller.RemoveObserver(tag)
