"""Where 3D views look: at what is rendered for an explanation, if there is nothing else in them to look at."""

from __future__ import annotations

from typing import Any

from .host import in_slicer, slicer
from .nodes import of_class

_SEEN_IN_3D = ("Model", "Segmentation", "Markups", "VolumeRendering")
_DRAWN = 0.3  # seconds after which what was made visible is drawn, and counts for the views


def look_at(scene: Any, display: Any) -> None:
    """Centre all 3D views once on what this display node shows; where they show other things they stay."""
    if not in_slicer() or any(_is_seen(node) for node in _displays(scene) if node is not display):
        return
    from .process import later

    later(_DRAWN, _centre)


def _centre() -> None:
    manager = slicer.app.layoutManager()
    for n in range(manager.threeDViewCount if manager is not None else 0):
        view = manager.threeDWidget(n).threeDView()
        view.resetFocalPoint()
        view.resetCamera()


def _displays(scene: Any) -> list[Any]:
    return [node for name in _SEEN_IN_3D for node in of_class(scene, f"vtkMRML{name}DisplayNode")]


def _is_seen(display: Any) -> bool:
    """Whether it puts something into 3D views: a segmentation does so by its surfaces."""
    node = display.GetDisplayableNode()
    if node is None or not (display.GetVisibility() and display.GetVisibility3D()):
        return False
    if node.IsA("vtkMRMLSegmentationNode"):
        surface = slicer.vtkSegmentationConverter.GetClosedSurfaceRepresentationName()
        return bool(node.GetSegmentation().ContainsRepresentation(surface))
    bounds = [0.0] * 6
    node.GetRASBounds(bounds)
    return bounds[0] <= bounds[1]
