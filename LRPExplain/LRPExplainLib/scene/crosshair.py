"""What lies under the crosshair, followed as the mouse moves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..findings.examination import Readout
from .geometry import matrix_of, to_local
from .host import singleton, slicer, vtk
from .nodes import of_class

if TYPE_CHECKING:
    from .examination import SceneFindings

_ENOUGH = 50_000  # places of a map that are looked at


def readout(findings: SceneFindings, ras: Sequence[float]) -> Readout | None:
    """What is at a point of the world (RAS, mm); None outside the volume. Parent transforms of any kind are
    followed."""
    relevance = findings.node
    local = type(findings.field)(findings.field.values, matrix_of(relevance))
    index = local.index(to_local(relevance, ras))
    return findings.at(index) if index is not None else None


def crosshair_node(scene: Any) -> Any:
    """The scene's crosshair; made if there is none, as outside Slicer."""
    return singleton(scene, "vtkMRMLCrosshairNode", "default")


def cursor(scene: Any) -> tuple[float, float, float] | None:
    """Where the mouse is in a slice view (RAS, mm); None where it is in none."""
    ras = [0.0, 0.0, 0.0]
    return (ras[0], ras[1], ras[2]) if crosshair_node(scene).GetCursorPositionRAS(ras) else None


def view_under(scene: Any) -> Any | None:
    """The slice node of the view that the mouse is over."""
    return crosshair_node(scene).GetCursorPositionXYZ([0.0, 0.0, 0.0])


class Follower:
    """Calls ``on_move`` with the cursor's RAS (None outside all views) whenever it moves, until `stop`."""

    def __init__(self, scene: Any, on_move: Callable[[tuple[float, float, float] | None], None]) -> None:
        self._scene, self._on_move = scene, on_move
        self._node = crosshair_node(scene)
        event = slicer.vtkMRMLCrosshairNode.CursorPositionModifiedEvent
        self._tag = self._node.AddObserver(event, self._moved)

    def _moved(self, *_event: Any) -> None:
        self._on_move(cursor(self._scene))

    def stop(self) -> None:
        """No more calls."""
        if self._tag is not None:
            self._node.RemoveObserver(self._tag)
            self._tag = None


def jump(scene: Any, ras: Sequence[float]) -> None:
    """Let all slice views show a place (RAS, mm), as a click on a hot spot does, and put the crosshair there."""
    for node in of_class(scene, "vtkMRMLSliceNode"):
        node.JumpSliceByOffsetting(*ras)
    crosshair_node(scene).SetCrosshairRAS(*ras)


def in_view(relevance: Any, level: float) -> bool:
    """Whether a slice view cuts what of a map is at least at this level of relevance."""
    values = slicer.util.arrayFromVolume(relevance)
    found = np.flatnonzero(np.abs(values) >= level)
    found = found[:: max(1, len(found) // _ENOUGH)]
    k, j, i = np.unravel_index(found, values.shape)
    places = matrix_of(relevance, world=True) @ np.stack([i, j, k, np.ones_like(i)])
    reach = max(relevance.GetSpacing()) / 2
    for node in of_class(relevance.GetScene(), "vtkMRMLSliceNode"):
        to_slice = vtk.vtkMatrix4x4()
        vtk.vtkMatrix4x4.Invert(node.GetSliceToRAS(), to_slice)
        normal = np.array([to_slice.GetElement(2, column) for column in range(4)])
        if (np.abs(normal @ places) <= reach).any():
            return True
    return False
