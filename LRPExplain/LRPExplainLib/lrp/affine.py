"""A graph pass on constant factors and shifts per channel, batch norm's among them: parts of the layer before them.

A rule sees a layer's weights and bias. A network must have one map whether batch norm is called, written out
(FrozenBatchNorm, ONNX), folded by its author or behind a factor of its own: it is the same linear layer.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx

from .dense_bias import is_shared, with_bias
from .edit import call_like, constant, forget_unread, packet, replace
from .errors import LRPError
from .graph import arguments, function_of, is_whole, keywords, shape_of
from .linear import scale_channels
from .norms import AFFINE_AT, NORMS

aten = torch.ops.aten
Constants = dict[fx.Node, Tensor]
ARITHMETIC = {aten.add, aten.sub, aten.rsub, aten.mul, aten.div, aten.neg}
VIEWS = {aten.reshape, aten.unsqueeze, aten.squeeze, aten.permute, aten.transpose, aten.t}


class Affine(NamedTuple):
    """What a call makes of its source: times scale plus shift, both [C] along an axis, or [1] (axis None).

    `normal` if it has one number for each channel, as batch norm does.
    """

    call: fx.Node
    source: fx.Node
    scale: Tensor
    shift: Tensor
    axis: int | None
    normal: bool


def channel_affine(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Batch norm with its running statistics: x [N, C, ...] times scale [C] plus shift [C]."""
    view = (1, -1) + (1,) * (x.dim() - 2)
    return torch.addcmul(shift.view(view), x, scale.view(view))


def fold_affine(graph: fx.Graph, constants: Constants) -> None:
    """Into the layer that they alone read. Where none is, what amounts to a batch norm becomes `channel_affine`."""
    for node in list(graph.nodes):
        affine = _affine(node, constants) if node.users else None
        if affine is None:
            continue
        called = packet(node) is aten.native_batch_norm
        ends, left = (list(node.users), [node]) if called else ([node], node.all_input_nodes)
        with graph.inserting_before(node):
            made = _folded(graph, constants, affine) or _standing(graph, constants, affine)
        if made is not None:
            for end in ends:
                replace(graph, end, made)
            forget_unread(graph, left)  # what nobody reads any more must not count as a reader


def _affine(node: fx.Node, constants: Constants) -> Affine | None:
    kind = packet(node)
    if kind is channel_affine:
        x, scale, shift = arguments(node)
        return Affine(node, x, constants[scale], constants[shift], 1, True)
    if kind is aten.native_batch_norm and not node.args[5]:
        return _batch_norm(node, constants)
    return _arithmetic(node, constants) if kind in ARITHMETIC else None


def _batch_norm(node: fx.Node, constants: Constants) -> Affine:
    x, *parameters = arguments(node)[:5]
    if not all(p in constants for p in parameters[2:]):
        raise LRPError(
            f"The batch norm at {node.meta.get('layer', node.name)} is given statistics that are computed from the "
            "input; write them as the differences and quotients that they stand for."
        )
    mean, variance = (constants[p] for p in parameters[2:])
    weight, bias = (None if p is None else constants[p] for p in parameters[:2])
    scale = torch.rsqrt(variance + arguments(node)[7])
    scale = scale if weight is None else scale * weight
    shift = -mean * scale if bias is None else bias - mean * scale
    dtype = x.meta["val"].dtype  # in mixed precision (autocast) not that of the statistics
    return Affine(node, x, scale.to(dtype), shift.to(dtype), 1, True)


