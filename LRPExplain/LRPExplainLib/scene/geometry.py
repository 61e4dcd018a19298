"""Where the voxels of a node lie, with the parent transform that it follows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .host import slicer, vtk

Point = tuple[float, float, float]


def matrix_of(node: Any, world: bool = False) -> NDArray[np.float64]:
    """4x4, voxel index (i, j, k) to RAS in mm; ``world``: after the parent transform, if that is linear."""
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    parent = node.GetParentTransformNode()
    if world and parent is not None and parent.IsTransformToWorldLinear():
        to_world = vtk.vtkMatrix4x4()
        parent.GetMatrixTransformToWorld(to_world)
        vtk.vtkMatrix4x4.Multiply4x4(to_world, matrix, matrix)
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])


def to_local(node: Any, ras: Sequence[float]) -> Point:
    """A point of the world (RAS, mm) as the node knows it before its parent transform, linear or not."""
    transform = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(None, node.GetParentTransformNode(), transform)
    x, y, z = transform.TransformPoint(tuple(ras))
    return x, y, z


def to_world(node: Any, ras: Sequence[float]) -> Point:
    """The other way."""
    transform = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(node.GetParentTransformNode(), None, transform)
    x, y, z = transform.TransformPoint(tuple(ras))
    return x, y, z
