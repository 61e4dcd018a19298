"""Slicer's slice and 3D views without a window: its displayable managers draw into a buffer in memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from .host import Application, quiet_vtk, slicer, vtk

SIZE = 900  # pixels, square
_SLICE_MANAGERS = (
    "vtkMRMLModelSliceDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager2D",
    "vtkMRMLColorLegendDisplayableManager",
    "vtkMRMLRulerDisplayableManager",
)
_THREE_D_MANAGERS = (
    "vtkMRMLCameraDisplayableManager",
    "vtkMRMLViewDisplayableManager",
    "vtkMRMLModelDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager3D",
    "vtkMRMLVolumeRenderingDisplayableManager",
    "vtkMRMLColorLegendDisplayableManager",
    "vtkMRMLOrientationMarkerDisplayableManager",
)
_ZOOM = 1.25  # a camera reset leaves room for the bounding sphere, far more than a head needs
# Patient directions along RAS axes: letter at the negative and at the positive end
_LETTERS = (("L", "R"), ("P", "A"), ("I", "S"))


class _View:
    """A render window with a renderer for the scene and one above it for text."""

    def __init__(self, application: Application, factory: Any, managers: Sequence[str]) -> None:
        self.application = application
        with quiet_vtk():
            self.window = vtk.vtkRenderWindow()
        self.window.SetOffScreenRendering(True)
        self.window.SetMultiSamples(0)
        self.window.SetSize(SIZE, SIZE)
        self.renderer = vtk.vtkRenderer()
        self.window.AddRenderer(self.renderer)
        self.overlay = vtk.vtkRenderer()
        self.overlay.SetLayer(1)
        self.overlay.InteractiveOff()
        self.window.SetNumberOfLayers(2)
        self.window.AddRenderer(self.overlay)
        self.interactor = vtk.vtkRenderWindowInteractor()
        self.interactor.SetRenderWindow(self.window)
        factory.SetMRMLApplicationLogic(application.logic)
        for name in managers:
            if not factory.IsDisplayableManagerRegistered(name):
                factory.RegisterDisplayableManager(name)
        self.managers = slicer.vtkMRMLDisplayableManagerGroup()
        self.managers.Initialize(factory, self.renderer)

    def annotate(self, caption: Sequence[str], place: str) -> None:
        """Say what is shown in the upper left corner and where in the lower left one."""
        corner = vtk.vtkCornerAnnotation()
        corner.SetText(vtk.vtkCornerAnnotation.UpperLeft, "\n".join(caption))
        corner.SetText(vtk.vtkCornerAnnotation.LowerLeft, place)
        corner.SetMaximumFontSize(16)
        corner.SetLinearFontScaleFactor(1)
        corner.SetNonlinearFontScaleFactor(1)
        corner.GetTextProperty().ShadowOn()
        self.overlay.AddViewProp(corner)

    def write(self, path: Path) -> Path:
        """Draw and write a PNG; the path is returned."""
        self.window.Render()
        return write_window(self.window, path)

    def close(self) -> None:
        """Let go of the scene and of the buffers."""
        self.managers.SetMRMLDisplayableNode(None)
        self.window.Finalize()


def write_window(window: Any, path: Path) -> Path:
    """Write what a render window shows as a PNG; the path is returned."""
    capture = vtk.vtkWindowToImageFilter()
    capture.SetInput(window)
    capture.SetInputBufferTypeToRGB()
    capture.ReadFrontBufferOff()
    writer = vtk.vtkPNGWriter()
    writer.SetInputConnection(capture.GetOutputPort())
    writer.SetFileName(str(path))
    writer.Write()
    if writer.GetErrorCode():
        why = vtk.vtkErrorCode.GetStringFromErrorCode(writer.GetErrorCode())
        raise UserError(f"'{path}' could not be written ({why}): make room or choose another place.")
    return path


class SliceView(_View):
    """One slice view of the scene, found by its layout name ("Red", "Yellow", "Green")."""

    def __init__(self, application: Application, name: str) -> None:
        super().__init__(application, slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance(), _SLICE_MANAGERS)
        self.logic = application.adopt(slicer.vtkMRMLSliceLogic())
        application.logic.GetSliceLogics().AddItem(self.logic)
        self.node = application.scene.GetSingletonNode(name, "vtkMRMLSliceNode")
        self.logic.SetSliceNode(self.node)
        self.managers.SetMRMLDisplayableNode(self.node)
        self.renderer.GetActiveCamera().ParallelProjectionOn()
        self.mapper = vtk.vtkImageMapper()  # the logic delivers ready RGBA 0..255: show it as it is
        self.mapper.SetColorWindow(255)
        self.mapper.SetColorLevel(127.5)
        actor = vtk.vtkActor2D()
        actor.SetMapper(self.mapper)
        actor.GetProperty().SetDisplayLocationToBackground()
        self.renderer.AddViewProp(actor)

    def show(self, orientation: str, focus: Sequence[float]) -> None:
        """The whole background volume, cut through ``focus`` (RAS, mm)."""
        self.node.SetOrientation(orientation)
        self.logic.ResizeSliceNode(SIZE, SIZE)
        self.logic.FitSliceToBackground(SIZE, SIZE)
        self.node.JumpSliceByOffsetting(*focus)
        self.logic.UpdatePipeline()
        self.mapper.SetInputConnection(self.logic.GetImageDataConnection())

    def close(self) -> None:
        """Also take the nodes away that the logic added for itself."""
        super().close()
        self.application.logic.GetSliceLogics().RemoveItem(self.logic)
        self.logic.DeleteSliceModel()

    def place(self) -> str:
        """Where the slice lies, such as "Axial  S 12.3 mm"."""
        offset = self.node.GetSliceOffset()
        normal = [self.node.GetSliceToRAS().GetElement(row, 2) for row in range(3)]
        axis = int(np.argmax(np.abs(normal)))
        letter = _LETTERS[axis][int((offset * np.sign(normal[axis])) >= 0)]
        return f"{self.node.GetOrientation()}   {letter} {abs(offset):.1f} mm"

    def mark_directions(self) -> None:
        """The patient's directions at the four edges of the picture, read from the slice node's own matrix."""
        edges = {(0, -1): (0.02, 0.5), (0, 1): (0.975, 0.5), (1, -1): (0.5, 0.01), (1, 1): (0.5, 0.965)}
        for (column, sign), position in edges.items():
            direction = [sign * self.node.GetSliceToRAS().GetElement(row, column) for row in range(3)]
            axis = int(np.argmax(np.abs(direction)))
            text = vtk.vtkTextActor()
            text.SetInput(_LETTERS[axis][int(direction[axis] > 0)])
            text.GetTextProperty().SetFontSize(22)
            text.GetTextProperty().BoldOn()
            text.GetTextProperty().ShadowOn()
            text.GetPositionCoordinate().SetCoordinateSystemToNormalizedViewport()
            text.SetPosition(*position)
            self.overlay.AddViewProp(text)


class ThreeDView(_View):
    """The scene's 3D view."""

    def __init__(self, application: Application, name: str) -> None:
        super().__init__(
            application, slicer.vtkMRMLThreeDViewDisplayableManagerFactory.GetInstance(), _THREE_D_MANAGERS
        )
        self.renderer.SetUseDepthPeeling(True)
        self.renderer.SetUseDepthPeelingForVolumes(False)
        self.logic = application.adopt(slicer.vtkMRMLViewLogic())
        application.logic.GetViewLogics().AddItem(self.logic)
        self.node = application.scene.GetSingletonNode(name, "vtkMRMLViewNode")
        self.managers.SetMRMLDisplayableNode(self.node)

    def show(self, focus: Sequence[float]) -> None:
        """All surfaces, from the front, a little from above, from the side on which ``focus`` (RAS, mm) lies."""
        self.node.SetBoxVisible(False)
        self.node.SetAxisLabelsVisible(False)
        self.node.SetBackgroundColor(0, 0, 0)
        self.node.SetBackgroundColor2(0, 0, 0)
        self.node.SetOrientationMarkerType(slicer.vtkMRMLAbstractViewNode.OrientationMarkerTypeAxes)
        box = self._surface_bounds()
        center = [0.0, 0.0, 0.0]
        box.GetCenter(center)
        camera = self.renderer.GetActiveCamera()
        camera.SetFocalPoint(center)
        side = 1 if focus[0] > center[0] else -1
        camera.SetPosition(center[0] + 0.7 * side, center[1] + 1.0, center[2] + 0.45)
        camera.SetViewUp(0, 0, 1)
        bounds = [0.0] * 6
        box.GetBounds(bounds)
        self.renderer.ResetCamera(bounds)
        camera.Zoom(_ZOOM)
        self.renderer.ResetCameraClippingRange()

    def _surface_bounds(self) -> Any:
        """What surfaces span (a volume's box is mostly air); the visible box if there is no surface."""
        box = vtk.vtkBoundingBox()
        actors = self.renderer.GetActors()
        for n in range(actors.GetNumberOfItems()):
            if actors.GetItemAsObject(n).GetVisibility():
                box.AddBounds(actors.GetItemAsObject(n).GetBounds())
        if not box.IsValid():
            box.SetBounds(self.renderer.ComputeVisiblePropBounds())
        return box
