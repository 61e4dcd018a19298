"""How a parameter's value is written into a vtkMRMLScriptedModuleNode: under the same names as in Slicer, so that a
scene saved by one is read by the other."""

from __future__ import annotations

import enum
import pathlib
import typing
from collections.abc import Callable, Iterable, MutableMapping, MutableSequence
from typing import Any

import qt
import slicer

from .types import members_of_union, splitAnnotations
from .validators import IsInstance, IsNone, NotNone, Validator

_PATHS = (pathlib.Path, pathlib.PosixPath, pathlib.WindowsPath, pathlib.PurePath, pathlib.PurePosixPath,
          pathlib.PureWindowsPath)  # fmt: skip


class Serializer:
    """Reads and writes one type under a name. ``cached``: a value read may be kept until the node changes."""

    cached = True
    group = ""  # what a union goes by: values of types with the same group are told apart by their validators
    validators: list[Validator] = []  # noqa: RUF012  (replaced, never changed)

    def default(self) -> Any:
        raise TypeError(f"{type(self).__name__} has no default")

    def isIn(self, node: Any, name: str) -> bool:
        return node.HasParameter(name)

    def validate(self, value: Any) -> None:
        for each in self.validators:
            each.validate(value)

    def write(self, node: Any, name: str, value: Any) -> None:
        self.validate(value)
        self.put(node, name, value)

    def put(self, node: Any, name: str, value: Any) -> None:
        node.SetParameter(name, str(value))

    def read(self, node: Any, name: str) -> Any:
        return node.GetParameter(name)

    def remove(self, node: Any, name: str) -> None:
        node.UnsetParameter(name)


class _Text(Serializer):
    """What goes to text and back by ``convert``."""

    def __init__(self, default: Any, convert: Callable[[str], Any]) -> None:
        self._default, self._convert = default, convert

    def default(self) -> Any:
        return self._default

    def read(self, node: Any, name: str) -> Any:
        return self._convert(node.GetParameter(name))


class _Enum(Serializer):
    def __init__(self, kind: type[enum.Enum]) -> None:
        self._kind = kind
        if not len(kind):
            raise ValueError("Cannot serialize empty Enum.")

    def default(self) -> Any:
        return next(iter(self._kind))

    def put(self, node: Any, name: str, value: Any) -> None:
        node.SetParameter(name, value.name)

    def read(self, node: Any, name: str) -> Any:
        key = node.GetParameter(name)
        if key not in self._kind.__members__:
            raise ValueError(f"Found {key!r} in parameter node but it is not a name in {self._kind!r}")
        return self._kind[key]


class _Node(Serializer):
    def default(self) -> Any:
        return None

    def put(self, node: Any, name: str, value: Any) -> None:
        node.SetParameter(name, "")  # None is a value too: this says that there is one
        node.SetNodeReferenceID(name, value.GetID() if value is not None else None)

    def read(self, node: Any, name: str) -> Any:
        return node.GetNodeReference(name)

    def remove(self, node: Any, name: str) -> None:
        node.UnsetParameter(name)
        node.RemoveNodeReferenceIDs(name)


class _Nothing(Serializer):
    def default(self) -> Any:
        return None

    def put(self, node: Any, name: str, value: Any) -> None:
        node.SetParameter(name, "True")

    def read(self, node: Any, name: str) -> Any:
        return None


class _Color(_Text):
    cached = False

    def put(self, node: Any, name: str, value: Any) -> None:
        node.SetParameter(name, value.name(value.NameFormat.HexArgb))


