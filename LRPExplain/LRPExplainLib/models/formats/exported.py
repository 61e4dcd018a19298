"""torch.export programs (.pt2).

`torch.export.load` was not made for strangers' files: it unpickles tensors and sample inputs, looks operators up by any
dotted name under `torch`, evaluates size expressions and guards as Python, and writes names from the file into source
code. So the archive is rewritten first: only plain tensors, a list of operators, names that are names, and sizes that
are arithmetic remain, and what is not needed to compute is left out.
"""

import ast
import io
import json
import logging
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from math import prod
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import nn

from ...digests import sha256_of
from ...errors import UserError, reason
from ..archive import opened, rewritten, stored
from ..card import ModelCard, default_card
from .base import Format, Loaded, has_suffix, require_one_input

# Older versions of PyTorch write, and so read, weights as pickles alone
READABLE = torch.__version__ >= "2.9"  # by versions, not letters
_OPERATOR = re.compile(
    r"torch\.ops\.aten\.(?!from_file\b|save\b|_)\w+\.\w+"
    r"|torch\.ops\.aten\._(softmax|log_softmax|scaled_dot_product_\w+|native_\w+|to_copy|unsafe_view|adaptive_\w+|"
    r"weight_norm\w*|assert_\w+|upsample_\w+|reshape_alias|safe_softmax|efficientzerotensor)\.\w+"
    r"|torch\.ops\.higher_order\.(wrap_with_set_grad_enabled|wrap_with_autocast)"
    r"|torch\.sym_(max|min|not|float|int|ite|sum|sqrt)"
    r"|_operator\.(getitem|add|sub|mul|floordiv|truediv|mod|neg|pow|eq|ne|lt|le|gt|ge|and_|or_|not_)"
    r"|math\.(ceil|floor|trunc|sqrt)"
)
_NAME = re.compile(r"[\w.+<=\-]{0,500}")
_SPEC_TYPES = {None, "builtins.tuple", "builtins.list", "builtins.dict"}
_SIZE_NODES = (ast.Expression, ast.BinOp, ast.UnaryOp, ast.Compare, ast.Call, ast.Name, ast.Load, ast.Constant,
               ast.keyword, ast.operator, ast.unaryop, ast.cmpop)  # fmt: skip
_SIZE_FUNCTIONS = re.compile(
    r"Symbol|Integer|Rational|Float|Add|Mul|Pow|Max|Min|Abs|Mod|PythonMod|FloorDiv|CeilDiv|CleanDiv|TrueDiv|IntTrueDiv|FloatTrueDiv|Eq|Ne|Lt|Le|Gt|Ge|And|Or|Not|"
    r"Where|ToFloat|TruncToInt|CeilToInt|FloorToInt|RoundToInt|PowByNatural|Identity|ceiling|floor"
)
_SIZE_NAMES = re.compile(r"[a-z]+\d+|True|False")


class _Unsafe(Exception):
    """What must not be loaded, as the end of a sentence."""


class _Older(Exception):
    """A program of a PyTorch that pickles weights."""


def _load(path: Path, card: ModelCard | None, trust: bool) -> Loaded:
    if not READABLE:
        raise UserError(
            f"'{path}' is a torch.export program, which is opened safely with PyTorch 2.9 and newer alone; this is"
            f" {torch.__version__}: update PyTorch, or save the network as TorchScript."
        )
    try:
        with opened(path, str(path)) as archive:
            stored(archive, str(path))
            content = rewritten(archive, dict(_plain_parts(archive)))
    except _Unsafe as unsafe:
        raise UserError(f"'{path}' holds {unsafe}, which no exported network needs: do not use it.") from None
    except _Older:
        raise UserError(
            f"'{path}' was exported by PyTorch 2.8 or older, which pickles weights, and pickles are not opened: export"
            " it again with PyTorch 2.9 or newer, or save the network as TorchScript."
        ) from None
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"'{path}' is not a whole torch.export program ({reason(error)}): export it again.") from error
    try:
        with _quiet():
            program = torch.export.load(io.BytesIO(content))
            module = program.module(check_guards=False)
    except Exception as error:  # whatever PyTorch makes of a damaged or foreign program
        raise UserError(
            f"'{path}' could not be loaded as a torch.export program ({reason(error)}): export it again with torch"
            f" {torch.__version__.split('+')[0]}, or as TorchScript."
        ) from error
    require_one_input(str(path), [str(given) for given in program.graph_signature.user_inputs])
    shape = _shape(program)
    return Loaded(_evaluating(module, path), card or _windowed(path, shape), sha256_of(path), shape=shape)


