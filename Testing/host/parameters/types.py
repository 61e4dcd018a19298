"""Types and annotations, taken apart."""

from __future__ import annotations

import types
import typing
from typing import Annotated, Any

import slicer


class Default:
    """The value of a parameter that was never set, given or made by ``generator``."""

    def __init__(self, value: Any = None, *, generator: Any = None) -> None:
        self._value, self._generator = value, generator

    @property
    def value(self) -> Any:
        return self._generator() if self._generator else self._value

    def __eq__(self, other: object) -> bool:
        mine = (self._value, self._generator)
        return isinstance(other, Default) and mine == (other._value, other._generator)

    __hash__ = None  # type: ignore[assignment]


def splitAnnotations(annotated: Any) -> tuple[Any, tuple[Any, ...]]:
    """``Annotated[int, a, b]`` -> ``(int, (a, b))``."""
    kind, *annotations = typing.get_args(Annotated[annotated, None])
    return kind, tuple(annotations[:-1])


def unannotatedType(annotated: Any) -> Any:
    return splitAnnotations(annotated)[0]


def findFirstAnnotation(annotations: Any, kind: type) -> Any:
    return next((each for each in annotations if isinstance(each, kind)), None)


def split_name(dotted: str) -> tuple[str, str | None]:
    """``x.y.z`` -> ``("x", "y.z")``; ``x`` -> ``("x", None)``."""
    top, dot, rest = dotted.partition(".")
    return top, rest if dot else None


def members_of_union(kind: Any) -> tuple[Any, ...]:
    """The members of ``A | B`` or ``Optional[A]``; empty for what is no union."""
    union = typing.get_origin(kind) is typing.Union or isinstance(kind, types.UnionType)
    return typing.get_args(kind) if union else ()


def is_node(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, slicer.vtkMRMLNode)


def isNodeOrUnionOfNodes(datatype: Any) -> bool:
    kind = unannotatedType(datatype)
    members = [unannotatedType(each) for each in members_of_union(kind)]
    return is_node(kind) or (bool(members) and all(each is type(None) or is_node(each) for each in members))


def getNodeTypes(datatype: Any) -> tuple[str, ...]:
    """Class names of the nodes that a parameter of this type can hold; TypeError for anything else."""
    kind = unannotatedType(datatype)
    nodes = [each for each in (kind, *map(unannotatedType, members_of_union(kind))) if is_node(each)]
    if not nodes:
        raise TypeError(f"Cannot handle type {datatype}")
    return tuple(each().GetClassName() for each in nodes)
