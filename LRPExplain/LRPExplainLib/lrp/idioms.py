"""Functions that converters and authors spell out in arithmetic, put back as the one call that they are.

ONNX has no group norm before opset 21 and no GELU before 20; the relevance of a network must not depend on the way it
came. What is not recognised stays as it is and is explained step by step.
"""

from __future__ import annotations

import math
import operator
from typing import Any

import torch
from torch import Tensor, fx

from .edit import constant, packet, replace
from .graph import arguments, shape_of

aten = torch.ops.aten
Constants = dict[fx.Node, Tensor]


def restore_gelu(graph: fx.Graph, constants: Constants) -> None:
    """x * 0.5 * (1 + erf(x / sqrt(2))), the factors in any order."""
    for node in list(graph.nodes):
        if packet(node) is not aten.erf:
            continue
        x, factor = _scaled(arguments(node)[0], constants)
        shifted = _sole_user(node, aten.add)
        if x is None or shifted is None or not math.isclose(factor, math.sqrt(0.5), rel_tol=1e-5):
            continue
        if _number(_other(shifted, node), constants) != 1.0 or shifted.kwargs.get("alpha", 1) != 1:
            continue
        product = _half_of_product(shifted, x, constants)
        if product is not None:
            with graph.inserting_before(product):
                gelu = graph.call_function(aten.gelu.default, (x,))
                gelu.meta = dict(product.meta)
            replace(graph, product, gelu)
    graph.eliminate_dead_code()


def restore_group_norm(graph: fx.Graph, constants: Constants) -> None:
    """Reshape to groups, norm of each group, reshape back, factor and shift per channel."""
    for node in list(graph.nodes):
        if packet(node) is not aten.native_group_norm or packet(arguments(node)[0]) is not aten.reshape:
            continue
        view, weight, bias, batch, of_view, voxels, groups, eps = arguments(node)
        source = view.args[0]
        shape = shape_of(source)
        channels = shape[1] if len(shape) > 2 else 0
        back = _reshaped_back(node, shape)
        per_group = of_view == groups and batch == shape[0] and groups * voxels == shape[1:].numel()
        if back is None or not per_group or channels % groups or weight not in {None, *constants}:
            continue
        repeat = channels // groups
        like = constants[weight] if weight is not None else source.meta["val"].new_ones(())
        gamma = torch.ones(channels, dtype=like.dtype, device=like.device)
        beta = torch.zeros_like(gamma)
        if weight is not None:
            gamma = constants[weight].repeat_interleave(repeat)
        if bias is not None:
            beta = constants[bias].repeat_interleave(repeat)
        last = back
        for kind in (aten.mul, aten.add):
            step = _sole_user(last, kind)
            value = None if step is None else _per_channel(_other(step, last), shape, constants)
            if step is None or value is None or step.kwargs.get("alpha", 1) != 1:
                continue
            gamma, beta = (gamma * value, beta * value) if kind is aten.mul else (gamma, beta + value)
            last = step
        with graph.inserting_before(last):
            affine = [constant(graph, constants, value, node) for value in (gamma, beta)]
            norm = graph.call_function(
                aten.native_group_norm.default,
                (source, *affine, batch, channels, shape[2:].numel(), groups, eps),
            )
            norm.meta = {**node.meta, "val": (source.meta["val"], *node.meta["val"][1:])}
            result = graph.call_function(operator.getitem, (norm, 0))
            result.meta = {**last.meta, "val": source.meta["val"]}
        replace(graph, last, result)
    graph.eliminate_dead_code()


def _half_of_product(shifted: fx.Node, x: fx.Node, constants: Constants) -> fx.Node | None:
    """The call that completes x * 0.5 * shifted."""
    node, halves, signals = shifted, [], []
    while (product := _sole_user(node, aten.mul)) is not None:
        signal, factor = _scaled(_other(product, node), constants)
        signals += [] if signal is None else [signal]
        halves.append(factor)
        if signals == [x] and math.isclose(math.prod(halves), 0.5, rel_tol=1e-5):
            return product
        node = product
    return None


def _scaled(argument: Any, constants: Constants) -> tuple[fx.Node | None, float]:
    """A signal and the number it is multiplied by; None and the number for a number."""
    number = _number(argument, constants)
    if number is not None:
        return None, number
    kind = packet(argument)
    if kind in (aten.mul, aten.div):
        a, b = arguments(argument)[:2]
        number = _number(b, constants)
        if number:
            return a, number if kind is aten.mul else 1 / number
        number = _number(a, constants)
        if number is not None and kind is aten.mul:
            return b, number
    return argument, 1.0


def _number(argument: Any, constants: Constants) -> float | None:
    if isinstance(argument, (int, float)):
        return float(argument)
    value = constants.get(argument)
    return float(value) if value is not None and value.numel() == 1 else None


def _sole_user(node: fx.Node, kind: Any) -> fx.Node | None:
    """The one call that reads a node, if there is one and it is of this kind."""
    users = list(node.users)
    return users[0] if len(users) == 1 and packet(users[0]) is kind else None


def _other(node: fx.Node, known: fx.Node) -> Any:
    """The other of a call's two arguments."""
    a, b = arguments(node)[:2]
    return b if a is known else a


def _reshaped_back(norm: fx.Node, shape: torch.Size) -> fx.Node | None:
    """The norm's output after the reshapes that bring back the shape from before."""
    node = _sole_user(norm, operator.getitem)
    while node is not None and shape_of(node) != shape:
        node = _sole_user(node, aten.reshape)
    return node


def _per_channel(argument: Any, shape: torch.Size, constants: Constants) -> Tensor | None:
    """A constant as one number per channel, if it is that."""
    value = constants.get(argument) if isinstance(argument, fx.Node) else None
    if value is None:
        return None
    wanted = (1, shape[1], *(1 for _ in shape[2:]))
    padded = (1,) * (len(shape) - value.dim()) + tuple(value.shape)
    return value.reshape(-1) if padded == wanted else None
