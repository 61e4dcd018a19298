"""In which views outlines and legends are drawn: not beside relevance, a legend only with relevance and to be read.

Where a user has chosen views for one of them it stays in these.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from . import overlay, record
from .host import in_slicer, vtk
from .layout import pairs
from .nodes import of_class
from .observing import observe

# Pixels. A legend is a share of its view: in narrower ones its numbers are a few pixels high, and over the anatomy.
_READABLE = 380
_narrow: dict[str, bool] = {}  # by the ID of a slice node
_waiting: set[str] = set()  # scenes, by their addresses, in which places are to be given soon
# On a display node: the IDs of the views that it was given here; others are its user's choice
_VIEWS = record.PREFIX + "Views"


def place(scene: Any) -> None:
    """Give outlines and legends of all explanations their views, now and whenever slice views change their width."""
    for node in of_class(scene, "vtkMRMLSliceNode"):
        observe(node, vtk.vtkCommand.ModifiedEvent, _on_slice)
        _narrow[node.GetID()] = _is_narrow(node)
    both = pairs(scene)
    above, below = _row(scene, both), _row(scene, both.values())
    in_3d = [node.GetID() for node in of_class(scene, "vtkMRMLViewNode")]
    other = overlay.beside(scene) if above else None
    slices = below or [node.GetID() for node in of_class(scene, "vtkMRMLSliceNode")]
    everywhere = below + in_3d if below else []
    for first in record.records(scene):
        lent = first.GetAttribute(record.SHOWN) == "0" and first is other
        overlay.lend_legend(first, lent)
        rendered = record.read_json(first, record.DISPLAY).get("volume_rendering")
        readable = _readable(scene, above if lent else slices + in_3d if rendered else slices)
        legend = overlay.legend_displays(first)
        for display in overlay.companion_displays(first):
            _put(display, readable if display in legend else everywhere)


def _put(display: Any, views: list[str]) -> None:
    """Draw it in these views, of an empty list in all, unless its user has chosen others."""
    now, given = set(display.GetViewNodeIDs() or ()), set((display.GetAttribute(_VIEWS) or "").split())
    if now <= given and now != set(views):  # less than what was given: a view has gone
        display.SetViewNodeIDs(views)
        display.SetAttribute(_VIEWS, " ".join(views) or None)


def _on_slice(node: Any, *_event: Any) -> None:
    """For every change of a slice node; only its width matters here."""
    narrow, scene = _is_narrow(node), node.GetScene()
    if scene is not None and _narrow.get(node.GetID()) != narrow:
        _place_soon(scene)


def _place_soon(scene: Any) -> None:
    """In Slicer once for all views that another layout gives another width."""
    if not in_slicer():
        place(scene)
        return
    from .process import later

    key = scene.GetAddressAsString("")

    def place_now() -> None:
        _waiting.discard(key)
        if not scene.IsClosing():
            place(scene)

    if key not in _waiting:
        _waiting.add(key)
        later(0, place_now)


def _row(scene: Any, names: Iterable[str]) -> list[str]:
    """The IDs of the slice views with these layout names."""
    nodes = (scene.GetSingletonNode(name, "vtkMRMLSliceNode") for name in names)
    return [node.GetID() for node in nodes if node is not None]


def _readable(scene: Any, views: list[str]) -> list[str]:
    """Of these views those that are wide enough; the first that is shown where none is. Empty: all that there are."""
    every = [node for kind in ("vtkMRMLSliceNode", "vtkMRMLViewNode") for node in of_class(scene, kind)]
    nodes = [node for node in every if node.GetID() in views]
    narrow = [node for node in nodes if _is_narrow(node)]
    if narrow and all(node in narrow for node in nodes if node.IsMappedInLayout()):
        narrow = narrow[1:]
    wide = [node.GetID() for node in nodes if node not in narrow]
    return [] if len(wide) == len(every) else wide


def _is_narrow(node: Any) -> bool:
    """Whether it is a slice view that the layout shows, and narrow. (3D nodes do not know their size.)"""
    return bool(node.IsA("vtkMRMLSliceNode") and node.IsMappedInLayout() and node.GetDimensions()[0] < _READABLE)
