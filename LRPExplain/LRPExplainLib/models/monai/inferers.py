"""A bundle's inferer, as the windows or slices of a card."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .config import Component

Axes = Sequence[str]
_AXES = ("i", "j", "k")


def read_inferer(component: Component | None, dimensions: int) -> dict[str, Any]:
    """The fields `window` and `slices` of a card's preprocessing, as far as they are needed.

    Args:
        component: None stands for MONAI's SimpleInferer.
        dimensions: spatial dimensions of the network.

    Raises:
        UserError: an inferer that cannot be translated.
    """
    fields: dict[str, Any] = {"slices": {"axis": "k"}} if dimensions == 2 else {}
    if component is None:
        return fields
    reader = INFERERS.get(component.name)
    if reader is None:
        raise component.complaint(
            f"asks for the inferer '{component.target}', which cannot be translated: write a card for this model."
        )
    with component.understood():
        return fields | reader(component, dimensions)


def _simple(component: Component, dimensions: int) -> dict[str, Any]:
    return {}


def _sliding(component: Component, dimensions: int) -> dict[str, Any]:
    size = component.get("roi_size")
    size = [int(n) for n in size] if isinstance(size, list) else [int(size)] * dimensions
    if len(size) != dimensions or min(size) < 1:
        raise component.complaint(f"has windows of size {size}, which cannot be translated: write a card.")
    padding = component.get("padding_mode", "constant")
    if padding not in _PADDING or component.get("cval", 0) or component.get("with_coord", False):
        raise component.complaint("pads or calls the network in a way that cannot be translated: write a card.")
    window = {
        "size": [*size, *[1] * (3 - dimensions)],
        "overlap": _alike(component, "overlap", 0.25),
        "placement": "monai",
        "blending": component.get("mode", "constant"),
        "sigma": _alike(component, "sigma_scale", 0.125),
        "padding": _PADDING[padding],
    }
    return {"window": window}


_PADDING: Mapping[str, str] = {"constant": "constant", "replicate": "replicate"}


def _slices(component: Component, dimensions: int) -> dict[str, Any]:
    """2D windows in every slice along an axis: windows of depth 1."""
    axis = int(component.get("spatial_dim", 0))
    window = _sliding(component, 2)["window"]
    size = window["size"][:2]
    size.insert(axis, 1)
    return {"slices": {"axis": _AXES[axis]}, "window": {**window, "size": size}}


def _alike(component: Component, argument: str, default: float) -> float:
    value = component.get(argument, default)
    values = set(value) if isinstance(value, list) else {value}
    if len(values) != 1:
        raise component.complaint(f"has another '{argument}' for each axis: write a card for this model.")
    return float(values.pop())


INFERERS: dict[str, Callable[[Component, int], dict[str, Any]]] = {
    "SimpleInferer": _simple,
    "SlidingWindowInferer": _sliding,
    "SlidingWindowInfererAdapt": _sliding,  # the same windows, stitched where there is memory
    "SliceInferer": _slices,
}
