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
        before = display.GetAttribute(_BEFORE)
        if display is wanted:
            if before is None and display.GetVisibility2DFill():
                display.SetAttribute(_BEFORE, str(int(display.GetVisibility2DOutline())))
                display.SetVisibility2DFill(False)
                display.SetVisibility2DOutline(True)
        elif before is not None:
            display.RemoveAttribute(_BEFORE)
            display.SetVisibility2DFill(True)
            display.SetVisibility2DOutline(bool(int(before)))


def outlined(display: Any) -> bool:
    """Whether `outline` has taken the fill of this display node of a segmentation away."""
    return display.GetAttribute(_BEFORE) is not None
