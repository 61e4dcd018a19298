"""Screenshots of the panel, off screen, at Slicer's width and in both palettes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets

from .main_window import PANEL_WIDTH
from .pythonqt import unwrap

_Role = QtGui.QPalette.ColorRole
_DARK = {
    _Role.Window: "#353535", _Role.WindowText: "#ffffff", _Role.Base: "#2a2a2a", _Role.AlternateBase: "#353535",
    _Role.Text: "#ffffff", _Role.Button: "#353535", _Role.ButtonText: "#ffffff", _Role.Highlight: "#2a82da",
    _Role.HighlightedText: "#000000", _Role.Link: "#5aa9ff", _Role.ToolTipBase: "#353535", _Role.ToolTipText: "#ffffff",
    _Role.PlaceholderText: "#9a9a9a", _Role.Light: "#505050", _Role.Mid: "#2f2f2f", _Role.Dark: "#202020",
}  # fmt: skip


def palette(dark: bool) -> QtGui.QPalette:
    """Fusion's light palette, or a dark one like that of Slicer's dark style."""
    result = QtGui.QPalette(QtGui.QColor("#efefef"))
    if dark:
        for role, color in _DARK.items():
            result.setColor(role, QtGui.QColor(color))
        for role in (_Role.WindowText, _Role.Text, _Role.ButtonText):
            result.setColor(QtGui.QPalette.ColorGroup.Disabled, role, QtGui.QColor("#7f7f7f"))
    return result


def panel_picture(widget: Any, path: Path, dark: bool = False, width: int = PANEL_WIDTH) -> Path:
    """The whole panel of a module widget (`host.open()`), as high as it needs to be; written as PNG.

    ``widget`` is the module's Python widget. The path is returned. The palette before is restored.
    """
    application = QtWidgets.QApplication.instance()
    before = application.palette()
    panel = unwrap(widget.parent)
    window = panel.window()
    size = window.size()
    application.setPalette(palette(dark))
    window.resize(width, panel.sizeHint().height() + 20)
    _settle()
    window.resize(width, panel.sizeHint().height() + 20)  # texts that wrap know their height now
    _settle()
    picture = panel.grab(QtCore.QRect(0, 0, min(width, panel.width()), panel.height()))
    assert picture.save(str(path), "PNG"), f"the picture could not be written to {path}"
    application.setPalette(before)
    window.resize(size)
    _settle()
    return path


def too_wide(widget: Any, width: int = PANEL_WIDTH) -> list[str]:
    """Names of the visible widgets that do not fit into a panel of this width: their right edge lies outside."""
    panel = unwrap(widget.parent)
    panel.window().resize(width, 1000)
    _settle()
    result = []
    for each in panel.findChildren(QtWidgets.QWidget):
        if each.isVisible() and each.objectName() and not isinstance(each.parent(), QtWidgets.QAbstractScrollArea):
            right = each.mapTo(panel, QtCore.QPoint(each.width(), 0)).x()
            if right > width and not _inside_scrolling(each, panel):
                result.append(f"{each.objectName()} ends at {right} px")
    return result


def _inside_scrolling(widget: QtWidgets.QWidget, panel: QtWidgets.QWidget) -> bool:
    parent = widget.parentWidget()
    while parent is not None and parent is not panel:
        if isinstance(parent, QtWidgets.QAbstractScrollArea):
            return True
        parent = parent.parentWidget()
    return False


def _settle() -> None:
    for _ in range(3):
        QtWidgets.QApplication.processEvents()


def brightness(path: Path) -> float:
    """The mean grey value of a picture, 0 to 255."""
    image = QtGui.QImage(str(path)).convertToFormat(QtGui.QImage.Format.Format_Grayscale8).scaled(40, 40)
    return sum(image.pixelColor(x, y).red() for x in range(40) for y in range(40)) / 1600
