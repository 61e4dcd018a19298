"""ONNX (.onnx), by onnx2torch. Data beside the file is read from its own folder alone."""

import importlib
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import nn

from ...digests import sha256_of
from ...errors import UserError, reason
from ..card import ModelCard
from .base import Format, Loaded, has_suffix, require_one_input

_MISSING = (
    "Reading '{path}' needs onnx2torch, which cannot be imported ({why}): install it with 'pip install onnx"
    " onnx2torch', or export TorchScript."
)
_OTHER_BUILD = (
    "Reading '{path}' needs onnx2torch, and that a torchvision of PyTorch's own build ({why}): install torchvision"
    " from where PyTorch came from, or export TorchScript."
)


def _load(path: Path, card: ModelCard | None, trust: bool) -> Loaded:
    onnx, onnx2torch = _packages(path)
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf's own kinds
        raise UserError(f"'{path}' is not a whole ONNX file ({reason(error)}): export it again.") from error
    if not model.graph.node:
        raise UserError(f"'{path}' is not a whole ONNX file (there is no network in it): export it again.")
    beside = _read_beside(onnx, model, path)
    for tensor in _tensors(onnx, model.graph):
        _check_size(onnx, tensor, path)
    own = {tensor.name for tensor in model.graph.initializer}  # which older files list among the inputs
    require_one_input(str(path), [entry.name for entry in model.graph.input if entry.name not in own])
    warnings.filterwarnings("ignore", module=r"onnx2torch\b")  # of how it indexes, each time that a network runs
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _use_constants_themselves(model.graph)
            module: nn.Module = onnx2torch.convert(model)
    except Exception as error:  # NotImplementedError and whatever a damaged graph causes
        raise UserError(
            f"'{path}' cannot be converted from ONNX ({reason(error)}): export TorchScript instead, or ONNX by"
            " torch.onnx.export(..., dynamo=False, opset_version=17)."
        ) from error
    return Loaded(module.float().eval(), card, sha256_of(path, *beside))


def _packages(path: Path) -> tuple[Any, Any]:
    try:
        return importlib.import_module("onnx"), importlib.import_module("onnx2torch")
    except ImportError as error:
        raise UserError(_MISSING.format(path=path, why=reason(error))) from error
    except RuntimeError as error:  # an operator of torchvision's that its compiled half, which did not load, has
        raise UserError(_OTHER_BUILD.format(path=path, why=reason(error))) from error


def _use_constants_themselves(graph: Any) -> None:
    """Without copies of constants, of which onnx2torch does not know that they are constant.

    PyTorch keeps equal ones once and puts an Identity for each other.
    """
    constants = {tensor.name: tensor.name for tensor in graph.initializer}
    results = {entry.name for entry in graph.output}
    for node in list(graph.node):
        node.input[:] = [constants.get(name, name) for name in node.input]
        copied = node.op_type == "Identity" and node.input and node.input[0] in constants
        if copied and not results.intersection(node.output):
            constants.update((name, node.input[0]) for name in node.output)
            graph.node.remove(node)


def _read_beside(onnx: Any, model: Any, path: Path) -> list[Path]:
    """Bring in the tensors that lie in other files; those files, in a fixed order."""
    folder, files = path.resolve().parent, set()
    for tensor in _tensors(onnx, model.graph):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        facts = {entry.key: entry.value for entry in tensor.external_data}
        file = _file_beside(folder, facts.get("location", ""), path)
        try:
            start, length = int(facts.get("offset", 0)), int(facts.get("length", -1))
        except ValueError:
            start, length = -1, -1
        if length < 0:
            length = file.stat().st_size - start
        if start < 0 or length < 0 or start + length > file.stat().st_size:
            raise UserError(f"'{path}' claims more data in '{file.name}' than it holds: fetch both again.")
        with file.open("rb") as stream:
            stream.seek(start)
            tensor.raw_data = stream.read(length)
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]
        files.add(file)
    return sorted(files)


def _file_beside(folder: Path, location: str, path: Path) -> Path:
    file = folder / location
    outside = not location or os.path.isabs(location) or ".." in Path(location.replace("\\", "/")).parts
    if outside or file.is_symlink() or not file.resolve().is_relative_to(folder):
        raise UserError(f"'{path}' wants to read data outside its folder ('{location}'): do not use it.")
    if not file.is_file():
        raise UserError(f"'{path}' has its weights in '{location}', which is not beside it: put it there.")
    return file


def _check_size(onnx: Any, tensor: Any, path: Path) -> None:
    """Tensors whose data are raw bytes, of the right number; others carry a number for each item."""
    items = 1
    for side in tensor.dims:
        items *= side
    typed = sum(len(getattr(tensor, f"{kind}_data")) for kind in ("float", "int32", "int64", "double", "uint64"))
    held = 8 * len(tensor.raw_data) or 64 * typed
    if items < 0 or (items > 8 and not tensor.string_data and items > 2 * held):
        raise UserError(
            f"'{path}' claims a tensor of size {list(tensor.dims)} ('{tensor.name}'), but does not hold its numbers:"
            " do not use it."
        )


def _tensors(onnx: Any, graph: Any) -> Iterator[Any]:
    """All constants of a graph and of the graphs within it."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for attribute in (attribute for node in graph.node for attribute in node.attribute):
        kinds = onnx.AttributeProto
        if attribute.type == kinds.TENSOR:
            yield attribute.t
        yield from attribute.tensors
        for inner in [*([attribute.g] if attribute.type == kinds.GRAPH else []), *attribute.graphs]:
            yield from _tensors(onnx, inner)


ONNX = Format("ONNX (.onnx)", has_suffix(".onnx"), _load)
