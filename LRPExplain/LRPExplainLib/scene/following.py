"""Relevance stays on its volume: under the same transform, also when the volume is moved or a transform is hardened
later."""

from __future__ import annotations

from typing import Any

from . import record
from .host import slicer, vtk

_observed: dict[Any, tuple[Any, int]] = {}


def watch(scene: Any) -> None:
    """From now on, what is made for the explanations in ``scene`` follows their volumes."""
    for first in record.records(scene):
        for volume in record.sources(first):
            if volume is not None and volume not in _observed:
                event = slicer.vtkMRMLTransformableNode.TransformModifiedEvent
                _observed[volume] = (scene, volume.AddObserver(event, _on_moved))
    if scene not in _observed:
        _observed[scene] = (scene, scene.AddObserver(scene.NodeRemovedEvent, _on_removed))
        scene.AddObserver(scene.EndCloseEvent, _on_closed)


def _on_moved(volume: Any, *_event: Any) -> None:
    scene = volume.GetScene()
    if scene is None or scene.IsClosing():
        return
    for first in record.records(scene):
        if volume in record.sources(first):
            follow(first)


@vtk.calldata_type(vtk.VTK_OBJECT)
def _on_removed(_scene: Any, _event: Any, node: Any) -> None:
    if node in _observed:
        node.RemoveObserver(_observed.pop(node)[1])


def _on_closed(scene: Any, *_event: Any) -> None:
    for node, (its_scene, tag) in list(_observed.items()):
        if its_scene is scene and node is not scene:
            node.RemoveObserver(tag)
            del _observed[node]


def follow(first: Any) -> None:
    """Put what was made for an explanation where its volumes are now."""
    volumes, maps = record.sources(first), record.linked(first, "relevance")
    if not volumes:
        return
    pairs = [*zip(volumes, maps, strict=False)]
    for role in ("prediction", "region", "hotSpots", "cleaned"):
        pairs += [(volumes[0], node) for node in record.linked(first, role)]
    for volume, node in pairs:
        if volume is None or node is None:
            continue
        if node.IsA("vtkMRMLScalarVolumeNode") and _moved(volume, node):
            matrix = vtk.vtkMatrix4x4()  # a linear transform was hardened: the voxels are the same, elsewhere
            volume.GetIJKToRASMatrix(matrix)
            node.SetIJKToRASMatrix(matrix)
        if node.GetTransformNodeID() != volume.GetTransformNodeID():
            node.SetAndObserveTransformNodeID(volume.GetTransformNodeID())


def _moved(volume: Any, node: Any) -> bool:
    """Whether the volume's own geometry differs from its map's although the voxels are still those that were
    explained."""
    one, two = volume.GetImageData(), node.GetImageData()
    if one is None or two is None or one.GetDimensions() != two.GetDimensions():
        return False
    here, there = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(here)
    node.GetIJKToRASMatrix(there)
    return any(abs(here.GetElement(r, c) - there.GetElement(r, c)) > 1e-4 for r in range(4) for c in range(4))
