"""What each ATen operator does with relevance: the engine's one table.

A row is an operator and its :class:`~.answers.Answer`, or a function that picks the answer by what the call's
arguments are (an addition of two signals is a residual sum, an addition of a constant a bias). An operator that is not
here stops the explanation before anything is computed; there is no silent gradient in its place.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from math import isclose
from typing import Any

import torch
from torch import Tensor, fx

from .answers import LinearLayer, Normalised, Product, SignalMatmul, Softmax, SoftWinner, Unchanged, Winner
from .bicubic import resample
from .call import Answer, Call
from .edit import packet
from .errors import LRPError
from .graph import Graph, arguments, is_decision, keywords, layer_of, require_graph, shape_of
from .layers import averaging, convolution, dense, standing_norm, summing
from .linear import unbroadcast
from .moves import Choose, Concatenation, Padding, Selection, Split, Switch, View
from .norms import channel_affine

aten = torch.ops.aten
Pick = Callable[[fx.Node, Graph], Answer | None]

ACTIVATION = Unchanged()
SCALING = Unchanged("scale")
CONVOLUTION = LinearLayer("conv", convolution, "Bach 2015; Montavon 2019")
DENSE = LinearLayer("linear", dense, "Bach 2015; Montavon 2019")
NORM = LinearLayer("norm", standing_norm, "statistics of the sample held fixed: an affine map per channel", light=True)
SUM = LinearLayer("sum", summing, "a sum is a linear layer with weights one", light=True)
SHIFT = LinearLayer("bias", summing, "a constant summand is a bias", light=True)
RESAMPLING = LinearLayer("average", dense, "a linear layer with fixed weights of both signs")
AVERAGE = LinearLayer("average", averaging, "a linear layer with fixed non-negative weights")
SELECTION = Selection()
DECISION = Switch()


def _slice(call: Call, r: Tensor, shape: torch.Size) -> Tensor:
    _, axis, start, end, step = [*call.args, *[0, None, None, 1][len(call.args) - 1 :]][:5]
    size = shape[axis]
    return aten.slice_backward(r, shape, axis, 0 if start is None else start, size if end is None else end, step)


def _permute(call: Call, r: Tensor, shape: torch.Size) -> Tensor:
    axes = [axis % len(shape) for axis in call.args[1]]
    return r.permute([axes.index(i) for i in range(len(axes))])


RESHAPE = View(lambda call, r, shape: r.reshape(shape))
SWAP = View(lambda call, r, shape: r.transpose(*(call.args[1:] or (0, -1))))
EXPAND = View(lambda call, r, shape: unbroadcast(r, shape))


def _product(node: fx.Node, graph: Graph) -> Answer | None:
    """A factor that is constant scales; of two signals, one may be a gate."""
    a, b = arguments(node)[:2]
    if graph.is_constant(a) or graph.is_constant(b):
        return SCALING if packet(node) is aten.mul or graph.is_constant(b) else ACTIVATION
    if packet(node) is aten.div:
        return Normalised(0)
    divisors = [_is_divisor(factor, graph) for factor in (a, b)]
    if any(divisors) and not all(divisors):
        return Normalised(divisors.index(False))
    gate = _gate_of(a, b, graph)
    return Product("product" if gate is None else "gate", gate)


def _matrix_product(node: fx.Node, graph: Graph) -> Answer | None:
    a, b = arguments(node)[:2]
    if graph.is_constant(a) or graph.is_constant(b):
        return DENSE
    return SignalMatmul(_gate_of(a, b, graph))


def _biased_matrix_product(node: fx.Node, graph: Graph) -> Answer | None:
    bias, a, b = arguments(node)[:3]
    return DENSE if graph.is_constant(bias) and (graph.is_constant(a) or graph.is_constant(b)) else None


def _addition(node: fx.Node, graph: Graph) -> Answer | None:
    return SHIFT if any(graph.is_constant(arg) for arg in arguments(node)[:2]) else SUM


def _sampling(node: fx.Node, graph: Graph) -> Answer | None:
    """Sampling at fixed places, nearest or linear, is resampling. Bicubic weights have signs."""
    _, grid, mode = arguments(node)[:3]
    return AVERAGE if graph.is_constant(grid) and mode in (0, 1) else None


def _convolution(node: fx.Node, graph: Graph) -> Answer | None:
    """Its weight and bias must be constants."""
    return CONVOLUTION if all(map(graph.is_constant, arguments(node)[1:3])) else None


def _scattering(node: fx.Node, graph: Graph) -> Answer | None:
    """A sum or mean of what goes to each place, on nothing but zeros."""
    place, _, index, source, how = arguments(node)
    on_zeros = graph.is_constant(place) and not graph.constants[place].any()
    return AVERAGE if on_zeros and how in ("sum", "mean") and shape_of(index) == shape_of(source) else None


OPERATORS: dict[Any, Answer | Pick] = {
    # layers with weights
    aten.convolution: _convolution,
    aten.addmm: _biased_matrix_product,
    **dict.fromkeys((aten.mm, aten.bmm, aten.matmul), _matrix_product),
    # normalisation
    **dict.fromkeys((aten.native_group_norm, aten.native_layer_norm, channel_affine), NORM),
    # elementwise functions
    **dict.fromkeys(
        (
            aten.relu, aten.leaky_relu, aten._prelu_kernel, aten.prelu, aten.elu, aten.celu, aten.selu, aten.gelu,
            aten.silu, aten.mish, aten.softplus, aten.sigmoid, aten.tanh, aten.hardtanh, aten.hardsigmoid,
            aten.hardswish, aten.relu6, aten.clamp, aten.clamp_min, aten.clamp_max, aten.log_sigmoid_forward, aten.exp,
            aten.log, aten.sqrt, aten.rsqrt, aten.abs, aten.pow, aten.square, aten.erf, aten.neg, aten._to_copy,
            aten.threshold, aten.reciprocal, aten._log_softmax, aten.exp2, aten.expm1, aten.log1p, aten.log2,
            aten.log10, aten.erfc, aten.sin, aten.cos, aten.tan, aten.asin, aten.acos, aten.atan, aten.sinh, aten.cosh,
            aten.asinh, aten.acosh, aten.atanh, aten.logit, aten.sinc, aten.nan_to_num, aten.softshrink,
            aten.hardshrink, aten.floor, aten.ceil, aten.round, aten.trunc,
        ),
        ACTIVATION,
    ),
    # sums and products
    **dict.fromkeys((aten.add, aten.sub, aten.rsub), _addition),
    **dict.fromkeys((aten.mul, aten.div), _product),
    **dict.fromkeys((aten._softmax, aten._safe_softmax), Softmax()),
    # pooling and resampling
    **dict.fromkeys(
        (
            aten.avg_pool1d, aten.avg_pool2d, aten.avg_pool3d, aten._adaptive_avg_pool2d, aten._adaptive_avg_pool3d,
            aten.adaptive_avg_pool1d, aten.mean, aten.sum, aten.upsample_nearest1d, aten.upsample_nearest2d,
            aten.upsample_nearest3d, aten._upsample_nearest_exact1d, aten._upsample_nearest_exact2d,
            aten._upsample_nearest_exact3d, aten.upsample_linear1d, aten.upsample_bilinear2d,
            aten.upsample_trilinear3d, aten.cumsum, aten.col2im,
        ),
        AVERAGE,
    ),
    **dict.fromkeys((aten.grid_sampler_2d, aten.grid_sampler_3d), _sampling),
    resample: RESAMPLING,
    aten.scatter_reduce: _scattering,
    **dict.fromkeys(
        (
            aten.max_pool2d_with_indices, aten.max_pool3d_with_indices, aten.adaptive_max_pool2d,
            aten.adaptive_max_pool3d, aten.amax, aten.max, aten.maximum, aten.minimum, aten.amin, aten.min, aten.topk,
            aten.sort, aten.median, aten.kthvalue, aten.cummax, aten.cummin, aten.fmax, aten.fmin,
        ),
        Winner(),
    ),
    aten.logsumexp: SoftWinner(),
    # structure
    **dict.fromkeys((aten.reshape, aten.squeeze, aten.unsqueeze, aten.flatten, aten.unflatten), RESHAPE),
    aten.permute: View(_permute),
    **dict.fromkeys((aten.transpose, aten.t), SWAP),
    aten.expand: EXPAND,
    aten.slice: View(_slice),
    aten.select: View(lambda call, r, shape: aten.select_backward(r, shape, *call.args[1:])),
    aten.cat: Concatenation(),
    **dict.fromkeys((
            aten.split, aten.split_with_sizes, aten.unsafe_split, aten.unsafe_split_with_sizes, aten.unbind, aten.chunk,
            aten.unsafe_chunk,
        ),
        Split(),
    ),
    aten.constant_pad_nd: Padding(),
    **dict.fromkeys(
        (
            aten.reflection_pad1d, aten.reflection_pad2d, aten.reflection_pad3d, aten.replication_pad1d,
            aten.replication_pad2d, aten.replication_pad3d, aten.roll, aten.flip, aten.repeat, aten.index,
            aten.index_select, aten.gather, aten.slice_scatter, aten.select_scatter, aten.pixel_shuffle,
            aten.pixel_unshuffle, aten.channel_shuffle, aten.unfold, aten.stack, aten.diagonal,
            aten.index_fill, aten.index_put, aten.masked_scatter, aten.rot90, aten.take, aten.embedding,
        ),
        SELECTION,
    ),
    aten.im2col: Selection(framed=True),
    aten.where: Choose(0, 1, 2),
    aten.masked_fill: Choose(1, 2, 0),
    operator.getitem: RESHAPE,  # the walk hands a tuple's relevance to the call that made it; see propagation
    # decisions
    **dict.fromkeys(
        (
            aten.gt, aten.ge, aten.lt, aten.le, aten.eq, aten.ne, aten.logical_not, aten.logical_and, aten.logical_or,
            aten.argmax, aten.argmin, aten.sign, aten.sgn, aten.heaviside, aten.isnan, aten.bitwise_not,
        ),
        DECISION,
    ),
}  # fmt: skip

DECISIONS = {kind for kind, answer in OPERATORS.items() if isinstance(answer, Switch)}
GATES = {aten.sigmoid, aten._softmax, aten._safe_softmax, aten.hardsigmoid, *DECISIONS}
PROBABILITIES = {
    "softmax": {aten._softmax, aten._safe_softmax},
    "sigmoid": {aten.sigmoid, aten.hardsigmoid},
}  # by what they are made of a network's last values
DIVISORS = {aten.rsqrt, aten.reciprocal}  # times one of these is a division
SCALINGS = {aten.mul, aten.div, aten.neg}
# What a gate remains one through, where all that it is joined with are constants or gates: 1 - z, a pooled map, say
GATE_KEEPING = {
    *SCALINGS, aten.add, aten.sub, aten.rsub, aten.clamp, aten.clamp_min, aten.clamp_max, aten.cat, aten.where,
    aten.constant_pad_nd, aten.masked_fill, aten.max_pool2d_with_indices, aten.max_pool3d_with_indices, aten.amax,
    aten.maximum, aten.minimum, aten.pow, aten.sqrt,
    *(kind for kind, answer in OPERATORS.items() if answer in (AVERAGE, SELECTION)),
}  # fmt: skip
TRANSPARENT = {
    aten.reshape, aten.expand, aten.permute, aten.transpose, aten.unsqueeze, aten.squeeze, aten.t, aten._to_copy,
    aten.select, aten.slice, aten.repeat, aten.upsample_nearest1d, aten.upsample_nearest2d, aten.upsample_nearest3d,
    aten._upsample_nearest_exact1d, aten._upsample_nearest_exact2d, aten._upsample_nearest_exact3d,
    aten.upsample_linear1d, aten.upsample_bilinear2d, aten.upsample_trilinear3d, operator.getitem, aten.split,
    aten.split_with_sizes, aten.unsafe_split, aten.unbind,
}  # fmt: skip
NON_NEGATIVE = {
    aten.relu, aten.sigmoid, aten._softmax, aten._safe_softmax, aten.hardsigmoid, aten.abs, aten.exp, aten.softplus,
    aten.relu6, aten.sqrt, aten.square,
}  # fmt: skip
SIGN_KEEPING = {
    aten.max_pool2d_with_indices, aten.max_pool3d_with_indices, aten.amax, aten.maximum, aten.minimum, aten.cat,
    *(key for key, answer in OPERATORS.items() if answer in (AVERAGE, SELECTION, RESHAPE, SWAP, EXPAND)),
    aten.im2col, aten.permute, aten.slice, aten.select, aten.split, aten.split_with_sizes, aten.unbind,
    operator.getitem,
}  # fmt: skip


def answer_of(node: fx.Node, graph: Graph) -> Answer | None:
    """The answer of a call's operator, or None when the table has none for this use of it.

    What has a mask, a count or an index for a result is a decision, whatever the operator.
    """
    if is_decision(node):
        return DECISION
    entry = OPERATORS.get(packet(node))
    return entry if entry is None or isinstance(entry, Answer) else entry(node, graph)


def require_answers(graph: Graph, nodes: list[fx.Node]) -> dict[fx.Node, Answer]:
    """Every node's answer; an LRPError that names the first operator without one."""
    answers: dict[fx.Node, Answer] = {}
    for node in nodes:
        answer = answer_of(node, graph)
        if answer is None:
            shapes = ", ".join(str(list(shape_of(source))) for source in node.all_input_nodes)
            raise LRPError(
                f"The engine has no LRP rule for {operator_name(node)} at {layer_of(node)} (inputs of shape {shapes}); "
                "see `lrpexplain inspect` and the lrp/README on how to add one."
            )
        answers[node] = answer
    return answers


