"""Another layout gives a view another shape, and Slicer keeps only the height of what it shows: here nothing is cut."""

from __future__ import annotations

from typing import Any

from .host import vtk
from .view_nodes import ViewNodes


class Shown:
    """What a slice view shows of its background before another layout, for that view or one that stands in for it."""

    def __init__(self, view: ViewNodes) -> None:
        self._whole = view.node.GetFieldOfView()[:2]  # mm
        self._part = _part(view, *self._whole)
        self._height = 0.0

    def fit(self, node: Any) -> None:
        """Show all of it, as large as a view has room now."""
        wide, high, _deep = node.GetDimensions()
        if wide > 0 and high > 0:
            scale = max(self._part[0] / wide, self._part[1] / high)
            self._height = high * scale
            node.SetFieldOfView(wide * scale, self._height, node.GetFieldOfView()[2])

    def give_back(self, node: Any, own: Any) -> None:
        """Let the ``own`` view show what it showed before, but for what was zoomed meanwhile in that of ``node``."""
        if self._height:
            zoom = node.GetFieldOfView()[1] / self._height  # whatever Slicer makes of the width
            own.SetFieldOfView(*(zoom * length for length in self._whole), own.GetFieldOfView()[2])


def _part(view: ViewNodes, *whole: float) -> tuple[float, ...]:
    """Of what a view shows, without the margins around the image; its middle stays in the middle."""
    volume = view.composite.GetScene().GetNodeByID(view.composite.GetBackgroundVolumeID() or "")
    if volume is None or volume.GetImageData() is None:
        return whole
    to_slice, bounds = vtk.vtkMatrix4x4(), [0.0] * 6
    vtk.vtkMatrix4x4.Invert(view.node.GetSliceToRAS(), to_slice)
    volume.GetSliceBounds(bounds, to_slice)
    reach = [max(abs(bounds[2 * n + side] - view.node.GetXYZOrigin()[n]) for side in (0, 1)) for n in (0, 1)]
    return tuple(min(length, 2 * half) or length for length, half in zip(whole, reach, strict=True))
