"""Files dropped on a widget."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt


class DropFilter(qt.QObject):
    """Takes one local file or folder that is dropped on a widget and gives its path to ``take``."""

    def __init__(self, widget: Any, take: Callable[[str], None]) -> None:
        qt.QObject.__init__(self, widget)
        self._take = take
        widget.acceptDrops = True
        widget.installEventFilter(self)

    def eventFilter(self, watched: Any, event: Any) -> bool:
        """Qt's own name; True where the event ends here."""
        if event.type() not in (qt.QEvent.DragEnter, qt.QEvent.DragMove, qt.QEvent.Drop):
            return False
        paths = [url.toLocalFile() for url in event.mimeData().urls() if url.isLocalFile()]
        if len(paths) != 1:
            return False
        event.acceptProposedAction()
        if event.type() == qt.QEvent.Drop:
            self._take(paths[0])
        return True
