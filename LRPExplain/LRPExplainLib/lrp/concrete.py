"""Arithmetic on sizes stays arithmetic while a network is traced.

TorchScript traces and converted ONNX models compute shapes with tensors of integers and then read them (`int(size)`,
`x.reshape(shape.tolist())`, `F.pad(x, (size / 2).int().tolist())`). Such tensors come from constants alone, so they are
computed for real; what depends on the network's input never is, and reading that stops the capture as before.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

WHOLE = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


class ConcreteIntegers(TorchDispatchMode):
    """Within it, calls on integers or booleans that are not traced, and on what such calls gave, give real tensors.

    The network's own tensors are never written to: a call that would is traced like any other.
    """

    def __init__(self) -> None:
        super().__init__()
        self._made: dict[int, Tensor] = {}  # kept alive, so that ids stay theirs

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        tensors = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        concrete = all((t.dtype in WHOLE and not isinstance(t, FakeTensor)) or id(t) in self._made for t in tensors)
        concrete &= bool(tensors) or kwargs.get("dtype") in WHOLE
        if func._schema.is_mutable:
            written = args[0] if args else next(iter(kwargs.values()), None)  # `self`, which may be given by name
            concrete &= id(written) in self._made
        if not concrete or torch.Tag.nondeterministic_seeded in func.tags:
            return func(*args, **kwargs)
        with _disable_current_modes():
            result = func(*args, **kwargs)
        self._made.update((id(leaf), leaf) for leaf in pytree.tree_leaves(result) if isinstance(leaf, Tensor))
        return result
