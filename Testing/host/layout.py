"""Views and the layout manager: Slicer's own layout logic decides which views there are; nothing is drawn here.

Views can be drawn by `LRPExplainLib.scene.views`, from the same nodes and logics.
"""

from __future__ import annotations

from typing import Any, ClassVar

import slicer
import vtk
from PySide6 import QtCore, QtWidgets

from .pythonqt import invokable
from .widgets.mrml_nodes import qMRMLNodeComboBox
from .widgets.mrml_widgets import qMRMLPlotView, qMRMLTableView, qMRMLWidget

_SIZE = 400  # pixels, square


class _Window:
    """The render window of a view in which nothing is drawn."""

    _window: Any = None
    _corners: Any = None

    @invokable
    def renderWindow(self) -> Any:
        if self._window is None:
            self._window = vtk.vtkRenderWindow()
            self._window.SetOffScreenRendering(True)
            self._window.SetSize(_SIZE, _SIZE)
            self._window.AddRenderer(vtk.vtkRenderer())
        return self._window

    @invokable
    def cornerAnnotation(self) -> Any:
        if self._corners is None:
            self._corners = vtk.vtkCornerAnnotation()
        return self._corners


class qMRMLSliceView(_Window, QtWidgets.QWidget):
    """A slice view without a picture."""

    _node: Any = None

    @invokable
    def mrmlSliceNode(self) -> Any:
        return self._node

    @invokable
    def forceRender(self) -> None:
        """Nothing is drawn here."""

    scheduleRender = forceRender


class qMRMLSliceWidget(QtWidgets.QWidget):
    """Slice node, composite node, logic and view under one roof, and of the controller the background's selector.

    That goes to the volume listed before the chosen one when this is deleted, and takes the background along.
    """

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._logic: Any = None
        self._view = qMRMLSliceView(self)
        self._background = qMRMLNodeComboBox(self)
        self._background.setProperty("nodeTypes", ["vtkMRMLVolumeNode"])
        for name in ("noneEnabled", "editEnabled", "renameEnabled"):
            self._background.setProperty(name, True)
        self._background.nodeChosen.connect(self._on_chosen)

    def _control(self, scene: Any) -> tuple[Any, int]:
        """The controller's selector and the composite node say the same; returns what observes the node."""
        self._background.setMRMLScene(scene)
        composite = self.mrmlSliceCompositeNode()
        return composite, composite.AddObserver(vtk.vtkCommand.ModifiedEvent, self._on_composite)

    def _on_chosen(self, node: Any) -> None:
        self.mrmlSliceCompositeNode().SetBackgroundVolumeID(node.GetID() if node else None)

    def _on_composite(self, composite: Any, _event: str) -> None:
        blocked = self._background.blockSignals(True)
        self._background.setCurrentNode(slicer.mrmlScene.GetNodeByID(composite.GetBackgroundVolumeID() or ""))
        self._background.blockSignals(blocked)

    @invokable
    def sliceLogic(self) -> Any:
        return self._logic

    @invokable
    def mrmlSliceNode(self) -> Any:
        return self._logic.GetSliceNode()

    @invokable
    def mrmlSliceCompositeNode(self) -> Any:
        return self._logic.GetSliceCompositeNode()

    @invokable
    def sliceView(self) -> Any:
        return self._view


class qMRMLThreeDView(_Window, QtWidgets.QWidget):
    _node: Any = None

    @invokable
    def mrmlViewNode(self) -> Any:
        return self._node

    @invokable
    def forceRender(self) -> None:
        """Nothing is drawn here."""

    resetFocalPoint = resetCamera = scheduleRender = forceRender


class qMRMLThreeDWidget(QtWidgets.QWidget):
    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._view = qMRMLThreeDView(self)

    @invokable
    def threeDView(self) -> Any:
        return self._view

    @invokable
    def mrmlViewNode(self) -> Any:
        return self._view._node


class qMRMLPlotWidget(QtWidgets.QWidget):
    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._view = qMRMLPlotView(self)

    @invokable
    def plotView(self) -> Any:
        return self._view


class qMRMLTableWidget(QtWidgets.QWidget):
    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._view = qMRMLTableView(self)

    @invokable
    def tableView(self) -> Any:
        return self._view


