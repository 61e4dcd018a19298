"""The layout of `side_by_side`: Slicer's own "three over three", since a scene that is saved in it opens anywhere."""

from __future__ import annotations

from typing import Any

from . import record
from .host import singleton, slicer

LAYOUT = slicer.vtkMRMLLayoutNode.SlicerLayoutThreeOverThreeView
# The views of the upper row, and those below them
PAIRS = {"Red": "Red+", "Green": "Green+", "Yellow": "Yellow+"}
# On the layout node: what was there before, for as long as the views stand side by side
BEFORE = record.PREFIX + "SideBySideBefore"


def layout_node(scene: Any) -> Any:
    """The scene's layout node; made if there is none, as outside Slicer."""
    return singleton(scene, "vtkMRMLLayoutNode", "vtkMRMLLayoutNode")


def active(scene: Any) -> bool:
    """Whether the views stand side by side; people may choose the same layout for something else."""
    node = scene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    return node is not None and node.GetViewArrangement() == LAYOUT and bool(node.GetAttribute(BEFORE))
