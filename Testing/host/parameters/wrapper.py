"""parameterNodeWrapper: typed attributes over a vtkMRMLScriptedModuleNode, connected to widgets by their names."""

from __future__ import annotations

import weakref
from typing import Any

import qt
import slicer
import vtk

from .connectors import GuiConnector, createGuiConnector
from .packs import parameters_of
from .types import split_name, unannotatedType

SlicerParameterNamePropertyName = "SlicerParameterName"
_RESERVED = ("allParameters", "default", "isCached", "dataType", "getValue", "setValue", "connectGui", "AddObserver",
             "connectParametersToGui", "disconnectGui", "StartModify", "EndModify", "RemoveObserver",
             "Modified")  # fmt: skip


def isParameterNodeWrapper(kind: Any) -> bool:
    return bool(getattr(kind, "_is_parameter_node_wrapper", False))


def parameterNodeWrapper(classtype: Any = None) -> Any:
    """Class decorator."""
    return _make_wrapper if classtype is None else _make_wrapper(classtype)


def _make_wrapper(kind: type) -> type:
    parameters = parameters_of(kind)
    for reserved in _RESERVED:
        if hasattr(kind, reserved):
            raise ValueError(f"Cannot use reserved name '{reserved}' in a parameterNodeWrapper")
    for name in parameters:
        setattr(kind, name, property(_reader(name), _writer(name)))
    kind.allParameters = parameters  # type: ignore[attr-defined]
    kind._is_parameter_node_wrapper = True  # type: ignore[attr-defined]
    kind.__init__ = _initialise  # type: ignore[misc]
    kind.dataType = classmethod(_data_type)  # type: ignore[attr-defined]
    for function in (_default, _is_cached, _get_value, _set_value, _connect_gui, _connect_parameters, _disconnect_gui):
        setattr(kind, _NAMES[function.__name__], function)
    kind.StartModify = lambda self: self.parameterNode.StartModify()  # type: ignore[attr-defined]
    kind.EndModify = lambda self, modified: self.parameterNode.EndModify(modified)  # type: ignore[attr-defined]
    kind.AddObserver = (  # type: ignore[attr-defined]
        lambda self, event, callback, priority=0.0: self.parameterNode.AddObserver(event, callback, priority)
    )
    kind.RemoveObserver = lambda self, tag: self.parameterNode.RemoveObserver(tag)  # type: ignore[attr-defined]
    kind.Modified = lambda self: self.parameterNode.Modified()  # type: ignore[attr-defined]
    return kind


_NAMES = {"_default": "default", "_is_cached": "isCached", "_get_value": "getValue", "_set_value": "setValue",
          "_connect_gui": "connectGui", "_connect_parameters": "connectParametersToGui",
          "_disconnect_gui": "disconnectGui"}  # fmt: skip


class _Cache:
    """Values as they were when the node was last modified: as in Slicer, a node that was removed stays till then."""

    def __init__(self, wrapper: Any) -> None:
        self.values: dict[str, Any] = {}
        self.node = wrapper.parameterNode
        self._cached = {
            name: (wrapper._prefix + name, each.serializer)
            for name, each in wrapper.allParameters.items()
            if each.serializer.cached
        }
        this = weakref.ref(self)  # the observer must not keep the wrapper alive

        def modified(_caller: Any, _event: str) -> None:
            cache = this()
            if cache is not None:
                cache.refresh()

        self.tag = self.node.AddObserver(vtk.vtkCommand.ModifiedEvent, modified)

    def refresh(self) -> None:
        for name, (full, serializer) in self._cached.items():
            if serializer.isIn(self.node, full):
                self.values[name] = serializer.read(self.node, full)
            else:
                self.values.pop(name, None)

    def __del__(self) -> None:
        self.node.RemoveObserver(self.tag)


def _initialise(self: Any, parameterNode: Any, prefix: str | None = None) -> None:
    self.parameterNode = parameterNode
    self._prefix = prefix or ""
    self._guis: dict[int, tuple[dict[str, GuiConnector], int]] = {}
    self._next_gui, self._updating = 0, False
    self._cache = _Cache(self)
    for name, parameter in self.allParameters.items():
        if not parameter.serializer.isIn(parameterNode, self._prefix + name):
            parameter.serializer.write(parameterNode, self._prefix + name, parameter.default.value)
    self._cache.refresh()


