"""Norms and softmaxes that converters and authors spell out in arithmetic, put back as the one call that they are.

ONNX has no group norm before opset 21 and no layer norm before 17; authors write a layer norm over the channels of
images themselves (ConvNeXt, SAM). The relevance of a network must not depend on the way it came. What is not recognised
stays as it is and is explained step by step.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor, fx

from .edit import constant, packet, replace
from .graph import arguments, shape_of
from .kinds import SOFTMAX

aten = torch.ops.aten
Constants = dict[fx.Node, Tensor]


def restore_group_norm(graph: fx.Graph, constants: Constants) -> None:
    """Reshape to groups, norm of each group, reshape back."""
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
        with graph.inserting_before(back):
            affine = [constant(graph, constants, value, node) for value in (gamma, beta)]
            norm = graph.call_function(
                aten.native_group_norm.default,
                (source, *affine, batch, channels, shape[2:].numel(), groups, eps),
            )
            norm.meta = {**node.meta, "val": (source.meta["val"], *node.meta["val"][1:])}
            result = graph.call_function(operator.getitem, (norm, 0))
            result.meta = {**back.meta, "val": source.meta["val"]}
        replace(graph, back, result)
    graph.eliminate_dead_code()


def restore_layer_norm(graph: fx.Graph, constants: Constants) -> None:
    """(x - mean) / sqrt(variance + eps) along one axis."""
    for node in list(graph.nodes):
        found = _standardised(node, constants)
        if found is None or found[1] == 0:
            continue
        x, axis, eps = found
        like = x.meta["val"]
        shape, axes = shape_of(x), list(range(like.dim()))
        turned = [*axes[:axis], *axes[axis + 1 :], axis]
        meta = {key: value for key, value in node.meta.items() if key != "val"}

        def call(target: Any, *args: Any, val: Any, meta: dict[str, Any] = meta) -> fx.Node:
            made = graph.call_function(target, args)
            made.meta = {**meta, "val": val}
            return made

        with graph.inserting_before(node):
            rows = like.permute(turned)
            mean = rows[..., :1]
            source = x if turned == axes else call(aten.permute.default, x, turned, val=rows)
            norm = call(aten.native_layer_norm.default, source, [shape[axis]], None, None, eps, val=(rows, mean, mean))
            result = call(operator.getitem, norm, 0, val=rows)
            if turned != axes:
                result = call(aten.permute.default, result, [turned.index(i) for i in axes], val=like)
        replace(graph, node, result)
    graph.eliminate_dead_code()


def restore_softmax(graph: fx.Graph, constants: Constants) -> None:
    """exp(log_softmax(x)) and exp(x) / sum(exp(x)); and log(softmax(x)), which is a log_softmax."""
    for node in list(graph.nodes):
        found = _softmax(node)
        if found is None or node in constants:
            continue
        target, x, axis = found
        with graph.inserting_before(node):
            call = graph.call_function(target, (x, axis, False))
            call.meta = dict(node.meta)
        replace(graph, node, call)
    graph.eliminate_dead_code()


def _softmax(node: fx.Node) -> tuple[Any, fx.Node, int] | None:
    """Which of the two a call makes, of what, and over which axis."""
    kind = packet(node)
    x: Any = arguments(node)[0] if node.args else None
    if kind is aten.exp and _kind(x) is aten._log_softmax:
        return (aten._softmax.default, *arguments(x)[:2])
    if kind is aten.log and _kind(x) in SOFTMAX:
        return (aten._log_softmax.default, *arguments(x)[:2])
    summed = _summed(arguments(node)[1]) if kind is aten.div and not node.kwargs else None
    if summed is None or packet(arguments(node)[1]) is not aten.sum or not _kind(x) is _kind(summed[0]) is aten.exp:
        return None
    scores, axis = arguments(x)[0], summed[1]
    if scores is not arguments(summed[0])[0]:
        return None
    shift = arguments(scores) if _kind(scores) is aten.sub and not scores.kwargs else ()
    if shift and _kind(shift[1]) is aten.amax and arguments(shift[1])[0] is shift[0]:  # against overflow
        scores = shift[0]
    return aten._softmax.default, scores, axis


def _standardised(node: fx.Node, constants: Constants) -> tuple[fx.Node, int, float] | None:
    """What a call standardises, along which axis, and the number that keeps the variance from zero."""
    if packet(node) not in (aten.div, aten.mul):
        return None
    factors = arguments(node)[:2]
    for top, bottom in (factors, factors[::-1]) if packet(node) is aten.mul else (factors,):
        centred, square = _centred(top), _root(bottom, constants, inverse=packet(node) is aten.mul)
        if centred is None or _kind(square) is not aten.add or square.kwargs:
            continue
        variance, eps = arguments(square)[0], _number(arguments(square)[1], constants)
        if eps is not None and _variance(variance, constants) == centred:
            return (*centred, eps)
    return None


def _root(argument: Any, constants: Constants, inverse: bool) -> Any:
    """What an argument is the square root of, or one over that; None if it is not."""
    kind = _kind(argument)
    if kind is None:
        return None
    args = arguments(argument)
    if kind is aten.reciprocal or (kind is aten.div and _number(args[0], constants) == 1.0):
        return _root(args[-1], constants, not inverse)
    power = _number(args[1], constants) if kind is aten.pow else {aten.sqrt: 0.5, aten.rsqrt: -0.5}.get(kind)
    return args[0] if power == (-0.5 if inverse else 0.5) else None


def _centred(argument: Any) -> tuple[fx.Node, int] | None:
    """x and the axis, if this is x minus its mean along it."""
    if _kind(argument) is not aten.sub or argument.kwargs:
        return None
    x, mean = arguments(argument)[:2]
    summed = _summed(mean)
    return summed if summed is not None and packet(mean) is aten.mean and summed[0] is x else None


def _variance(argument: Any, constants: Constants) -> tuple[fx.Node, int] | None:
    """x and the axis, if this is the variance of x along it."""
    count = None
    if _kind(argument) is aten.div:
        argument, count = arguments(argument)[0], _number(arguments(argument)[1], constants)
    summed = _summed(argument)
    if summed is None:
        return None
    squares, axis = summed
    is_mean = packet(argument) is aten.mean if count is None else count == shape_of(squares)[axis]
    centred = _centred(_rooted(squares, constants)) if is_mean else None
    return centred if centred is not None and centred[1] == axis else None


def _rooted(argument: Any, constants: Constants) -> Any:
    """What an argument is the square of; None if it is not."""
    kind, args = _kind(argument), arguments(argument) if isinstance(argument, fx.Node) else ()
    squared = kind is aten.square or (kind is aten.mul and args[0] is args[1])
    return args[0] if squared or (kind is aten.pow and _number(args[1], constants) == 2.0) else None


def _summed(argument: Any) -> tuple[fx.Node, int] | None:
    """What is summed or averaged along one axis that is kept, and the axis."""
    if _kind(argument) not in (aten.mean, aten.sum):
        return None
    x, axes, keep = (*arguments(argument), None, False)[:3]
    return (x, axes[0] % len(shape_of(x))) if keep and axes and len(axes) == 1 else None


def _kind(argument: Any) -> Any:
    """Which operator an argument comes from; None for numbers."""
    return packet(argument) if isinstance(argument, fx.Node) else None


def _number(argument: Any, constants: Constants) -> float | None:
    if isinstance(argument, (int, float)):
        return float(argument)
    value = constants.get(argument)
    return float(value) if value is not None and value.numel() == 1 else None


def _sole_user(node: fx.Node, kind: Any) -> fx.Node | None:
    """The one call that reads a node, if there is one and it is of this kind."""
    users = list(node.users)
    return users[0] if len(users) == 1 and packet(users[0]) is kind else None


def _reshaped_back(norm: fx.Node, shape: torch.Size) -> fx.Node | None:
    """The norm's output after the reshapes that bring back the shape from before."""
    node = _sole_user(norm, operator.getitem)
    while node is not None and shape_of(node) != shape:
        node = _sole_user(node, aten.reshape)
    return node
