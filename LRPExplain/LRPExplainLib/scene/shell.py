"""A faint surface of the anatomy around relevance in 3D, so that the eye knows where in it that is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import SimpleITK as sitk

from . import hierarchy, overlay, record
from .host import vtk

if TYPE_CHECKING:
    from .presented import PresentedNodes

_OPACITY = 0.2
_COLOR = (0.85, 0.85, 0.9)
_GRID_MM = 2.5
_SMOOTHING_MM = 3.0
# Between the darkest value and Otsu's threshold, which separates bright from dark tissue rather than tissue from air
_LEVEL = 0.5
_OF = record.PREFIX + "of"  # the volume that it is the surface of


def update(presented: PresentedNodes, wanted: bool, turned: bool) -> None:
    """Show it in 3D views or not; made of the explained volume when it is first wanted (of a single slice: never).

    ``turned``: that was just decided. Else who has hidden or deleted it meanwhile is left in peace.
    """
    first, volume = presented.relevance[0], presented.volumes[0]
    model = record.linked_one(first, "shell")
    if wanted and volume is not None and (turned if model is None else model.GetNodeReference(_OF) is not volume):
        model = _made(presented, model, volume)
    shown = model.GetDisplayNode() if model is not None else None
    if turned and shown is not None:
        overlay.set_visible(first, shown, wanted)


def _made(presented: PresentedNodes, model: Any | None, volume: Any) -> Any | None:
    """The model of this volume's surface, in the place of another volume's."""
    data = volume.GetImageData()
    if data is None or min(data.GetDimensions()) < 2:
        return model
    if model is None:
        first = presented.relevance[0]
        model = presented.scene.AddNewNodeByClass("vtkMRMLModelNode", f"{volume.GetName()} shell")
        record.link(first, "shell", [record.mark(model, "shell")])
        model.CreateDefaultDisplayNodes()
        display = record.mark(model.GetDisplayNode(), "shell")
        display.SetVisibility(False)
        display.SetColor(*_COLOR)
        display.SetOpacity(_OPACITY)
        display.SetBackfaceCulling(False)
        display.SetVisibility2D(False)
        hierarchy.put_in_folder(first, [model])
    model.SetAndObservePolyData(_surface(volume))
    model.SetNodeReferenceID(_OF, volume.GetID())
    model.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
    return model


def _surface(volume: Any) -> Any:
    """The surface around what is not air, in RAS before any parent transform, on a grid of some 2 mm."""
    from vtkmodules.util.numpy_support import vtk_to_numpy

    rates = [max(1, round(_GRID_MM / length)) for length in volume.GetSpacing()]
    coarse = vtk.vtkExtractVOI()  # first of all: to smooth the fine grid of a CT takes seconds
    coarse.SetInputData(volume.GetImageData())
    coarse.SetVOI(*volume.GetImageData().GetExtent())
    coarse.SetSampleRate(*rates)
    smooth = vtk.vtkImageGaussianSmooth()
    smooth.SetInputConnection(coarse.GetOutputPort())
    smooth.SetStandardDeviations(
        *(_SMOOTHING_MM / (rate * length) for rate, length in zip(rates, volume.GetSpacing(), strict=True))
    )
    smooth.Update()
    grid = smooth.GetOutput()
    lowest, _ = grid.GetScalarRange()
    otsu = sitk.OtsuThresholdImageFilter()
    otsu.Execute(sitk.GetImageFromArray(vtk_to_numpy(grid.GetPointData().GetScalars())[None]))
    closed = vtk.vtkImageConstantPad()  # so that the surface is closed where the head leaves the picture
    closed.SetInputData(grid)
    closed.SetConstant(lowest)
    x0, x1, y0, y1, z0, z1 = grid.GetExtent()
    closed.SetOutputWholeExtent(x0 - 1, x1 + 1, y0 - 1, y1 + 1, z0 - 1, z1 + 1)
    contour = vtk.vtkFlyingEdges3D()
    contour.SetInputConnection(closed.GetOutputPort())
    contour.SetValue(0, lowest + _LEVEL * (otsu.GetThreshold() - lowest))
    contour.ComputeScalarsOff()
    contour.ComputeNormalsOff()
    largest = vtk.vtkPolyDataConnectivityFilter()
    largest.SetInputConnection(contour.GetOutputPort())
    largest.SetExtractionModeToLargestRegion()
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    to_ras = vtk.vtkTransform()
    to_ras.SetMatrix(matrix)
    placed = vtk.vtkTransformPolyDataFilter()
    placed.SetTransform(to_ras)
    placed.SetInputConnection(largest.GetOutputPort())
    normals = vtk.vtkPolyDataNormals()
    normals.SetInputConnection(placed.GetOutputPort())
    normals.SplittingOff()
    normals.AutoOrientNormalsOn()  # a left-handed voxel grid turns the surface inside out, and it would be drawn black
    normals.Update()
    return normals.GetOutput()