class qSlicerLayoutManager(QtCore.QObject):
    """Gives each view node a widget, and each slice node a logic, as Slicer's view factories do."""

    SIGNALS: ClassVar[dict[str, str]] = {"layoutChanged(int)": "layoutChanged"}
    layoutChanged = QtCore.Signal(int)

    def __init__(self, scene: Any, application_logic: Any) -> None:
        super().__init__()
        self._scene, self._application_logic = scene, application_logic
        self._widgets: dict[str, QtWidgets.QWidget] = {}
        self._viewport = qMRMLWidget()
        self._logic = slicer.vtkMRMLLayoutLogic()
        self._logic.SetMRMLApplicationLogic(application_logic)
        self._logic.SetMRMLScene(scene)
        self._tags: list[tuple[Any, int]] = []
        self._updating = False
        self._observe(scene, scene.NodeAddedEvent, lambda *_: self._update())
        self._observe(scene, scene.NodeRemovedEvent, lambda *_: self._update())
        self._observe(scene, scene.EndBatchProcessEvent, lambda *_: self._update())
        self._observe(self._logic.GetLayoutNode(), vtk.vtkCommand.ModifiedEvent, lambda *_: self._arranged())
        self._logic.GetLayoutNode().SetViewArrangement(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
        self._arranged()

    def _observe(self, caller: Any, event: Any, function: Any) -> None:
        self._tags.append((caller, caller.AddObserver(event, function)))

    def _arranged(self) -> None:
        self._update()
        self.layoutChanged.emit(self._logic.GetLayoutNode().GetViewArrangement())  # also where it is the same

    def _update(self) -> None:
        if self._scene.IsBatchProcessing() or self._updating:
            return
        self._updating = True
        try:
            self._give_widgets()
        finally:
            self._updating = False

    def _give_widgets(self) -> None:
        makers = {
            "vtkMRMLSliceNode": self._make_slice,
            "vtkMRMLViewNode": self._make_three_d,
            "vtkMRMLPlotViewNode": self._make_plot,
            "vtkMRMLTableViewNode": self._make_table,
        }
        every = [node for kind in makers for node in slicer.util.getNodesByClass(kind, self._scene)]
        for node in every:
            if node.GetID() not in self._widgets:
                self._widgets[node.GetID()] = makers[node.GetClassName()](node)
        identities = {node.GetID() for node in every}
        for gone in [each for each in self._widgets if each not in identities]:
            widget = self._widgets.pop(gone)
            if isinstance(widget, qMRMLSliceWidget):
                self._application_logic.GetSliceLogics().RemoveItem(widget._logic)
            widget.deleteLater()
        shown = self._logic.GetViewNodes()
        mapped = {shown.GetItemAsObject(n).GetID() for n in range(shown.GetNumberOfItems())}
        for node in every:
            node.SetMappedInLayout(int(node.GetID() in mapped))

    def _make_slice(self, node: Any) -> qMRMLSliceWidget:
        widget = qMRMLSliceWidget(self._viewport)
        widget._logic = slicer.vtkMRMLSliceLogic()
        widget._logic.SetMRMLApplicationLogic(self._application_logic)
        self._application_logic.GetSliceLogics().AddItem(widget._logic)
        widget._logic.SetMRMLScene(self._scene)
        widget._logic.SetSliceNode(node)
        widget._logic.ResizeSliceNode(_SIZE, _SIZE)
        widget._view._node = node
        self._tags.append(widget._control(self._scene))
        return widget

    def _make_three_d(self, node: Any) -> qMRMLThreeDWidget:
        widget = qMRMLThreeDWidget(self._viewport)
        widget._view._node = node
        return widget

    def _make_plot(self, node: Any) -> qMRMLPlotWidget:
        widget = qMRMLPlotWidget(self._viewport)
        widget._view.setMRMLScene(self._scene)
        widget._view.setMRMLPlotViewNode(node)
        return widget

    def _make_table(self, node: Any) -> qMRMLTableWidget:
        widget = qMRMLTableWidget(self._viewport)
        widget._view.setMRMLScene(self._scene)
        widget._view.setMRMLTableNode(node.GetTableNode())
        return widget

    def close(self) -> None:
        for caller, tag in self._tags:
            caller.RemoveObserver(tag)
        self._application_logic.GetSliceLogics().RemoveAllItems()

    def _of_kind(self, kind: type) -> list[Any]:
        return [each for each in self._widgets.values() if isinstance(each, kind)]

    layout = QtCore.Property(
        int,
        lambda self: self._logic.GetLayoutNode().GetViewArrangement(),
        lambda self, value: self._logic.GetLayoutNode().SetViewArrangement(value),
    )
    threeDViewCount = QtCore.Property(int, lambda self: len(self._of_kind(qMRMLThreeDWidget)))
    tableViewCount = QtCore.Property(int, lambda self: len(self._of_kind(qMRMLTableWidget)))
    plotViewCount = QtCore.Property(int, lambda self: len(self._of_kind(qMRMLPlotWidget)))

    @invokable
    def setLayout(self, layout: int) -> None:
        self._logic.GetLayoutNode().SetViewArrangement(layout)

    @invokable
    def layoutLogic(self) -> Any:
        return self._logic

    @invokable
    def sliceViewNames(self) -> list[str]:
        return [each.mrmlSliceNode().GetLayoutName() for each in self._of_kind(qMRMLSliceWidget)]

    @invokable
    def sliceWidget(self, name: str) -> Any:
        found = (each for each in self._of_kind(qMRMLSliceWidget) if each.mrmlSliceNode().GetLayoutName() == name)
        return next(found, None)

    @invokable
    def threeDWidget(self, index: int) -> Any:
        return self._nth(qMRMLThreeDWidget, index)

    @invokable
    def plotWidget(self, index: int) -> Any:
        return self._nth(qMRMLPlotWidget, index)

    @invokable
    def tableWidget(self, index: int) -> Any:
        return self._nth(qMRMLTableWidget, index)

    def _nth(self, kind: type, index: int) -> Any:
        found = self._of_kind(kind)
        return found[index] if 0 <= index < len(found) else None

    @invokable
    def mrmlSliceLogics(self) -> Any:
        return self._application_logic.GetSliceLogics()

    @invokable
    def viewport(self) -> Any:
        return self._viewport

    @invokable
    def resetSliceViews(self) -> None:
        for each in self._of_kind(qMRMLSliceWidget):
            each._logic.FitSliceToBackground()

    @invokable
    def resetThreeDViews(self) -> None:
        """Nothing is drawn here."""
