"""A slice view as two nodes, and what its user has set there as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from . import overlay
from .geometry import matrix_of
from .host import SLICE_VIEWS
from .nodes import of_class

_LAYERS = ("Background", "Foreground", "Label")


@dataclass(frozen=True)
class ViewNodes:
    """Of one slice view: its slice node and its composite node."""

    name: str
    node: Any
    composite: Any


def find(scene: Any, name: str) -> ViewNodes | None:
    """The nodes of the slice view of a layout name; None where no layout with it was ever shown."""
    node = scene.GetSingletonNode(name, "vtkMRMLSliceNode")
    composite = next((each for each in overlay.composites(scene) if each.GetLayoutName() == name), None)
    return ViewNodes(name, node, composite) if node is not None and composite is not None else None


def cutting(volume: Any) -> dict[str, str]:
    """The slice views, as Slicer orients them, that show more than a line of a volume, and their orientations."""
    thin = [axis for axis, n in enumerate(volume.GetImageData().GetDimensions()) if n == 1]
    if len(thin) != 1:
        return SLICE_VIEWS
    across = int(np.argmax(np.abs(matrix_of(volume, world=True)[:3, thin[0]])))
    wanted = ("Sagittal", "Coronal", "Axial")[across]
    return {name: orientation for name, orientation in SLICE_VIEWS.items() if orientation == wanted}


def state_of(view: ViewNodes) -> dict[str, Any]:
    """Plane, zoom and layers (without the overlay's)."""
    node, composite = view.node, view.composite
    return {
        "plane": [node.GetSliceToRAS().GetElement(row, column) for row in range(4) for column in range(4)],
        "origin": list(node.GetXYZOrigin()),
        "field": list(node.GetFieldOfView()),
        "Background": [composite.GetBackgroundVolumeID()],
        "Foreground": [composite.GetForegroundVolumeID(), composite.GetForegroundOpacity()],
        "Label": [composite.GetLabelVolumeID(), composite.GetLabelOpacity()],
    }


def bring_back(view: ViewNodes, state: dict[str, Any]) -> None:
    """What `state_of` said; volumes that have gone meanwhile stay away."""
    node, composite = view.node, view.composite
    known = {each.GetID() for each in of_class(composite.GetScene(), "vtkMRMLVolumeNode")}
    modifying = node.StartModify(), composite.StartModify()
    node.GetSliceToRAS().DeepCopy(state["plane"])
    node.UpdateMatrices()
    node.SetXYZOrigin(state["origin"])
    node.SetFieldOfView(*state["field"])  # its height stays when Slicer gives the view another size
    for layer in _LAYERS:
        volume, *opacity = state[layer]
        getattr(composite, f"Set{layer}VolumeID")(volume if volume in known else None)
        for number in opacity:
            getattr(composite, f"Set{layer}Opacity")(number)
    for each, before in zip((node, composite), modifying, strict=True):
        each.EndModify(before)
