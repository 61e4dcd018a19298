"""Buttons, paths and texts of CTK. Looked up in commontk/CTK, Libs/Widgets; the code is written anew."""

from __future__ import annotations

from typing import Any, ClassVar

from PySide6 import QtCore, QtGui, QtWidgets

from ..pythonqt import invokable
from .properties import derived, kept

_Type = QtCore.QEvent.Type


class ctkCollapsibleButton(QtWidgets.QAbstractButton):
    """A titled button above its contents; checked means open."""

    SIGNALS: ClassVar[dict[str, str]] = {"contentsCollapsed(bool)": "contentsCollapsed"}
    contentsCollapsed = QtCore.Signal(bool)

    def __init__(self, *arguments: Any) -> None:
        text = arguments[0] if arguments and isinstance(arguments[0], str) else ""
        super().__init__(next((each for each in arguments if isinstance(each, QtWidgets.QWidget)), None))
        self._closed = self._forcing = self._created = False
        self._open_height = self.maximumHeight()
        self.setCheckable(True)
        self.setChecked(True)
        self.setText(text)
        self.setSizePolicy(QtWidgets.QSizePolicy.Policy.Minimum, QtWidgets.QSizePolicy.Policy.Preferred)
        self.setContentsMargins(0, self._title_height(), 0, 0)
        self.setBackgroundRole(QtGui.QPalette.ColorRole.Window)
        self.toggled.connect(lambda checked: self._collapse(not checked))

    collapsed = derived(bool, lambda self: self._closed, lambda self, value: self.setChecked(not value))
    collapsedHeight = kept(int, "collapsedHeight", 14)
    flat = kept(bool, "flat", False)

    def _title_height(self) -> int:
        return self.fontMetrics().height() + 8

    def _collapse(self, closed: bool) -> None:
        if closed == self._closed:
            return
        self._closed = closed
        if closed:
            self._open_height = self.maximumHeight()
            self.setMaximumHeight(self.sizeHint().height())
        else:
            self.setMaximumHeight(self._open_height)
        for child in self.children():
            if isinstance(child, QtWidgets.QWidget):
                self._show(child)
        self.updateGeometry()
        self.contentsCollapsed.emit(closed)

    def _show(self, child: QtWidgets.QWidget) -> None:
        """Show a child as the button is open or closed, except one that was hidden on purpose."""
        created = QtCore.Qt.WidgetAttribute.WA_WState_Created
        if not self.testAttribute(created):
            return
        wanted = child.property("visibilityToParent") is not False
        self._forcing = True
        visible = wanted and not self._closed
        if child.testAttribute(created) or not visible:
            child.setVisible(visible)
        if wanted:  # as if nobody had asked, so that an explicit wish is noticed later
            child.setAttribute(QtCore.Qt.WidgetAttribute.WA_WState_ExplicitShowHide, False)
        self._forcing = False

    def childEvent(self, event: QtCore.QChildEvent) -> None:
        child = event.child()
        if event.added() and isinstance(child, QtWidgets.QWidget):
            hidden = QtCore.Qt.WidgetAttribute.WA_WState_Hidden
            explicit = QtCore.Qt.WidgetAttribute.WA_WState_ExplicitShowHide
            if child.testAttribute(hidden) and child.testAttribute(explicit):
                child.setProperty("visibilityToParent", False)
            child.installEventFilter(self)
            self._show(child)
        super().childEvent(event)

    def eventFilter(self, child: QtCore.QObject, event: QtCore.QEvent) -> bool:
        """Someone else shows or hides a child: remembered, and undone while the button is closed."""
        kind = event.type()
        if not self.__dict__.get("_forcing") and kind in (_Type.ShowToParent, _Type.HideToParent):
            child.setProperty("visibilityToParent", kind == _Type.ShowToParent)
            if self._closed and kind == _Type.ShowToParent:
                self._show(child)
        return False

    def setVisible(self, visible: bool) -> None:
        self._forcing = True
        super().setVisible(visible)
        self._forcing = False
        if not self._created and self.testAttribute(QtCore.Qt.WidgetAttribute.WA_WState_Created):
            self._created = True
            for child in self.children():
                if isinstance(child, QtWidgets.QWidget):
                    self._show(child)

    def _title(self) -> QtCore.QSize:
        below = self.property("collapsedHeight") if self._closed else 0
        return QtCore.QSize(self.fontMetrics().horizontalAdvance(self.text()) + 40, self._title_height() + below)

    def sizeHint(self) -> QtCore.QSize:
        return self._title() if self._closed else super().sizeHint().expandedTo(self._title())

    def minimumSizeHint(self) -> QtCore.QSize:
        return self._title() if self._closed else super().minimumSizeHint().expandedTo(self._title())

    def hitButton(self, position: QtCore.QPoint) -> bool:
        return self.rect().contains(position) and position.y() < self._title_height()

    def paintEvent(self, _event: QtGui.QPaintEvent) -> None:
        painter = QtWidgets.QStylePainter(self)
        option = QtWidgets.QStyleOptionButton()
        option.initFrom(self)
        option.rect.setHeight(self._title_height())
        painter.drawControl(QtWidgets.QStyle.ControlElement.CE_PushButtonBevel, option)
        arrow = QtWidgets.QStyleOption()
        arrow.initFrom(self)
        arrow.rect = QtCore.QRect(6, self._title_height() // 2 - 5, 10, 10)
        closed = QtWidgets.QStyle.PrimitiveElement.PE_IndicatorArrowRight
        opened = QtWidgets.QStyle.PrimitiveElement.PE_IndicatorArrowDown
        painter.drawPrimitive(closed if self._closed else opened, arrow)
        place = option.rect.adjusted(22, 0, -4, 0)
        painter.drawText(place, int(QtCore.Qt.AlignmentFlag.AlignVCenter), self.text().replace("&&", "&"))


class ctkPathLineEdit(QtWidgets.QWidget):
    """An editable combo box of recent paths, and a button to browse."""

    SIGNALS: ClassVar[dict[str, str]] = {
        "currentPathChanged(QString)": "currentPathChanged",
        "validInputChanged(bool)": "validInputChanged",
    }
    ENUMERATORS: ClassVar[dict[str, int]] = {
                   "Dirs": 1, "Files": 2, "Drives": 4, "Readable": 0x10, "Writable": 0x20, "Executable": 0x40,
                   "Hidden": 0x100, "AllDirs": 0x400, "NoDotAndDotDot": 0x1000, "NoDot": 0x2000, "NoDotDot": 0x4000,
                   "AllEntries": 7, "AdjustToContents": 0, "AdjustToContentsOnFirstShow": 1,
                   "AdjustToMinimumContentsLength": 2}  # fmt: skip
    currentPathChanged = QtCore.Signal(str)
    validInputChanged = QtCore.Signal(bool)
    _LONGEST_HISTORY = 5

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        self._combo = QtWidgets.QComboBox(self)
        self._combo.setEditable(True)
        self._combo.setInsertPolicy(QtWidgets.QComboBox.InsertPolicy.NoInsert)
        self._combo.setSizePolicy(QtWidgets.QSizePolicy.Policy.Ignored, QtWidgets.QSizePolicy.Policy.Fixed)
        self._button = QtWidgets.QToolButton(self)
        self._button.setText("...")
        self._button.setToolTip("Open a dialog")
        self._button.clicked.connect(self.browse)
        layout.addWidget(self._combo, 1)
        layout.addWidget(self._button)
        self.setSizePolicy(QtWidgets.QSizePolicy.Policy.Expanding, QtWidgets.QSizePolicy.Policy.Fixed)
        self.setFocusProxy(self._combo.lineEdit())
        self._valid = False
        self._combo.lineEdit().textChanged.connect(self._text_changed)

    def _set_current(self, path: str) -> None:
        self._combo.lineEdit().setText(path)

    def _text_changed(self, text: str) -> None:
        valid = bool(text) or not self.property("nameFilters")
        if valid:
            self.currentPathChanged.emit(text)
        if valid != self._valid:
            self._valid = valid
            self.validInputChanged.emit(valid)

    def _key(self) -> str:
        return "ctkPathLineEdit/" + (self.property("settingKey") or self.objectName())

    currentPath = derived(str, lambda self: self._combo.lineEdit().text(), _set_current)
    label = kept(str, "label", "")
    filters = kept(int, "filters", 0x1057)
    nameFilters = kept("QStringList", "nameFilters", [])
    options = kept(int, "options", 0)
    settingKey = kept(str, "settingKey", "", lambda self, _key: self.retrieveHistory())
    sizeAdjustPolicy = kept(int, "sizeAdjustPolicy", 2)
    minimumContentsLength = kept(int, "minimumContentsLength", 0)

    @invokable
    def comboBox(self) -> QtWidgets.QComboBox:
        return self._combo

    @invokable
    def browse(self) -> None:
        """Asks the static functions of QFileDialog, which the host answers."""
        from ..dialogs import ask_for_path

        folder_only = not self.property("filters") & self.ENUMERATORS["Files"]
        if path := ask_for_path(self.property("currentPath"), folder_only, self.property("nameFilters")):
            self._set_current(path)

    @invokable
    def retrieveHistory(self) -> None:
        path = self.property("currentPath")
        blocked = self.blockSignals(True)
        self._combo.clear()
        self._combo.addItems(_strings(QtCore.QSettings().value(self._key()))[: self._LONGEST_HISTORY])
        if path:
            self._set_current(path)
            self.blockSignals(blocked)
        else:
            self.blockSignals(blocked)
            self._combo.setCurrentIndex(0)

    @invokable
    def addCurrentPathToHistory(self) -> None:
        path = self.property("currentPath")
        if not path:
            return
        settings = QtCore.QSettings()
        settings.setValue(self._key(), [path, *(p for p in _strings(settings.value(self._key())) if p != path)])
        if (index := self._combo.findText(path)) >= 0:
            self._combo.removeItem(index)
        while self._combo.count() >= self._LONGEST_HISTORY:
            self._combo.removeItem(self._combo.count() - 1)
        self._combo.insertItem(0, path)
        self._combo.setCurrentIndex(0)


def _strings(value: Any) -> list[str]:
    """What QSettings gives for a string list: nothing, one string, or a list."""
    return [] if not value else [value] if isinstance(value, str) else [str(each) for each in value]


class ctkFittedTextBrowser(QtWidgets.QTextBrowser):
    """A text browser as high as its text."""

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self.setVerticalScrollBarPolicy(QtCore.Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setSizePolicy(QtWidgets.QSizePolicy.Policy.Ignored, QtWidgets.QSizePolicy.Policy.Fixed)
        self.document().documentLayout().documentSizeChanged.connect(lambda _size: self.updateGeometry())
        self.setOpenLinks(False)

    def sizeHint(self) -> QtCore.QSize:
        return QtCore.QSize(super().sizeHint().width(), self.heightForWidth(self.width()))

    minimumSizeHint = sizeHint

    def heightForWidth(self, _width: int) -> int:
        return int(self.document().size().height()) + 2 * self.frameWidth()


class ctkCheckBox(QtWidgets.QCheckBox):
    """A check box that can also have an icon as its indicator; the icon is not drawn here."""


class ctkComboBox(QtWidgets.QComboBox):
    """A combo box with a text for "nothing chosen"."""