def _shape(program: torch.export.ExportedProgram) -> tuple[int | None, ...] | None:
    """Of the first input: sizes that were fixed by the export, None for those left free."""
    names = program.graph_signature.user_inputs
    for node in program.graph.nodes:
        value = node.meta.get("val")
        if node.op == "placeholder" and node.name in names and isinstance(value, torch.Tensor):
            return tuple(side if isinstance(side, int) else None for side in value.shape)
    return None


def _windowed(path: Path, shape: tuple[int | None, ...] | None) -> ModelCard | None:
    """What is assumed of a program of one size without a card: that volumes are seen through windows of it."""
    sides = [side for side in (shape or ())[2:] if side is not None]
    if shape is None or len(shape) not in (4, 5) or len(sides) != len(shape) - 2:
        return None
    size = [*reversed(sides), *[1] * (5 - len(shape))]
    usual = default_card(path)
    note = (
        f"The program takes inputs of {' x '.join(str(n) for n in reversed(sides))} voxels alone, so it looks at"
        " volumes through windows of that size. If it was trained on whole images brought to that size, give it a card"
        ' with "resize".'
    )
    return replace(usual, preprocessing=replace(usual.preprocessing, window={"size": size}), notes=(note,))


def _plain_parts(archive: zipfile.ZipFile) -> Iterator[tuple[str, bytes]]:
    """The parts that are rewritten; everything else must be plain bytes of tensors.

    Raises:
        _Unsafe: a part that is neither.
        _Older: the weights are one pickle, up to PyTorch 2.7 beside the program and in 2.8 in a folder of weights.
    """
    sizes = {member.filename: member.file_size for member in archive.infolist() if not member.is_dir()}
    if "serialized_state_dict.pt" in sizes or any(name.endswith("/data/weights/model.pt") for name in sizes):
        raise _Older
    models = [name for name in sizes if PurePosixPath(name).parts[1:2] == ("models",)]
    if len(models) != 1 or not models[0].endswith("/models/model.json"):
        raise ValueError(f"one model is needed, {len(models)} are there")
    for name, size in sizes.items():
        parts = PurePosixPath(name).parts[1:]
        if name == models[0]:
            yield name, json.dumps(_plain(json.loads(archive.read(name)))).encode()
        elif parts[:2] == ("data", "sample_inputs"):
            yield name, b""  # a pickle, and not needed
        elif parts[:2] in (("data", "weights"), ("data", "constants")):
            if name.endswith("_config.json"):
                _check_tensors(json.loads(archive.read(name)), str(PurePosixPath(name).parent), sizes)
            elif not re.fullmatch(r"(weight|tensor)_\d+", parts[2]):
                raise _Unsafe(f"the part '{name}'")
        elif parts[:1] not in (("archive_format",), ("archive_version",), ("byteorder",), (".data",), ("extra",),
                               ("version",), (".format_version",), (".storage_alignment",)):  # fmt: skip
            raise _Unsafe(f"the part '{name}' of {size} bytes")


def _check_tensors(config: Mapping[str, Any], folder: str, sizes: Mapping[str, int]) -> None:
    """Tensors are raw bytes within the archive, as many as they claim."""
    for name, entry in config["config"].items():
        if entry.get("use_pickle") or entry.get("tensor_meta") is None:
            raise _Unsafe(f"the pickled object '{name}'")
        sides = [side["as_int"] for side in entry["tensor_meta"]["sizes"]]
        if not re.fullmatch(r"(weight|tensor)_\d+", entry["path_name"]):
            raise _Unsafe(f"the part '{entry['path_name']}'")
        held = sizes[f"{folder}/{entry['path_name']}"]
        if any(side < 0 for side in sides) or (held == 0 and prod(sides) > 0):
            raise _Unsafe(f"a tensor of size {sides} without its numbers")


