"""Which widget can show which type of parameter, and how: as in Slicer, anything else is refused."""

from __future__ import annotations

import dataclasses
import enum
import pathlib
from collections.abc import Callable
from typing import Any

import ctk
import qt
import slicer

from .ranges import FloatRange
from .types import findFirstAnnotation, getNodeTypes, isNodeOrUnionOfNodes, splitAnnotations, unannotatedType
from .validators import Choice, Maximum, Minimum, RangeBounds, WithinRange


@dataclasses.dataclass
class Decimals:
    value: int


@dataclasses.dataclass
class SingleStep:
    value: float


class GuiConnector:
    """A widget, the signal that tells its changes, and its value as the parameter's type."""

    def __init__(self, widget: Any, signal: str | None, read: Callable[[], Any], write: Callable[[Any], None]) -> None:
        self._widget, self._signal, self.read, self.write = widget, signal, read, write
        self._callback: Callable[[], None] | None = None

    def widget(self) -> Any:
        return self._widget

    def onChanged(self, callback: Callable[[], None] | None) -> None:
        if self._signal is None:
            return
        if callback is None:
            getattr(self._widget, self._signal).disconnect(self._changed)
        else:
            getattr(self._widget, self._signal).connect(self._changed)
        self._callback = callback

    def _changed(self) -> None:
        if self._callback:
            self._callback()


def _attribute(widget: Any, name: str, signal: str | None, convert: Callable[[Any], Any] = lambda v: v) -> GuiConnector:
    def write(value: Any) -> None:
        setattr(widget, name, value)

    return GuiConnector(widget, signal, lambda: convert(getattr(widget, name)), write)


def _number(widget: Any, kind: Any, annotations: Any, bounded_only: tuple[Any, ...]) -> GuiConnector:
    within = findFirstAnnotation(annotations, WithinRange)
    low, high = findFirstAnnotation(annotations, Minimum), findFirstAnnotation(annotations, Maximum)
    if type(widget) in bounded_only and not (within or (low and high)):
        raise RuntimeError(f"Cannot connect a {widget.className()} to a number without bounds.")
    floating = type(widget) not in (qt.QSlider, qt.QSpinBox)
    if floating and type(widget) is not ctk.ctkDoubleSlider:
        decimals = findFirstAnnotation(annotations, Decimals)
        if kind is int:
            widget.decimals = 0
        elif decimals:
            widget.decimals = decimals.value
    if step := findFirstAnnotation(annotations, SingleStep):
        widget.singleStep = step.value
    smallest, largest = (float("-inf"), float("inf")) if floating else (-(2**31), 2**31 - 1)
    widget.minimum = within.minimum if within else low.minimum if low else smallest
    widget.maximum = within.maximum if within else high.maximum if high else largest
    return _attribute(widget, "value", "valueChanged", int if kind is int else lambda value: value)


def _choices(widget: Any, labels: list[str], values: list[Any]) -> GuiConnector:
    def write(value: Any) -> None:
        if value not in values:
            raise ValueError(f"Unable to find value {value} in choices {values}")
        widget.currentIndex = values.index(value)

    widget.clear()
    for each in labels:
        widget.addItem(each)
    return GuiConnector(widget, "currentIndexChanged", lambda: values[widget.currentIndex], write)


def _line(widget: Any) -> GuiConnector:
    result = _attribute(widget, "text", "textChanged")

    def write(value: str) -> None:
        if value != widget.text:  # would move the cursor
            widget.text = value

    result.write = write  # type: ignore[method-assign]
    return result


def _range(widget: Any, annotations: Any) -> GuiConnector:
    bounds = findFirstAnnotation(annotations, RangeBounds)
    if bounds is None:
        raise RuntimeError("Cannot connect a range widget to a FloatRange without a RangeBounds annotation.")
    widget.setRange(bounds.minimum, bounds.maximum)
    return GuiConnector(
        widget,
        "valuesChanged",
        lambda: FloatRange(widget.minimumValue, widget.maximumValue),
        lambda value: widget.setValues(value.minimum, value.maximum),
    )


def _node(widget: Any, datatype: Any) -> GuiConnector:
    widget.nodeTypes = getNodeTypes(datatype)
    return GuiConnector(widget, "currentNodeChanged", widget.currentNode, widget.setCurrentNode)


def createGuiConnector(widget: Any, datatype: Any) -> GuiConnector:
    """The connector of exactly this class of widget and this type; RuntimeError if Slicer has none."""
    kind, annotations = splitAnnotations(datatype)
    shown = type(widget)
    numbers = (qt.QDoubleSpinBox, ctk.ctkSliderWidget, slicer.qMRMLSliderWidget, ctk.ctkDoubleSlider,
               ctk.ctkDoubleSpinBox, slicer.qMRMLSpinBox)  # fmt: skip
    if kind is bool and shown in (qt.QCheckBox, ctk.ctkCheckBox):
        return _attribute(widget, "checked", "stateChanged")
    if kind is bool and shown is qt.QPushButton:
        widget.checkable = True
        return _attribute(widget, "checked", "toggled")
    if kind is int and shown in (qt.QSlider, qt.QSpinBox):
        return _number(widget, kind, annotations, (qt.QSlider,))
    if kind in (int, float) and shown in numbers:
        return _number(widget, kind, annotations, (ctk.ctkSliderWidget, slicer.qMRMLSliderWidget))
    if shown in (qt.QComboBox, ctk.ctkComboBox):
        if kind in (int, float, str, bool):
            choice = findFirstAnnotation(annotations, Choice)
            if choice is None:
                raise RuntimeError("A combo box needs a parameter with the Choice annotation.")
            return _choices(widget, [str(each) for each in choice.choices], list(choice.choices))
        if isinstance(kind, type) and issubclass(kind, enum.Enum):
            label = getattr(kind, "label", lambda each: each.name)
            return _choices(widget, [label(each) for each in kind], list(kind))
    if kind is str and shown is qt.QLineEdit:
        return _line(widget)
    if kind is str and shown is qt.QLabel:
        return _attribute(widget, "text", None)
    if kind is str and shown is qt.QTextEdit:
        return GuiConnector(widget, "textChanged", widget.toPlainText, widget.setPlainText)
    if unannotatedType(kind) is FloatRange and shown is ctk.ctkRangeWidget:
        return _range(widget, annotations)
    if isinstance(kind, type) and issubclass(kind, pathlib.PurePath) and shown is ctk.ctkPathLineEdit:
        result = _attribute(widget, "currentPath", "currentPathChanged", kind)
        result.write = lambda value: setattr(widget, "currentPath", str(value))  # type: ignore[method-assign]
        return result
    if shown is slicer.qMRMLNodeComboBox and isNodeOrUnionOfNodes(datatype):
        return _node(widget, datatype)
    raise RuntimeError(f"Unable to create GUI connector from datatype '{datatype}' to widget type '{shown}'.")
