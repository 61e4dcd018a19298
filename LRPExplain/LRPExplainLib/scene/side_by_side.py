"""Side by side: the image with the manual segmentation on the left, the same views with relevance on the right.

The left views are the user's own (Red, Yellow, Green) without the overlay, or with another map's; the right ones are
three more slice views that follow them, and are followed, in slice, zoom and layers. Everything that is changed for it
is noted on nodes of the scene, so that `leave` brings back what was there before, also after the scene was saved and
loaded in between.
"""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

from . import overlay, record
from .arriving import welcome
from .host import SLICE_VIEWS, Application, in_slicer, slicer, vtk
from .layout import LAYOUT, PAIRS, layout_node, register
from .nodes import of_class

if TYPE_CHECKING:
    from .presented import PresentedNodes

_BEFORE = record.PREFIX + "SideBySideBefore"
# Seconds in which Slicer fits views that are new and sets their sliders (seen in 5.13: from the event loop, after the
# layout was set, with the interaction flags of a person's move).
_SETTLING = 1.0
_LINKS: dict[int, Any] = {}


def active(scene: Any) -> bool:
    """Whether the views stand side by side."""
    node = scene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    return node is not None and node.GetViewArrangement() == LAYOUT


def enter(presented: PresentedNodes, reference: Any | None = None, segment: str | None = None) -> None:
    """Stand the views side by side; ``reference`` and its ``segment`` (an ID) are made visible if they are not."""
    scene = presented.scene
    node = register(scene)
    if active(scene):
        return
    before: dict[str, Any] = {"layout": node.GetViewArrangement(), "shown": overlay.shown(presented)}
    if reference is not None:
        before["reference"] = _show_reference(reference, segment)
    node.SetViewArrangement(LAYOUT)
    pairs = _pairs(scene, presented.application)
    before["linked"] = {}
    for left, right in pairs:
        composite = left.composite
        before["linked"][left.name] = [composite.GetLinkedControl(), composite.GetHotLinkedControl()]
        composite.SetAttribute(overlay.PLAIN, "1")
        right.composite.RemoveAttribute(overlay.PLAIN)
    node.SetAttribute(_BEFORE, json.dumps(before))
    _clear_plain(scene)
    _link(scene, pairs)
    _restrict(scene, True)
    overlay.show(presented)
    welcome(scene)


def put_left(scene: Any, other: PresentedNodes | None) -> None:
    """What is over the image on the left: another map, such as another method's, or nothing."""
    if active(scene):
        _clear_plain(scene)
        if other is not None:
            overlay.lay_beside(scene, other.relevance[0])


def leave(scene: Any) -> None:
    """Back to the layout, and to everything else, as it was; without effect where nothing stands side by side."""
    node = scene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    if node is None or not node.GetAttribute(_BEFORE):
        return
    before = record.read_json(node, _BEFORE)
    node.RemoveAttribute(_BEFORE)
    link = _LINKS.pop(id(scene), None)
    if link is not None:
        link.stop()
    _clear_plain(scene)
    composites = {composite.GetLayoutName(): composite for composite in overlay.composites(scene)}
    for name in PAIRS:
        if name in composites:
            composites[name].RemoveAttribute(overlay.PLAIN)
    for name, (linked, hot) in before.get("linked", {}).items():
        if name in composites:
            composites[name].SetLinkedControl(linked)
            composites[name].SetHotLinkedControl(hot)
    _restrict(scene, False)
    _restore_reference(scene, before.get("reference"))
    if node.GetViewArrangement() == LAYOUT:  # otherwise the user has chosen another one meanwhile
        node.SetViewArrangement(before.get("layout", slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView))
    for first in record.records(scene):
        if first.GetAttribute(record.SHOWN) == "1":
            if before.get("shown", True):
                overlay.lay(scene, first)
            else:
                overlay.take_out(scene, first)