def operator_name(node: fx.Node) -> str:
    """`aten.add`, say."""
    kind = packet(node)
    return getattr(kind, "__name__", str(kind)) if kind is node.target else str(kind)


@dataclass(frozen=True)
class OperatorCount:
    """An operator's name, how often it is called, and its role in a composite; None when relevance cannot pass it."""

    name: str
    count: int
    role: str | None


def count_operators(graph: Graph) -> list[OperatorCount]:
    """Which operators the network uses, most frequent first."""
    require_graph(graph)
    counts: Counter[tuple[str, str | None]] = Counter()
    for node in graph.steps:
        if node.target is operator.getitem:
            continue
        answer = answer_of(node, graph)
        counts[operator_name(node), None if answer is None else answer.role] += 1
    return [OperatorCount(name, count, role) for (name, role), count in counts.most_common()]


def non_negative(graph: Graph) -> frozenset[fx.Node]:
    """Nodes that cannot be negative whatever the input."""
    found: set[fx.Node] = set()
    for node in graph.steps:
        kind = packet(node)
        signals = [source for source in node.all_input_nodes if source not in graph.constants]
        keeps = (kind in SIGN_KEEPING and len(signals) == len(node.all_input_nodes)) or (
            kind in (aten.add, aten.mul) and len(signals) == 2 and keywords(node).get("alpha", 1) >= 0
        )
        floor = (
            arguments(node)[1]
            if kind in (aten.clamp, aten.clamp_min, aten.hardtanh) and len(arguments(node)) > 1
            else None
        )
        frame = arguments(node)[2] if len(arguments(node)) > 2 else 0.0
        if (
            kind in NON_NEGATIVE
            or (keeps and all(source in found for source in signals))
            or (isinstance(floor, (int, float)) and floor >= 0)
            or (kind is aten.constant_pad_nd and signals[0] in found and frame >= 0)
        ):
            found.add(node)
    return frozenset(found)


