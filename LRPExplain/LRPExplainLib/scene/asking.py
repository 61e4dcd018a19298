"""What can be asked about nodes: which volumes, and which places, in the words of the worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk
from numpy.typing import NDArray
from vtkmodules.util.numpy_support import numpy_to_vtk

from ..errors import UserError
from .examination import reference_on
from .export import export_volume
from .host import tr as _


def check(node: Any, labels: bool = False) -> None:
    """Refuse what is no scalar volume, has no voxels, or is bent by its parent transform.

    Args:
        labels: it may be a label map, as the second input of a cascade is.

    Raises UserError.
    """
    if node is None or node.GetScene() is None:
        raise UserError(_("The volume is no longer in the scene: choose another one."))
    if node.IsA("vtkMRMLLabelMapVolumeNode") and not labels:
        raise UserError(_("'{name}' is a label map and no image: choose the image.").format(name=node.GetName()))
    if not node.IsA("vtkMRMLScalarVolumeNode"):
        raise UserError(_("'{name}' is no scalar volume: choose one.").format(name=node.GetName()))
    data = node.GetImageData()
    if data is None or not data.GetNumberOfPoints():
        raise UserError(_("'{name}' has no voxels: choose a volume that has been loaded.").format(name=node.GetName()))
    if data.GetNumberOfScalarComponents() != 1:
        raise UserError(_("'{name}' has several values per voxel: choose a scalar volume.").format(name=node.GetName()))
    parent = node.GetParentTransformNode()
    if parent is not None and not parent.IsTransformToWorldLinear():
        raise UserError(
            _("'{name}' is under a non-linear transform: harden that transform first, then explain the result.").format(
                name=node.GetName()
            )
        )


def content(node: Any) -> tuple[object, ...]:
    """What an exported file of the volume depends on; two equal values mean the same file."""
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return (
        node.GetImageData().GetMTime(),
        *(matrix.GetElement(row, column) for row in range(4) for column in range(4)),
    )


def place(where: Any, volume: Any, file: Path) -> dict[str, Any] | None:
    """The place of a question in the volume's own space (without its parent transform).

    Args:
        where: None, "everywhere", a tuple (segmentation node, ID or name of a segment), a markups ROI node, a point
            list node, or R, A, S in mm of the world.
        file: where a segment is written to.

    Raises UserError if the place is empty or is none of these.
    """
    if where is None:
        return None
    if isinstance(where, str):
        if where != "everywhere":
            raise UserError(_("There is no place '{name}': give 'everywhere' or a node.").format(name=where))
        return {"kind": "everywhere"}
    if hasattr(where, "IsA"):
        if where.IsA("vtkMRMLMarkupsROINode"):
            return _box(where, volume)
        if where.IsA("vtkMRMLMarkupsNode"):
            return _points(where, volume)
    elif len(where) == 2:
        return _segment(where[0], where[1], volume, file)
    elif len(where) == 3:
        return {"kind": "points", "points": [_local(volume, where)]}
    raise UserError(
        _("'{where}' is no place: give a segmentation node with a segment, a ROI, a point list, or R, A, S.").format(
            where=where.GetName() if hasattr(where, "IsA") else where
        )
    )


def _local(volume: Any, world: Any) -> list[float]:
    point = [0.0, 0.0, 0.0]
    volume.TransformPointFromWorld([float(n) for n in world], point)
    return point


def _points(node: Any, volume: Any) -> dict[str, Any]:
    points = []
    for n in range(node.GetNumberOfControlPoints()):
        if node.GetNthControlPointPositionStatus(n) == slicer.vtkMRMLMarkupsNode.PositionDefined:
            world = [0.0, 0.0, 0.0]
            node.GetNthControlPointPositionWorld(n, world)
            points.append(_local(volume, world))
    if not points:
        raise UserError(_("'{name}' has no points: place one.").format(name=node.GetName()))
    return {"kind": "points", "points": points}


def _box(node: Any, volume: Any) -> dict[str, Any]:
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(node.GetObjectToWorldMatrix())
    parent = volume.GetParentTransformNode()
    if parent is not None:
        from_world = vtk.vtkMatrix4x4()
        parent.GetMatrixTransformFromWorld(from_world)
        vtk.vtkMatrix4x4.Multiply4x4(from_world, matrix, matrix)
    axes = [[matrix.GetElement(row, column) for row in range(3)] for column in range(3)]
    lengths = [sum(part * part for part in axis) ** 0.5 for axis in axes]
    size = [side * length for side, length in zip(node.GetSize(), lengths, strict=True)]  # the axes hold the scale
    units = [axes[column][row] / lengths[column] for row in range(3) for column in range(3)]
    return {
        "kind": "box",
        "centre": [matrix.GetElement(row, 3) for row in range(3)],
        "size": size,
        "axes": units,
    }


def _segment(node: Any, segment: str, volume: Any, file: Path) -> dict[str, Any]:
    segmentation = node.GetSegmentation()
    chosen = segment if segmentation.GetSegment(segment) else segmentation.GetSegmentIdBySegmentName(segment)
    if not chosen:
        raise UserError(
            _("There is no segment '{segment}' in '{name}': choose one.").format(segment=segment, name=node.GetName())
        )
    layers = reference_on(node, volume, chosen).layers
    inside = np.any([np.isin(layer.labels, list(layer.names)) for layer in layers], axis=0)
    if not np.any(inside):
        raise UserError(
            _("The segment '{segment}' has no voxel in '{name}': choose another.").format(
                segment=segmentation.GetSegment(chosen).GetName(), name=volume.GetName()
            )
        )
    export_volume(_mask_node(inside, volume), file)
    return {"kind": "segment", "file": str(file), "name": None}


def _mask_node(inside: NDArray[np.bool_], volume: Any) -> Any:
    """A label map on the grid of the volume; in no scene, so that nobody sees it come and go."""
    image = vtk.vtkImageData()
    image.SetDimensions(volume.GetImageData().GetDimensions())
    image.GetPointData().SetScalars(numpy_to_vtk(inside.astype(np.uint8).ravel(), deep=True))
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    node = slicer.vtkMRMLLabelMapVolumeNode()
    node.SetIJKToRASMatrix(matrix)
    node.SetAndObserveImageData(image)
    return node