def resume(scene: Any) -> None:
    """After a scene that was saved side by side has been loaded: the pairs follow each other again."""
    if active(scene):
        register(scene).SetViewArrangement(LAYOUT)  # which Slicer could not show if it did not know it yet
        _link(scene, _pairs(scene, None))
        welcome(scene)


def arrange(scene: Any) -> None:
    """Keep outlines and legends that were made meanwhile off the left side."""
    if active(scene):
        _restrict(scene, True)


class _View:
    """A slice view: its slice node and its composite node."""

    def __init__(self, name: str, node: Any, composite: Any) -> None:
        self.name, self.node, self.composite = name, node, composite


def _pairs(scene: Any, application: Application | None) -> list[tuple[_View, _View]]:
    both = [
        (_view(scene, left, left, application), _view(scene, right, left, application)) for left, right in PAIRS.items()
    ]
    return [(left, right) for left, right in both if left is not None and right is not None]


def _view(scene: Any, name: str, left: str, application: Application | None) -> _View | None:
    """In Slicer the layout has made the view; outside it is made here."""
    node = scene.GetSingletonNode(name, "vtkMRMLSliceNode")
    composite = next((c for c in overlay.composites(scene) if c.GetLayoutName() == name), None)
    if (node is None or composite is None) and not in_slicer():
        logic = (application or Application(scene)).adopt(slicer.vtkMRMLSliceLogic())
        node = logic.AddSliceNode(name)
        node.SetOrientation(SLICE_VIEWS[left])
        composite = logic.GetSliceCompositeNode()
        logic.DeleteSliceModel()
    return None if node is None or composite is None else _View(name, node, composite)


def _clear_plain(scene: Any) -> None:
    """Take the overlay out of the views that stay plain."""
    maps = {node.GetID() for first in record.records(scene) for node in record.every_node(first)}
    first_layer = slicer.vtkMRMLSliceCompositeNode.Layer_Last
    for composite in overlay.composites(scene):
        if composite.GetAttribute(overlay.PLAIN):
            for layer in range(first_layer, first_layer + composite.GetNumberOfAdditionalLayers()):
                if (composite.GetNthLayerVolumeID(layer) or "") in maps:
                    composite.SetNthLayerVolumeID(layer, None)


def _restrict(scene: Any, on: bool) -> None:
    """Outlines and legends of explanations only on the right (and in 3D); or everywhere again."""
    rights = [scene.GetSingletonNode(name, "vtkMRMLSliceNode") for name in PAIRS.values()]
    views = [node.GetID() for node in rights if node is not None]
    views += [node.GetID() for node in of_class(scene, "vtkMRMLViewNode")]
    for first in record.records(scene):
        for display in overlay.companion_displays(first):
            if list(display.GetViewNodeIDs() or ()) != (views if on else []):
                display.SetViewNodeIDs(views if on else [])


def _show_reference(node: Any, segment: str | None) -> dict[str, Any]:
    """Make a segmentation visible, as outlines, since a fill would hide the relevance; returns how to undo that."""
    if node.GetDisplayNode() is None:
        node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    undo: dict[str, Any] = {"id": node.GetID(), "visible": display.GetVisibility(), "in_2d": display.GetVisibility2D()}
    undo |= {"fill": display.GetVisibility2DFill(), "outline": display.GetVisibility2DOutline()}
    display.SetVisibility(True)
    display.SetVisibility2D(True)
    display.SetVisibility2DFill(False)
    display.SetVisibility2DOutline(True)
    if segment and node.GetSegmentation().GetSegment(segment):
        undo |= {"segment": segment, "segment_visible": display.GetSegmentVisibility(segment)}
        display.SetSegmentVisibility(segment, True)
    return undo


def _restore_reference(scene: Any, undo: dict[str, Any] | None) -> None:
    node = scene.GetNodeByID(undo["id"]) if undo else None
    if not undo or node is None or node.GetDisplayNode() is None:
        return
    display = node.GetDisplayNode()
    display.SetVisibility(undo["visible"])
    display.SetVisibility2D(undo["in_2d"])
    if "fill" in undo:
        display.SetVisibility2DFill(undo["fill"])
        display.SetVisibility2DOutline(undo["outline"])
    if "segment" in undo and node.GetSegmentation().GetSegment(undo["segment"]):
        display.SetSegmentVisibility(undo["segment"], undo["segment_visible"])


