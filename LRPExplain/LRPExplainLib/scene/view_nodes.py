"""A slice view as two nodes, and what its user has set there as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from . import overlay
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
    node.SetFieldOfView(*state["field"])
    for layer in _LAYERS:
        volume, *opacity = state[layer]
        getattr(composite, f"Set{layer}VolumeID")(volume if volume in known else None)
        for number in opacity:
            getattr(composite, f"Set{layer}Opacity")(number)
    for each, before in zip((node, composite), modifying, strict=True):
        each.EndModify(before)