def _arithmetic(node: fx.Node, constants: Constants) -> Affine | None:
    """A sum, difference, product or quotient of a signal and a number, or one number for each place along an axis."""
    kind = packet(node)
    first, second = (*arguments(node), -1)[:2]
    if kind is aten.rsub:  # b - a
        first, second = second, first
    signals = [arg for arg in (first, second) if isinstance(arg, fx.Node) and arg not in constants]
    if len(signals) != 1 or keywords(node).keys() - {"alpha"} or (kind is aten.div and signals[0] is second):
        return None
    (x,) = signals
    other = second if x is first else first
    like, result = x.meta["val"], node.meta["val"]
    if is_whole(x) or result.shape != like.shape or result.dtype != like.dtype or result.is_complex():
        return None
    value = constants[other] if other in constants else torch.tensor(other, dtype=torch.float64, device="cpu")
    shape = (1,) * (like.dim() - value.dim()) + tuple(value.shape)
    wide = [axis for axis, n in enumerate(shape) if n > 1]
    if len(wide) > 1:
        return None
    c = value.to(like.device, like.dtype).flatten()
    one, none = torch.ones_like(c), torch.zeros_like(c)
    if kind in (aten.add, aten.sub, aten.rsub):
        alpha = keywords(node).get("alpha", 1) * (1 if kind is aten.add else -1)
        scale, shift = (one, c * alpha) if x is first else (one * alpha, c)
    else:
        scale, shift = 1 / c if kind is aten.div else c, none
    if not bool(scale.isfinite().all() and shift.isfinite().all()):  # a mask
        return None
    normal = value.dim() > 0 and like.dim() > 1 and shape[1] == like.shape[1]
    return Affine(node, x, scale, shift, wide[0] if wide else None, normal)


def _folded(graph: fx.Graph, constants: Constants, affine: Affine) -> fx.Node | None:
    """The source when the layer before it is changed, seen through views that nothing else reads."""
    layer, axis = affine.source, affine.axis
    while len(layer.users) == 1:
        fold = FOLDS.get(packet(layer))
        if fold is not None:
            with graph.inserting_before(layer):
                made = fold(graph, constants, layer, affine._replace(axis=axis))
            if made is None:
                return None
            replace(graph, layer, made)
            return made if layer is affine.source else affine.source
        found = _axis_before(layer, axis)
        if found is None:
            return None
        layer, axis = arguments(layer)[0], found[0]
    return None


def _axis_before(view: fx.Node, axis: int | None) -> tuple[int | None] | None:
    """Where an axis lay before a view that keeps it as it is; None if the call is no such view."""
    kind, after = packet(view), shape_of(view)
    if kind not in VIEWS:
        return None
    if axis is None:
        return (None,)
    if kind is aten.permute:
        return (arguments(view)[1][axis] % len(after),)
    if kind in (aten.transpose, aten.t):
        a, b = (i % len(after) for i in arguments(view)[1:] or (0, -1))
        return ({a: b, b: a}.get(axis, axis),)
    before = shape_of(arguments(view)[0])
    same = [i for i, n in enumerate(before) if n == after[axis] and before[:i].numel() == after[:axis].numel()]
    return (same[-1],) if same else None


def _standing(graph: fx.Graph, constants: Constants, affine: Affine) -> fx.Node | None:
    """A batch norm by itself, or the factor and the shift that it is written as; together with one that it follows."""
    if not affine.normal:
        return None
    before = _affine(affine.source, constants) if len(affine.source.users) == 1 else None
    if before is not None and before.normal:
        scale, shift = before.scale * affine.scale, before.shift * affine.scale + affine.shift
        affine = affine._replace(source=before.source, scale=scale, shift=shift)
    called = packet(affine.call) is aten.native_batch_norm
    if not (called or bool(affine.shift.any() and (affine.scale != 1).any())):
        return None
    parameters = [constant(graph, constants, value, affine.call) for value in (affine.scale, affine.shift)]
    made = graph.call_function(channel_affine, (affine.source, *parameters))
    made.meta = {**affine.call.meta, "val": affine.source.meta["val"]}
    return made


