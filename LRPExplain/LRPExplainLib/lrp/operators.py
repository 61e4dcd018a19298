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
from typing import Any

import torch
from torch import Tensor, fx

from .affine import channel_affine
from .answers import Expanded, Held, LinearLayer, Product, SignalMatmul, Softmax, SoftWinner, Unchanged, Winner
from .bicubic import resample
from .call import Answer, Call
from .edit import packet
from .errors import LRPError
from .graph import Graph, arguments, is_decision, layer_of, require_graph, shape_of
from .kinds import AVERAGES, DECISIONS, ELEMENTWISE, RESHAPES, SELECTIONS, SOFTMAX
from .layers import averaging, convolution, dense, standing_norm, summing
from .linear import unbroadcast
from .moves import Choose, Concatenation, Padding, Placing, Selection, Split, Switch, View
from .origins import decision_among, gate_among, held_among

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
EXPANDED = Expanded()


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


def _places(call: Call, numbers: Tensor) -> Tensor:
    return aten.index(numbers, [None if index is None else call.value(index) for index in call.args[1]])


SCATTER = Placing(lambda call, numbers: numbers.gather(call.args[1], call.value(call.args[2])), values=3)


def _product(node: fx.Node, graph: Graph) -> Answer | None:
    """A factor that is constant scales; of two signals, one may be held fixed, or a gate."""
    a, b = arguments(node)[:2]
    if graph.is_constant(a) or graph.is_constant(b):
        return SCALING if packet(node) is aten.mul or graph.is_constant(b) else ACTIVATION
    if packet(node) is aten.div:
        return Held(0)
    held = held_among((a, b), graph)
    if held is not None:
        return Held(1 - held)
    gate = gate_among((a, b), graph)
    return Product("product" if gate is None else "gate", gate)


def _matrix_product(node: fx.Node, graph: Graph) -> Answer | None:
    a, b = arguments(node)[:2]
    if graph.is_constant(a) or graph.is_constant(b):
        return DENSE
    decided = decision_among((a, b), graph)
    return SignalMatmul(gate_among((a, b), graph), False) if decided is None else SignalMatmul(decided, True)


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


def _scatter(node: fx.Node, graph: Graph) -> Answer | None:
    """Of a tensor, and not such as adds or multiplies."""
    return SCATTER if node.target is aten.scatter.src else None


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
    **dict.fromkeys(ELEMENTWISE, ACTIVATION),
    # sums and products
    **dict.fromkeys((aten.add, aten.sub, aten.rsub), _addition),
    **dict.fromkeys((aten.mul, aten.div), _product),
    **dict.fromkeys(SOFTMAX, Softmax()),
    aten._log_softmax: ACTIVATION,
    # pooling and resampling
    **dict.fromkeys(AVERAGES, AVERAGE),
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
    **dict.fromkeys(RESHAPES, RESHAPE),  # getitem: the walk hands a tuple's relevance to the call that made it
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
    **dict.fromkeys(SELECTIONS, SELECTION),
    aten.im2col: Selection(framed=True),
    aten.index_put: Placing(_places, values=2),
    aten.scatter: _scatter,
    aten.where: Choose(0, 1, 2),
    aten.masked_fill: Choose(1, 2, 0),
    # decisions
    **dict.fromkeys(DECISIONS, DECISION),
}  # fmt: skip


def answer_of(node: fx.Node, graph: Graph) -> Answer | None:
    """The answer of a call's operator, or None when the table has none for this use of it.

    What has a mask, a count or an index for a result is a decision, whatever the operator.
    """
    if is_decision(node):
        return DECISION
    if node in graph.expanded:
        return EXPANDED
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
