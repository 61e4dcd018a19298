"""Numbers of CTK: slider with spin box, spin box, range. Looked up in commontk/CTK, Libs/Widgets."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from PySide6 import QtCore, QtWidgets

from ..pythonqt import invokable
from .properties import derived, kept

_STEPS = 10000  # positions of the integer slider below a floating-point one


class ctkDoubleSpinBox(QtWidgets.QWidget):
    """A QDoubleSpinBox in a widget; its setters are properties, not methods, for Python."""

    SIGNALS: ClassVar[dict[str, str]] = {
        "valueChanged(double)": "valueChanged",
        "valueChanged(QString)": "textChanged",
        "editingFinished()": "editingFinished",
        "decimalsChanged(int)": "decimalsChanged",
    }
    ENUMERATORS: ClassVar[dict[str, int]] = {
                   "SetAlways": 0, "SetIfDifferent": 1, "FixedDecimals": 0, "DecimalsByShortcuts": 1,
                   "DecimalsByKey": 2,
                   "DecimalsByValue": 4}  # fmt: skip
    valueChanged = QtCore.Signal(float)
    textChanged = QtCore.Signal(str)
    editingFinished = QtCore.Signal()
    decimalsChanged = QtCore.Signal(int)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._box = QtWidgets.QDoubleSpinBox(self)
        layout.addWidget(self._box)
        self.setSizePolicy(QtWidgets.QSizePolicy.Policy.Minimum, QtWidgets.QSizePolicy.Policy.Fixed)
        self.setFocusProxy(self._box)
        self._box.valueChanged.connect(self.valueChanged)
        self._box.textChanged.connect(self.textChanged)
        self._box.editingFinished.connect(self.editingFinished)

    minimum = derived(float, lambda self: self._box.minimum(), lambda self, v: self._box.setMinimum(v))
    maximum = derived(float, lambda self: self._box.maximum(), lambda self, v: self._box.setMaximum(v))
    singleStep = derived(float, lambda self: self._box.singleStep(), lambda self, v: self._box.setSingleStep(v))
    value = derived(float, lambda self: self._box.value(), lambda self, v: self._box.setValue(v))
    decimals = derived(int, lambda self: self._box.decimals(), lambda self, v: self.setDecimals(v))
    prefix = derived(str, lambda self: self._box.prefix(), lambda self, v: self._box.setPrefix(v))
    suffix = derived(str, lambda self: self._box.suffix(), lambda self, v: self._box.setSuffix(v))
    frame = derived(bool, lambda self: self._box.hasFrame(), lambda self, v: self._box.setFrame(v))
    cleanText = derived(str, lambda self: self._box.cleanText())
    invertedControls = kept(bool, "invertedControls", False)

    @invokable
    def setValue(self, value: float) -> None:
        self._box.setValue(value)

    @invokable
    def stepUp(self) -> None:
        self._box.stepUp()

    @invokable
    def stepDown(self) -> None:
        self._box.stepDown()

    @invokable
    def setDecimals(self, decimals: int) -> None:
        if decimals != self._box.decimals():
            self._box.setDecimals(decimals)
            self.decimalsChanged.emit(decimals)

    @invokable
    def setReadOnly(self, read_only: bool) -> None:
        self._box.setReadOnly(read_only)


class ctkDoubleSlider(QtWidgets.QWidget):
    """A slider of floating-point values."""

    SIGNALS: ClassVar[dict[str, str]] = {
        "valueChanged(double)": "valueChanged",
        "valueIsChanging(double)": "valueIsChanging",
        "sliderMoved(double)": "sliderMoved",
        "sliderPressed()": "sliderPressed",
        "sliderReleased()": "sliderReleased",
        "rangeChanged(double,double)": "rangeChanged",
    }
    valueChanged = QtCore.Signal(float)
    valueIsChanging = QtCore.Signal(float)
    sliderMoved = QtCore.Signal(float)
    sliderPressed = QtCore.Signal()
    sliderReleased = QtCore.Signal()
    rangeChanged = QtCore.Signal(float, float)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(next((each for each in arguments if isinstance(each, QtWidgets.QWidget)), None))
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._low, self._high, self._exact = 0.0, 99.0, 0.0
        self._bar = QtWidgets.QSlider(QtCore.Qt.Orientation.Horizontal, self)
        self._bar.setRange(0, _STEPS)
        layout.addWidget(self._bar)
        self._bar.valueChanged.connect(self._moved)
        self._bar.sliderPressed.connect(self.sliderPressed)
        self._bar.sliderReleased.connect(self._released)

    def _moved(self, position: int) -> None:
        self._exact = self._low + (self._high - self._low) * position / _STEPS
        if self._bar.isSliderDown() and not self.property("tracking"):
            self.valueIsChanging.emit(self._exact)
        else:
            self.valueChanged.emit(self._exact)

    def _released(self) -> None:
        self.sliderReleased.emit()
        if not self.property("tracking"):
            self.valueChanged.emit(self._exact)

    def _set_range(self, low: float, high: float) -> None:
        self._low, self._high = low, max(low, high)
        self.rangeChanged.emit(self._low, self._high)
        self._set(self._exact)

    def _set(self, value: float) -> None:
        value = max(self._low, min(self._high, value))
        different, self._exact = value != self._exact, value
        span = self._high - self._low
        blocked = self._bar.blockSignals(True)
        self._bar.setValue(round((value - self._low) / span * _STEPS) if span and math.isfinite(span) else 0)
        self._bar.blockSignals(blocked)
        if different:
            self.valueChanged.emit(value)

    minimum = derived(float, lambda self: self._low, lambda self, v: self._set_range(v, max(v, self._high)))
    maximum = derived(float, lambda self: self._high, lambda self, v: self._set_range(min(v, self._low), v))
    value = derived(float, lambda self: self._exact, lambda self, v: self._set(v))
    singleStep = kept(float, "singleStep", 1.0)
    pageStep = kept(float, "pageStep", 10.0)
    tracking = kept(bool, "tracking", True)

    @invokable
    def setValue(self, value: float) -> None:
        self._set(value)


class ctkSliderWidget(QtWidgets.QWidget):
    """A slider and a spin box that show one value. Minimum, maximum and steps are properties, not methods."""

    SIGNALS: ClassVar[dict[str, str]] = {
        "valueChanged(double)": "valueChanged",
        "valueIsChanging(double)": "valueIsChanging",
        "decimalsChanged(int)": "decimalsChanged",
    }
    valueChanged = QtCore.Signal(float)
    valueIsChanging = QtCore.Signal(float)
    decimalsChanged = QtCore.Signal(int)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._slider = ctkDoubleSlider(self)
        self._slider.setProperty("maximum", 100.0)
        self._box = QtWidgets.QDoubleSpinBox(self)
        self._box.setMaximum(100.0)
        layout.addWidget(self._slider, 1)
        layout.addWidget(self._box)
        self.setSizePolicy(QtWidgets.QSizePolicy.Policy.Minimum, QtWidgets.QSizePolicy.Policy.Fixed)
        self._slider.valueChanged.connect(self._slid)
        self._slider.valueIsChanging.connect(self.valueIsChanging)
        self._box.valueChanged.connect(self._typed)

    def _slid(self, value: float) -> None:
        blocked = self._box.blockSignals(True)
        before = self._box.value()
        self._box.setValue(value)
        self._box.blockSignals(blocked)
        if self._box.value() != before:
            self.valueChanged.emit(self._box.value())

    def _typed(self, value: float) -> None:
        blocked = self._slider.blockSignals(True)
        self._slider.setProperty("value", value)
        self._slider.blockSignals(blocked)
        self.valueChanged.emit(value)

    def _limit(self, low: float | None, high: float | None) -> None:
        if low is not None:
            self._slider.setProperty("minimum", low)
            self._box.setMinimum(low)
        if high is not None:
            self._slider.setProperty("maximum", high)
            self._box.setMaximum(high)

    minimum = derived(float, lambda self: self._box.minimum(), lambda self, v: self._limit(v, None))
    maximum = derived(float, lambda self: self._box.maximum(), lambda self, v: self._limit(None, v))
    value = derived(float, lambda self: self._box.value(), lambda self, v: self.setValue(v))
    singleStep = derived(float, lambda self: self._box.singleStep(), lambda self, v: self._box.setSingleStep(v))
    pageStep = kept(float, "pageStep", 10.0)
    decimals = derived(int, lambda self: self._box.decimals(), lambda self, v: self.setDecimals(v))
    prefix = derived(str, lambda self: self._box.prefix(), lambda self, v: self._box.setPrefix(v))
    suffix = derived(str, lambda self: self._box.suffix(), lambda self, v: self._box.setSuffix(v))
    tracking = derived(
        bool,
        lambda self: self._slider.property("tracking"),
        lambda self, v: self._slider.setProperty("tracking", v),
    )
    invertedControls = kept(bool, "invertedControls", False)

    @invokable
    def setValue(self, value: float) -> None:
        self._box.setValue(value)

    @invokable
    def reset(self) -> None:
        self._box.setValue(0.0)

    @invokable
    def setDecimals(self, decimals: int) -> None:
        if decimals != self._box.decimals():
            self._box.setDecimals(decimals)
            self.decimalsChanged.emit(decimals)


class ctkRangeWidget(QtWidgets.QWidget):
    """Two spin boxes for a lower and an upper value (the double slider between them is not drawn)."""

    SIGNALS: ClassVar[dict[str, str]] = {
        "valuesChanged(double,double)": "valuesChanged",
        "minimumValueChanged(double)": "minimumValueChanged",
        "maximumValueChanged(double)": "maximumValueChanged",
        "rangeChanged(double,double)": "rangeChanged",
    }
    valuesChanged = QtCore.Signal(float, float)
    minimumValueChanged = QtCore.Signal(float)
    maximumValueChanged = QtCore.Signal(float)
    rangeChanged = QtCore.Signal(float, float)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._lower, self._upper = QtWidgets.QDoubleSpinBox(self), QtWidgets.QDoubleSpinBox(self)
        for box in (self._lower, self._upper):
            layout.addWidget(box)
        self._lower.valueChanged.connect(lambda value: self._changed(value, None))
        self._upper.valueChanged.connect(lambda value: self._changed(None, value))

    def _changed(self, low: float | None, high: float | None) -> None:
        if low is not None:
            self._upper.setMinimum(low)
            self.minimumValueChanged.emit(low)
        if high is not None:
            self._lower.setMaximum(high)
            self.maximumValueChanged.emit(high)
        self.valuesChanged.emit(self._lower.value(), self._upper.value())

    minimum = derived(
        float, lambda self: self._lower.minimum(), lambda self, v: self.setRange(v, self._upper.maximum())
    )
    maximum = derived(
        float, lambda self: self._upper.maximum(), lambda self, v: self.setRange(self._lower.minimum(), v)
    )
    minimumValue = derived(float, lambda self: self._lower.value(), lambda self, v: self._lower.setValue(v))
    maximumValue = derived(float, lambda self: self._upper.value(), lambda self, v: self._upper.setValue(v))
    singleStep = derived(
        float,
        lambda self: self._lower.singleStep(),
        lambda self, v: (self._lower.setSingleStep(v), self._upper.setSingleStep(v)),
    )
    decimals = derived(int, lambda self: self._lower.decimals(), lambda self, v: self.setDecimals(v))
    prefix = kept(str, "prefix", "")
    suffix = kept(str, "suffix", "")
    tracking = kept(bool, "tracking", True)

    @invokable
    def setRange(self, low: float, high: float) -> None:
        self._lower.setMinimum(low)
        self._upper.setMaximum(high)
        self._lower.setMaximum(max(low, self._upper.value()))
        self._upper.setMinimum(self._lower.value())
        self.rangeChanged.emit(low, high)

    @invokable
    def setValues(self, low: float, high: float) -> None:
        self._upper.setMinimum(low)
        self._upper.setValue(high)
        self._lower.setMaximum(self._upper.value())
        self._lower.setValue(low)

    @invokable
    def setDecimals(self, decimals: int) -> None:
        self._lower.setDecimals(decimals)
        self._upper.setDecimals(decimals)
