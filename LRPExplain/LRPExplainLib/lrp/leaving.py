"""A network that hands its signal to NumPy leaves PyTorch: what comes back is a constant, and often rubbish."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.overrides import TorchFunctionMode

from .errors import LRPError

LEAVING: set[Any] = {Tensor.numpy, Tensor.__array__, Tensor.__dlpack__, Tensor.__dlpack_device__}


class RefuseLeaving(TorchFunctionMode):
    """Within it, reading the memory of a traced tensor is an LRPError; that of a real one is not."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in LEAVING and (isinstance(args[0], FakeTensor) or torch._is_functional_tensor(args[0])):
            raise LRPError(
                "The model takes its data out of PyTorch (to NumPy, say), where no relevance can follow; replace that"
                " step by tensor operations."
            )
        return func(*args, **(kwargs or {}))
