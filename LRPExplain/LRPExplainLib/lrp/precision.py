"""In which precision relevance is computed, and how a captured network goes over to half precision as a whole."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from .errors import LRPError
from .optimizations import on

HALF = (torch.float16, torch.bfloat16)
_WIDER = (torch.float32, torch.float64)
_UNKNOWN = " not implemented for "  # how PyTorch 2.4 says so, in a plain RuntimeError


def relevance_type(dtype: torch.dtype, precision: torch.dtype | None) -> torch.dtype:
    """In which type relevance of values of a type is computed: the given precision, or (None) float32 at least."""
    if not dtype.is_floating_point:
        return dtype
    return precision or (torch.float32 if dtype in HALF else dtype)


def as_relevance(value: Tensor, precision: torch.dtype | None) -> Tensor:
    """A tensor in the precision in which relevance is computed."""
    return value.to(relevance_type(value.dtype, precision))


def run_in_half(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call an operator; where PyTorch has no kernel of it for half precision, in float32, and round what it returns."""
    try:
        return function(*args, **kwargs)
    except RuntimeError as error:
        if not isinstance(error, NotImplementedError) and _UNKNOWN not in str(error):
            raise
        leaves = pytree.tree_leaves((args, kwargs))
        dtype = next((leaf.dtype for leaf in leaves if isinstance(leaf, Tensor) and leaf.dtype in HALF), None)
        if dtype is None:
            raise
    return widened(dtype, function, *args, **kwargs)


def widened(dtype: torch.dtype, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call an operator in float32, and round what it returns to that half precision."""
    args, kwargs = pytree.tree_map_only(Tensor, lambda value: as_relevance(value, None), (args, kwargs))
    found = function(*args, **kwargs)
    return pytree.tree_map_only(Tensor, lambda value: value.to(dtype) if value.is_floating_point() else value, found)


@cache
def multiplied(device: str) -> frozenset[torch.dtype]:
    """The half precisions that a "cpu" (as oneDNN sees it) or "cuda" card like this one has arithmetic for."""
    known = dict.fromkeys(HALF, True)
    if device == "cpu":
        there, ask = torch.backends.mkldnn.is_available(), torch.ops.mkldnn
        known[torch.float16] = there and ask._is_mkldnn_fp16_supported()
        known[torch.bfloat16] = there and ask._is_mkldnn_bf16_supported()
    elif device == "cuda" and torch.cuda.is_available():
        known[torch.bfloat16] = torch.cuda.get_device_capability() >= (8, 0)  # Ampere
    return frozenset(dtype for dtype, is_known in known.items() if is_known)


def better_widened(x: Tensor) -> bool:
    """Whether products of such a tensor are done in float32, since there is no arithmetic for its half precision: in it
    a CPU took 165 times float32's time for a DynUNet's map.
    """
    return x.dtype in HALF and x.dtype not in multiplied(x.device.type) and on("widened")


def product(function: Callable[..., Tensor], *factors: Tensor, **kwargs: Any) -> Tensor:
    """A product of matrices (`aten.mm` and its like), in the precision in which that is fast."""
    first = factors[0]
    return widened(first.dtype, function, *factors, **kwargs) if better_widened(first) else function(*factors, **kwargs)


def require_lower(precision: torch.dtype) -> None:
    """LRPError for what a graph cannot be computed in instead of its own precision."""
    if precision is not torch.bfloat16:
        raise LRPError(
            f"A graph can be moved to torch.bfloat16, but not to {precision}: the range of float16 does not hold "
            "relevance divided by activations, and for float32 and float64 the model is captured in that precision."
        )


def lower(calls: fx.Graph, constants: dict[fx.Node, Any], precision: torch.dtype) -> dict[fx.Node, Any]:
    """Let all floating values of a traced network be of this precision; returns its constants so. In place."""

    def narrowed(value: Any) -> Any:
        if isinstance(value, torch.dtype):
            return precision if value in _WIDER else value
        is_float = isinstance(value, Tensor) and value.dtype in _WIDER
        return value.to(precision) if is_float else value

    for node in calls.nodes:
        node.args = fx.node.map_aggregate(node.args, narrowed)
        node.kwargs = fx.node.map_aggregate(node.kwargs, narrowed)
        node.meta["val"] = pytree.tree_map(narrowed, node.meta.get("val"))
    return {node: narrowed(value) for node, value in constants.items()}