def _plain(value: Any, key: str = "") -> Any:
    """The program's JSON with only what is known to be harmless."""
    if key == "metadata":
        return {}
    if key == "guards_code":
        return []
    if key == "custom_obj_values" and value:
        raise _Unsafe("objects that are no tensors")
    if isinstance(value, dict):
        for name in value:
            _check_name(name)
        return {name: _plain(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item, key) for item in value]
    if isinstance(value, str):
        _CHECKS.get(key, _check_name)(value)
    return value


def _check_name(text: str) -> None:
    if not _NAME.fullmatch(text):
        raise _Unsafe(f"the name '{text[:80]}'")


def _check_operator(text: str) -> None:
    if not _OPERATOR.fullmatch(text):
        raise _Unsafe(f"the operator '{text[:80]}'")


def _check_size(text: str) -> None:
    """A size is arithmetic with symbols; PyTorch evaluates it as Python."""
    try:
        nodes = list(ast.walk(ast.parse(text, mode="eval")))
    except (SyntaxError, ValueError, RecursionError):
        raise _Unsafe(f"the size '{text[:80]}'") from None
    functions = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
    for node in nodes:
        known = _SIZE_FUNCTIONS if id(node) in functions else _SIZE_NAMES
        if not isinstance(node, _SIZE_NODES) or (isinstance(node, ast.Name) and not known.fullmatch(node.id)):
            raise _Unsafe(f"the size '{text[:80]}'")
        if isinstance(node, ast.Pow) or (isinstance(node, ast.Call) and _is_large_power(node)):
            raise _Unsafe(f"the size '{text[:80]}'")
        if isinstance(node, ast.Constant) and not _known_constant(node.value):
            raise _Unsafe(f"the size '{text[:80]}'")


def _known_constant(value: Any) -> bool:
    """A number, or the name of a symbol. None so large that a power of it could fill the memory."""
    if isinstance(value, str):
        return _SIZE_NAMES.fullmatch(value) is not None
    return isinstance(value, int | float) and abs(value) < 1 << 40


def _is_large_power(node: ast.Call) -> bool:
    if not isinstance(node.func, ast.Name) or not node.func.id.startswith("Pow"):
        return False
    numbers = [item.value for item in ast.walk(node.args[-1]) if isinstance(item, ast.Constant)]
    return not all(isinstance(value, int) and value <= 8 for value in numbers)


def _check_spec(text: str) -> None:
    """How arguments are nested; other kinds of containers import what they name."""
    waiting = [json.loads(text)]
    while waiting:
        item = waiting.pop()
        if isinstance(item, list):
            waiting += item
        elif isinstance(item, dict):
            if item.get("type") not in _SPEC_TYPES:
                raise _Unsafe(f"the argument type '{item.get('type')}'")
            waiting += item.get("children_spec", [])


_CHECKS = {
    "target": _check_operator,
    "as_operator": _check_operator,
    "expr_str": _check_size,
    "in_spec": _check_spec,
    "out_spec": _check_spec,
    "as_string": lambda text: None,  # such as an interpolation mode; a value, never source code
    "as_strings": lambda text: None,
}


def _evaluating(module: nn.Module, path: Path) -> nn.Module:
    """Exported programs are in eval mode by making, and have no other."""
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            raise UserError(f"'{path}' computes with {tensor.dtype} ('{name}'): export it in float32.")
    for part in module.modules():
        part.training = False
    return module


@contextmanager
def _quiet() -> Iterator[None]:
    """PyTorch logs tracebacks of what is about to be said in one sentence."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)


EXPORTED = Format("torch.export program (.pt2)", has_suffix(".pt2"), _load)
