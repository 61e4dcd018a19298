"""Start and stop what stands for the Slicer application in this process.

with Host() as host:
    widget = host.open("LRPExplain")
    host.click(widget.ui.explainButton)
    host.wait(lambda: widget.ui.statusLabel.text)
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import tempfile
import time
import traceback
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import slicer
from PySide6 import QtCore, QtTest, QtWidgets

from . import dialogs, pythonqt, qt_module, sample_data, ui_loader
from .widgets import CTK, MRML

MODULE = Path(__file__).resolve().parents[2] / "LRPExplain" / "LRPExplain.py"
_qt = qt_module.qt_module({**dialogs.REPLACEMENTS, "QUiLoader": ui_loader.QUiLoader})
_ctk = qt_module.ctk_module({**CTK, "ctkMessageBox": dialogs.ctkMessageBox})


def _python_modules() -> dict[str, types.ModuleType]:
    """The modules that Slicer's Python can import and this one can not, once `qt` and `ctk` are there."""
    from . import i18n, parameters, scripted

    return {
        "slicer.i18n": i18n,
        "slicer.parameterNodeWrapper": parameters,
        "slicer.ScriptedLoadableModule": scripted,
        "SampleData": sample_data,
    }


def _keep_constants_alive() -> None:
    """PySide6 6.12 gives None, True and False away without counting, as is right where they are immortal (Python 3.12);
    before, some thousand calls later, the interpreter would abort. So they get a count that is never used up."""
    if sys.version_info < (3, 12):
        for constant in (None, True, False):
            ctypes.c_ssize_t.from_address(id(constant)).value += 1 << 40


def qt_application() -> QtWidgets.QApplication:
    """The process's one QApplication; a lean style that looks the same everywhere."""
    existing = QtWidgets.QApplication.instance()
    if existing is None:
        _keep_constants_alive()
        QtCore.QLoggingCategory.setFilterRules("qt.qpa.*=false")
        existing = QtWidgets.QApplication(["Slicer"])
        existing.setOrganizationName("NA-MIC")
        existing.setApplicationName("Slicer")
        existing.setStyle("Fusion")
        existing.setQuitOnLastWindowClosed(False)
    return existing


