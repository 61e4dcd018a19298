"""Where 3D views look: at what is rendered for an explanation, if there is nothing else in them to look at."""

from __future__ import annotations

from typing import Any

from . import record
from .host import in_slicer, slicer
from .nodes import ROLE_ATTRIBUTE, of_class

_SEEN_IN_3D = ("Model", "Segmentation", "Markups", "VolumeRendering")
_OURS = ("glow", "shell")  # of the display nodes there
# On a view node: it has looked at an explanation, and from now on where its user wants it to
_LOOKED = record.PREFIX + "Looked"


def look(scene: Any, again: bool = False) -> None:
    """Centre 3D views on what is rendered for explanations, each once; where they show other things they stay.

    ``again``: also those that have looked at something else before.
    """
    shown = [node for node in _displays(scene) if _is_seen(node)]
    if not in_slicer() or not shown or any(node.GetAttribute(ROLE_ATTRIBUTE) not in _OURS for node in shown):
        return
    manager = slicer.app.layoutManager()
    for n in range(manager.threeDViewCount if manager is not None else 0):
        view = manager.threeDWidget(n).threeDView()
        node = view.mrmlViewNode()
        if again or not node.GetAttribute(_LOOKED):
            node.SetAttribute(_LOOKED, "1")
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