def ends_in(graph: Graph) -> str | None:
    """ "softmax" or "sigmoid" where that is what the network's output was made by, seen through views; None: neither.

    What comes out are then probabilities already, and no logits.
    """
    return next((name for name, kinds in PROBABILITIES.items() if _seen(graph.outputs[0], kinds)), None)


def require_scores(output: fx.Node, graph: Graph) -> None:
    """LRPError where there is nothing to share out: the network returns decisions (relevance cannot cross the last
    argmax of a segmentation), or the same whatever it is given.
    """
    if graph.is_constant(output):
        raise LRPError(
            "The model's output is the same whatever its input, so there is nothing to explain; ask about another"
            " output, or give the model all inputs that it answers to."
        )
    if _seen(output, DECISIONS):
        raise LRPError(
            "The model returns decisions (such as an argmax), which relevance cannot cross; give it without its last"
            " step, so that it returns the scores that were compared."
        )


def _gate_of(a: Any, b: Any, graph: Graph) -> int | None:
    """Which of two factors is a gate, if just one is."""
    gates = [_is_gate(a, graph), _is_gate(b, graph)]
    return gates.index(True) if any(gates) and not all(gates) else None


def _is_gate(node: Any, graph: Graph) -> bool:
    """Whether a factor says how much of the other passes: made of nothing but gates, decisions and constants."""
    if not isinstance(node, fx.Node) or node.op != "call_function":
        return False
    kind = packet(node)
    if kind in GATES or is_decision(node) or _reaches_one(node, graph):
        return True
    signals = [source for source in node.all_input_nodes if not graph.is_constant(source)]
    if kind in TRANSPARENT:
        signals = signals[:1]
    elif kind not in GATE_KEEPING:
        return False
    return bool(signals) and all(_is_gate(source, graph) for source in signals)