class Host:
    """The application, its scene, and the hands and eyes of a test."""

    def __init__(self) -> None:
        self.errors: list[str] = []  # what Slicer would have written into its Python console or error log
        self._before: dict[str, Any] = {}

    def __enter__(self) -> Host:
        qt_application()
        self._settings = tempfile.TemporaryDirectory(prefix="slicer-settings-", ignore_cleanup_errors=True)
        QtCore.QSettings.setDefaultFormat(QtCore.QSettings.Format.IniFormat)
        scope = QtCore.QSettings.Scope.UserScope
        QtCore.QSettings.setPath(QtCore.QSettings.Format.IniFormat, scope, self._settings.name)
        dialogs.forget()
        pythonqt.complaints.clear()
        self._path_before = os.environ.get("PATH", "")
        self._offer_python_slicer()
        self._install()
        from .application import SlicerApplication, qSlicerApplication
        from .modules import qSlicerScriptedLoadableModule, qSlicerScriptedLoadableModuleWidget

        for kind in (qSlicerScriptedLoadableModule, qSlicerScriptedLoadableModuleWidget):
            self._set(slicer, kind.__name__, pythonqt.class_for(kind))
        self._set(slicer, "mrmlScene", slicer.vtkMRMLScene())
        self._own = qSlicerApplication(slicer.mrmlScene)
        self._set(slicer, "app", SlicerApplication(self._own))
        self._set(slicer, "modules", types.SimpleNamespace())
        for name, module in self._own._module_manager._modules.items():
            setattr(slicer.modules, name.lower(), module)
        self._own._window._selector.moduleSelected.connect(self._select)
        self._own._window.show()
        self.process()
        return self

    def _offer_python_slicer(self) -> None:
        """Slicer's own Python is on its PATH as PythonSlicer; here it is the one that runs this.

        As Slicer's launcher it is a process of its own, whose child outlives it when it is killed.
        """
        program = Path(self._settings.name) / "PythonSlicer"
        program.write_text(f'#!/bin/sh\n"{sys.executable}" "$@"\nexit $?\n', encoding="utf-8")
        program.chmod(0o755)
        os.environ["PATH"] = os.pathsep.join([self._settings.name, self._path_before])

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _set(self, owner: Any, name: str, value: Any) -> None:
        self._before.setdefault(name, getattr(owner, name, None))
        setattr(owner, name, value)

    def _install(self) -> None:
        self._modules_before = {name: sys.modules.get(name) for name in ("qt", "ctk")}
        sys.modules["qt"], sys.modules["ctk"] = _qt, _ctk
        for name, kind in MRML.items():
            self._set(slicer, name, pythonqt.class_for(kind))
        for name, module in _python_modules().items():
            self._modules_before[name] = sys.modules.get(name)
            sys.modules[name] = module
            if name.startswith("slicer."):
                self._set(slicer, name.split(".")[1], module)
        self._hook_before, sys.excepthook = sys.excepthook, self._raised
        self._messages_before = QtCore.qInstallMessageHandler(self._qt_said)

    def _raised(self, kind: type[BaseException], value: BaseException, trace: Any) -> None:
        """An exception in a slot or an observer: Slicer prints it and goes on."""
        text = "".join(traceback.format_exception(kind, value, trace))
        self.errors.append(text)
        sys.stderr.write(text)

    def _qt_said(self, _kind: Any, _context: Any, text: str) -> None:
        """What Qt warns of; a connection that could not be made is an error."""
        if "propagateSizeHints" in text:  # the off-screen platform has no windows to tell
            return
        print(text, file=sys.stderr)
        if text.startswith(("QObject::connect", "QObject::disconnect", "QObject::startTimer", "Designer:")):
            self.errors.append(text)

    def close(self) -> None:
        """Leave the process as it was: `slicer` without an application, no module of Slicer's Python."""
        for module in list(self._own._module_manager._modules):
            self._own._module_manager.moduleAboutToBeUnloaded.emit(module)
        self.process()
        self._own._close()
        QtCore.QCoreApplication.sendPostedEvents(None, QtCore.QEvent.Type.DeferredDelete)
        sys.excepthook = self._hook_before
        QtCore.qInstallMessageHandler(self._messages_before)
        for name, before in self._modules_before.items():
            if before is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = before
        sys.modules.pop("LRPExplain", None)
        for name, before in self._before.items():
            if before is None:
                with contextlib.suppress(AttributeError):
                    delattr(slicer, name)
            else:
                setattr(slicer, name, before)
        with contextlib.suppress(AttributeError):
            del slicer.selfTests
        os.environ["PATH"] = self._path_before
        self._settings.cleanup()

    # Modules

    def load(self, path: Path = MODULE) -> float:
        """Load a module file as Slicer does at start-up; the processor's seconds that took."""
        from . import modules

        _own, seconds = modules.load(path, self._own._module_manager)
        return seconds

    def start_up(self) -> None:
        """What Slicer says when all modules are loaded."""
        self._own.startupCompleted.emit()

    def open(self, name: str = "LRPExplain", path: Path = MODULE) -> Any:
        """Load the module if need be, show its panel, and return the Python widget."""
        if not hasattr(slicer.modules, name.lower()):
            self.load(path)
            self.start_up()
        slicer.util.selectModule(name)
        self.process()
        return slicer.util.getModuleWidget(name)

    def _select(self, name: str) -> None:
        for module in self._own._module_manager._modules.values():
            panel = getattr(module, "_panel", None)
            if panel is not None and module._name != name:
                panel._enter(False)
        module = self._own._module_manager._modules.get(name)
        if module is None or not hasattr(module, "widgetRepresentation"):
            return
        panel = module.widgetRepresentation()
        self._own._window.show_panel(panel)
        panel._enter(True)

    # Hands

    def process(self) -> None:
        QtWidgets.QApplication.processEvents()

    def wait(self, until: Callable[[], Any], seconds: float = 60.0) -> Any:
        """Let events happen until ``until()`` is true; its value. AssertionError when the time is over."""
        end = time.monotonic() + seconds
        while not (value := until()):
            if time.monotonic() > end:
                raise AssertionError(f"waited {seconds:g} s in vain; errors: {self.errors}")
            QtTest.QTest.qWait(5)
        return value

    def click(self, widget: Any) -> None:
        """A mouse click in the middle; AssertionError if a person could not do it."""
        target = pythonqt.unwrap(widget)
        self._reachable(target)
        place = target.rect().center()
        if isinstance(target, CTK["ctkCollapsibleButton"]):
            place.setY(8)
        elif isinstance(target, QtWidgets.QCheckBox | QtWidgets.QRadioButton):
            place.setX(8)
        QtTest.QTest.mouseClick(target, QtCore.Qt.MouseButton.LeftButton, pos=place)
        self.process()

    def _reachable(self, target: QtWidgets.QWidget) -> None:
        name = target.objectName() or type(target).__name__
        assert target.isVisible(), f"{name} is not visible, so nobody can click it"
        assert target.isEnabled(), f"{name} is disabled, so nobody can click it"

    def choose(self, widget: Any, text: str) -> None:
        """Choose an item of a combo box, or of the one inside a selector, by its text; as with the mouse."""
        target = pythonqt.unwrap(widget)
        self._reachable(target)
        combo = target if isinstance(target, QtWidgets.QComboBox) else target.findChild(QtWidgets.QComboBox)
        row = combo.findText(text)
        assert row >= 0, f"{text!r} is not among {[combo.itemText(n) for n in range(combo.count())]}"
        combo.setCurrentIndex(row)
        combo.activated.emit(row)
        self.process()

    def type(self, widget: Any, text: str) -> None:
        """Replace the text of a line edit, spin box or slider's spin box, and press Enter."""
        target = pythonqt.unwrap(widget)
        self._reachable(target)
        line = target if isinstance(target, QtWidgets.QLineEdit) else target.findChild(QtWidgets.QLineEdit)
        line.selectAll()
        QtTest.QTest.keyClicks(line, text)
        QtTest.QTest.keyClick(line, QtCore.Qt.Key.Key_Return)
        self.process()

    def click_cell(self, table: Any, row: int, column: int = 0) -> None:
        """Click a cell of a table or tree."""
        target = pythonqt.unwrap(table)
        self._reachable(target)
        index = target.model().index(row, column)
        target.scrollTo(index)
        self.process()
        place = target.visualRect(index).center()
        QtTest.QTest.mouseClick(target.viewport(), QtCore.Qt.MouseButton.LeftButton, pos=place)
        self.process()
