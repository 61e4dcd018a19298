"""Inner layers by name: which have channels, and what reaches the output without passing through one.

A channel's conditional relevance is what a walk brings to the input that begins at the layer's output with the
relevance of that channel alone (Achtibat et al. 2023, "From attribution maps to human-understandable explanations
through Concept Relevance Propagation"): ``evaluation.held(target, layer)``, masked, into
``evaluation.attribute(..., layer=layer)``.
A walk is linear in the relevance that it begins with, so that the maps of all channels add up to what the whole map
owes to the layer; the rest is ``evaluation.attribute(target, channels={layer: []})``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from operator import index

import torch
from torch import Tensor, fx

from .edit import packet
from .errors import LRPError
from .graph import Graph, layer_of, require_graph, shape_of

aten = torch.ops.aten


@dataclass(frozen=True)
class InnerLayer:
    """A layer whose channels can be told apart.

    Attributes:
        name: by which `attribute` knows it.
        channels: how many it has.
        places: the size of its grid; empty for a layer that has one value per channel.
    """

    name: str
    channels: int
    places: tuple[int, ...]


def inner_layers(graph: Graph) -> list[InnerLayer]:
    """The layers with parameters that have channels and lie before the output, in the order of execution."""
    require_graph(graph)
    found = {}
    for node in steps_to(graph, graph.outputs[0]):
        if "layer" in node.meta and node not in graph.outputs:
            found[layer_of(node)] = node  # the last call of a layer gives its output
    return [_described(name, node) for name, node in found.items() if _has_channels(graph, node)]


def inner_layer(graph: Graph, name: str = "") -> InnerLayer:
    """The layer of this name (or of a call's name); without one the one that `automatic` finds.

    Raises:
        LRPError: there is no such layer before the output, or it has no channels.
    """
    require_graph(graph)
    node = layer_named(graph, name) if name else automatic(graph)
    if not _has_channels(graph, node):
        raise LRPError(
            f"The layer '{name}' gives {list(shape_of(node))}, in which no axis counts channels: choose another one"
            " ('lrpexplain inspect' lists the layers)."
        )
    return _described(name or layer_of(node), node)


def automatic(graph: Graph) -> fx.Node:
    """Of the convolutions through which everything passes (in a U-Net, none of those that its skip connections go
    around) the last one on the coarsest grid; where there is none, `deepest_convolution`.

    Raises:
        LRPError: the network has no convolution.
    """
    found = [node for node in _convolutions(graph) if not _around(graph, node)]
    return _last_of_the_coarsest(found) if found else deepest_convolution(graph)


def goes_around(graph: Graph, name: str) -> bool:
    """Whether the output depends on the input by a way that does not pass through the layer, as a skip connection."""
    return _around(graph, layer_named(graph, name))


def deepest_convolution(graph: Graph) -> fx.Node:
    """The last convolution on the coarsest grid (in a U-Net that of its bottleneck), the one that makes the output
    aside.

    Raises:
        LRPError: the network has no convolution.
    """
    found = _convolutions(graph)
    if not found:
        raise LRPError("The model has no convolution whose channels could be looked at: name a layer.")
    return _last_of_the_coarsest(found)


def steps_to(graph: Graph, output: fx.Node) -> list[fx.Node]:
    """The steps that an output depends on, in the order in which schedules count them."""
    wanted = {output}
    for node in reversed(graph.steps):
        if node in wanted:
            wanted.update(node.all_input_nodes)
    return [node for node in graph.steps if node in wanted]


def layer_named(graph: Graph, name: str) -> fx.Node:
    """The last call of the named layer before the network's first output. LRPError: there is none."""
    return layers_named(steps_to(graph, graph.outputs[0]), {name})[name]


def layers_named(steps: Sequence[fx.Node], names: Iterable[str]) -> dict[str, fx.Node]:
    """Of these steps the last call of each named layer, whose output is the layer's output. LRPError: there is none."""
    table = {layer_of(node): node for node in steps} | {node.name: node for node in steps}
    for name in names:
        if name not in table:
            raise LRPError(
                f"The model has no layer '{name}' before this output; lrp.inner_layers(graph) and 'lrpexplain inspect'"
                " list the layers."
            )
    return {name: table[name] for name in names}


def only(relevance: Tensor, channels: Sequence[int]) -> Tensor:
    """The relevance [n, C, ...] of these channels, and 0 in the others. LRPError: there is no such channel."""
    chosen = require_channels(channels, relevance.shape)
    kept = torch.zeros_like(relevance)
    kept[:, chosen] = relevance[:, chosen]
    return kept


def require_channels(channels: Iterable[int], shape: Sequence[int]) -> list[int]:
    """The channels (of axis 1) as a list, or an LRPError for what are none of a layer's of this shape."""
    try:
        chosen = [index(channel) for channel in channels]
    except TypeError:
        raise LRPError(f"Channels are told by a list of numbers, but got {channels!r}.") from None
    count = shape[1] if len(shape) > 1 else 0
    for channel in chosen:
        if not 0 <= channel < count:
            raise LRPError(f"There is no channel {channel} among the {count} (from 0 on) of a layer of {list(shape)}.")
    return chosen


def _convolutions(graph: Graph) -> list[fx.Node]:
    """Those before the output, that which makes the output aside."""
    found = [node for node in steps_to(graph, graph.outputs[0]) if packet(node) is aten.convolution]
    return [node for node in found if node not in graph.outputs] or found


def _last_of_the_coarsest(found: Sequence[fx.Node]) -> fx.Node:
    coarsest = min((places for node in found if (places := prod(shape_of(node)[2:])) > 1), default=1)
    return [node for node in found if prod(shape_of(node)[2:]) == coarsest][-1]


def _around(graph: Graph, barrier: fx.Node) -> bool:
    reached = set(graph.inputs)
    for node in graph.steps:
        if node is not barrier and any(source in reached for source in node.all_input_nodes):
            reached.add(node)
    return graph.outputs[0] in reached


def _has_channels(graph: Graph, node: fx.Node) -> bool:
    """Channels are told apart on axis 1, where the layer has the input's axes, or a value per channel."""
    shape, given = shape_of(node), shape_of(graph.inputs[0])
    return shape[0] == given[0] and len(shape) in (2, len(given))


def _described(name: str, node: fx.Node) -> InnerLayer:
    shape = shape_of(node)
    return InnerLayer(name, int(shape[1]), tuple(int(n) for n in shape[2:]))
