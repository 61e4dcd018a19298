""" "At the crosshair": each new place of the crosshair, and each point that is placed, is a question."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import slicer
import vtk
from slicer.util import VTKObservationMixin

if TYPE_CHECKING:
    from .panel import Panel

Place = tuple[float, float, float]


class Live(VTKObservationMixin):
    """Tells the panel's run section where to ask, while its box is checked.

    The crosshair moves while Shift is held (Slicer's own manner); the mouse alone does not move it.
    """

    def __init__(self, ui: Any, panel: Panel) -> None:
        super().__init__()
        self._box = ui.crosshairCheckBox
        self._panel = panel
        self._last: Place | None = None
        self._box.connect("toggled(bool)", self._on_toggled)

    @property
    def on(self) -> bool:
        return bool(self._box.checked)

    def stop(self) -> None:
        self.removeObservers()
        self._box.checked = False

    def _on_toggled(self, on: bool) -> None:
        self.removeObservers()
        if not on:
            self._panel.run.forget_live()
            return
        crosshair = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
        if crosshair is not None:
            self._last = _place(crosshair)
            self.addObserver(crosshair, vtk.vtkCommand.ModifiedEvent, self._on_crosshair)
        for points in slicer.util.getNodesByClass("vtkMRMLMarkupsFiducialNode"):
            self._watch(points)
        self.addObserver(slicer.mrmlScene, slicer.vtkMRMLScene.NodeAddedEvent, self._on_node)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _on_node(self, _scene: Any, _event: str, node: Any) -> None:
        if node.IsA("vtkMRMLMarkupsFiducialNode"):
            self._watch(node)

    def _watch(self, points: Any) -> None:
        self.addObserver(points, slicer.vtkMRMLMarkupsNode.PointPositionDefinedEvent, self._on_point)

    def _on_crosshair(self, crosshair: Any, _event: str) -> None:
        place = _place(crosshair)
        if place != self._last:
            self._last = place
            self._panel.run.explain_at(place)

    @vtk.calldata_type(vtk.VTK_INT)
    def _on_point(self, points: Any, _event: str, number: int | None = None) -> None:
        """``number``: of the point, behind which others may wait for their places; None: of an event held back."""
        place = [0.0, 0.0, 0.0]
        points.GetNthControlPointPositionWorld(
            points.GetNumberOfControlPoints() - 1 if number is None else number, place
        )
        self._panel.run.explain_at((place[0], place[1], place[2]))


def _place(crosshair: Any) -> Place:
    x, y, z = crosshair.GetCrosshairRAS()
    return x, y, z
