"""`slicer.app`, `slicer.modules` and the scene, started once for each host."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, ClassVar

import slicer
import vtk
from PySide6 import QtCore, QtWidgets

from . import pythonqt
from .files import qSlicerCoreIOManager
from .layout import qSlicerLayoutManager
from .main_window import qSlicerMainWindow
from .pythonqt import invokable

# The module logics that slicer-core has, by the name of their module; order: those that register classes come first
_LOGICS = {
    "Colors": "vtkSlicerColorLogic",
    "Volumes": "vtkSlicerVolumesLogic",
    "Models": "vtkSlicerModelsLogic",
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "VolumeRendering": "vtkSlicerVolumeRenderingLogic",
    "Markups": "vtkSlicerMarkupsLogic",
    "Sequences": "vtkSlicerSequencesLogic",
    "Tables": "vtkSlicerTablesLogic",
    "Plots": "vtkSlicerPlotsLogic",
    "Transforms": "vtkSlicerTransformLogic",
    "Units": "vtkSlicerUnitsLogic",
    "CropVolume": "vtkSlicerCropVolumeLogic",
}


class qSlicerModuleManager(QtCore.QObject):
    SIGNALS: ClassVar[dict[str, str]] = {
        "moduleAboutToBeUnloaded(QString)": "moduleAboutToBeUnloaded",
        "moduleLoaded(QString)": "moduleLoaded",
    }
    moduleAboutToBeUnloaded = QtCore.Signal(str)
    moduleLoaded = QtCore.Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self._modules: dict[str, Any] = {}

    @invokable
    def module(self, name: str) -> Any:
        return self._modules.get(name)


class CoreModule:
    """A C++ module: its name and its logic."""

    path = ""

    def __init__(self, name: str, logic: Any) -> None:
        self.name, self._logic = name, logic

    def logic(self) -> Any:
        return self._logic


class qSlicerApplication(QtCore.QObject):
    """What `slicer.app` has beyond QApplication."""

    SIGNALS: ClassVar[dict[str, str]] = {
        "startupCompleted()": "startupCompleted",
        "mrmlSceneChanged(vtkMRMLScene*)": "sceneChanged",
    }
    startupCompleted = QtCore.Signal()
    sceneChanged = QtCore.Signal(object)

    def __init__(self, scene: Any) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory(prefix="slicer-host-", ignore_cleanup_errors=True)
        self._testing, self._paused = False, 0
        self._scene = scene
        self._logic = slicer.vtkSlicerApplicationLogic()
        self._logic.SetMRMLScene(self._scene)
        self._logic.SetSliceLogics(vtk.vtkCollection())
        self._logic.SetViewLogics(vtk.vtkCollection())
        self._logic.SetTemporaryPath(self._folder.name)
        self._logic.SetHomeDirectory(self._folder.name)
        self._logic.SetShareDirectory("share")
        (Path(self._folder.name) / "share" / "ColorFiles").mkdir(parents=True)
        self._serve_files()
        self._logics = {name: self._start(name, kind) for name, kind in _LOGICS.items()}
        self._logic.SetColorLogic(self._logics["Colors"])
        slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(self._scene, True)
        self._add_singletons()
        self._layout_manager = qSlicerLayoutManager(self._scene, self._logic)
        self._module_manager = qSlicerModuleManager()
        self._module_manager._modules.update({n: CoreModule(n, logic) for n, logic in self._logics.items()})
        self._files = qSlicerCoreIOManager(self._scene, self._logic, self._logics)
        self._window = qSlicerMainWindow()

    def _serve_files(self) -> None:
        """What reading an .mrb needs: a folder to unpack it in."""
        self._data_io, self._remote_io = slicer.vtkDataIOManagerLogic(), slicer.vtkMRMLRemoteIOLogic()
        cache = Path(self._folder.name) / "RemoteIO"
        cache.mkdir()
        (cache / ".slicer-cache").touch()  # the mark of a folder that Slicer may empty
        self._remote_io.GetCacheManager().SetRemoteCacheDirectory(str(cache))
        self._logic.SetMRMLSceneDataIO(self._scene, self._remote_io, self._data_io)

    def _start(self, name: str, kind: str) -> Any:
        logic = getattr(slicer, kind)()
        self._logic.SetModuleLogic(name, logic)
        logic.SetMRMLApplicationLogic(self._logic)
        logic.SetMRMLScene(self._scene)
        return logic

    def _add_singletons(self) -> None:
        """The crosshair node, as the application adds it."""
        if not self._scene.GetSingletonNode("default", "vtkMRMLCrosshairNode"):
            crosshair = slicer.vtkMRMLCrosshairNode()
            crosshair.SetCrosshairName("default")
            self._scene.AddNode(crosshair)

    def _close(self) -> None:
        self._window.close()
        self._layout_manager.close()
        self._scene.Clear(True)
        for logic in reversed(self._logics.values()):
            logic.SetMRMLScene(None)
        self._window.deleteLater()
        self._folder.cleanup()

    temporaryPath = QtCore.Property(str, lambda self: self._folder.name, lambda self, value: None)
    slicerHome = QtCore.Property(str, lambda self: self._folder.name)
    applicationName = QtCore.Property(str, lambda self: "Slicer")

    @invokable
    def mrmlScene(self) -> Any:
        return self._scene

    @invokable
    def applicationLogic(self) -> Any:
        return self._logic

    @invokable
    def layoutManager(self) -> Any:
        return self._layout_manager

    @invokable
    def moduleManager(self) -> Any:
        return self._module_manager

    @invokable
    def coreIOManager(self) -> Any:
        return self._files

    ioManager = coreIOManager

    @invokable
    def settings(self) -> Any:
        return QtCore.QSettings()

    userSettings = settings

    @invokable
    def testingEnabled(self) -> bool:
        return self._testing

    @invokable
    def translate(self, context: str, text: str) -> str:
        return QtCore.QCoreApplication.translate(context, text)

    @invokable
    def pauseRender(self) -> None:
        self._paused += 1

    @invokable
    def resumeRender(self) -> None:
        self._paused -= 1


class SlicerApplication:
    """`slicer.app`: qSlicerApplication is a QApplication, of which a process has one; so two objects answer here."""

    def __init__(self, own: qSlicerApplication) -> None:
        object.__setattr__(self, "_own", own)
        object.__setattr__(self, "_wrapped", pythonqt.wrap(own))
        object.__setattr__(self, "_qt", pythonqt.wrap(QtWidgets.QApplication.instance()))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            return getattr(self._wrapped, name)
        except AttributeError:
            return getattr(self._qt, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._wrapped if pythonqt._property(self._own, name) else self._qt, name, value)

    def connect(self, signal: str, *receiver: Any) -> bool:
        mine = pythonqt._declared(self._own, signal) in qSlicerApplication.SIGNALS
        return (self._wrapped if mine else self._qt).connect(signal, *receiver)

    def disconnect(self, signal: str, *receiver: Any) -> bool:
        mine = pythonqt._declared(self._own, signal) in qSlicerApplication.SIGNALS
        return (self._wrapped if mine else self._qt).disconnect(signal, *receiver)