def _reader(name: str) -> Any:
    def read(self: Any) -> Any:
        serializer = self.allParameters[name].serializer
        if name in self._cache.values:
            return self._cache.values[name]
        if not serializer.isIn(self.parameterNode, self._prefix + name):
            serializer.write(self.parameterNode, self._prefix + name, self.allParameters[name].default.value)
        value = serializer.read(self.parameterNode, self._prefix + name)
        if serializer.cached:
            self._cache.values[name] = value
        return value

    return read


def _writer(name: str) -> Any:
    def write(self: Any, value: Any) -> None:
        serializer = self.allParameters[name].serializer
        with slicer.util.NodeModify(self.parameterNode):
            serializer.write(self.parameterNode, self._prefix + name, value)
            self._cache.refresh()  # before observers can ask

    return write


def _check(owner: Any, dotted: str) -> None:
    top, rest = split_name(dotted)
    if top not in owner.allParameters:
        raise ValueError(f"Cannot find a param with the given name: {top}; there are {list(owner.allParameters)}")
    if rest is not None:
        unannotatedType(owner.allParameters[top].unalteredType).dataType(rest)


def _data_type(cls: Any, dotted: str) -> Any:
    _check(cls, dotted)
    top, rest = split_name(dotted)
    kind = cls.allParameters[top].unalteredType
    return kind if rest is None else unannotatedType(kind).dataType(rest)


def _default(self: Any, name: str) -> Any:
    _check(self, name)
    return self.allParameters[name].default


def _is_cached(self: Any, name: str) -> bool:
    _check(self, name)
    return self.allParameters[name].serializer.cached


def _get_value(self: Any, dotted: str) -> Any:
    _check(self, dotted)
    top, rest = split_name(dotted)
    value = getattr(self, top)
    return value if rest is None else value.getValue(rest)


def _set_value(self: Any, dotted: str, value: Any) -> None:
    _check(self, dotted)
    top, rest = split_name(dotted)
    if rest is None:
        setattr(self, top, value)
    else:
        getattr(self, top).setValue(rest, value)


def _update_gui(self: Any) -> None:
    if self._updating:
        return
    self._updating = True
    try:
        with slicer.util.NodeModify(self):
            for connectors, _tag in list(self._guis.values()):
                for name, connector in connectors.items():
                    connector.write(self.getValue(name))
    finally:
        self._updating = False


def _connect_parameters(self: Any, mapping: dict[str, Any]) -> int:
    for name in mapping:
        _check(self, name)
    connectors = {
        name: widget if isinstance(widget, GuiConnector) else createGuiConnector(widget, self.dataType(name))
        for name, widget in mapping.items()
    }
    tag = self._next_gui
    self._next_gui += 1
    for name, connector in connectors.items():
        connector.write(self.getValue(name))
        connector.onChanged(_writer_of_gui(self, name, connector))
    observed = self.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: _update_gui(self))
    self._guis[tag] = (connectors, observed)
    return tag


def _writer_of_gui(self: Any, name: str, connector: GuiConnector) -> Any:
    def changed() -> None:
        with slicer.util.NodeModify(self):
            if not self._updating:
                self.setValue(name, connector.read())

    return changed


def _connect_gui(self: Any, gui: Any) -> int:
    """All widgets whose dynamic property SlicerParameterName names a parameter."""
    is_widget = getattr(gui, "isWidgetType", lambda: False)()
    widgets = gui.findChildren(qt.QWidget) if is_widget else list(vars(gui).values())
    named = {widget.property(SlicerParameterNamePropertyName): widget for widget in widgets}
    return self.connectParametersToGui({name: widget for name, widget in named.items() if name})


def _disconnect_gui(self: Any, tag: Any) -> None:
    if tag not in self._guis:
        return
    connectors, observed = self._guis.pop(tag)
    for connector in connectors.values():
        connector.onChanged(None)
    self.RemoveObserver(observed)


def findChildWidgetForParameter(widget: Any, parameter: str) -> Any:
    for each in widget.findChildren(qt.QWidget):
        if each.property(SlicerParameterNamePropertyName) == parameter:
            return each
    return None
