"""One subject hierarchy folder for each explanation, beside the volume that was explained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from . import record
from .host import slicer

_FOLDER = record.PREFIX + "Folder"


def put_in_folder(first: Any, nodes: Sequence[Any]) -> int:
    """Move ``nodes`` into the folder of the explanation whose first relevance map is ``first``; returns the folder.

    The folder is made if it is not there. Nodes that the user has moved elsewhere are not asked for again by callers.
    """
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(first.GetScene())
    if hierarchy is None:
        return 0
    folder = folder_of(first) or _make(hierarchy, first)
    for node in nodes:
        item = hierarchy.GetItemByDataNode(node)
        if item:
            hierarchy.SetItemParent(item, folder)
        else:  # Slicer's plugins have made one; slicer-core has none
            hierarchy.CreateItem(folder, node)
    return int(folder)


def folder_of(first: Any) -> int:
    """The item of the explanation's folder; 0 if there is none any more."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(first.GetScene())
    item = hierarchy.GetItemByDataNode(first) if hierarchy is not None else 0
    parent = hierarchy.GetItemParent(item) if item else 0
    return int(parent) if parent and hierarchy.HasItemAttribute(parent, _FOLDER) else 0


def rename_folder(first: Any, old: str, new: str) -> None:
    """Rename the folder, unless the user has given it another name."""
    folder = folder_of(first)
    if folder:
        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(first.GetScene())
        if hierarchy.GetItemName(folder) == old:
            hierarchy.SetItemName(folder, new)


def _make(hierarchy: Any, first: Any) -> int:
    volume = record.linked_one(first, "source")
    item = hierarchy.GetItemByDataNode(volume) if volume is not None else 0
    parent = hierarchy.GetItemParent(item) if item else hierarchy.GetSceneItemID()
    folder = hierarchy.CreateFolderItem(parent or hierarchy.GetSceneItemID(), first.GetName())
    hierarchy.SetItemAttribute(folder, _FOLDER, "1")
    return int(folder)


def remove_items(scene: Any, nodes: Sequence[Any]) -> None:
    """Remove the items of nodes that are about to be removed; in Slicer its plugins would do so."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    for node in nodes if hierarchy is not None else ():
        item = hierarchy.GetItemByDataNode(node)
        if item:
            hierarchy.RemoveItem(item, False, False)


def remove_empty(scene: Any, folder: int) -> None:
    """Remove a folder of ours in which nothing is left."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    if folder and hierarchy is not None and not hierarchy.GetNumberOfItemChildren(folder):
        hierarchy.RemoveItem(folder)
