"""Views that come later, with another layout, show what the others show."""

from __future__ import annotations

from typing import Any

from . import looking, overlay, placing, record
from .host import in_slicer, slicer
from .nodes import announce_legend

_watched: Any = None  # the application's layout manager


def watch() -> None:
    """From now on; Slicer's layout manager says so when the views of a layout are there."""
    global _watched
    manager = slicer.app.layoutManager() if in_slicer() else None
    if manager is not None and manager != _watched:
        manager.connect("layoutChanged(int)", welcome)
        _watched = manager


def welcome(*_layout: Any) -> None:
    """Give the views that are new the overlay, the legends, and a look at what is rendered."""
    scene = slicer.mrmlScene
    if scene.IsImporting() or scene.IsClosing():
        return
    for first in record.records(scene):
        if first.GetAttribute(record.SHOWN) == "1":
            overlay.lay(scene, first)
        legend = record.linked_one(first, "legend")
        if legend is not None:
            announce_legend(scene, legend)
    placing.place(scene)
    looking.look(scene)
