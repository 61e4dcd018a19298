"""A table or a plot in Slicer's own views, and back to the user's layout."""

from __future__ import annotations

from typing import Any

from . import record, side_by_side
from .host import slicer
from .layout import layout_node

_BEFORE = record.PREFIX + "LayoutBefore"
_TABLES = slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpTableView
_PLOTS = slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpPlotView


def show(node: Any) -> None:
    """Choose a layout that has a view for this table or chart node, and show it there."""
    scene = node.GetScene()
    side_by_side.leave(scene)  # which ends with its layout, and could not be come back to
    layout = layout_node(scene)
    with record.together(layout):
        if not shown(scene):
            layout.SetAttribute(_BEFORE, str(layout.GetViewArrangement()))
        layout.SetViewArrangement(_TABLES if node.IsA("vtkMRMLTableNode") else _PLOTS)
    selection = scene.GetFirstNodeByClass("vtkMRMLSelectionNode")
    logic = slicer.app.applicationLogic()
    if node.IsA("vtkMRMLTableNode"):
        selection.SetActiveTableID(node.GetID())
        logic.PropagateTableSelection()
    else:
        selection.SetActivePlotChartID(node.GetID())
        logic.PropagatePlotChartSelection()


def back(scene: Any) -> None:
    """The layout that the user had before, unless another one was chosen meanwhile."""
    layout, chosen = layout_node(scene), shown(scene)
    before = layout.GetAttribute(_BEFORE)
    layout.RemoveAttribute(_BEFORE)
    if chosen:
        layout.SetViewArrangement(int(before))


def shown(scene: Any) -> bool:
    """Whether the layout is one that `show` chose."""
    layout = layout_node(scene)
    return layout.GetAttribute(_BEFORE) is not None and layout.GetViewArrangement() in (_TABLES, _PLOTS)
