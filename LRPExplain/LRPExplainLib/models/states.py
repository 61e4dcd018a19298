"""State dicts from disk: tensors by name, and nothing else, whoever wrote the file."""

import codecs
import io
import pickle
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from ..errors import UserError, reason
from .archive import Source, opened, stored
from .claims import check_claims

State = dict[str, Tensor]
# Under which key training programs put the network's own weights, in the order in which they are looked for.
_KEYS = ("model", "state_dict", "model_state_dict", "network", "net", "network_weights")
# What wrappers of the network put before the names of its weights: data parallel, compiled, and one in the other.
_PREFIXES = ("module.", "_orig_mod.")
_AVERAGED = "n_averaged"  # of how many steps an average of weights is (torch.optim.swa_utils), beside "module."
_ZIP = b"PK\x03\x04"


def read_state(source: Source, name: str) -> State:
    """The network's weights from .safetensors, or from what torch.save wrote (.pt, .pth).

    Raises:
        UserError: damaged, larger on paper than the file, of PyTorch's format before 1.6, or a pickle that asks for
            anything but tensors.
    """
    read = _read_safetensors if name.lower().endswith(".safetensors") else read_checkpoint
    return _network_state(read(source, name), name)


def _read_safetensors(source: Source, name: str) -> State:
    try:
        return safetensors.torch.load(source if isinstance(source, bytes) else source.read_bytes())
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
        raise UserError(f"'{name}' is not a whole safetensors file ({reason(error)}): fetch it again.") from error


def read_checkpoint(source: Source, name: str) -> Any:
    """What torch.save wrote, as far as it is plain data and tensors; nothing in it is ever called."""
    if _start(source) != _ZIP:
        raise UserError(
            f"'{name}' is no file of torch.save, is damaged, or is in PyTorch's format before 1.6, which is not opened"
            " for safety: save the weights again with torch.save, or as .safetensors."
        )
    with opened(source, name) as archive:
        stored(archive, name)
        check_claims(archive, name)
    try:
        with _numbers_allowed():
            return torch.load(
                io.BytesIO(source) if isinstance(source, bytes) else source, map_location="cpu", weights_only=True
            )
    except pickle.UnpicklingError as error:
        raise UserError(
            f"'{name}' holds more than weights{_asked_for(error)} and opening it would run code from it: save the"
            " state dict alone with torch.save, or as .safetensors."
        ) from error
    except (RuntimeError, ValueError, EOFError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise UserError(f"'{name}' is damaged ({reason(error)}): fetch or save it again.") from error


def fill(module: nn.Module, state: Mapping[str, Tensor], name: str) -> None:
    """Give a network its weights.

    Raises:
        UserError: they are those of another network.
    """
    try:
        module.load_state_dict(dict(state))
    except RuntimeError as error:
        raise UserError(f"The weights in '{name}' do not fit the network ({reason(error)}).") from error


def _network_state(content: Any, name: str) -> State:
    for key in _KEYS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content:
        raise UserError(f"'{name}' holds no weights by name: save the network's state_dict().")
    state = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    if not state:
        raise UserError(f"'{name}' holds no weights: save the network's state_dict().")
    named = {key: value for key, value in state.items() if key != _AVERAGED}
    if named and all(key.startswith("module.") for key in named):
        state = named
    while prefix := next((prefix for prefix in _PREFIXES if all(key.startswith(prefix) for key in state)), ""):
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


@contextmanager
def _numbers_allowed() -> Iterator[None]:
    """NumPy's plain numbers, which trainers keep beside the weights (the best metric so far)."""
    before = list(torch.serialization.get_safe_globals())
    torch.serialization.add_safe_globals(_NUMBERS)
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


def _scalar_of(module: str) -> Callable[..., Any]:
    """What makes a number, by the name of one version of NumPy; PyTorch before 2.6 goes by a function's own name."""
    make: Any = np.float64(0).__reduce__()[0]

    def scalar(*args: Any) -> Any:
        return make(*args)

    scalar.__module__, scalar.__qualname__ = module, "scalar"
    return scalar


_NUMBERS: list[Any] = [
    *map(_scalar_of, ("numpy.core.multiarray", "numpy._core.multiarray")),
    codecs.encode,  # a number's bytes; PyTorch allows it itself from 2.5 on
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "?")),
]


def _asked_for(error: Exception) -> str:
    """The first name that PyTorch's message gives of what it would not call."""
    for word in ("GLOBAL ", "function "):
        _, found, rest = str(error).partition(word)
        if found and rest.split():
            return f" (it asks for {rest.split()[0].strip('`')})"
    return ""


def _start(source: Source) -> bytes:
    if isinstance(source, bytes):
        return source[:4]
    with Path(source).open("rb") as stream:
        return stream.read(4)
