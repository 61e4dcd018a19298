"""The one door to Slicer's Python, and what stands for the Slicer application where that is absent.

Inside 3D Slicer, ``slicer`` is the application. Elsewhere it is PyPI's ``slicer-core``: the same C++ core (MRML scene,
module logics, displayable managers) without a window, where this file does what the application does at start-up.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import UserError

try:
    import slicer
    import vtk
except ImportError as error:
    raise UserError(
        f"Scenes and pictures need 3D Slicer or its core, which is not installed ({error}): pip install slicer-core."
    ) from error

try:
    from slicer.i18n import tr, translate
except ImportError:  # slicer-core alone speaks English

    def tr(text: str) -> str:
        return text

    def translate(context: str, text: str) -> str:
        return text


__all__ = ["SLICE_VIEWS", "THREE_D_VIEW", "Application", "in_slicer", "quiet_vtk", "slicer", "tr", "translate", "vtk"]

# Layout name and default orientation of Slicer's own three slice views
SLICE_VIEWS = {"Red": "Axial", "Yellow": "Sagittal", "Green": "Coronal"}
THREE_D_VIEW = "1"
# Logics of Slicer's modules that make a scene know the node classes of those modules
_REGISTERING_LOGICS = (
    "vtkSlicerVolumesLogic",
    "vtkSlicerSegmentationsModuleLogic",
    "vtkSlicerSubjectHierarchyModuleLogic",
    "vtkSlicerVolumeRenderingLogic",
)


def in_slicer() -> bool:
    """Whether this runs inside the Slicer application rather than on slicer-core."""
    return getattr(slicer, "app", None) is not None


class Application:
    """What the Slicer application gives a scene at start-up, for a scene outside it.

    A new ``scene`` gets Slicer's node classes, grey colours, its three slice views and one 3D view. On a scene that has
    them already nothing is added, so an application can be put on any scene at any time.
    """

    def __init__(self, scene: Any | None = None) -> None:
        self.scene = slicer.vtkMRMLScene() if scene is None else scene
        self.logic = slicer.vtkSlicerApplicationLogic()
        self.logic.SetMRMLScene(self.scene)
        self.logic.SetSliceLogics(vtk.vtkCollection())
        self.logic.SetViewLogics(vtk.vtkCollection())
        if not self.scene.GetTagByClassName("vtkMRMLColorLegendDisplayNode"):
            self._register_node_classes()
        self._serve_files()
        self._add_grey()
        self._add_views()

    def _serve_files(self) -> None:
        """What reading an .mrb needs: a folder to unpack it in, which goes when the application goes."""
        self._cache = tempfile.TemporaryDirectory(prefix="lrpexplain-", ignore_cleanup_errors=True)
        self.data_io = slicer.vtkDataIOManagerLogic()
        self.remote_io = slicer.vtkMRMLRemoteIOLogic()
        self.remote_io.GetCacheManager().SetRemoteCacheDirectory(self._cache.name)
        self.logic.SetMRMLSceneDataIO(self.scene, self.remote_io, self.data_io)

    def _register_node_classes(self) -> None:
        for name in _REGISTERING_LOGICS:
            logic = getattr(slicer, name)()
            logic.SetMRMLApplicationLogic(self.logic)
            logic.SetMRMLScene(self.scene)
        self.scene.RegisterNodeClass(slicer.vtkMRMLColorLegendDisplayNode())
        slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(self.scene, True)  # True: patient right, screen left

    def _add_grey(self) -> None:
        """Under the ID it has in Slicer; a colour logic would add all tables, and take them away when it goes."""
        if not self.scene.GetNodeByID("vtkMRMLColorTableNodeGrey"):
            grey = slicer.vtkMRMLColorTableNode()
            grey.SetTypeToGrey()
            grey.SetSingletonTag("Grey")
            grey.SetSaveWithScene(False)
            self.scene.AddNode(grey)

    def _add_views(self) -> None:
        for name, orientation in SLICE_VIEWS.items():
            if not self.scene.GetSingletonNode(name, "vtkMRMLSliceNode"):
                logic = self.adopt(slicer.vtkMRMLSliceLogic())
                logic.AddSliceNode(name).SetOrientation(orientation)
                logic.DeleteSliceModel()  # each logic adds its own
        if not self.scene.GetSingletonNode(THREE_D_VIEW, "vtkMRMLViewNode"):
            self.adopt(slicer.vtkMRMLViewLogic()).AddViewNode(THREE_D_VIEW)

    def adopt(self, logic: Any) -> Any:
        """``logic``, tied to this application and its scene."""
        logic.SetMRMLApplicationLogic(self.logic)
        logic.SetMRMLScene(self.scene)
        return logic


def singleton(scene: Any, class_name: str, tag: str) -> Any:
    """The scene's only node of a class; made if there is none, as outside Slicer."""
    node = scene.GetFirstNodeByClass(class_name)
    if node is None:
        node = getattr(slicer, class_name)()
        node.SetSingletonTag(tag)
        node = scene.AddNode(node)
    return node


@contextmanager
def quiet_vtk() -> Iterator[None]:
    """Keep VTK's warnings off the terminal where they are expected, such as its search for a display."""
    before = vtk.vtkLogger.GetCurrentVerbosityCutoff()
    vtk.vtkLogger.SetStderrVerbosity(vtk.vtkLogger.VERBOSITY_ERROR)
    try:
        yield
    finally:
        vtk.vtkLogger.SetStderrVerbosity(before)
