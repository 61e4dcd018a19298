"""Hot spots as a segmentation node: one segment for each connected region of relevance above the threshold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from vtkmodules.util.numpy_support import numpy_to_vtk

from ..findings.clusters import Clusters
from ..findings.examination import HotSpot
from . import overlay, record
from .host import slicer, vtk
from .nodes import replace_segments

if TYPE_CHECKING:
    from .display import Display
    from .presented import PresentedNodes

MOST = 20  # segments; a list of more is of no use beside an image
_MADE_FOR = record.PREFIX + "MadeFor"
# Outline colours that stand out from every colour map on grey: by rank, in turn
_POSITIVE = ((0, 255, 128), (255, 255, 255), (255, 128, 255), (128, 255, 255), (255, 220, 120))
_NEGATIVE = ((150, 200, 255), (120, 230, 200), (200, 170, 255), (140, 210, 140), (190, 190, 190))


def update(presented: PresentedNodes, display: Display) -> None:
    """Make the segmentation what the settings ask for, or hide it; made when it is first wanted."""
    first = presented.relevance[0]
    node = record.linked_one(first, "hotSpots")
    if not display.hot_spots:
        if node is not None:
            overlay.set_visible(first, node.GetDisplayNode(), False)
        return
    from .examination import findings_of

    findings = findings_of(presented, display)
    if node is None:
        node = _add(presented)
    key = repr((findings.level, display.selection, display.input, findings.field.values.shape, findings.key))
    if node.GetAttribute(_MADE_FOR) != key:
        _fill(node, presented.relevance[display.input], findings.clusters, findings.hot_spots[:MOST])
        node.SetAttribute(_MADE_FOR, key)
    node.SetAndObserveTransformNodeID(first.GetTransformNodeID())
    overlay.set_visible(first, node.GetDisplayNode(), True)


def _add(presented: PresentedNodes) -> Any:
    from .hierarchy import put_in_folder

    scene, first = presented.scene, presented.relevance[0]
    # the table of the hot spots has their plain name
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", f"{first.GetName()} hot spot regions")
    record.mark(node, "hotSpots")
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.SetVisibility2DFill(False)
    display.SetVisibility2DOutline(True)
    display.SetSliceIntersectionThickness(1)
    record.link(first, "hotSpots", [node])
    put_in_folder(first, [node])
    return node


def _fill(node: Any, relevance: Any, clusters: Clusters, spots: tuple[HotSpot, ...]) -> None:
    count = len(spots)
    labels = np.where(clusters.labels <= count, clusters.labels, 0).astype(np.uint8)
    image = slicer.vtkOrientedImageData()
    start = clusters.start
    depth, height, width = labels.shape
    image.SetExtent(
        start[0], start[0] + width - 1, start[1], start[1] + height - 1, start[2], start[2] + depth - 1
    )  # the box alone: a hot spot is small
    image.GetPointData().SetScalars(numpy_to_vtk(labels.ravel(), deep=True))
    matrix = vtk.vtkMatrix4x4()
    relevance.GetIJKToRASMatrix(matrix)
    image.SetImageToWorldMatrix(matrix)
    entries: list[dict[str, Any]] = [{"name": "background"}]
    for spot in spots:
        colors = _POSITIVE if spot.relevance > 0 else _NEGATIVE
        sign = "" if spot.relevance > 0 else " against"
        entries.append({"name": f"{spot.rank}: {spot.percent}{sign}", "color": colors[(spot.rank - 1) % len(colors)]})
    replace_segments(node, image, entries)
    node.SetReferenceImageGeometryParameterFromVolumeNode(relevance)
