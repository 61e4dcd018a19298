"""The relevance overlay: one more layer in slice views above those of the user, and what comes and goes with it."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from . import record
from .host import slicer
from .nodes import by_role, of_class

if TYPE_CHECKING:
    from .presented import PresentedNodes

# In slice views this is the overlay's only softness: alpha there is on or off (see colors).
OPACITY = 0.5
OPACITY_ATTRIBUTE = record.PREFIX + "OverlayOpacity"
# On a slice composite node: it stays without overlay (the upper row of "side by side")
PLAIN = record.PREFIX + "Plain"
# On a slice composite node: the background that it was given, for want of one
_GIVEN = record.PREFIX + "GivenBackground"
# On a display node: whether it was visible before the overlay was switched off
_BEFORE = record.PREFIX + "VisibleBefore"
# Nodes that come and go with the overlay; legend, shell, glow and hot spots as the display settings say
_COMPANIONS = ("prediction", "region", "shared", "legend", "shell", "hotSpots")


def composites(scene: Any) -> list[Any]:
    """The scene's slice composite nodes."""
    return of_class(scene, "vtkMRMLSliceCompositeNode")


def _ours(scene: Any) -> set[str]:
    maps = [*by_role(scene, "relevance"), *by_role(scene, "cleaned")]
    return {node.GetID() for node in maps}


def _additional(composite: Any) -> range:
    """The numbers of its additional layers."""
    first = slicer.vtkMRMLSliceCompositeNode.Layer_Last
    return range(first, first + composite.GetNumberOfAdditionalLayers())


def layers(scene: Any, ids: set[str]) -> list[tuple[Any, int]]:
    """Composite node and layer number of every additional layer that shows one of these volumes."""
    every = ((composite, layer) for composite in composites(scene) for layer in _additional(composite))
    return [(composite, layer) for composite, layer in every if composite.GetNthLayerVolumeID(layer) in ids]


def _overlay_layer(composite: Any, ours: set[str]) -> int:
    """The additional layer that shows a relevance map already or shows nothing; else the next new one."""
    numbers = _additional(composite)
    free = (layer for layer in numbers if (composite.GetNthLayerVolumeID(layer) or "") in ours | {""})
    return next(free, numbers.stop)


def _chosen_map(first: Any) -> Any:
    """Of the relevance maps of an explanation the one that is looked at."""
    return record.linked_one(first, "chosen") or first


def displayed_map(first: Any) -> Any:
    """The volume node that the overlay shows: the chosen relevance map, or the one without its small regions."""
    cleaned = record.linked_one(first, "cleaned")
    return cleaned if cleaned is not None and cleaned.GetAttribute(record.PREFIX + "Used") else _chosen_map(first)


def show(presented: PresentedNodes) -> None:
    """Show the explanation in every slice view, in place of another one, with its legend and outlines.

    Background, foreground and label stay as the user has them; only where a view has no background yet does it get
    the volume that the map is of, since relevance without anatomy says nothing.
    """
    scene, first = presented.scene, presented.relevance[0]
    with ExitStack() as once:  # each view is told when the new map is in the place of the other one
        for composite in composites(scene):
            once.enter_context(record.together(composite))
        for other in record.records(scene):
            if other is not first and other.GetAttribute(record.SHOWN) == "1":
                take_out(scene, other)
        first.SetAttribute(record.SHOWN, "1")
        lay(scene, first)
    for display in companion_displays(first):
        before = display.GetAttribute(_BEFORE)
        if before is not None:
            display.SetVisibility(int(before))
            display.RemoveAttribute(_BEFORE)


def lay(scene: Any, first: Any) -> None:
    """Put the map that is to be displayed into the overlay layers of all views that take one."""
    shown, ours = displayed_map(first), _ours(scene)
    background = record.linked_one(_chosen_map(first), "source")
    for composite in composites(scene):
        if composite.GetAttribute(PLAIN):
            continue
        if not composite.GetBackgroundVolumeID() and background is not None:
            composite.SetBackgroundVolumeID(background.GetID())
            composite.SetAttribute(_GIVEN, background.GetID())
        layer = _overlay_layer(composite, ours)
        if composite.GetNthLayerVolumeID(layer) != shown.GetID():
            composite.SetNthLayerVolumeID(layer, shown.GetID())
        composite.SetNthLayerOpacity(layer, opacity_of(first))


def lay_beside(scene: Any, first: Any) -> None:
    """Put a map into the overlay layers of the views that else stay plain."""
    shown, ours = displayed_map(first), _ours(scene)
    for composite in composites(scene):
        if composite.GetAttribute(PLAIN):
            layer = _overlay_layer(composite, ours)
            composite.SetNthLayerVolumeID(layer, shown.GetID())
            composite.SetNthLayerOpacity(layer, opacity_of(first))


def beside(scene: Any) -> Any | None:
    """The explanation whose map lies over the views that else stay plain, by its first relevance map."""
    return next((first for first in record.records(scene) if plain_layers(scene, {displayed_map(first).GetID()})), None)


def plain_layers(scene: Any, ids: set[str]) -> list[tuple[Any, int]]:
    """`layers` of the views that else stay plain."""
    return [(composite, layer) for composite, layer in layers(scene, ids) if composite.GetAttribute(PLAIN)]


