"""Side by side: the image with the manual segmentation above, the same views with relevance below.

The upper views are the user's own (Red, Green, Yellow) without the overlay, or with another map's; those below are
three more of Slicer's slice views that follow them, and are followed, in slice, zoom and layers. Of a single slice it
is one view, and another one at its right, which below means then: Slicer's layout of two has the Red and the Yellow
view, and where the slice is not an axial one Red stands in for the view that shows it. Everything that is changed for
it is noted on nodes of the scene, so that `leave` brings back what was there before, also after the scene was saved
and loaded in between.
"""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

from . import overlay, placing, record, view_nodes
from .fitting import Shown
from .host import SLICE_VIEWS, Application, in_slicer, slicer, vtk
from .layout import BEFORE, LAYOUT, PAIRS, SINGLE_LAYOUT, SINGLE_PAIR, active, entered, layout_node, pairs
from .outlining import give_back, take_fill
from .view_nodes import ViewNodes

if TYPE_CHECKING:
    from .presented import PresentedNodes

# Seconds in which Slicer fits views that are new and sets their sliders (seen in 5.13: from the event loop, after the
# layout was set, with the interaction flags of a person's move).
_SETTLING = 1.0
_LINKS: dict[int, Any] = {}


def enter(presented: PresentedNodes, reference: Any | None = None, segment: str | None = None) -> None:
    """Stand the views side by side; ``reference`` and its ``segment`` (an ID) are made visible if they are not."""
    scene = presented.scene
    if active(scene):
        return
    node = layout_node(scene)
    cutting = list(view_nodes.cutting(presented.relevance[0]))
    own = cutting[0] if len(cutting) == 1 else None
    before: dict[str, Any] = {
        "layout": node.GetViewArrangement(),
        "shown": overlay.shown(presented),
        "entered": SINGLE_LAYOUT if own else LAYOUT,
        "own": own,
    }
    borrowed = {*SINGLE_PAIR, *SINGLE_PAIR.values()} - {own} if own else PAIRS.values()
    views = [view_nodes.find(scene, name) for name in borrowed]
    before["below"] = {view.name: view_nodes.state_of(view) for view in views if view is not None}
    uppers = [(above, view_nodes.find(scene, own or above)) for above in (SINGLE_PAIR if own else PAIRS)]
    fits = {above: Shown(view) for above, view in uppers if view is not None}
    _stand_in(scene, own, back=False)
    if reference is not None:
        before["reference"] = _show_reference(reference, segment)
    modifying = node.StartModify()
    node.SetAttribute(BEFORE, json.dumps(before))
    node.SetViewArrangement(before["entered"])
    node.EndModify(modifying)
    both = _pairs(scene, presented.application)
    for above, beneath in both:
        above.composite.SetAttribute(overlay.PLAIN, "1")
        beneath.composite.RemoveAttribute(overlay.PLAIN)
    _clear_plain(scene)
    _link(scene, both, fits)
    overlay.show(presented)
    placing.place(scene)


def put_above(scene: Any, other: PresentedNodes | None) -> None:
    """What is over the image above: another map, such as another method's, or nothing."""
    if active(scene):
        _clear_plain(scene)
        if other is not None:
            overlay.lay_beside(scene, other.relevance[0])
        placing.place(scene)


def over(scene: Any, view: Any | None) -> Any | None:
    """The explanation whose map lies over the image in an upper view, by its first map; None in any other view."""
    return overlay.beside(scene) if view is not None and view.GetLayoutName() in pairs(scene) else None


def leave(scene: Any) -> None:
    """Back to the layout, and to everything else, as it was; without effect where nothing stands side by side."""
    node = scene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    if node is None or not node.GetAttribute(BEFORE):
        return
    before, ours = record.read_json(node, BEFORE), entered(node)
    link = _LINKS.pop(id(scene), None)
    if link is not None:
        link.stop()
    modifying = node.StartModify()
    node.RemoveAttribute(BEFORE)
    if node.GetViewArrangement() == ours:  # otherwise the user has chosen another one meanwhile
        node.SetViewArrangement(before.get("layout", slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView))
    _clear_plain(scene)
    for composite in overlay.composites(scene):
        composite.RemoveAttribute(overlay.PLAIN)
    if not scene.IsClosing():
        _stand_in(scene, before.get("own"), back=True)
        if link is not None:
            link.give_back(before.get("own"))
    for name, state in before.get("below", {}).items():
        view = view_nodes.find(scene, name)
        if view is not None:
            view_nodes.bring_back(view, state)
    _restore_reference(scene, before.get("reference"))
    for first in record.records(scene):
        if first.GetAttribute(record.SHOWN) == "1":
            if before.get("shown", True):
                overlay.lay(scene, first)
            else:
                overlay.take_out(scene, first)
    placing.place(scene)
    node.EndModify(modifying)


def resume(scene: Any) -> None:
    """After a scene that was saved side by side has been loaded: the pairs follow each other again."""
    if active(scene):
        _link(scene, _pairs(scene, None), {})


def _stand_in(scene: Any, own: str | None, back: bool) -> None:
    """The left one of two views shows what the user's ``own`` view of a single slice does; ``back``: that view has what
    was done there meanwhile."""
    (left,) = SINGLE_PAIR
    views = view_nodes.find(scene, own or left), view_nodes.find(scene, left)
    source, target = reversed(views) if back else views
    if source is not None and target is not None and source.node is not target.node:
        _follow(source.node, target.node)
        _copy_layers(source.composite, target.composite)
        wide, high, _deep = target.node.GetDimensions()
        _width, height, depth = source.node.GetFieldOfView()
        if high:  # as Slicer does where a layout gives a view another size, its height stays
            target.node.SetFieldOfView(height * wide / high, height, depth)


