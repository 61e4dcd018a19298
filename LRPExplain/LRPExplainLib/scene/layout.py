"""The layout of `side_by_side`, which Slicer has to know before it loads a scene that was saved in it."""

from __future__ import annotations

from typing import Any

from .host import singleton

LAYOUT = 7701  # above Slicer's own (below 1000) and those of its modules
PAIRS = {"Red": "LRPExplainRed", "Yellow": "LRPExplainYellow", "Green": "LRPExplainGreen"}
_COLORS = {"Red": "#F34A33", "Yellow": "#EDD54C", "Green": "#6EB04B"}


def description() -> str:
    """The layout in Slicer's XML: a row for each pair, image left, relevance right.

    It asks for no orientation: the left views keep theirs, and the right ones follow them.
    """

    def view(name: str, label: str, color: str) -> str:
        return (
            f'<item><view class="vtkMRMLSliceNode" singletontag="{name}">'
            f'<property name="viewlabel" action="default">{label}</property>'
            f'<property name="viewcolor" action="default">{color}</property></view></item>'
        )

    rows = "".join(
        '<item><layout type="horizontal">'
        + view(left, left[0], _COLORS[left])
        + view(right, f"{left[0]}+", _COLORS[left])
        + "</layout></item>"
        for left, right in PAIRS.items()
    )
    return f'<layout type="vertical">{rows}</layout>'


def layout_node(scene: Any) -> Any:
    """The scene's layout node; made if there is none, as outside Slicer."""
    return singleton(scene, "vtkMRMLLayoutNode", "vtkMRMLLayoutNode")


def register(scene: Any) -> Any:
    """Make the layout known, so that scenes saved in it can be shown; returns the layout node."""
    node = layout_node(scene)
    if not node.IsLayoutDescription(LAYOUT):
        node.AddLayoutDescription(LAYOUT, description())
    return node
