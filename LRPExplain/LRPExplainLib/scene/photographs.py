"""Pictures of Slicer's own views, as they stand on the screen, for the record."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .host import SLICE_VIEWS, slicer, vtk
from .views import write_window

if TYPE_CHECKING:
    from .presenting import PresentedNodes


def photograph(presented: PresentedNodes, folder: Path) -> dict[str, Path]:
    """PNG files of the slice views through the strongest relevance and of the 3D view, by what they show.

    The user's slices are the same afterwards. Views that the layout does not have are left out.
    """
    folder.mkdir(parents=True)
    manager, taken = slicer.app.layoutManager(), {}
    with _at(presented):
        for name, orientation in SLICE_VIEWS.items():
            widget = manager.sliceWidget(name)
            if widget is not None:
                taken[orientation.lower()] = _write(widget.sliceView(), folder / f"{orientation.lower()}.png")
        if manager.threeDViewCount:
            taken["3d"] = _write(manager.threeDWidget(0).threeDView(), folder / "3d.png")
    return taken


def _write(view: Any, path: Path) -> Path:
    view.forceRender()
    return write_window(view.renderWindow(), path)


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
