"""The explanation in 3D: relevance as a glow, the prediction as a surface, the head as a faint shell."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from . import display
from .host import slicer, vtk
from .nodes import ROLE_ATTRIBUTE, by_role

if TYPE_CHECKING:
    from .presented import PresentedNodes

SURFACE_OPACITY = 0.2
SHELL_OPACITY = 0.2
_SHELL_GRID_MM = 2.0
_SHELL_SMOOTHING_MM = 3.0
# Between the darkest value and Otsu's threshold, which separates bright from dark tissue rather than tissue from air
_SHELL_LEVEL = 0.5


def show_in_3d(presented: PresentedNodes) -> None:
    """Show relevance, prediction and a shell of the anatomy in the scene's 3D views; again has no further effect."""
    scene = presented.scene
    display.apply(presented, replace(display.read(presented), volume_rendering=True))
    if not by_role(scene, "shell"):
        _add_shell(scene, presented.volumes[0])
    if presented.segmentation is not None:
        _show_target_surface(presented.segmentation, presented.target)


def _show_target_surface(segmentation: Any, target: str) -> None:
    """Only the class that was explained: the surfaces of the others would hide it."""
    segmentation.CreateClosedSurfaceRepresentation()
    shown = segmentation.GetDisplayNode()
    shown.SetOpacity3D(SURFACE_OPACITY)
    for segment_id in segmentation.GetSegmentation().GetSegmentIDs():
        name = segmentation.GetSegmentation().GetSegment(segment_id).GetName()
        shown.SetSegmentVisibility3D(segment_id, name == target)


def _add_shell(scene: Any, volume: Any) -> None:
    """A faint surface of what is not air, so that the eye knows where in the head it is."""
    model = scene.AddNewNodeByClass("vtkMRMLModelNode", f"{volume.GetName()} shell")
    model.SetAttribute(ROLE_ATTRIBUTE, "shell")
    model.SetAndObservePolyData(_surface(volume))
    model.CreateDefaultDisplayNodes()
    shown = model.GetDisplayNode()
    shown.SetColor(0.85, 0.85, 0.9)
    shown.SetOpacity(SHELL_OPACITY)
    shown.SetBackfaceCulling(False)
    shown.SetVisibility2D(False)
    model.SetAndObserveTransformNodeID(volume.GetTransformNodeID())


def _surface(volume: Any) -> Any:
    """The surface around what is not air, in RAS, on a grid of about 2 mm."""
    spacing = volume.GetSpacing()
    smooth = vtk.vtkImageGaussianSmooth()
    smooth.SetInputData(volume.GetImageData())
    smooth.SetStandardDeviations(*(_SHELL_SMOOTHING_MM / length for length in spacing))
    coarse = vtk.vtkImageResample()
    coarse.SetInputConnection(smooth.GetOutputPort())
    for axis, length in enumerate(spacing):
        coarse.SetAxisMagnificationFactor(axis, min(1.0, length / _SHELL_GRID_MM))
    coarse.Update()
    level = slicer.vtkITKImageThresholdCalculator()
    level.SetInputConnection(coarse.GetOutputPort())
    level.SetMethodToOtsu()
    level.Update()
    closed = vtk.vtkImageConstantPad()  # so that the surface is closed where the head leaves the picture
    closed.SetInputConnection(coarse.GetOutputPort())
    lowest = coarse.GetOutput().GetScalarRange()[0]
    closed.SetConstant(lowest)
    x0, x1, y0, y1, z0, z1 = coarse.GetOutput().GetExtent()
    closed.SetOutputWholeExtent(x0 - 1, x1 + 1, y0 - 1, y1 + 1, z0 - 1, z1 + 1)
    contour = vtk.vtkFlyingEdges3D()
    contour.SetInputConnection(closed.GetOutputPort())
    contour.SetValue(0, lowest + _SHELL_LEVEL * (level.GetThreshold() - lowest))
    contour.ComputeScalarsOff()
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
