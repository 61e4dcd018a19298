"""Relevance in 3D views: volume rendering whose transfer function has the overlay's colours and threshold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from . import overlay, record
from .colors import arm_colors
from .host import in_slicer, slicer, vtk
from .looking import look

if TYPE_CHECKING:
    from .display import Display
    from .presented import PresentedNodes

# Opacity per 3 mm at the threshold and at the end of the window
OPACITY = (0.02, 0.30)
UNIT_MM = 3.0
_STOPS = 6
# Of the window, in which opacity begins: finer steps want larger textures than graphics cards may have.
_STEP = 0.005


def update(presented: PresentedNodes, shown: Any, display: Display, level: float, window: float) -> None:
    """Render ``shown`` (the map that the overlay shows) in 3D if the settings say so; made when it is first wanted."""
    first = presented.relevance[0]
    existing = [node for node in record.linked(first, "glow") if node is not None]
    current = next((node for node in existing if node.GetDisplayableNode() is shown), None)
    if display.volume_rendering and current is None:
        current = _add(presented, shown)
        record.link(first, "glow", [*existing, current])
    for node in existing:
        if node is not current or not display.volume_rendering:
            overlay.set_visible(first, node, False)
    if current is None or not display.volume_rendering:
        return
    _color(current.GetVolumePropertyNode(), display, level, window)
    overlay.set_visible(first, current, True)
    if not existing:
        look(presented.scene, again=True)


def _add(presented: PresentedNodes, shown: Any) -> Any:
    logic = _logic() if in_slicer() else None
    if logic is not None:  # the renderer that the user has chosen, by default on the graphics card
        display = logic.CreateDefaultVolumeRenderingNodes(shown)
        properties = display.GetVolumePropertyNode()
    else:
        scene = presented.scene
        properties = scene.AddNewNodeByClass("vtkMRMLVolumePropertyNode")
        display = scene.AddNewNodeByClass("vtkMRMLCPURayCastVolumeRenderingDisplayNode")
        display.SetAndObserveVolumePropertyNodeID(properties.GetID())
        display.SetVisibility(False)
        shown.AddAndObserveDisplayNodeID(display.GetID())
    properties.SetName("LRP relevance glow")
    record.mark(display, "glow")
    return display


def _logic() -> Any | None:
    module = getattr(slicer.modules, "volumerendering", None)
    return module.logic() if module is not None else None


def _color(properties: Any, display: Display, level: float, window: float) -> None:
    """Transparent up to the threshold, then in the colours of the overlay and denser with magnitude."""
    color, opacity = vtk.vtkColorTransferFunction(), vtk.vtkPiecewiseFunction()
    along = np.linspace(0, 1, _STOPS)
    start = max(level, window * 1e-3)
    magnitudes = start + along * max(window - start, window * 1e-3)
    for negative, name in ((True, "negative"), (False, "positive")):
        sign = -1 if negative else 1
        for magnitude, rgb in zip(magnitudes, arm_colors(display.color_map, negative, along), strict=True):
            color.AddRGBPoint(sign * magnitude, *rgb.tolist())
        seen = display.sign in ("both", name)
        opacity.AddPoint(sign * max(start - _STEP * window, 0.0), 0.0)
        opacity.AddPoint(sign * start, OPACITY[0] if seen else 0.0)
        opacity.AddPoint(sign * magnitudes[-1], OPACITY[1] if seen else 0.0)
    modifying = properties.StartModify()
    inner = properties.GetVolumeProperty()
    inner.SetColor(color)
    inner.SetScalarOpacity(opacity)
    inner.SetInterpolationTypeToLinear()
    inner.ShadeOff()
    inner.SetScalarOpacityUnitDistance(UNIT_MM)
    properties.EndModify(modifying)