def _into_convolution(graph: fx.Graph, constants: Constants, conv: fx.Node, affine: Affine) -> fx.Node | None:
    x, weight, bias, *geometry = arguments(conv)
    if weight not in constants or affine.axis not in (None, 1) or not (bias is None or bias in constants):
        return None
    scale, shift = (value.expand(shape_of(conv)[1]) for value in (affine.scale, affine.shift))
    weights = scale_channels(constants[weight], scale, geometry[3], geometry[5])
    biases = shift if bias is None else constants[bias] * scale + shift
    weight = constant(graph, constants, weights, conv)
    bias = None if bias is None and not shift.any() else constant(graph, constants, biases.contiguous(), conv)
    made = graph.call_function(function_of(conv), (x, weight, bias, *geometry))
    made.meta = dict(conv.meta)
    return made


def _into_product(graph: fx.Graph, constants: Constants, product: fx.Node, affine: Affine) -> fx.Node | None:
    """A product with a constant matrix, whose bias, if it gets one, makes it a product of rows."""
    bias, a, b = arguments(product) if packet(product) is aten.addmm else (None, *arguments(product))
    from_left = a in constants
    x, weight = (b, a) if from_left else (a, b)
    shape = shape_of(product)
    axis = len(shape) - (2 if from_left else 1)
    if weight not in constants or product.kwargs or affine.axis not in (None, axis):
        return None
    if bias is not None and (from_left or bias not in constants):
        return None
    matrix, shared = constants[weight], is_shared(constants[weight])
    if not shared and affine.shift.any():
        return None
    scale, shift = (value.expand(shape[axis]) for value in (affine.scale, affine.shift))
    one = matrix[0] if shared and matrix.dim() > 2 else matrix
    scaled = (one * (scale[:, None] if from_left else scale)).expand(matrix.shape)
    if bias is not None:
        biases = constant(graph, constants, constants[bias] * scale + shift, product)
        return call_like(graph, product, shape, product.target, biases, x, constant(graph, constants, scaled, product))
    turned = from_left and bool(shift.any())
    if turned:
        x = call_like(graph, x, shape_of(x)[:-2] + shape_of(x)[:-3:-1], aten.transpose.int, x, -2, -1)
        scaled, shape, from_left = scaled.mT, shape[:-2] + shape[:-3:-1], False
    weight = constant(graph, constants, scaled, product)
    made = call_like(graph, product, shape, product.target, *((weight, x) if from_left else (x, weight)))
    if shift.any():
        made = with_bias(graph, made, constant(graph, constants, shift.contiguous(), product), constants)
        made = call_like(graph, product, shape, aten.reshape.default, made, list(shape))
    if turned:
        made = call_like(graph, product, shape_of(product), aten.transpose.int, made, -2, -1)
    return made


def _into_norm(graph: fx.Graph, constants: Constants, result: fx.Node, affine: Affine) -> fx.Node | None:
    """Beside a norm's own factor and shift."""
    norm, index = arguments(result)
    if packet(norm) not in NORMS or index != 0 or len(norm.users) > 1:
        return None
    by_rows = packet(norm) is aten.native_layer_norm
    axis = len(shape_of(norm)) - 1 if by_rows else 1
    at = AFFINE_AT[packet(norm)]
    gamma, beta = norm.args[at : at + 2]
    if affine.axis not in (None, axis):
        return None
    if by_rows and len(arguments(norm)[1]) > 1:
        return None
    scale, shift = (value.expand(shape_of(norm)[axis]) for value in (affine.scale, affine.shift))
    factor = scale if gamma is None else constants[gamma] * scale
    shift = shift if beta is None else constants[beta] * scale + shift
    both = [constant(graph, constants, value.contiguous(), norm) for value in (factor, shift)]
    made = graph.call_function(function_of(norm), (*norm.args[:at], *both, *norm.args[at + 2 :]))
    made.meta = {**affine.call.meta, **norm.meta}
    picked = graph.call_function(operator.getitem, (made, 0))
    picked.meta = dict(result.meta)
    return picked


FOLDS: dict[Any, Callable[[fx.Graph, Constants, fx.Node, Affine], fx.Node | None]] = {
    aten.convolution: _into_convolution,
    **dict.fromkeys((aten.addmm, aten.mm, aten.bmm), _into_product),
    operator.getitem: _into_norm,
}
