"""Layers as the linear maps that rules see: weighted layers, normalisations, averages and sums.

A normalisation with the sample's own statistics, held fixed, is affine per channel. Where it directly follows a
convolution or dense layer that nothing else reads, both are one linear layer: the norm's factor gamma goes into the
weights (so that rules see its sign), 1/sigma becomes the layer's positive `scale`, and beta and the mean its bias. The
mean is either held fixed as well, and then absorbs like a bias, or stays what it is, a linear function of the input.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from .call import Call, Sources
from .edit import packet
from .graph import arguments, is_index, keywords, results_of, shape_of
from .kinds import SOFTMAX
from .linear import RAW, Average, Convolution, Diagonal, LinearMap, Matmul, Modified, Sum, modify, scale_channels

aten = torch.ops.aten
_OUT_OF_SIGHT = 50.0  # below the highest of a row: exp(-50) is 2e-22


@dataclass(frozen=True)
class Statistics:
    """A normalisation at the point of its forward pass, as tensors broadcastable to its output.

    Attributes:
        output: empty where no rule reads it.
        gamma, beta: the norm's own factor and shift per channel, or None.
        mean, rstd: the sample's statistics.
        average: averages a tensor of the output's shape over each statistic.
    """

    output: Tensor
    gamma: Tensor | None
    beta: Tensor | None
    mean: Tensor
    rstd: Tensor
    average: Callable[[Tensor], Tensor]


def statistics(call: Call, norm: fx.Node) -> Statistics:
    """Read a `native_group_norm` or `native_layer_norm` node's statistics, and its output if that was kept."""
    results = results_of(norm)
    mean, rstd = call.value(results[1]), call.value(results[2])
    output = call.value(results[0]) if results[0] in call.values else mean.new_empty(0)
    shape = shape_of(arguments(norm)[0])
    if packet(norm) is aten.native_layer_norm:
        axes = [-1 - i for i in range(len(arguments(norm)[1]))]
        gamma, beta = (None if p is None else call.value(p) for p in arguments(norm)[2:4])
        return Statistics(output, gamma, beta, mean, rstd, lambda t: t.expand(shape).mean(axes, keepdim=True))
    gamma, beta = (None if p is None else per_channel(call.value(p), len(shape)) for p in arguments(norm)[1:3])
    batch, channels, groups = shape[0], shape[1], arguments(norm)[6]
    grouped = (batch, groups, -1)

    def spread(per_group: Tensor) -> Tensor:
        wide = per_group.reshape(batch, groups, 1).expand(batch, groups, channels // groups)
        return wide.reshape(batch, channels, *(1,) * (len(shape) - 2))

    def average(t: Tensor) -> Tensor:
        return spread(t.expand(shape).reshape(grouped).mean(2))

    return Statistics(output, gamma, beta, spread(mean), spread(rstd), average)


def per_channel(p: Tensor, dims: int) -> Tensor:
    """[C] -> [1, C, 1, ...] with `dims` axes."""
    return p.view(1, -1, *(1,) * (dims - 2))


def convolution(call: Call) -> tuple[Sources, LinearMap]:
    """`aten.convolution(x, weight, bias, stride, padding, dilation, transposed, output_padding, groups)`."""
    source, weight, bias, *geometry = call.args
    stats = statistics(call, call.norm) if call.norm is not None else None
    dims = len(shape_of(call.node))
    transposed, groups = geometry[3], geometry[5]
    factor = None if stats is None or stats.gamma is None else stats.gamma.flatten()

    def scaled(w: Tensor) -> Tensor:
        return w if factor is None else scale_channels(w, factor, transposed, groups)

    weights = _weights(call, weight, scaled)
    layer = Convolution(call.value(source), weights, tuple(geometry), _output(call, stats))
    layer.frame = _frame(call, source)
    own = None if bias is None else per_channel(call.value(bias), dims)
    _add_constants(layer, own, stats, call.mean)
    return [source], layer


def _frame(call: Call, source: fx.Node) -> Callable[[], Tensor] | None:
    """Padding with zeros ahead of a convolution, which is no other than the convolution's own padding."""
    if packet(source) is not aten.constant_pad_nd or (len(arguments(source)) > 2 and arguments(source)[2] != 0):
        return None
    inner, pads = arguments(source)[:2]

    def frame() -> Tensor:
        x = call.value(source)
        return aten.constant_pad_nd(x.new_ones(1, 1, *shape_of(inner)[2:]), pads, 0.0)

    return frame if len(pads) <= 2 * (len(shape_of(inner)) - 2) else None


def matrices_of(product: fx.Node) -> tuple[Any, ...]:
    """The two factors of a product of matrices."""
    args = arguments(product)
    return args[1:3] if packet(product) is aten.addmm else args[:2]


def dense(call: Call) -> tuple[Sources, LinearMap]:
    """`addmm(bias, x, w)`, `mm`, `bmm` and `matmul` of a signal with a constant matrix."""
    bias = call.args[0] if packet(call.node) is aten.addmm else None
    beta, alpha = (keywords(call.node).get(name, 1) for name in ("beta", "alpha"))
    a, b = matrices_of(call.node)
    from_left = call.is_constant(a)
    source, weight = (b, a) if from_left else (a, b)
    stats = statistics(call, call.norm) if call.norm is not None else None
    gamma = None if stats is None else stats.gamma

    def scaled(w: Tensor) -> Tensor:
        w = w if alpha == 1 else w * alpha
        return w if gamma is None else w * gamma.flatten()

    layer = Matmul(call.value(source), _weights(call, weight, scaled), _output(call, stats), from_left)
    batch = shape_of(call.graph.inputs[0])[0] if shape_of(call.graph.inputs[0]) else 1
    layer.samples = batch if batch and not from_left and len(layer.inputs[0]) % batch == 0 else None
    own = None if bias is None or beta == 0 else call.value(bias) * beta  # by 0 it is not read, whatever it holds
    _add_constants(layer, own, stats, call.mean)
    return [source], layer


def standing_norm(call: Call) -> tuple[Sources, LinearMap]:
    """A normalisation with no layer of its own before it: a linear layer with one factor per channel."""
    source = call.args[0]
    x = call.value(source)
    if call.node.target is not aten.native_group_norm.default and packet(call.node) is not aten.native_layer_norm:
        scale, shift = (per_channel(call.value(p), x.dim()) for p in call.args[1:3])
        layer = Diagonal(x, scale, call.output)
        layer.bias = shift
        return [source], layer
    stats = statistics(call, call.node)
    gamma = torch.ones((), dtype=x.dtype, device=x.device) if stats.gamma is None else stats.gamma
    layer = Diagonal(x, gamma, stats.output)
    _add_constants(layer, None, stats, call.mean)
    return [source], layer


def _weights(call: Call, weight: Any, scaled: Callable[[Tensor], Tensor]) -> Modified:
    """The layer's weight under each modification, computed once per graph, or (short of memory) once per step."""
    cache, name = call.graph.cache if call.slab is None else {}, call.node.name

    def get(modification: str) -> Tensor:
        key = (name, call.norm is not None, modification)
        if key not in cache:
            w = call.value(weight)
            modified = w if modification == RAW else modify(scaled(w), modification)
            if modified is call.values[weight]:
                return modified
            cache[key] = modified
        return cache[key]

    return get


def _output(call: Call, stats: Statistics | None) -> Tensor:
    """The layer's output where it was kept; a rule that needs it has asked for it."""
    if stats is not None:
        return stats.output
    return call.output if call.node in call.values else torch.empty(0)


def _add_constants(layer: LinearMap, own: Tensor | None, stats: Statistics | None, mean: str) -> None:
    """Set the layer's bias, scale and mean from its own bias and the norm folded into it."""
    if stats is None:
        layer.bias = own
        return
    gamma = 1.0 if stats.gamma is None else stats.gamma
    factor = stats.rstd * gamma
    layer.scale = stats.rstd
    held = -stats.mean
    if own is not None:
        held = held + own
    if mean == "linear":
        # what the mean owes to the layer's own bias cancels that bias, up to differences within a group
        part = 0.0 if own is None else stats.average(own)
        layer.mean, layer.mean_factor = stats.average, gamma
        layer.mean_term = (part - stats.mean) * factor
        held = held + stats.mean - part
    bias = held * factor
    layer.bias = bias if stats.beta is None else bias + stats.beta


def averaging(call: Call) -> tuple[Sources, LinearMap]:
    """Pooling, resampling and sums as a linear map of their one signal."""
    args = call.args
    (source,) = (arg for arg in args if not (call.is_constant(arg) or is_index(arg, call.node)))

    def run(x: Tensor) -> Tensor:
        return call.run(*(x if arg is source else call.value(arg) for arg in args), **call.node.kwargs)

    output = call.values.get(call.node)
    return [source], Average(call.value(source), run, run(call.value(source)) if output is None else call.output)


def summing(call: Call) -> tuple[Sources, LinearMap]:
    """`add`, `sub`, `rsub` with factors as a sum of signals; what is constant is the bias."""
    a, b = call.args[:2]
    alpha = keywords(call.node).get("alpha", call.args[2] if len(call.args) > 2 else 1)
    kind = packet(call.node)
    factors = (-alpha, 1) if kind is aten.rsub else (1, -alpha if kind is aten.sub else alpha)
    signals = {arg: f for arg, f in zip((a, b), factors, strict=True) if not call.is_constant(arg)}
    sources = [arg for arg in (a, b) if arg in signals]
    inputs = [_scaled(call.value(arg), f) for arg, f in zip((a, b), factors, strict=True) if arg in signals]
    bias = None
    for arg, factor in zip((a, b), factors, strict=True):
        if arg not in signals:
            bias = torch.as_tensor(call.value(arg), dtype=inputs[0].dtype, device=inputs[0].device) * factor
    output = call.output if call.node in call.values else inputs[0].new_empty(0)
    if bias is not None:  # what an attention mask hides gets no relevance: it is no part of the scale of the sum
        hidden = _hidden(bias, call.node)
        bias = bias.masked_fill(hidden, 0.0)
        output = torch.where(hidden, inputs[0], output) if output.numel() else output
    return sources, Sum(inputs, output, shape_of(call.node), bias)


def _hidden(mask: Tensor, node: fx.Node) -> Tensor:
    """Where a constant summand is so low that the softmax that follows it gives nothing to its element.

    Networks write such masks as -inf, -100, -1e9 or the lowest number there is; rows of padding are low as a whole.
    """
    hidden = torch.isinf(mask)
    if mask.dim() == 0 or not _before_softmax(node):
        return hidden
    top = mask.amax(-1, keepdim=True)
    padding = (mask.amin(-1, keepdim=True) == top) & (top <= mask.amax() - _OUT_OF_SIGHT)
    return hidden | (mask <= top - _OUT_OF_SIGHT) | padding


def _before_softmax(node: fx.Node) -> bool:
    """Whether a softmax along the last axis follows, at once or through views that keep that axis."""
    while len(node.users) == 1:
        (user,) = node.users
        if packet(user) in SOFTMAX:
            return arguments(user)[1] % len(shape_of(user)) == len(shape_of(user)) - 1
        if packet(user) is not aten.reshape or shape_of(user)[-1:] != shape_of(node)[-1:]:
            return False
        node = user
    return False


def _scaled(x: Tensor, factor: Any) -> Tensor:
    return x if factor == 1 else x * factor
