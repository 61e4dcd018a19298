"""PythonQt's manners over PySide6: how Slicer's Python sees Qt.

Properties are attributes, signals are connected by signature or by attribute, methods keep their C++ names, classes
know nothing of each other's inheritance, and what does not exist is refused. Looked up in commontk/PythonQt
(PythonQtInstanceWrapper, PythonQtStdDecorators, PythonQtSignalReceiver).
"""

from __future__ import annotations

import enum
import inspect
import sys
import weakref
from collections.abc import Callable
from typing import Any

import shiboken6
from PySide6 import QtCore

# What PySide6 gives every QObject and PythonQt does not
_PYSIDE_ONLY = {"emit", "receivers", "sender", "isSignalConnected", "registerUserData", "destroyed_"}
_invokable_mark = "_pythonqt_invokable"


def invokable(function: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a method of a stand-in widget as one that Python sees in Slicer: a public slot or Q_INVOKABLE."""
    setattr(function, _invokable_mark, True)
    return function


class Wrapper:
    """A QObject as Python sees it in Slicer. Its class and all its siblings derive from this one alone."""

    __slots__ = ("__dict__", "__weakref__", "_object")
    _qt: type  # the PySide6 class, or the stand-in derived from one

    def __init__(self, *arguments: Any) -> None:
        kind = type(self)
        target = kind._qt if kind.__base__ is Wrapper else _shell(kind)
        with_self = target(*unwrap(arguments))
        object.__setattr__(self, "_object", with_self)
        if kind.__base__ is not Wrapper:
            with_self._proxy = self  # lives as long as the C++ object has a parent
        _proxies[_address(with_self)] = self

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_object":
            raise AttributeError(f"{type(self).__name__} has no attribute named '{name}'")
        target = _alive(self, name)
        found = _property(target, name)
        if found is not None:
            return wrap(target.property(found.name()))
        if signature := _signals(target, name):
            return SignalFunction(self, signature)
        method = _method(type(target), name)
        if method is not None:
            return _bound(target, name)
        if (member := enumerator(_base(type(self))._qt, name)) is not None:
            return member
        if name.encode() in [bytes(each) for each in target.dynamicPropertyNames()]:
            return wrap(target.property(name))
        for child in target.children():
            if child.objectName() == name:
                return wrap(child)
        raise AttributeError(f"{target.metaObject().className()} has no attribute named '{name}'")

    def __setattr__(self, name: str, value: Any) -> None:
        derived = type(self).__base__ is not Wrapper
        if derived and "_object" not in self.__slots_filled__():
            object.__setattr__(self, name, value)
            return
        target = _alive(self, name)
        found = _property(target, name)
        if found is not None:
            _write(target, found, name, value)
        elif _signals(target, name):
            raise AttributeError(f"Signal '{name}' can not be overwritten on {type(self).__name__} object")
        elif _method(type(target), name) is not None and not derived:
            raise AttributeError(f"Slot '{name}' can not be overwritten on {type(self).__name__} object")
        elif name.encode() in [bytes(each) for each in target.dynamicPropertyNames()]:
            target.setProperty(name, unwrap(value))
        elif derived:
            object.__setattr__(self, name, value)
        else:
            raise AttributeError(
                f"'{name}' does not exist on {type(self).__name__} and creating new attributes on C++ objects is not"
                " allowed"
            )

    def __slots_filled__(self) -> set[str]:
        try:
            object.__getattribute__(self, "_object")
        except AttributeError:
            return set()
        return {"_object"}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Wrapper) and self._object is other._object

    def __hash__(self) -> int:
        return hash(self._object)

    def __bool__(self) -> bool:
        return shiboken6.isValid(self._object)

    def __repr__(self) -> str:
        return f"{type(self).__name__} ({_base(type(self)).__name__} at: {id(self._object):#x})"

    def __dir__(self) -> list[str]:
        meta = self._object.metaObject()
        return sorted({meta.property(n).name() for n in range(meta.propertyCount())} | set(object.__dir__(self)))

    def className(self) -> str:
        return _alive(self, "className").metaObject().className()

    def inherits(self, name: str) -> bool:
        return any(each.__name__ == name for each in type(_alive(self, "inherits")).__mro__)

    def connect(self, signal: str, *receiver: Any) -> bool:
        """By signature: ``connect("clicked(bool)", f)``, or to a slot: ``connect("clicked()", other, "close()")``.

        A signal that does not exist is told on stderr and answered with False, as by PythonQt.
        """
        target = _alive(self, "connect")
        signature = _declared(target, signal)
        if signature is None:
            complain(f"PythonQt: QObject::connect() signal '{signal}' does not exist on {self.className()}")
            return False
        if len(receiver) == 2:
            return _connect(target, signature, _slot(*receiver))
        return _connect(target, signature, receiver[0])

    def disconnect(self, signal: str, *receiver: Any) -> bool:
        target = _alive(self, "disconnect")
        signature = _declared(target, signal)
        if signature is None:
            complain(f"PythonQt: QObject::disconnect() signal '{signal}' does not exist on {self.className()}")
            return False
        slot = _slot(*receiver) if len(receiver) == 2 else (receiver[0] if receiver else None)
        return _disconnect(target, signature, slot)

    def findChildren(self, kind: Any = QtCore.QObject, name: str = "") -> tuple[Any, ...]:
        kind = kind._qt if isinstance(kind, type) and issubclass(kind, Wrapper) else QtCore.QObject
        target = _alive(self, "findChildren")
        return wrap(target.findChildren(kind, name) if name else target.findChildren(kind))

    def findChild(self, kind: Any, name: str = "") -> Any:
        found = self.findChildren(kind, name)
        return found[0] if found else None


class SignalFunction:
    """``button.clicked``: connect, disconnect, emit."""

    def __init__(self, owner: Wrapper, signature: str) -> None:
        self._owner, self._signature = owner, signature

    def connect(self, receiver: Any, slot: str | None = None) -> bool:
        target = _alive(self._owner, self._signature)
        return _connect(target, self._signature, _slot(receiver, slot) if slot else receiver)

    def disconnect(self, receiver: Any = None) -> bool:
        return _disconnect(_alive(self._owner, self._signature), self._signature, receiver)

    def emit(self, *arguments: Any) -> None:
        _signal(_alive(self._owner, self._signature), self._signature).emit(*unwrap(arguments))

    __call__ = emit


class _Connection:
    """One receiver of one signal; it holds the receiver, as PythonQt does, and hands over what that can take."""

    def __init__(self, signature: str, receiver: Any) -> None:
        self.signature, self.receiver = signature, receiver
        self.count = _parameter_count(signature)

    def __call__(self, *arguments: Any) -> None:
        taken = min(self.count, _accepted(self.receiver))
        call = self.receiver.emit if isinstance(self.receiver, SignalFunction) else self.receiver
        call(*wrap(arguments)[:taken])


def _accepted(receiver: Any) -> int:
    """How many arguments PythonQt passes: it cuts for plain functions and methods without ``*args`` only."""
    function = receiver.__func__ if inspect.ismethod(receiver) else receiver
    if not inspect.isfunction(function) or function.__code__.co_flags & inspect.CO_VARARGS:
        return sys.maxsize
    return function.__code__.co_argcount - int(inspect.ismethod(receiver))


_proxies: weakref.WeakValueDictionary[int, Wrapper] = weakref.WeakValueDictionary()
_classes: dict[type, type[Wrapper]] = {}
_shells: dict[type, type] = {}
_connections: dict[int, list[tuple[_Connection, Any]]] = {}
complaints: list[str] = []  # what PythonQt would have written to stderr; the host's tests expect none


def complain(sentence: str) -> None:
    """Written to stderr, where a person would overlook it, and kept, where a test does not."""
    complaints.append(sentence)
    print(sentence, file=sys.stderr)


def class_for(kind: type) -> type[Wrapper]:
    """The class that Slicer's Python has for a PySide6 class or a stand-in derived from one; made once."""
    if kind not in _classes:
        _classes[kind] = _Meta(kind.__name__, (Wrapper,), {"_qt": kind, "__doc__": f"{kind.__name__}, as in PythonQt."})
    return _classes[kind]


class _Meta(type):
    """Class attributes: enumerators, static methods, and methods that want the object as their first argument."""

    def __getattr__(cls, name: str) -> Any:
        kind = _base(cls)._qt
        if name.startswith("__"):
            raise AttributeError(name)
        return class_attribute(kind, name)


def class_attribute(kind: type, name: str) -> Any:
    """An enumerator, a static or an unbound method of ``kind``; scoped enumerators do not exist in PythonQt."""
    if (member := enumerator(kind, name)) is not None:
        return member
    found = _method(kind, name)
    if inspect.isclass(found) and issubclass(found, enum.Enum):
        return type(name, (int,), {"__doc__": "An enumeration: its values sit on the class around it."})
    if found is None:
        raise AttributeError(f"type object '{kind.__name__}' has no attribute '{name}'")
    return lambda *arguments: wrap(found(*unwrap(arguments)))


def enumerator(kind: type, name: str) -> Any:
    """The value of an unscoped enumeration of ``kind``, such as ``qt.QFrame.HLine``."""
    for base in kind.__mro__:
        for nested in vars(base).values():
            if inspect.isclass(nested) and issubclass(nested, enum.Enum) and name in nested.__members__:
                return nested[name]
    constants = getattr(kind, "ENUMERATORS", {})
    return constants.get(name)


def wrap(value: Any) -> Any:
    """Qt to Python: objects get their wrapper, lists become tuples."""
    if isinstance(value, QtCore.QObject):
        known = _proxies.get(_address(value))
        if known is not None and known._object is value:
            return known
        made = class_for(_public(type(value)))
        result = made.__new__(made)
        object.__setattr__(result, "_object", value)
        _proxies[_address(value)] = result
        return result
    if isinstance(value, list | tuple):
        return tuple(wrap(each) for each in value)
    return value


def unwrap(value: Any) -> Any:
    """Python to Qt."""
    if isinstance(value, Wrapper):
        return value._object
    if isinstance(value, type) and issubclass(value, Wrapper):
        return value._qt
    if isinstance(value, list):
        return [unwrap(each) for each in value]
    if isinstance(value, tuple):
        return tuple(unwrap(each) for each in value)
    return value


def _public(kind: type) -> type:
    """The class without the shell that carries Python overrides."""
    return next(each for each in kind.__mro__ if "_is_shell" not in vars(each))


def _base(kind: type) -> type[Wrapper]:
    return next(each for each in kind.__mro__ if each.__base__ is Wrapper)


def _shell(kind: type) -> type:
    """A PySide6 class whose virtual methods call those that the Python class ``kind`` defines."""
    if kind not in _shells:
        native = _base(kind)._qt
        own: dict[str, Any] = {}
        for each in kind.__mro__[: kind.__mro__.index(_base(kind))]:
            own.update({name: None for name, member in vars(each).items() if inspect.isfunction(member)})
        overrides = {
            name: _override(name) for name in own if callable(getattr(native, name, None)) and name[:2] != "__"
        }
        _shells[kind] = type(kind.__name__, (native,), {**overrides, "_is_shell": True, "_proxy": None})
    return _shells[kind]


def _override(name: str) -> Callable[..., Any]:
    def call(shell: Any, *arguments: Any) -> Any:
        return unwrap(getattr(shell._proxy, name)(*wrap(arguments)))

    return call


def _address(value: Any) -> int:
    return shiboken6.getCppPointer(value)[0]


def _alive(wrapper: Wrapper, name: str) -> Any:
    target = object.__getattribute__(wrapper, "_object")
    if not shiboken6.isValid(target):
        raise ValueError(f"Trying to access '{name}' of a destroyed {type(wrapper).__name__} object")
    return target


def _property(target: Any, name: str) -> Any:
    meta = target.metaObject()
    index = meta.indexOfProperty("objectName" if name == "name" else name)
    return meta.property(index) if index >= 0 else None


def _write(target: Any, found: Any, name: str, value: Any) -> None:
    if not found.isWritable():
        raise AttributeError(f"Property '{name}' of {target.metaObject().className()} object is not writable")
    accepted, converted = _converted(found.typeName(), unwrap(value))
    if not accepted or not found.write(target, converted):
        raise AttributeError(
            f"Property '{name}' of type '{found.typeName()}' does not accept an object of type {type(value).__name__}"
            f" ({value})"
        )


def _converted(kind: str, value: Any) -> tuple[bool, Any]:
    """As PyObjToQVariant: numbers become each other, anything becomes text, nothing else is guessed."""
    number = isinstance(value, bool | int | float)
    if kind == "bool":
        return number, bool(value) if number else None
    if kind in ("int", "uint", "qlonglong"):
        return number or isinstance(value, enum.IntEnum), int(value) if number else value
    if kind in ("double", "float"):
        return number, float(value) if number else None
    if kind == "QString":
        return True, value if isinstance(value, str) else str(value)
    if kind == "QStringList":
        return isinstance(value, list | tuple), [str(each) for each in value] if isinstance(
            value, list | tuple
        ) else None
    return True, value


def _method(kind: type, name: str) -> Any:
    """A public C++ method; of a stand-in only what is a slot or Q_INVOKABLE in Slicer."""
    if name.startswith("_") or name in _PYSIDE_ONLY:
        return None
    for base in kind.__mro__:
        if name not in vars(base):
            continue
        if "_is_shell" in vars(base):
            continue
        if is_native(base):
            return getattr(base, name)
        member = vars(base)[name]
        member = member.__func__ if isinstance(member, staticmethod) else member
        if getattr(member, _invokable_mark, False):
            return getattr(base, name)
    return getattr(kind, name) if is_native(kind) and hasattr(kind, name) else None


def is_native(kind: type) -> bool:
    """Whether the class is Qt's own rather than a stand-in of this folder."""
    return kind.__module__.startswith(("PySide6.", "Shiboken", "shiboken6"))


def _bound(target: Any, name: str) -> Callable[..., Any]:
    method = getattr(target, name)

    def call(*arguments: Any, **named: Any) -> Any:
        if named:
            raise TypeError(f"{name}() of a Qt object takes no keyword arguments in PythonQt")
        return wrap(method(*unwrap(arguments)))

    call.__name__ = name
    return call


def _table(target: Any) -> dict[str, str]:
    """Signatures that a stand-in declares for its PySide6 signals, which can not spell VTK's types."""
    return getattr(type(target), "SIGNALS", {})


def _declared(target: Any, signal: str) -> str | None:
    """The normalised signature if the object has such a signal."""
    normal = bytes(QtCore.QMetaObject.normalizedSignature(signal).data()).decode()
    if normal in _table(target):
        return normal
    hidden = set(_table(target).values())
    index = target.metaObject().indexOfSignal(normal)
    return normal if index >= 0 and normal.split("(")[0] not in hidden else None


def _signals(target: Any, name: str) -> str | None:
    """The signature that ``object.name`` stands for: the first one declared under that name."""
    for signature in _table(target):
        if signature.startswith(name + "("):
            return signature
    meta = target.metaObject()
    if name in set(_table(target).values()):
        return None
    for n in range(meta.methodCount()):
        method = meta.method(n)
        if method.methodType() == QtCore.QMetaMethod.MethodType.Signal and bytes(method.name().data()).decode() == name:
            return bytes(method.methodSignature().data()).decode()
    return None


def _signal(target: Any, signature: str) -> Any:
    return getattr(target, _table(target).get(signature, signature.split("(")[0]))


def _parameter_count(signature: str) -> int:
    inside = signature[signature.index("(") + 1 : -1]
    return inside.count(",") + 1 if inside else 0


# PySide6 goes by the number of arguments a receiver names: with `*arguments` it would take clicked(), not clicked(bool)
_DELIVERIES: dict[int, Callable[[_Connection], Callable[..., None]]] = {
    0: lambda connection: lambda: connection(),
    1: lambda connection: lambda a: connection(a),
    2: lambda connection: lambda a, b: connection(a, b),
    3: lambda connection: lambda a, b, c: connection(a, b, c),
    4: lambda connection: lambda a, b, c, d: connection(a, b, c, d),
}


def _connect(target: Any, signature: str, receiver: Any) -> bool:
    if not callable(receiver) and not isinstance(receiver, SignalFunction):
        raise ValueError(f"A receiver of {signature} must be callable, and {receiver!r} is not.")
    address = _address(target)
    if address not in _connections:
        _connections[address] = []
        target.destroyed.connect(lambda *_: _connections.pop(address, None))
    connection = _Connection(signature, receiver)

    deliver = _DELIVERIES[connection.count](connection)
    _signal(target, signature).connect(deliver)
    _connections[address].append((connection, deliver))
    return True


def _disconnect(target: Any, signature: str, receiver: Any) -> bool:
    kept, gone = [], []
    for pair in _connections.get(_address(target), []):
        matches = pair[0].signature == signature and (receiver is None or pair[0].receiver == receiver)
        (gone if matches else kept).append(pair)
    for _connection, deliver in gone:
        _signal(target, signature).disconnect(deliver)
    if _address(target) in _connections:
        _connections[_address(target)] = kept
    return bool(gone)


def _slot(receiver: Wrapper, signature: str) -> Callable[..., Any]:
    """A C++ slot by its signature, such as ``"close()"``: it gets as many arguments as it names."""
    method = getattr(receiver, signature.split("(")[0])
    count = _parameter_count(QtCore.QMetaObject.normalizedSignature(signature).data().decode())
    return lambda *arguments: method(*arguments[:count])
