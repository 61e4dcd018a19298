"""Relevance stays on its volume: under the same transform, also when that is changed or hardened later.

And what is observed for that, for `deleting`, `arriving` and `placing`.
"""

from __future__ import annotations

from typing import Any

from . import arriving, cache, deleting, display, explained, placing, record
from .host import slicer, vtk
from .nodes import has_grid_like
from .observing import observe


def watch(scene: Any) -> None:
    """From now on, what is made for the explanations in ``scene`` follows their volumes, and goes with their maps.

    And it is shown in views that come later.
    """
    observe(scene, scene.EndCloseEvent, _on_closed)
    observe(scene, scene.NodeAboutToBeRemovedEvent, deleting.on_about_to_be_removed)
    arriving.watch()
    placing.place(scene)
    for first in record.records(scene):
        for volume in record.sources(first):
            if volume is not None:
                observe(volume, slicer.vtkMRMLTransformableNode.TransformModifiedEvent, _on_moved)
        for node in record.linked(first, "relevance"):
            if node.GetDisplayNode() is not None:
                observe(node.GetDisplayNode(), vtk.vtkCommand.ModifiedEvent, display.follow_window)


def _on_closed(*_event: Any) -> None:
    cache.forget()


def _on_moved(volume: Any, *_event: Any) -> None:
    scene = volume.GetScene()
    if scene is None or scene.IsClosing() or scene.IsImporting():
        return
    for first in record.records(scene):
        if volume in record.sources(first):
            follow(first)


def follow(first: Any) -> None:
    """Put what was made for an explanation where its volumes are now."""
    volumes, maps = record.sources(first), record.linked(first, "relevance")
    if not volumes:
        return
    pairs = [*zip(volumes, maps, strict=True)]
    for role in ("prediction", "region", "hotSpots", "cleaned", "shell"):
        pairs += [(volumes[0], node) for node in record.linked(first, role)]
    present = [(volume, node) for volume, node in zip(volumes, maps, strict=True) if volume is not None]
    changes = {volume: _change(volume, node) for volume, node in present}
    hardened = {volume for volume, node in present if _was_hardened(volume, node)}
    for volume, node in pairs:
        if volume is None or node is None:
            continue
        if volume in hardened:
            node.HardenTransform()
            if node in maps:
                explained.remember(node, volume)
        elif changes[volume] is not None:
            node.ApplyTransformMatrix(changes[volume])
        if node.GetTransformNodeID() != volume.GetTransformNodeID():
            node.SetAndObserveTransformNodeID(volume.GetTransformNodeID())


def _change(volume: Any, node: Any) -> Any | None:
    """The 4x4 matrix that takes a map's own geometry to its volume's, in whose voxels a linear transform was hardened.

    None where they agree, or where the voxels are no longer those that were explained.
    """
    if volume.GetImageData() is None or volume.GetImageData().GetDimensions() != node.GetImageData().GetDimensions():
        return None
    if has_grid_like(volume, node):
        return None
    here, there = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(here)
    node.GetRASToIJKMatrix(there)
    vtk.vtkMatrix4x4.Multiply4x4(here, there, here)
    return here


def _was_hardened(volume: Any, node: Any) -> bool:
    """Whether a non-linear transform, under which the map still is, was hardened in its volume: voxels were made anew.

    A volume that was only taken out of the transform has the voxels that it had.
    """
    parent = node.GetParentTransformNode()
    if parent is None or parent.IsTransformToWorldLinear() or volume.GetParentTransformNode() is parent:
        return False
    return volume.GetImageData() is not None and not has_grid_like(volume, node)
