"""The few `$` expressions of bundles that are data in disguise, computed without running any of them.

`$[1.5, 1.5, 1.5] if @highres else [3.0, 3.0, 3.0]` says a voxel size, `$torch.device('cuda:0' if ...)` a wish that is
not ours to grant. Python's parser takes them apart; what is not in the tables below is refused.
"""

import ast
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

REFERENCE = re.compile(r"@(?:#|::)*\w+(?:(?:#|::)\w+)*")
_LENGTH = 10_000
_NUMBER = 1e18


class NotData(Exception):
    """This expression would have to be run."""


def evaluate(expression: str, lookup: Callable[[str], Any]) -> Any:
    """The value of a `$` expression (without the `$`).

    Args:
        lookup: the value of a reference such as "network_def#in_channels".

    Raises:
        NotData: it does more than choose, index and calculate.
    """
    references: list[str] = []

    def placeholder(match: re.Match[str]) -> str:
        references.append(match.group()[1:].replace("::", "#"))
        return f"_ref_{len(references) - 1}_"

    text = REFERENCE.sub(placeholder, expression)
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        return _Value(references, lookup).of(tree)
    except (SyntaxError, ValueError, TypeError, ArithmeticError, LookupError, RecursionError, MemoryError) as error:
        raise NotData(str(error)) from error


class _Value:
    def __init__(self, references: list[str], lookup: Callable[[str], Any]) -> None:
        self._references, self._lookup = references, lookup

    def of(self, node: ast.AST) -> Any:
        handler = _NODES.get(type(node))
        if handler is None:
            raise NotData(type(node).__name__)
        return handler(self, node)

    def name(self, node: ast.Name) -> Any:
        if re.fullmatch(r"_ref_\d+_", node.id):
            return self._lookup(self._references[int(node.id[5:-1])])
        raise NotData(node.id)

    def constant(self, node: ast.Constant) -> Any:
        return node.value

    def sequence(self, node: ast.List | ast.Tuple) -> Any:
        return [self.of(item) for item in node.elts]

    def dictionary(self, node: ast.Dict) -> Any:
        if None in node.keys:
            raise NotData("**")
        return {self.of(k): self.of(v) for k, v in zip(node.keys, node.values, strict=True) if k is not None}

    def choice(self, node: ast.IfExp) -> Any:
        return self.of(node.body if self.of(node.test) else node.orelse)

    def calculation(self, node: ast.BinOp) -> Any:
        return _small(_BINARY[type(node.op)](_small(self.of(node.left)), _small(self.of(node.right))))

    def sign(self, node: ast.UnaryOp) -> Any:
        return _UNARY[type(node.op)](self.of(node.operand))

    def comparison(self, node: ast.Compare) -> bool:
        values = [self.of(item) for item in (node.left, *node.comparators)]
        return all(_COMPARE[type(op)](values[n], values[n + 1]) for n, op in enumerate(node.ops))

    def logic(self, node: ast.BoolOp) -> Any:
        value = self.of(node.values[0])
        for item in node.values[1:]:
            if bool(value) == isinstance(node.op, ast.Or):
                return value
            value = self.of(item)
        return value

    def item(self, node: ast.Subscript) -> Any:
        index = node.slice
        if isinstance(index, ast.Slice):
            parts = [None if part is None else self.of(part) for part in (index.lower, index.upper, index.step)]
            return self.of(node.value)[slice(*parts)]
        return self.of(node.value)[self.of(index)]

    def attribute(self, node: ast.Attribute) -> Any:
        name = _dotted(node)
        if name in _CONSTANTS:
            return _CONSTANTS[name]
        raise NotData(name or node.attr)

    def call(self, node: ast.Call) -> Any:
        if isinstance(node.func, ast.Attribute) and node.func.attr in _MOVES:  # @network_def.to(@device)
            owner = self.of(node.func.value)
            if isinstance(owner, Mapping) and "_target_" in owner:
                return owner
        name = _dotted(node.func)
        if name not in _CALLS or node.keywords or any(isinstance(item, ast.Starred) for item in node.args):
            raise NotData(name or "a call")
        return _CALLS[name](*(_small(self.of(item)) for item in node.args))


def _dotted(node: ast.AST) -> str:
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""


def _small(value: Any) -> Any:
    """No number and no sequence that grows beyond use."""
    if isinstance(value, int | float) and abs(value) > _NUMBER:
        raise NotData("a huge number")
    if isinstance(value, str | list | tuple | dict) and len(value) > _LENGTH:
        raise NotData("a huge sequence")
    return value


def _times(a: Any, b: Any) -> Any:
    for sequence, count in ((a, b), (b, a)):
        if isinstance(sequence, str | list) and isinstance(count, int) and len(sequence) * count > _LENGTH:
            raise NotData("a huge sequence")
    return a * b


def _power(a: Any, b: Any) -> Any:
    if abs(b) > 64:
        raise NotData("a huge number")
    return a**b


def _modulo(a: Any, b: Any) -> Any:
    if isinstance(a, str):
        raise NotData("formatting")
    return a % b


_BINARY: Mapping[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: _times, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: _modulo, ast.Pow: _power,
}  # fmt: skip
_UNARY: Mapping[type, Callable[[Any], Any]] = {ast.USub: operator.neg, ast.UAdd: operator.pos, ast.Not: operator.not_}
_COMPARE: Mapping[type, Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,
    ast.GtE: operator.ge, ast.Is: operator.is_, ast.IsNot: operator.is_not,
    ast.In: lambda a, b: a in b, ast.NotIn: lambda a, b: a not in b,
}  # fmt: skip
_NODES: Mapping[type, Callable[[_Value, Any], Any]] = {
    ast.Name: _Value.name, ast.Constant: _Value.constant, ast.List: _Value.sequence, ast.Tuple: _Value.sequence,
    ast.Dict: _Value.dictionary, ast.IfExp: _Value.choice, ast.BinOp: _Value.calculation, ast.UnaryOp: _Value.sign,
    ast.Compare: _Value.comparison, ast.BoolOp: _Value.logic, ast.Subscript: _Value.item,
    ast.Attribute: _Value.attribute, ast.Call: _Value.call,
}  # fmt: skip
_CALLS: Mapping[str, Callable[..., Any]] = {
    "list": list, "tuple": list, "len": len, "int": int, "float": float, "str": str, "bool": bool, "abs": abs,
    "min": min, "max": max, "sum": sum, "round": round, "sorted": sorted,
    # where a network runs is not for the bundle to say
    "torch.device": str, "torch.cuda.is_available": lambda: False,
}  # fmt: skip
_CONSTANTS: Mapping[str, Any] = {
    **{f"monai.utils.CommonKeys.{key}": key.lower() for key in ("IMAGE", "LABEL", "PRED", "LOSS", "METADATA")},
    **{
        f"{module}.{kind}": kind
        for module in ("torch", "numpy", "np")
        for kind in ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool")
    },
}
_MOVES = {"to", "cpu", "cuda", "eval", "float"}
