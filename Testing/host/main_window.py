"""The main window: the module panel on the left, 400 pixels wide, as in Slicer."""

from __future__ import annotations

from typing import Any, ClassVar

from PySide6 import QtCore, QtWidgets

from .pythonqt import invokable

PANEL_WIDTH = 400


class qSlicerModuleSelectorToolBar(QtWidgets.QToolBar):
    """Chooses the module whose panel is shown; the others are told that they are left."""

    SIGNALS: ClassVar[dict[str, str]] = {"moduleSelected(QString)": "moduleSelected"}
    moduleSelected = QtCore.Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self._selected = ""

    selectedModule = QtCore.Property(str, lambda self: self._selected)

    @invokable
    def selectModule(self, name: str) -> None:
        if name != self._selected:
            self._selected = name
            self.moduleSelected.emit(name)


class qSlicerMainWindow(QtWidgets.QMainWindow):
    """`slicer.util.mainWindow()`."""

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("qSlicerMainWindow")
        self._selector = qSlicerModuleSelectorToolBar()
        self._selector.setParent(self)
        self._area = QtWidgets.QScrollArea(self)
        self._area.setWidgetResizable(True)
        self._area.setHorizontalScrollBarPolicy(QtCore.Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._area.setFrameShape(QtWidgets.QFrame.Shape.NoFrame)
        self.setCentralWidget(self._area)
        self.resize(PANEL_WIDTH, 1000)

    def show_panel(self, panel: QtWidgets.QWidget) -> None:
        """Put a module's widget into the scroll area; the one before keeps living."""
        if (before := self._area.takeWidget()) is not None:
            before.setParent(None)
            before.hide()
        self._area.setWidget(panel)
        panel.show()

    @invokable
    def moduleSelector(self) -> Any:
        return self._selector