def _reaches_one(node: fx.Node, graph: Graph) -> bool:
    """A hard sigmoid that is spelled out: something cut to 0..1, or to 0..c and divided by c, as `relu6(x + 3) / 6`."""
    if packet(node) in (aten.mul, aten.div):
        x, factor = arguments(node)[:2]
        if not isinstance(x, fx.Node) or isinstance(factor, fx.Node):
            return False
        most = factor if packet(node) is aten.div else 1 / factor if factor else 0.0
    else:
        x, most = node, 1.0
    bounds = (*arguments(x)[1:3], None, None)[:2] if packet(x) in (aten.clamp, aten.hardtanh) else (None, None)
    bounds = (0.0, 6.0) if packet(x) is aten.relu6 else bounds
    return bounds[0] == 0 and isinstance(bounds[1], (int, float)) and isclose(bounds[1], most, rel_tol=1e-6)


def _is_divisor(node: Any, graph: Graph) -> bool:
    """Whether a factor is one over a signal, times a constant perhaps."""
    while isinstance(node, fx.Node) and node.op == "call_function":
        kind = packet(node)
        args = arguments(node)
        if kind in DIVISORS or (kind is aten.div and graph.is_constant(args[0])):
            return True
        if kind is aten.pow:
            return isinstance(args[1], (int, float)) and args[1] < 0
        signals = [source for source in node.all_input_nodes if not graph.is_constant(source)]
        if kind not in SCALINGS | TRANSPARENT or (kind in SCALINGS and len(signals) != 1):
            return False
        node = signals[0] if signals else None
    return False


def _seen(argument: Any, kinds: set[Any]) -> bool:
    """Whether a signal comes from one of these operators, seen through views."""
    node = argument
    while isinstance(node, fx.Node) and node.op == "call_function":
        kind = packet(node)
        if kind in kinds:
            return True
        if kind not in TRANSPARENT:
            return False
        node = arguments(node)[0]
    return False
