"""The relevance overlay in slice views: an additional layer above the layers that belong to the user."""

from __future__ import annotations

from typing import Any

from .host import slicer
from .nodes import by_role

# In slice views this is the overlay's only softness: alpha there is on or off (see colors.TRANSPARENT_BAND).
OPACITY = 0.5
OPACITY_ATTRIBUTE = "LRPExplain.OverlayOpacity"


def _composites(scene: Any) -> list[Any]:
    nodes = scene.GetNodesByClass("vtkMRMLSliceCompositeNode")
    nodes.UnRegister(None)
    return [nodes.GetItemAsObject(n) for n in range(nodes.GetNumberOfItems())]


def _overlay_layer(composite: Any, ours: set[str]) -> int:
    """The additional layer that shows a relevance map already or shows nothing; else the next new one."""
    first = slicer.vtkMRMLSliceCompositeNode.Layer_Last
    count = composite.GetNumberOfAdditionalLayers()
    free = (first + n for n in range(count) if (composite.GetNthLayerVolumeID(first + n) or "") in ours | {""})
    return next(free, first + count)


def show(scene: Any, background: Any, relevance: Any, opacity: float = OPACITY) -> None:
    """Show ``relevance`` in every slice view, in place of an earlier relevance map.

    Background, foreground and label stay as the user has them; only where a view has no background yet does it get
    the volume that was explained, since relevance without anatomy says nothing.
    """
    relevance.SetAttribute(OPACITY_ATTRIBUTE, repr(opacity))
    ours = {node.GetID() for node in by_role(scene, "relevance")}
    for composite in _composites(scene):
        if not composite.GetBackgroundVolumeID():
            composite.SetBackgroundVolumeID(background.GetID())
        layer = _overlay_layer(composite, ours)
        composite.SetNthLayerVolumeID(layer, relevance.GetID())
        composite.SetNthLayerOpacity(layer, opacity)


def restore(scene: Any) -> None:
    """Give the overlays of a scene that was just loaded their opacity back.

    Slicer writes which volume an additional layer shows, but not its opacity (vtkMRMLSliceCompositeNode::WriteXML,
    5.13): after loading, the overlay would hide the anatomy. The relevance node remembers it.
    """
    opacities = {node.GetID(): node.GetAttribute(OPACITY_ATTRIBUTE) for node in by_role(scene, "relevance")}
    first = slicer.vtkMRMLSliceCompositeNode.Layer_Last
    for composite in _composites(scene):
        for layer in range(first, first + composite.GetNumberOfAdditionalLayers()):
            remembered = opacities.get(composite.GetNthLayerVolumeID(layer))
            if remembered:
                composite.SetNthLayerOpacity(layer, float(remembered))