def _link(scene: Any, pairs: list[tuple[_View, _View]]) -> None:
    if id(scene) in _LINKS:
        _LINKS.pop(id(scene)).stop()
    _LINKS[id(scene)] = _Link(scene, pairs)


class _Link:
    """Lets the two views of each pair follow each other at once, whatever Slicer's own view links are set to."""

    def __init__(self, scene: Any, pairs: list[tuple[_View, _View]]) -> None:
        self._pairs = pairs
        self._following = False
        self._settled = not in_slicer()
        if in_slicer():
            from .process import later

            later(_SETTLING, self._settle)
        self._observed: list[tuple[Any, int]] = []
        for left, right in pairs:
            _follow(left.node, right.node)
            _copy_layers(left.composite, right.composite)
            self._observe(left.node, partial(_follow, left.node, right.node))
            self._observe(right.node, partial(self._lead, left.node, right.node))
            self._observe(left.composite, partial(_copy_layers, left.composite, right.composite))
        layout = layout_node(scene)
        self._observed.append((layout, layout.AddObserver(vtk.vtkCommand.ModifiedEvent, partial(_on_layout, scene))))
        self._observed.append((scene, scene.AddObserver(scene.StartCloseEvent, lambda *_event: self._close(scene))))

    def _observe(self, node: Any, act: Any) -> None:
        def changed(*_event: Any) -> None:
            if self._following:
                return
            self._following = True
            try:
                act()
            finally:
                self._following = False

        self._observed.append((node, node.AddObserver(vtk.vtkCommand.ModifiedEvent, changed)))

    def _settle(self) -> None:
        """Slicer has set up the views that are new: now they are put where the user's own views stand."""
        if not self._observed:
            return
        self._following = True
        try:
            for left, right in self._pairs:
                _follow(left.node, right.node)
        finally:
            self._following = False
        self._settled = True

    def _lead(self, left: Any, right: Any) -> None:
        """The right view leads as the left one does, but not while Slicer still sets it up: that must not move the
        user's own view."""
        if self._settled:
            _follow(right, left)

    def _close(self, scene: Any) -> None:
        _LINKS.pop(id(scene), None)
        self.stop()

    def stop(self) -> None:
        for node, tag in self._observed:
            node.RemoveObserver(tag)
        self._observed = []


def _on_layout(scene: Any, *_event: Any) -> None:
    """The user has chosen another layout: what was set for this one must not outlive it."""
    if not active(scene):
        leave(scene)


def _follow(source: Any, target: Any) -> None:
    """Same plane, same centre, same millimetres per pixel."""
    modifying = target.StartModify()
    target.GetSliceToRAS().DeepCopy(source.GetSliceToRAS())
    target.UpdateMatrices()
    target.SetXYZOrigin(source.GetXYZOrigin())
    field, here, there = source.GetFieldOfView(), source.GetDimensions(), target.GetDimensions()
    scale = [there[n] / here[n] if here[n] > 0 and there[n] > 0 else 1.0 for n in range(2)]
    target.SetFieldOfView(field[0] * scale[0], field[1] * scale[1], field[2])
    target.EndModify(modifying)


def _copy_layers(source: Any, target: Any) -> None:
    """Background, foreground and label of the left view also on the right."""
    modifying = target.StartModify()
    target.SetBackgroundVolumeID(source.GetBackgroundVolumeID())
    target.SetForegroundVolumeID(source.GetForegroundVolumeID())
    target.SetForegroundOpacity(source.GetForegroundOpacity())
    target.SetLabelVolumeID(source.GetLabelVolumeID())
    target.SetLabelOpacity(source.GetLabelOpacity())
    target.EndModify(modifying)
