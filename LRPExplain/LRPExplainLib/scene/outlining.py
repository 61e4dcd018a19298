"""The reference as outlines while a map is shown: its fill would lie over the relevance, and look like it."""

from __future__ import annotations

from typing import Any

from . import record
from .nodes import of_class

# On a display node of a segmentation: whether it had outlines before its fill was taken away
_BEFORE = record.PREFIX + "OutlineBefore"


def outline(scene: Any, reference: Any | None) -> None:
    """Take the fill of this segmentation out of slice views, and give that of all others back; None: of all.

    A fill that its user brings back stays.
    """
    wanted: Any = reference.GetDisplayNode() if reference is not None else None
    for display in of_class(scene, "vtkMRMLSegmentationDisplayNode"):
        if display is wanted:
            take_fill(display)
        else:
            give_back(display)


def take_fill(display: Any) -> bool:
    """Outlines in place of the fill of a segmentation's display node, once; whether this was done now."""
    if display.GetAttribute(_BEFORE) is not None or not display.GetVisibility2DFill():
        return False
    display.SetAttribute(_BEFORE, str(int(display.GetVisibility2DOutline())))
    with record.together(display):
        display.SetVisibility2DFill(False)
        display.SetVisibility2DOutline(True)
    return True


def give_back(display: Any) -> None:
    """The fill that was taken, and the outlines that there were."""
    before = display.GetAttribute(_BEFORE)
    if before is not None:
        display.RemoveAttribute(_BEFORE)
        with record.together(display):
            display.SetVisibility2DFill(True)
            display.SetVisibility2DOutline(bool(int(before)))
