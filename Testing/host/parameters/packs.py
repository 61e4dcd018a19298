"""parameterPack: several parameters under one name, such as ``display.opacity``."""

from __future__ import annotations

import typing
from typing import Any

import slicer

from .serializers import Serializer, make_annotated
from .types import Default, findFirstAnnotation, split_name, splitAnnotations, unannotatedType
from .validators import NotNone


def isParameterPack(kind: Any) -> bool:
    return bool(getattr(kind, "_is_parameterPack", False))


class _Parameter:
    """Name, type, serializer and default of one member."""

    def __init__(self, owner: type, name: str, annotated: Any) -> None:
        self.basename, self.unalteredType = name, annotated
        self.serializer = make_annotated(annotated)
        stated = findFirstAnnotation(splitAnnotations(annotated)[1], Default)
        if name in vars(owner):
            stated = Default(vars(owner)[name])
        self.default = stated or Default(generator=self.serializer.default)


def parameters_of(kind: type) -> dict[str, _Parameter]:
    """The annotated members of a class, in their order."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return {name: _Parameter(kind, name, annotated) for name, annotated in hints.items()}


def parameterPack(classtype: Any = None) -> Any:
    """Class decorator."""
    return _make_pack if classtype is None else _make_pack(classtype)


def _make_pack(kind: type) -> type:
    parameters = parameters_of(kind)
    if not parameters:
        raise ValueError("Unable to find any members in parameterPack")
    for parameter in parameters.values():
        try:
            parameter.serializer.validate(parameter.default.value)
        except Exception as error:
            raise ValueError(f"The default of '{parameter.basename}' fails the validation checks: {error}") from error
    for reserved in ("allParameters", "getValue", "setValue", "dataType"):
        if hasattr(kind, reserved):
            raise ValueError(f"Cannot use reserved name '{reserved}' in a parameterPack")
    own_init = vars(kind).get("__init__")

    def initialise(self: Any, *values: Any, **named: Any) -> None:
        _fill(self, parameters, () if own_init else values, {} if own_init else named)
        if own_init:
            own_init(self, *values, **named)

    for name in parameters:
        setattr(kind, name, _member(name))
    kind.allParameters = parameters  # type: ignore[attr-defined]
    kind._is_parameterPack = True  # type: ignore[attr-defined]
    kind.__init__ = initialise  # type: ignore[misc]
    kind.getValue, kind.setValue, kind.dataType = _get, _set, classmethod(_data_type)  # type: ignore[attr-defined]
    if "__eq__" not in vars(kind):
        kind.__eq__ = _equal  # type: ignore[assignment,method-assign]
    if "__repr__" not in vars(kind):
        kind.__repr__ = _text  # type: ignore[assignment,method-assign]
    return kind


def _fill(self: Any, parameters: dict[str, _Parameter], values: tuple[Any, ...], named: dict[str, Any]) -> None:
    given = dict(zip(parameters, values, strict=False))
    for name, value in named.items():
        if name not in parameters:
            raise TypeError(f"__init__() got an unexpected keyword argument '{name}'")
        if name in given:
            raise TypeError(f"__init__() got multiple values for argument '{name}'")
        given[name] = value
    object.__setattr__(self, "_values", {})
    for name, parameter in parameters.items():
        value = given.get(name, parameter.default.value)
        parameter.serializer.validate(value)
        self._values[name] = value


def _member(name: str) -> property:
    def write(self: Any, value: Any) -> None:
        self.allParameters[name].serializer.validate(value)
        self._values[name] = value
        self._save() if hasattr(self, "_save") else None

    return property(lambda self: self._values[name], write)


def _get(self: Any, dotted: str) -> Any:
    top, rest = split_name(dotted)
    if not hasattr(self, top):
        raise ValueError(f"{self} has no member '{top}'")
    value = getattr(self, top)
    if rest is not None and not isParameterPack(value):
        raise ValueError(f"{value} is not a parameter pack but expects to have '{rest}'")
    return value if rest is None else value.getValue(rest)


def _set(self: Any, dotted: str, value: Any) -> None:
    top, rest = split_name(dotted)
    if not hasattr(self, top):
        raise ValueError(f"{self} has no member '{top}'")
    if rest is None:
        setattr(self, top, value)
    else:
        inner = getattr(self, top)
        inner.setValue(rest, value)
        setattr(self, top, inner)


def _data_type(cls: Any, dotted: str) -> Any:
    top, rest = split_name(dotted)
    if top not in cls.allParameters:
        raise ValueError(f"{cls} has no member '{top}'")
    kind = cls.allParameters[top].unalteredType
    return kind if rest is None else unannotatedType(kind).dataType(rest)


def _equal(self: Any, other: object) -> bool:
    return isinstance(other, type(self) if not hasattr(self, "_pack") else self._pack) and self._values == other._values


def _text(self: Any) -> str:
    inside = ", ".join(f"{name}={value!r}" for name, value in self._values.items())
    return f"{type(self).__name__}({inside})"


def nestedParameterNames(pack: Any) -> list[str]:
    """The dotted names of all that a pack holds."""
    result = []
    for name, parameter in unannotatedType(pack).allParameters.items():
        kind = unannotatedType(parameter.unalteredType)
        result += [f"{name}.{each}" for each in nestedParameterNames(kind)] if isParameterPack(kind) else [name]
    return result


class PackSerializer(Serializer):
    """Each member under ``name.member``; what is read writes itself back when it is changed."""

    def __init__(self, kind: Any) -> None:
        self._kind = kind
        self.validators = [NotNone()]
        self.cached = all(each.serializer.cached for each in kind.allParameters.values())

    def default(self) -> Any:
        return self._kind()

    def validate(self, value: Any) -> None:
        super().validate(value)
        if not isinstance(value, self._kind):
            raise ValueError(f"Value must be of type '{self._kind}', is type '{type(value)}'")

    def _members(self, name: str) -> list[tuple[str, str, Serializer]]:
        parameters = self._kind.allParameters.items()
        return [(member, f"{name}.{member}", each.serializer) for member, each in parameters]

    def isIn(self, node: Any, name: str) -> bool:
        _member, full, serializer = self._members(name)[0]
        return serializer.isIn(node, full)

    def put(self, node: Any, name: str, value: Any) -> None:
        with slicer.util.NodeModify(node):
            for member, full, serializer in self._members(name):
                serializer.write(node, full, value._values[member])

    def read(self, node: Any, name: str) -> Any:
        values = {member: serializer.read(node, full) for member, full, serializer in self._members(name)}
        return _observed(self._kind)(self, node, name, values)

    def remove(self, node: Any, name: str) -> None:
        for _member, full, serializer in self._members(name):
            serializer.remove(node, full)


_observed_classes: dict[type, type] = {}


def _observed(kind: type) -> Any:
    """A class as ``kind`` whose objects write themselves into the node when a member is set."""
    if kind not in _observed_classes:

        class Observed(kind):  # type: ignore[misc,valid-type]
            _pack = kind

            def __init__(self, serializer: PackSerializer, node: Any, name: str, values: dict[str, Any]) -> None:
                object.__setattr__(self, "_where", (serializer, node, name))
                object.__setattr__(self, "_saving", False)
                object.__setattr__(self, "_values", values)

            def __setattr__(self, name: str, value: Any) -> None:
                if not hasattr(self, name):
                    raise AttributeError(f"{self} has no attribute '{name}' and attributes cannot be added dynamically")
                super().__setattr__(name, value)

            def _save(self) -> None:
                if self._saving:
                    return
                serializer, node, name = self._where
                object.__setattr__(self, "_saving", True)
                try:
                    serializer.put(node, name, self)
                finally:
                    object.__setattr__(self, "_saving", False)

        Observed.__name__ = Observed.__qualname__ = kind.__name__
        _observed_classes[kind] = Observed
    return _observed_classes[kind]
