"""Pictures of Slicer's own views, as they stand on the screen, for the record."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import overlay
from .display import read
from .host import SLICE_VIEWS, slicer, vtk
from .layout import pairs
from .views import write_window

if TYPE_CHECKING:
    from .presented import PresentedNodes


def photograph(presented: PresentedNodes, folder: Path) -> dict[str, Path]:
    """PNG files of the slice views through the strongest relevance and of the 3D view, by what they show.

    Side by side the views with relevance are taken. The user's slices are the same afterwards. Views that the layout
    does not show are left out, as is a 3D view without relevance; without a main window there are none.
    """
    folder.mkdir(parents=True)
    manager = slicer.app.layoutManager()
    taken: dict[str, Path] = {}
    if manager is None:
        return taken
    beside = pairs(presented.scene)
    rendered = read(presented).volume_rendering and overlay.shown(presented)
    with _at(presented):
        for name, orientation in SLICE_VIEWS.items():
            if beside and name not in beside:
                continue
            widget = manager.sliceWidget(beside.get(name, name))
            if widget is not None and widget.mrmlSliceNode().IsMappedInLayout():
                with _marked(widget.mrmlSliceNode()):
                    taken[orientation.lower()] = _write(widget.sliceView(), folder / f"{orientation.lower()}.png")
        for n in range(manager.threeDViewCount if rendered else 0):
            widget = manager.threeDWidget(n)
            if widget.mrmlViewNode().IsMappedInLayout() and "3d" not in taken:
                taken["3d"] = _write(widget.threeDView(), folder / "3d.png")
    return taken


def _write(view: Any, path: Path) -> Path:
    """Draw it without the texts in its corners, which name volumes and patients: a record names nobody."""
    corners = view.cornerAnnotation()
    before = corners.GetVisibility()
    corners.SetVisibility(False)
    try:
        view.forceRender()
        return write_window(view.renderWindow(), path)
    finally:
        corners.SetVisibility(before)


@contextmanager
def _marked(node: Any) -> Iterator[None]:
    """Axes with the letters R, A, S in the view, for a moment: a picture must tell which side is which."""
    before = node.GetOrientationMarkerType()
    node.SetOrientationMarkerType(slicer.vtkMRMLAbstractViewNode.OrientationMarkerTypeAxes)
    try:
        yield
    finally:
        node.SetOrientationMarkerType(before)


@contextmanager
def _at(presented: PresentedNodes) -> Iterator[None]:
    """The slices cut through the strongest relevance, for a moment."""
    nodes = [presented.scene.GetSingletonNode(name, "vtkMRMLSliceNode") for name in SLICE_VIEWS]
    before = []
    for node in nodes:
        matrix = vtk.vtkMatrix4x4()
        if node is not None:
            matrix.DeepCopy(node.GetSliceToRAS())
            node.JumpSliceByOffsetting(*presented.focus)
        before.append(matrix)
    try:
        yield
    finally:
        for node, matrix in zip(nodes, before, strict=True):
            if node is not None:
                node.GetSliceToRAS().DeepCopy(matrix)
                node.UpdateMatrices()
