"""Scripted modules: the two C++ classes around a module file, and the loader that Slicer runs at start-up."""

from __future__ import annotations

import importlib.util
import sys
import time
from pathlib import Path
from typing import Any

import slicer
from PySide6 import QtCore, QtGui, QtWidgets

from . import pythonqt
from .pythonqt import invokable
from .widgets.mrml_widgets import qMRMLWidget
from .widgets.properties import kept


class qSlicerScriptedLoadableModule(QtCore.QObject):
    """`self.parent` of the module class: title, help and the panel, which is made when it is first asked for."""

    title = kept(str, "title", "")
    categories = kept("QStringList", "categories", [])
    dependencies = kept("QStringList", "dependencies", [])
    contributors = kept("QStringList", "contributors", [])
    helpText = kept(str, "helpText", "")
    acknowledgementText = kept(str, "acknowledgementText", "")
    icon = kept(QtGui.QIcon, "icon", QtGui.QIcon())
    hidden = kept(bool, "hidden", False)
    path = QtCore.Property(str, lambda self: self._path)

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.setObjectName(path.stem)
        self._path, self._name = str(path), path.stem
        self._panel: qSlicerScriptedLoadableModuleWidget | None = None

    @invokable
    def widgetRepresentation(self) -> Any:
        if self._panel is None:
            self._panel = qSlicerScriptedLoadableModuleWidget(self._name)
            self._panel._create()
        return self._panel

    @invokable
    def logic(self) -> Any:
        """The C++ logic that comes with every scripted module; the Python logic is the widget's."""
        return None


class qSlicerScriptedLoadableModuleWidget(qMRMLWidget):
    """`self.parent` of the widget class."""

    isEntered = QtCore.Property(bool, lambda self: self._entered)
    moduleName = QtCore.Property(str, lambda self: self._name)

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name, self._entered, self._python = name, False, None
        layout = QtWidgets.QVBoxLayout(self)
        layout.setObjectName("layout")
        self.setMRMLScene(slicer.mrmlScene)

    def _create(self) -> None:
        kind = getattr(sys.modules[self._name], self._name + "Widget")
        self._python = kind(pythonqt.wrap(self))
        setattr(slicer.modules, self._name + "Widget", self._python)
        self._python.setup()

    @invokable
    def self(self) -> Any:
        return self._python

    @invokable
    def reload(self) -> None:
        self._create()

    def _enter(self, entered: bool) -> None:
        if entered == self._entered:
            return
        self._entered = entered
        function = getattr(self._python, "enter" if entered else "exit", None)
        if function:
            function()


def load(path: Path, manager: Any) -> tuple[Any, float]:
    """Import a module file and make its module, as Slicer does at start-up; also the processor's seconds that took."""
    name = path.stem
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    began = time.thread_time()
    specification = importlib.util.spec_from_file_location(name, path)
    assert specification is not None
    assert specification.loader is not None
    python = importlib.util.module_from_spec(specification)
    sys.modules[name] = python
    specification.loader.exec_module(python)
    own = qSlicerScriptedLoadableModule(path)
    module = pythonqt.wrap(own)
    instance = getattr(python, name)(module)
    seconds = time.thread_time() - began
    setattr(slicer.modules, name.lower(), module)
    setattr(slicer.modules, name + "Instance", instance)
    manager._modules[name] = own
    manager.moduleLoaded.emit(name)
    return own, seconds
