"""Building a network that a stranger's file describes, within the memory that its weights justify."""

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..errors import UserError, reason

# Initialisation may draw each tensor several times over, and what is small is free.
_SHARE = 8
_FREE_BYTES, _FREE_TENSORS = 64 << 20, 1000


def build(make: Callable[[], nn.Module], state: Mapping[str, Tensor], what: str) -> nn.Module:
    """Make the network whose weights are `state`.

    Raises:
        UserError: it cannot be made, or is far larger than its weights.
    """
    weights = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    try:
        with _Budget(_SHARE * weights + _FREE_BYTES, _SHARE * len(state) + _FREE_TENSORS):
            return make()
    except _Spent as spent:
        raise UserError(
            f"{what} describes a network that is far larger than its weights ({spent}): correct the description."
        ) from None
    except UserError:
        raise
    except Exception as error:  # whatever a constructor makes of unsuitable arguments
        raise UserError(f"{what} describes a network that cannot be made ({reason(error)}): correct it.") from error


class _Spent(Exception):
    pass


class _Budget(TorchDispatchMode):
    """Counts the bytes of new tensors before they are allocated; what is made from tensors is of their order."""

    def __init__(self, limit: int, tensors: int) -> None:
        super().__init__()
        self._limit, self._used, self._tensors = limit, 0, tensors

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not any(isinstance(arg, Tensor) for arg in tree_leaves((args, kwargs))):  # a new tensor, made from no other
            self._spend(args, kwargs)
        return func(*args, **kwargs)

    def _spend(self, args: Any, kwargs: Mapping[str, Any]) -> None:
        sizes = [arg for arg in args if isinstance(arg, list | tuple | torch.Size)]
        if sizes:
            items = prod(int(n) for n in sizes[0])
        else:  # a range, whose largest number may be how many there are
            items = max((int(arg) for arg in args if isinstance(arg, int | float)), default=1)
        self._used += max(0, items) * (kwargs.get("dtype") or torch.get_default_dtype()).itemsize
        self._tensors -= 1
        if self._used > self._limit or self._tensors < 0:
            raise _Spent(f"{self._used >> 20} MiB and more")
