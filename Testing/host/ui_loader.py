"""Reads a Designer file as Slicer does: custom widgets by their class, then the connections between them.

The connections are made here and not by Qt, because their signatures name VTK's types, which PySide6 can not spell.
"""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

from PySide6 import QtCore, QtUiTools, QtWidgets

from . import pythonqt
from .widgets import ALL

# Python has them in Slicer, but no Designer plugin makes them (Libs/MRML/Widgets/DesignerPlugins): a `.ui` file that
# names one gets a bare QWidget. Seen in a real Slicer.
_WITHOUT_PLUGIN = ("qMRMLPlotView",)


class _Loader(QtUiTools.QUiLoader):
    def createWidget(self, name: str, parent: QtWidgets.QWidget | None = None, objectName: str = "") -> Any:
        if name in _WITHOUT_PLUGIN:
            raise LookupError(f"Slicer's Designer plugins have no {name}: make it in Python and put it into a layout.")
        if name in ALL:
            widget = ALL[name](parent)
            widget.setObjectName(objectName)
            return widget
        if name.startswith(("ctk", "qMRML", "qSlicer")):
            raise LookupError(f"The host has no stand-in for {name}: add it to Testing/host/widgets.")
        return super().createWidget(name, parent, objectName)


class QUiLoader(QtCore.QObject):
    """`qt.QUiLoader`, as far as `slicer.util.loadUI` uses it."""

    @pythonqt.invokable
    def load(self, device: QtCore.QIODevice, parent: QtWidgets.QWidget | None = None) -> Any:
        tree = ElementTree.fromstring(bytes(device.readAll().data()))
        connections = tree.find("connections")
        if connections is not None:
            tree.remove(connections)
        for widget in tree.iter("widget"):
            if widget.get("class") in ALL:
                _resolve_enumerators(widget, ALL[str(widget.get("class"))])
        buffer = QtCore.QBuffer()
        buffer.setData(ElementTree.tostring(tree))
        buffer.open(QtCore.QIODevice.OpenModeFlag.ReadOnly)
        result = _Loader().load(buffer, parent)
        if result is None:
            return None
        for connection in [] if connections is None else connections.iter("connection"):
            _connect(result, *(connection.findtext(part, "") for part in ("sender", "signal", "receiver", "slot")))
        return result


def _resolve_enumerators(widget: ElementTree.Element, kind: type) -> None:
    """Enumerators of a stand-in's own properties as numbers: PySide6 has no properties of enumeration types."""
    for item in widget.findall("property"):
        value = item[0]
        own = any(item.get("name") in vars(base) for base in kind.__mro__ if not pythonqt.is_native(base))
        if value.tag in ("enum", "set") and own:
            number = sum(_enumerator(each.strip()) for each in (value.text or "").split("|"))
            value.tag, value.text = "number", str(number)


def _enumerator(name: str) -> int:
    """The number of ``Class::Value``; LookupError if there is no such thing."""
    owner, _, value = name.rpartition("::")
    kind = ALL.get(owner) or next((getattr(m, owner) for m in (QtCore.Qt, QtWidgets) if hasattr(m, owner)), QtCore.Qt)
    member = pythonqt.enumerator(kind, value)
    if member is None:
        raise LookupError(f"The user interface names {name}, which does not exist.")
    return int(getattr(member, "value", member))


def _connect(root: QtWidgets.QWidget, sender: str, signal: str, receiver: str, slot: str) -> None:
    found = [root if root.objectName() == name else root.findChild(QtCore.QObject, name) for name in (sender, receiver)]
    if None in found:
        pythonqt.complain(f"The connection {sender}.{signal} -> {receiver}.{slot} names a widget that does not exist")
        return
    source, target = (pythonqt.wrap(each) for each in found)
    name = slot.split("(")[0]
    if not hasattr(target, name):
        pythonqt.complain(f"QObject::connect: No such slot {found[1].metaObject().className()}::{slot}")
        return
    source.connect(signal, target, slot)