def _pairs(scene: Any, application: Application | None) -> list[tuple[ViewNodes, ViewNodes]]:
    both = [
        (_view(scene, above, above, application), _view(scene, beneath, above, application))
        for above, beneath in pairs(scene).items()
    ]
    return [(above, beneath) for above, beneath in both if above is not None and beneath is not None]


def _view(scene: Any, name: str, above: str, application: Application | None) -> ViewNodes | None:
    """In Slicer the layout has made the view; outside it is made here."""
    if view_nodes.find(scene, name) is None and not in_slicer():
        logic = (application or Application(scene)).adopt(slicer.vtkMRMLSliceLogic())
        logic.AddSliceNode(name).SetOrientation(SLICE_VIEWS[above])
        logic.DeleteSliceModel()
    return view_nodes.find(scene, name)


def _clear_plain(scene: Any) -> None:
    """Take the overlay out of the views that stay plain."""
    maps = {node.GetID() for first in record.records(scene) for node in record.every_node(first)}
    for composite, layer in overlay.plain_layers(scene, maps):
        composite.SetNthLayerVolumeID(layer, None)


def _show_reference(node: Any, segment: str | None) -> dict[str, Any]:
    """Make a segmentation visible, as outlines, since a fill would hide the relevance; returns how to undo that."""
    if node.GetDisplayNode() is None:
        node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    undo: dict[str, Any] = {"id": node.GetID(), "visible": display.GetVisibility(), "in_2d": display.GetVisibility2D()}
    display.SetVisibility(True)
    display.SetVisibility2D(True)
    undo |= {"filled": take_fill(display), "bare": not display.GetVisibility2DOutline()}
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
    if undo["filled"]:
        give_back(display)
    if undo["bare"]:  # neither filled nor outlined
        display.SetVisibility2DOutline(False)
    if "segment" in undo and node.GetSegmentation().GetSegment(undo["segment"]):
        display.SetSegmentVisibility(undo["segment"], undo["segment_visible"])


def _link(scene: Any, pairs: list[tuple[ViewNodes, ViewNodes]], fits: dict[str, Shown]) -> None:
    if id(scene) in _LINKS:
        _LINKS.pop(id(scene)).stop()
    _LINKS[id(scene)] = _Link(scene, pairs, fits)


class _Link:
    """Lets the two views of each pair follow each other at once, whatever Slicer's own view links are set to.

    ``fits``: by the names of the upper views, what these show to begin with.
    """

    def __init__(self, scene: Any, pairs: list[tuple[ViewNodes, ViewNodes]], fits: dict[str, Shown]) -> None:
        self._scene, self._pairs, self._fits = scene, pairs, fits
        self._following = False
        self._settled = not in_slicer()
        if in_slicer():
            from .process import later

            later(_SETTLING, self._settle)
        self._observed: list[tuple[Any, int]] = []
        for above, beneath in pairs:
            self._fit(above, beneath)
            _copy_layers(above.composite, beneath.composite)
            self._observe(above.node, partial(_follow, above.node, beneath.node))
            self._observe(beneath.node, partial(self._lead, above.node, beneath.node))
            self._observe(above.composite, partial(_copy_layers, above.composite, beneath.composite))
        layout = layout_node(scene)
        self._observed.append((layout, layout.AddObserver(vtk.vtkCommand.ModifiedEvent, partial(_on_layout, scene))))
        self._observed.append((scene, scene.AddObserver(scene.StartCloseEvent, lambda *_event: self._close(scene))))

    def _observe(self, node: Any, act: Any) -> None:
        def changed(*_event: Any) -> None:
            if self._following or self._scene.IsClosing():  # when Slicer brings each view back to its own plane
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
            for above, beneath in self._pairs:
                self._fit(above, beneath)
        finally:
            self._following = False
        self._settled = True

    def _fit(self, above: ViewNodes, beneath: ViewNodes) -> None:
        """Not while a view's node tells of a change: its slice would not be drawn anew (seen in 5.13)."""
        if above.name in self._fits:
            self._fits[above.name].fit(above.node)
        _follow(above.node, beneath.node)

    def give_back(self, own: str | None) -> None:
        """The upper views, or the ``own`` one of a single slice, show what they showed, but for what was zoomed."""
        for above, _beneath in self._pairs:
            view = view_nodes.find(self._scene, own) if own else above
            if above.name in self._fits and view is not None:
                self._fits[above.name].give_back(above.node, view.node)

    def _lead(self, above: Any, beneath: Any) -> None:
        """The view beneath leads as the one above does, but not while Slicer still sets it up: that must not move the
        user's own view."""
        if self._settled:
            _follow(beneath, above)

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
    """Background, foreground and label of the view above also beneath."""
    modifying = target.StartModify()
    target.SetBackgroundVolumeID(source.GetBackgroundVolumeID())
    target.SetForegroundVolumeID(source.GetForegroundVolumeID())
    target.SetForegroundOpacity(source.GetForegroundOpacity())
    target.SetLabelVolumeID(source.GetLabelVolumeID())
    target.SetLabelOpacity(source.GetLabelOpacity())
    target.EndModify(modifying)
