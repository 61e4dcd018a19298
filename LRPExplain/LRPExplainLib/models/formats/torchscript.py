"""TorchScript (.ts, .pt, .pth), with MONAI's metadata within it or beside it.

TorchScript is a language of its own that computes with tensors, and PyTorch runs some of it while loading. What of it
can touch files is refused first, by its source.
"""

import io
import json
import re
import tokenize
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from ...digests import sha256_of
from ...errors import UserError, reason
from ..archive import DAMAGED, Source, opened, rewritten, stored
from ..card import ModelCard
from ..claims import check_claims
from ..monai import InMemory, bundle_card
from .base import Format, Loaded, has_suffix, require_one_input

# Operators that read, write or map files, or ask for what is not arithmetic.
_FILES = {"save", "from_file", "load", "_load_for_lite_interpreter"}
# Where operators other than PyTorch's arithmetic may come from.
_NAMESPACES = {"prim", "aten", "quantized", "torchvision"}
# Classes written in C++ that it may hold.
_CLASS = re.compile(rb"torch\.classes\.(?!quantized\b)\w+")
# The shapes that a trace was made with; not needed, and without the numbers that they claim.
_EXAMPLE = (["traced_inputs"], ["traced_inputs.pkl"])
_METADATA = {"metadata.json": "configs/metadata.json", "inference.json": "configs/inference.json"}


def load_module(source: Source, name: str) -> nn.Module:
    """The network in a TorchScript file, in eval mode and float32.

    Raises:
        UserError: it is none, is damaged, larger on paper than the file, asks for files, or takes several inputs.
    """
    if not _is_torchscript(source):
        raise UserError(
            f"'{name}' is not a TorchScript file (or is damaged), and pickled models are not opened for safety:"
            " save it with torch.jit.save, or its weights as .safetensors."
        )
    with opened(source, name) as archive:
        stored(archive, name)
        example = [file for file in archive.namelist() if file.split("/")[1:2] in _EXAMPLE]
        check_claims(archive, name, unread=example)
        _check_code(archive, name)
        content = rewritten(archive, dict.fromkeys(example))
    try:
        with warnings.catch_warnings():
            # of its age, in a category that differs: since PyTorch 2.14 one that Python prints in a terminal
            warnings.filterwarnings("ignore", "`torch.jit.load`")
            module: nn.Module = torch.jit.load(io.BytesIO(content), map_location="cpu")
    except Exception as error:  # whatever its parser makes of a damaged file
        raise UserError(f"'{name}' could not be loaded as TorchScript ({reason(error)}): export it again.") from error
    require_one_input(name, _inputs(module))
    return module.float().eval()


def _inputs(module: nn.Module) -> list[str]:
    """What has to be given to the network, by name; nothing where it does not say."""
    schema = getattr(getattr(module, "forward", None), "schema", None)
    wanted = [] if schema is None else schema.arguments[1:]  # behind itself
    return [argument.name for argument in wanted if not argument.has_default_value()]


def _load(path: Path, card: ModelCard | None, trust: bool) -> Loaded:
    return Loaded(load_module(path, str(path)), card or _own_card(path), sha256_of(path))


def _own_card(path: Path) -> ModelCard | None:
    """From MONAI's metadata: `ckpt_export` puts it into the file; it may also lie beside it."""
    with opened(path, str(path)) as archive:
        texts = {
            _METADATA[file.rsplit("/", 1)[-1]]: archive.read(file).decode("utf-8", errors="replace")
            for file in archive.namelist()
            if file.split("/")[1:2] == ["extra"] and file.rsplit("/", 1)[-1] in _METADATA
        }
    if not texts and (beside := path.with_name("metadata.json")).is_file():
        texts = {"configs/metadata.json": beside.read_text(encoding="utf-8", errors="replace")}
    metadata = texts.get("configs/metadata.json")
    if metadata is None or not _tells_channels(metadata):
        return None
    return bundle_card(InMemory(str(path), texts), path.name)


def _tells_channels(metadata: str) -> bool:
    """MONAI's export writes its own version there, even where the model has no metadata."""
    try:
        content = json.loads(metadata)
    except ValueError:
        return False
    return isinstance(content, dict) and "network_data_format" in content


def _is_torchscript(source: Source) -> bool:
    """TorchScript is a zip archive that holds code; a pickled model or a state dict holds none."""
    try:
        with zipfile.ZipFile(io.BytesIO(source) if isinstance(source, bytes) else source) as archive:
            return any(name.split("/")[1:2] == ["code"] for name in archive.namelist())
    except DAMAGED:
        return False


def _check_code(archive: zipfile.ZipFile, name: str) -> None:
    for file in archive.namelist():
        if file.endswith((".py", ".pkl")):
            content = archive.read(file)
            classes = (match.group().decode() for match in _CLASS.finditer(content))
            calls = _suspicious(content.decode("utf-8", errors="replace")) if file.endswith(".py") else ()
            for asked in (*classes, *calls):
                raise UserError(f"'{name}' asks for '{asked}' in TorchScript, which no network needs: do not use it.")


def _suspicious(code: str) -> Iterator[str]:
    """What the source asks for by name that no network needs. TorchScript's tokens are Python's."""
    try:
        kept = (tokenize.NAME, tokenize.OP)
        tokens = [token.string for token in tokenize.generate_tokens(io.StringIO(code).readline) if token.type in kept]
    except (tokenize.TokenError, SyntaxError) as error:
        yield f"something that is no TorchScript ({error})"
        return
    for before, dot, word, after in zip(tokens, tokens[1:], tokens[2:], [*tokens[3:], ""], strict=False):
        if dot == "." and word in _FILES and after == "(":
            yield f"{before}.{word}"
        if before == "ops" and dot == "." and word not in _NAMESPACES:
            yield f"ops.{word}"


TORCHSCRIPT = Format("TorchScript (.ts, .pt, .pth)", has_suffix(".ts", ".pt", ".pth"), _load)
