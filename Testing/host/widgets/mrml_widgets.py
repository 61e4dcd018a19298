"""The plain MRML widgets: a widget with a scene, numbers, a table view and a plot view."""

from __future__ import annotations

from typing import Any, ClassVar

import slicer
import vtk
from PySide6 import QtCore, QtGui, QtWidgets

from ..pythonqt import invokable
from .observing import Observations
from .properties import kept
from .spinning import ctkDoubleSpinBox, ctkSliderWidget


class qMRMLWidget(QtWidgets.QWidget):
    """A widget that holds the scene and tells those below it."""

    SIGNALS: ClassVar[dict[str, str]] = {"mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged"}
    mrmlSceneChanged = QtCore.Signal(object)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._scene: Any = None

    def _scene_changed(self, scene: Any) -> None:
        """For derived widgets."""

    @invokable
    def mrmlScene(self) -> Any:
        return self._scene

    @invokable
    def setMRMLScene(self, scene: Any) -> None:
        if scene is not self._scene:
            self._scene = scene
            self._scene_changed(scene)
            self.mrmlSceneChanged.emit(scene)


class _WithScene:
    """`setMRMLScene` of the number widgets, whose units are not followed here."""

    _scene: Any = None

    def _set_scene(self, scene: Any) -> None:
        self._scene = scene


class qMRMLSliderWidget(ctkSliderWidget, _WithScene):
    quantity = kept(str, "quantity", "")

    @invokable
    def setMRMLScene(self, scene: Any) -> None:
        self._set_scene(scene)


class qMRMLSpinBox(ctkDoubleSpinBox, _WithScene):
    quantity = kept(str, "quantity", "")

    @invokable
    def setMRMLScene(self, scene: Any) -> None:
        self._set_scene(scene)


class qMRMLTableView(QtWidgets.QTableView):
    """Shows a table node and follows it; editing is not here."""

    SIGNALS: ClassVar[dict[str, str]] = {
        "mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged",
        "selectionChanged()": "selected",
    }
    mrmlSceneChanged = QtCore.Signal(object)
    selected = QtCore.Signal()
    transposed = kept(bool, "transposed", False)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._scene: Any = None
        self._node: Any = None
        self._observed = Observations(self)
        self.setModel(QtGui.QStandardItemModel(self))
        self.selectionModel().selectionChanged.connect(lambda *_: self.selected.emit())

    def _update(self, _data: Any = None) -> None:
        model = self.model()
        model.clear()
        table = self._node.GetTable() if self._node is not None else None
        if table is None:
            return
        first = int(self._node.GetUseFirstColumnAsRowHeader())
        names = [table.GetColumnName(n) or "" for n in range(table.GetNumberOfColumns())]
        titles = [self._node.GetColumnTitle(name) or name for name in names]
        for row in range(table.GetNumberOfRows()):
            values = [table.GetValue(row, column).ToString() for column in range(len(names))]
            model.appendRow([QtGui.QStandardItem(each) for each in values[first:]])
            if first:
                model.setVerticalHeaderItem(row, QtGui.QStandardItem(values[0]))
        model.setHorizontalHeaderLabels(titles[first:])

    @invokable
    def mrmlScene(self) -> Any:
        return self._scene

    @invokable
    def setMRMLScene(self, scene: Any) -> None:
        if scene is not self._scene:
            self._scene = scene
            self.mrmlSceneChanged.emit(scene)

    @invokable
    def setMRMLTableNode(self, node: Any) -> None:
        self._observed.clear()
        self._node = node
        self._observed.add(node, vtk.vtkCommand.ModifiedEvent, self._update)
        self._update()


class qMRMLPlotView(QtWidgets.QWidget):
    """Draws the chart of a plot view node: its series as lines, nothing to zoom or pick."""

    SIGNALS: ClassVar[dict[str, str]] = {"mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged"}
    mrmlSceneChanged = QtCore.Signal(object)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._scene: Any = None
        self._node: Any = None
        self._observed, self._observed_chart = Observations(self), Observations(self)

    def _view_changed(self, _data: Any = None) -> None:
        self._observed_chart.clear()
        self._observed_chart.add(self._chart(), vtk.vtkCommand.ModifiedEvent, lambda _data: self.update())
        self.update()

    def _chart(self) -> Any:
        return self._node.GetPlotChartNode() if self._node is not None else None

    def curves(self) -> list[tuple[str, tuple[float, float, float], list[float], list[float]]]:
        """Name, colour, x and y of every series whose table has them; for tests and for drawing."""
        chart = self._chart()
        result = []
        for n in range(chart.GetNumberOfPlotSeriesNodes() if chart is not None else 0):
            series = chart.GetNthPlotSeriesNode(n)
            table = series.GetTableNode().GetTable() if series is not None and series.GetTableNode() else None
            y = table.GetColumnByName(series.GetYColumnName()) if table is not None else None
            if y is None:
                continue
            x = table.GetColumnByName(series.GetXColumnName() or "") if series.GetXColumnName() else None
            rows = range(y.GetNumberOfValues())
            abscissae = [float(x.GetValue(row)) if x is not None else float(row) for row in rows]
            result.append((series.GetName(), series.GetColor(), abscissae, [float(y.GetValue(row)) for row in rows]))
        return result

    def paintEvent(self, _event: QtGui.QPaintEvent) -> None:
        painter = QtGui.QPainter(self)
        painter.setRenderHint(QtGui.QPainter.RenderHint.Antialiasing)
        painter.fillRect(self.rect(), QtCore.Qt.GlobalColor.white)
        curves = [each for each in self.curves() if each[2]]
        if not curves:
            return
        place = QtCore.QRectF(self.rect()).adjusted(36, 8, -8, -20)
        low_x, high_x = min(min(c[2]) for c in curves), max(max(c[2]) for c in curves)
        low_y, high_y = min(min(c[3]) for c in curves), max(max(c[3]) for c in curves)
        span_x, span_y = (high_x - low_x) or 1.0, (high_y - low_y) or 1.0
        painter.setPen(QtCore.Qt.GlobalColor.gray)
        painter.drawRect(place)
        for _name, color, xs, ys in curves:
            painter.setPen(QtGui.QPen(QtGui.QColor.fromRgbF(*color), 1.5))
            points = [
                QtCore.QPointF(
                    place.left() + (x - low_x) / span_x * place.width(),
                    place.bottom() - (y - low_y) / span_y * place.height(),
                )
                for x, y in zip(xs, ys, strict=True)
            ]
            painter.drawPolyline(points)

    def sizeHint(self) -> QtCore.QSize:
        return QtCore.QSize(150, 150)

    @invokable
    def setMRMLScene(self, scene: Any) -> None:
        if scene is not self._scene:
            self._scene = scene
            self.mrmlSceneChanged.emit(scene)

    @invokable
    def setMRMLPlotViewNode(self, node: Any) -> None:
        if node is not None and not isinstance(node, slicer.vtkMRMLPlotViewNode):
            raise ValueError(f"setMRMLPlotViewNode() takes a vtkMRMLPlotViewNode or None, not {node!r}")
        self._observed.clear()
        self._node = node
        self._observed.add(node, vtk.vtkCommand.ModifiedEvent, self._view_changed)
        self._view_changed()