def change_background(scene: Any, earlier: Any | None, chosen: Any) -> None:
    """Views that show the volume of the earlier map behind it show that of the map that comes in its place.

    Any other background is the user's own choice, and stays.
    """
    before, after = (record.linked_one(node, "source") if node is not None else None for node in (earlier, chosen))
    for composite in composites(scene):
        if before is not None and after is not None and composite.GetBackgroundVolumeID() == before.GetID():
            composite.SetBackgroundVolumeID(after.GetID())
            if composite.GetAttribute(_GIVEN) == before.GetID():
                composite.SetAttribute(_GIVEN, after.GetID())


def leave_empty(scene: Any, volume: Any) -> None:
    """Views that show a volume as background or foreground show none there."""
    for composite in composites(scene):
        if composite.GetBackgroundVolumeID() == volume.GetID():
            composite.SetBackgroundVolumeID(None)
        if composite.GetForegroundVolumeID() == volume.GetID():
            composite.SetForegroundVolumeID(None)


def hide(presented: PresentedNodes) -> None:
    """Take the explanation out of all views: they show again what they showed before, the user's changes included."""
    take_out(presented.scene, presented.relevance[0])


def shown(presented: PresentedNodes) -> bool:
    """Whether the explanation is in the views."""
    return bool(presented.relevance[0].GetAttribute(record.SHOWN) == "1")


def take_out(scene: Any, first: Any) -> None:
    """`hide`, by the first relevance map."""
    if first.GetAttribute(record.SHOWN) != "1":
        return
    first.SetAttribute(record.SHOWN, "0")
    ids = {
        node.GetID() for node in (*record.linked(first, "relevance"), *record.linked(first, "cleaned"), first) if node
    }
    for composite, layer in layers(scene, ids):
        composite.SetNthLayerVolumeID(layer, None)
    for composite in composites(scene):
        given = composite.GetAttribute(_GIVEN)
        if given:
            composite.RemoveAttribute(_GIVEN)
            if given == composite.GetBackgroundVolumeID():
                composite.SetBackgroundVolumeID(None)
    for display in companion_displays(first):
        display.SetAttribute(_BEFORE, str(int(bool(display.GetVisibility()))))
        display.SetVisibility(False)


def keep_out(first: Any) -> None:
    """A new explanation is not in the views until it is shown; what it shares with another one stays as it is."""
    first.SetAttribute(record.SHOWN, "0")
    for display in companion_displays(first, own=True):
        set_visible(first, display, bool(display.GetVisibility()))


def companion_displays(first: Any, own: bool = False) -> list[Any]:
    """Displays of what comes and goes with the overlay: outlines, legend, shell, glow; ``own``: not shared ones."""
    found = []
    for role in _COMPANIONS:
        if own and role == "shared":
            continue
        for node in record.linked(first, role):
            found += _displays_of(node)
    return [*found, *(node for node in record.linked(first, "glow") if node is not None)]


def _displays_of(node: Any | None) -> list[Any]:
    if node is None:
        return []
    found = (node.GetNthDisplayNode(n) for n in range(node.GetNumberOfDisplayNodes()))
    return [display for display in found if display is not None]


def set_visible(first: Any, display: Any, visible: bool) -> None:
    """Make a display node of the explanation visible or not; while the overlay is off, when it comes back."""
    if first.GetAttribute(record.SHOWN) == "0":
        display.SetAttribute(_BEFORE, str(int(visible)))
        visible = False
    display.SetVisibility(visible)


def legend_displays(first: Any) -> list[Any]:
    """The display nodes of the legend: the one that draws it, and that of the model which it follows."""
    return [display for node in record.linked(first, "legend") for display in _displays_of(node)]


def lend_legend(first: Any, wanted: bool) -> None:
    """The legend of an explanation that is off is drawn all the same where its map lies beside another one."""
    if first.GetAttribute(record.SHOWN) == "0":
        for display in legend_displays(first):
            display.SetVisibility(wanted and display.GetAttribute(_BEFORE) == "1")


def opacity_of(first: Any) -> float:
    """The overlay's opacity as its relevance node remembers it."""
    return float(first.GetAttribute(OPACITY_ATTRIBUTE) or OPACITY)


def set_opacity(scene: Any, first: Any, opacity: float) -> None:
    """The overlay's opacity in all views."""
    first.SetAttribute(OPACITY_ATTRIBUTE, repr(opacity))
    for composite, layer in layers(scene, {displayed_map(first).GetID()}):
        composite.SetNthLayerOpacity(layer, opacity)


def restore(scene: Any) -> None:
    """Give the overlays of a scene that was just loaded their opacity back.

    Slicer writes which volume an additional layer shows, but not its opacity (vtkMRMLSliceCompositeNode::WriteXML,
    5.13): after loading, the overlay would hide the anatomy. The relevance node remembers it.
    """
    for first in record.records(scene):
        if first.GetAttribute(record.SHOWN) != "0":
            for composite, layer in layers(scene, {displayed_map(first).GetID()}):
                composite.SetNthLayerOpacity(layer, opacity_of(first))
