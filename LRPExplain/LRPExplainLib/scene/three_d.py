"""The explanation in 3D: relevance as a glow in a shell of the anatomy, and the prediction as a surface."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from . import display

if TYPE_CHECKING:
    from .presented import PresentedNodes

SURFACE_OPACITY = 0.2


def show_in_3d(presented: PresentedNodes) -> None:
    """Show relevance, prediction and a shell of the anatomy in the scene's 3D views; again has no further effect."""
    display.apply(presented, replace(display.read(presented), volume_rendering=True))
    if presented.segmentation is not None:
        _show_target_surface(presented.segmentation, presented.target)


def _show_target_surface(segmentation: Any, target: str) -> None:
    """Only the class that was explained: the surfaces of the others would hide it."""
    segmentation.CreateClosedSurfaceRepresentation()
    shown = segmentation.GetDisplayNode()
    shown.SetOpacity3D(SURFACE_OPACITY)
    for segment_id in segmentation.GetSegmentation().GetSegmentIDs():
        name = segmentation.GetSegmentation().GetSegment(segment_id).GetName()
        shown.SetSegmentVisibility3D(segment_id, name == target)
