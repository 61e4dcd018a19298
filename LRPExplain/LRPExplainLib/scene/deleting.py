"""When its user deletes a map, what only served to show it goes too: legend, colour tables, outline of the region.

So do the maps that are parts of it (see `parts`). Results stay, as nodes of their own: prediction, hot spots, tables
and charts. A volume that goes leaves its place in the views empty.
"""

from __future__ import annotations

from typing import Any

from . import answers, hierarchy, overlay, record
from .host import in_slicer, vtk
from .nodes import ROLE_ATTRIBUTE, remove_nodes, serving

_RESULTS = ("prediction", "hotSpots", "table", "chart", "series")


@vtk.calldata_type(vtk.VTK_OBJECT)
def on_about_to_be_removed(scene: Any, _event: str, node: Any) -> None:
    """For the scene's NodeAboutToBeRemovedEvent."""
    if scene is None:  # it goes itself
        return
    if scene.IsClosing() or scene.IsImporting() or scene.IsUndoing() or scene.IsRedoing() or scene.IsRestoring():
        return
    if node.IsA("vtkMRMLVolumeNode"):  # Slicer's selectors would go to the volume before it, which may be a map
        overlay.leave_empty(scene, node)
    if node.GetAttribute(ROLE_ATTRIBUTE) != "relevance" or record.record_of(node) is not node:
        return
    if scene.GetUndoFlag() and node.GetUndoEnabled():  # it may come back, and then wants them
        return
    answers.keep(node, None)  # which may be many megabytes, for checks of this map alone
    if len(record.linked(node, "relevance")) > 1:  # the other inputs' maps are shown in the same colours
        return
    kept = {each for role in _RESULTS for each in record.linked(node, role)}
    going = [each for each in record.every_node(node) if each is not node and each not in kept]
    going += serving(node)
    folder = hierarchy.folder_of(node)

    def remove() -> None:
        hierarchy.remove_items(scene, [each for each in (node, *going) if each.GetScene() is scene])
        remove_nodes(scene, [each for each in reversed(going) if each.GetScene() is scene])
        hierarchy.remove_empty(scene, folder)

    if in_slicer():  # whoever removes it may be going through the scene, or through a folder of the Data module
        from .process import later

        later(0, remove)
    else:
        remove()
