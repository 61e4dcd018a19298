"""The layouts of `side_by_side`: Slicer's own, since a scene that is saved in one of them opens anywhere."""

from __future__ import annotations

from typing import Any

from . import record
from .host import singleton, slicer

LAYOUT = slicer.vtkMRMLLayoutNode.SlicerLayoutThreeOverThreeView
# The views of the upper row, and those below them
PAIRS = {"Red": "Red+", "Green": "Green+", "Yellow": "Yellow+"}
# Of a single slice, such as an X-ray, the other views show a line: one pair, left and right
SINGLE_LAYOUT = slicer.vtkMRMLLayoutNode.SlicerLayoutSideBySideView
SINGLE_PAIR = {"Red": "Yellow"}
_PAIRS = {LAYOUT: PAIRS, SINGLE_LAYOUT: SINGLE_PAIR}
# On the layout node: what was there before, for as long as the views stand side by side
BEFORE = record.PREFIX + "SideBySideBefore"


def layout_node(scene: Any) -> Any:
    """The scene's layout node; made if there is none, as outside Slicer."""
    return singleton(scene, "vtkMRMLLayoutNode", "vtkMRMLLayoutNode")


def entered(node: Any) -> int:
    """The layout that the views stand side by side in, by what the layout node remembers."""
    return int(record.read_json(node, BEFORE).get("entered", LAYOUT))


def pairs(scene: Any) -> dict[str, str]:
    """The views that stand side by side; none where people have chosen the same layout for something else."""
    node = scene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    if node is None or not node.GetAttribute(BEFORE) or node.GetViewArrangement() != entered(node):
        return {}
    return _PAIRS.get(node.GetViewArrangement(), {})


def active(scene: Any) -> bool:
    """Whether the views stand side by side."""
    return bool(pairs(scene))
