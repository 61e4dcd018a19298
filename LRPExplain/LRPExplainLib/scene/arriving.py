"""Views that come later, with another layout, show what the others show."""

from __future__ import annotations

from typing import Any

from . import overlay, record
from .host import in_slicer
from .nodes import announce_legend

# Seconds after which the views of a new layout are there, and draw a legend that is added.
_MADE = 0.3


def on_layout(layout: Any, *_event: Any) -> None:
    """For the layout node's ModifiedEvent."""
    scene = layout.GetScene()
    if scene is not None:
        welcome(scene)


def welcome(scene: Any) -> None:
    """Give the views that are new the overlay and the legends, once they are there."""

    def bring() -> None:
        if scene.IsImporting() or scene.IsClosing():
            return
        for first in record.records(scene):
            if first.GetAttribute(record.SHOWN) == "1":
                overlay.lay(scene, first)
            legend = record.linked_one(first, "legend")
            if legend is not None:
                announce_legend(scene, legend)

    if in_slicer():
        from .process import later

        later(_MADE, bring)