class ObservedList(MutableSequence):
    """A list that writes itself into the node whenever it is changed."""

    def __init__(self, node: Any, serializer: Serializer, name: str, values: list[Any]) -> None:
        self._node, self._serializer, self._name, self._list = node, serializer, name, values

    def _save(self) -> None:
        try:
            self._serializer.write(self._node, self._name, self._list)
        finally:
            self._list = self._serializer.read(self._node, self._name)._list

    def __getitem__(self, index: Any) -> Any:
        return self._list[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        self._list[index] = value
        self._save()

    def __delitem__(self, index: Any) -> None:
        del self._list[index]
        self._save()

    def __len__(self) -> int:
        return len(self._list)

    def insert(self, index: int, value: Any) -> None:
        self._list.insert(index, value)
        self._save()

    def __iadd__(self, other: Iterable[Any]) -> ObservedList:  # type: ignore[override,misc]
        self._list.extend(other)
        self._save()
        return self

    def __imul__(self, times: int) -> ObservedList:
        self._list *= times
        self._save()
        return self

    extend = __iadd__  # type: ignore[assignment]

    def clear(self) -> None:
        self._list.clear()
        self._save()

    def sort(self, *arguments: Any, **named: Any) -> None:
        self._list.sort(*arguments, **named)
        self._save()

    def __add__(self, other: Any) -> Any:
        raise NotImplementedError("Adding an ObservedList is not supported. However, += is supported.")

    __radd__ = __mul__ = __rmul__ = __add__

    def __eq__(self, other: object) -> bool:
        return self._list == (other._list if isinstance(other, ObservedList) else other)

    def __repr__(self) -> str:
        return f"ObservedList({self._list})"


class _List(Serializer):
    def __init__(self, element: Serializer) -> None:
        self._element = element
        self.cached = element.cached

    def default(self) -> Any:
        return []

    def isIn(self, node: Any, name: str) -> bool:
        return node.HasParameter(f"{name}.len")

    def _length(self, node: Any, name: str) -> int:
        return int(node.GetParameter(f"{name}.len")) if self.isIn(node, name) else 0

    def put(self, node: Any, name: str, value: Any) -> None:
        with slicer.util.NodeModify(node):
            before = list(self.read(node, name)) if self.isIn(node, name) else None
            length = self._length(node, name)
            try:
                for index, each in enumerate(value):
                    self._element.write(node, f"{name}.{index}", each)
                node.SetParameter(f"{name}.len", str(len(value)))
                for index in range(len(value), length):
                    self._element.remove(node, f"{name}.{index}")
            except Exception:
                if before is None:
                    self.remove(node, name)
                else:
                    self.put(node, name, before)
                raise

    def read(self, node: Any, name: str) -> ObservedList:
        values = [self._element.read(node, f"{name}.{index}") for index in range(self._length(node, name))]
        return ObservedList(node, self, name, values)

    def remove(self, node: Any, name: str) -> None:
        with slicer.util.NodeModify(node):
            for index in range(self._length(node, name)):
                self._element.remove(node, f"{name}.{index}")
            node.UnsetParameter(f"{name}.len")


class _Tuple(Serializer):
    def __init__(self, elements: list[Serializer]) -> None:
        self._elements = elements
        self.cached = all(each.cached for each in elements)

    def default(self) -> Any:
        return tuple(each.default() for each in self._elements)

    def isIn(self, node: Any, name: str) -> bool:
        return self._elements[0].isIn(node, f"{name}.0")

    def put(self, node: Any, name: str, value: Any) -> None:
        if len(value) != len(self._elements):
            raise ValueError("Unexpected number of tuple values")
        with slicer.util.NodeModify(node):
            for index, each in enumerate(self._elements):
                each.write(node, f"{name}.{index}", value[index])

    def read(self, node: Any, name: str) -> Any:
        return tuple(each.read(node, f"{name}.{index}") for index, each in enumerate(self._elements))

    def remove(self, node: Any, name: str) -> None:
        with slicer.util.NodeModify(node):
            for index, each in enumerate(self._elements):
                each.remove(node, f"{name}.{index}")


class ObservedDict(MutableMapping):
    """A dictionary that writes itself into the node whenever it is changed."""

    def __init__(self, node: Any, serializer: Serializer, name: str, values: dict[Any, Any]) -> None:
        self._node, self._serializer, self._name, self._dict = node, serializer, name, values

    def _save(self) -> None:
        try:
            self._serializer.write(self._node, self._name, self._dict)
        finally:
            self._dict = self._serializer.read(self._node, self._name)._dict

    def __getitem__(self, key: Any) -> Any:
        return self._dict[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self._dict[key] = value
        self._save()

    def __delitem__(self, key: Any) -> None:
        del self._dict[key]
        self._save()

    def popitem(self) -> tuple[Any, Any]:
        pair = self._dict.popitem()  # the last, as of a dictionary
        self._save()
        return pair

    def __iter__(self) -> Any:
        return iter(self._dict)

    def __len__(self) -> int:
        return len(self._dict)

    def __eq__(self, other: object) -> bool:
        return self._dict == (other._dict if isinstance(other, ObservedDict) else other)

    def __repr__(self) -> str:
        return f"ObservedDict({self._dict})"


class _Dict(Serializer):
    def __init__(self, key: Serializer, value: Serializer) -> None:
        self._pairs = _List(_Tuple([key, value]))
        self.cached = self._pairs.cached

    def default(self) -> Any:
        return {}

    def isIn(self, node: Any, name: str) -> bool:
        return self._pairs.isIn(node, name)

    def put(self, node: Any, name: str, value: Any) -> None:
        self._pairs.write(node, name, list(value.items()))

    def read(self, node: Any, name: str) -> ObservedDict:
        return ObservedDict(node, self, name, dict(self._pairs.read(node, name)))

    def remove(self, node: Any, name: str) -> None:
        self._pairs.remove(node, name)


class _Union(Serializer):
    """Each member has its own number below the name; one of them is there."""

    def __init__(self, members: list[tuple[Any, Serializer]]) -> None:
        self._members = members
        self.cached = all(each.cached for _kind, each in members)

    def default(self) -> Any:
        optional = len(self._members) == 2 and isinstance(self._members[1][1], _Nothing)
        return None if optional else self._members[0][1].default()

    def isIn(self, node: Any, name: str) -> bool:
        return any(each.isIn(node, f"{name}.{index}") for index, (_kind, each) in enumerate(self._members))

    def _fitting(self, value: Any) -> tuple[int, Serializer]:
        problem: Exception = TypeError(f"Unable to write value '{value}' of type '{type(value)}'")
        group = _group(type(value))
        for index, (_kind, each) in enumerate(self._members):
            if group and each.group == group:
                try:
                    each.validate(value)
                except Exception as error:  # another member may take it
                    problem = error
                else:
                    return index, each
        raise problem

    def put(self, node: Any, name: str, value: Any) -> None:
        index, serializer = self._fitting(value)
        with slicer.util.NodeModify(node):
            self.remove(node, name)
            serializer.write(node, f"{name}.{index}", value)

    def read(self, node: Any, name: str) -> Any:
        for index, (_kind, each) in enumerate(self._members):
            if each.isIn(node, f"{name}.{index}"):
                return each.read(node, f"{name}.{index}")
        raise KeyError(f"Unable to find value for name: {name}")

    def remove(self, node: Any, name: str) -> None:
        with slicer.util.NodeModify(node):
            for index, (_kind, each) in enumerate(self._members):
                each.remove(node, f"{name}.{index}")


def _group(kind: Any) -> str:
    """What values of a type go by in a union; empty for types that a union does not take."""
    if kind in (int, float):
        return "number"
    if kind in (str, bool, type(None), list, dict):
        return str(kind.__name__)
    if kind in _PATHS:
        return "path"
    if isinstance(kind, type):
        for base, name in ((slicer.vtkMRMLNode, "node"), (enum.Enum, "enum")):
            if issubclass(kind, base):
                return name
    return f"pack {kind}" if getattr(kind, "_is_parameterPack", False) else ""


def _plain(kind: Any) -> Serializer | None:
    """The serializer of a type that holds no others, with its own validators."""
    table: dict[Any, tuple[Serializer, list[Validator]]] = {
        int: (_Text(0, int), [NotNone(), IsInstance(int)]),
        float: (_Text(0, float), [NotNone(), IsInstance((int, float))]),
        str: (_Text("", str), [NotNone(), IsInstance(str)]),
        bool: (_Text(False, lambda text: text == "True"), [NotNone(), IsInstance(bool)]),
        type(None): (_Nothing(), [IsNone()]),
    }
    found = table.get(kind) if isinstance(kind, type) else None
    if kind in _PATHS:
        found = (_Text(kind(), kind), [NotNone(), IsInstance(kind)])
    elif kind is qt.QColor:
        found = (_Color(qt.QColor(), qt.QColor), [NotNone()])
    elif isinstance(kind, type) and issubclass(kind, slicer.vtkMRMLNode):
        found = (_Node(), [IsInstance(kind)])
    elif isinstance(kind, type) and issubclass(kind, enum.Enum):
        found = (_Enum(kind), [IsInstance(kind)])
    if found is None:
        return None
    found[0].validators = found[1]
    return found[0]


def make(kind: Any) -> Serializer:
    """The serializer of ``kind``; TypeError if there is none."""
    from .packs import PackSerializer, isParameterPack

    if isParameterPack(kind):
        return PackSerializer(kind)
    if plain := _plain(kind):
        return plain
    arguments, origin = typing.get_args(kind), typing.get_origin(kind)
    if origin is list:
        return _List(make_annotated(arguments[0]))
    if origin is tuple and arguments:
        return _Tuple([make_annotated(each) for each in arguments])
    if origin is dict:
        return _Dict(make_annotated(arguments[0]), make_annotated(arguments[1]))
    if members := members_of_union(kind):
        return _Union([(each, make_annotated(each)) for each in members])
    raise TypeError(f"Unable to create serializer for type: {kind}")


def make_annotated(annotated: Any) -> Serializer:
    """As `make`, with the validators that annotate the type."""
    kind, annotations = splitAnnotations(annotated)
    result = make(kind)
    result.group = _group(typing.get_origin(kind) or kind)
    result.validators = [*result.validators, *filter(_is_validator, annotations)]
    return result


def _is_validator(annotation: Any) -> bool:
    """An object of a validator class, or such a class itself if its ``validate`` needs no object."""
    return isinstance(annotation, Validator) or (isinstance(annotation, type) and issubclass(annotation, Validator))
