"""Small regions are left out of sight: a second volume without them is shown. The relevance map itself is never
changed.

No display setting of Slicer's can tell a region from its neighbours, so the displayed voxels have to differ. The second
volume is saved with the scene (a scene must look right where LRPExplain is not installed) but hidden from node
selectors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..findings.selection import Selection
from . import record
from .cache import clusters_of, voxels_key
from .host import vtk
from .nodes import array_of

if TYPE_CHECKING:
    from .presented import PresentedNodes

_USED = record.PREFIX + "Used"
_MADE_FOR = record.PREFIX + "MadeFor"


def update(presented: PresentedNodes, relevance: Any, level: float, selection: Selection) -> None:
    """Make the second volume what the selection asks for, and say on it whether it is the one to show."""
    first = presented.relevance[0]
    cleaned = record.linked_one(first, "cleaned")
    if selection.minimum_cluster_ml == 0:
        if cleaned is not None:
            cleaned.RemoveAttribute(_USED)
        return
    if cleaned is None:
        cleaned = _add(presented, relevance)
    key = repr((voxels_key(relevance), level, selection))
    if cleaned.GetAttribute(_MADE_FOR) != key:
        _fill(cleaned, relevance, level, selection)
        cleaned.SetAttribute(_MADE_FOR, key)
    cleaned.SetAndObserveTransformNodeID(relevance.GetTransformNodeID())
    cleaned.SetAttribute(_USED, "1")


def _add(presented: PresentedNodes, relevance: Any) -> Any:
    node = presented.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", f"{relevance.GetName()} (large regions)")
    record.mark(node, "cleaned")
    node.SetHideFromEditors(True)
    display = presented.scene.AddNewNodeByClass("vtkMRMLScalarVolumeDisplayNode")
    display.SetAutoWindowLevel(False)
    node.SetAndObserveDisplayNodeID(display.GetID())
    record.link(presented.relevance[0], "cleaned", [node])
    return node


def _fill(cleaned: Any, relevance: Any, level: float, selection: Selection) -> None:
    clusters = clusters_of(relevance, level, selection)
    data = vtk.vtkImageData()
    data.DeepCopy(relevance.GetImageData())
    matrix = vtk.vtkMatrix4x4()
    relevance.GetIJKToRASMatrix(matrix)
    modifying = cleaned.StartModify()
    cleaned.SetIJKToRASMatrix(matrix)
    cleaned.SetAndObserveImageData(data)
    array_of(cleaned)[clusters.box][clusters.dropped] = np.float32(0)
    data.GetPointData().GetScalars().Modified()
    cleaned.EndModify(modifying)
