"""Arithmetic on sizes, and what a network decides by its own weights, stays known while it is traced.

TorchScript traces and converted ONNX models compute shapes with tensors of integers and then read them (`int(size)`,
`x.reshape(shape.tolist())`, `F.pad(x, (size / 2).int().tolist())`). Such tensors come from constants alone, so they are
computed for real; what depends on the network's input never is, and reading that stops the capture as before.
Numbers of other kinds (a searched architecture's codes, as DiNTS has them; a learned threshold) are traced, and
computed where Python reads them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

aten = torch.ops.aten
WHOLE = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


class KnownNumbers(TorchDispatchMode):
    """Within it, calls on integers or booleans that are not traced, and on what such calls gave, give real tensors;
    what is traced of constants alone can be read.

    The network's own tensors are never written to: a call that would is traced like any other.

    Attributes:
        read: the network's own numbers that Python has read, so that the graph holds for these alone.
    """

    def __init__(self) -> None:
        super().__init__()
        self.read: list[Tensor] = []
        self._made: dict[int, Tensor] = {}  # kept alive, so that ids stay theirs
        # what is traced of constants: kept alive; the call that makes it, and which of its results it is
        self._calls: dict[int, tuple[Tensor, Callable[[], list[Any]], int]] = {}
        self._writes = False  # in place to what is traced: then its numbers are no longer known

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
            self._writes |= not concrete
        if torch.Tag.nondeterministic_seeded in func.tags:
            return func(*args, **kwargs)
        if concrete:
            with _disable_current_modes():
                result = func(*args, **kwargs)
            self._made.update((id(leaf), leaf) for leaf in pytree.tree_leaves(result) if isinstance(leaf, Tensor))
            return result
        known = not self._writes and all(id(t) in self._calls or not isinstance(t, FakeTensor) for t in tensors)
        if known and func is aten._local_scalar_dense.default:
            with _disable_current_modes():
                return self._value(args[0]).item()
        result = func(*args, **kwargs)
        if known:
            run = cache(partial(self._run, func, args, kwargs))
            for i, leaf in enumerate(pytree.tree_leaves(result)):
                if isinstance(leaf, Tensor):
                    self._calls[id(leaf)] = leaf, run, i
        return result

    def _value(self, tensor: Tensor) -> Tensor:
        if id(tensor) in self._calls:
            _, run, i = self._calls[id(tensor)]
            return run()[i]
        self.read.append(tensor)
        return tensor

    def _run(self, func: Any, args: Any, kwargs: Any) -> list[Any]:
        args, kwargs = pytree.tree_map_only(Tensor, self._value, (args, kwargs))
        return pytree.tree_leaves(func(*args, **kwargs))
