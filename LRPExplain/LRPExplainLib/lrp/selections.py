"""What a network takes out by a mask, and puts back under it: `y[m] = f(x[m])` is `y = where(m, f(x), y)`.

How many values a mask takes out depends on the data, and so does the size of the tensor that holds them, which no graph
of fixed shapes can have. Where they pass elementwise steps alone and are put back under the same mask, every value
stays at its place. torchxrayvision's classifiers end so (`op_norm`).
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from .edit import packet, replace
from .graph import arguments, function_of, keywords, shape_of

aten = torch.ops.aten
# What stands where a mask leaves values out. Nothing is made of it, but a pole or NaN there (of a logarithm, say, or of
# a threshold that is not known) would be 0 * NaN on the way back; few functions have a pole here.
_ELSEWHERE = 0.7
# What an exported program checks of a count
_COUNTS = {aten.sym_size, operator.ge, operator.le, aten._assert_scalar}
_COUNTS |= {aten.scalar_tensor, aten._assert_async}  # one of PyTorch 2.4
_COUNTS |= {aten.sym_constrain_range_for_size, aten.sym_constrain_range}  # one of PyTorch 2.6


@dataclass(frozen=True)
class _Whole:
    """What stands for values that a mask took out, in the size of the mask, whose axes come first."""

    node: fx.Node
    mask: fx.Node

    @property
    def further(self) -> int:
        """How many axes there are beside those of the mask."""
        return len(shape_of(self.node)) - len(shape_of(self.mask))


def spell_selections(graph: fx.Graph) -> None:
    """Spell what is taken out and put back under one mask in its whole size; other selections stay as they are."""
    if not any(map(_taken_by, graph.nodes)):
        return
    found: dict[fx.Node, _Whole] = {}
    same = _first_alike(graph)
    for node in list(graph.nodes):
        masks = {found[source].mask for source in node.all_input_nodes if source in found}
        mask = _taken_by(node)
        with graph.inserting_before(node):
            if mask is not None:
                found[node] = _Whole(_chosen(graph, mask, arguments(node)[0], _ELSEWHERE), same[mask])
            elif len(masks) == 1 and _puts_back(node, found, same):
                base, (mask,), values = arguments(node)[:3]
                replace(graph, node, _chosen(graph, mask, found[values].node, base))
            elif len(masks) == 1 and _keeps_places(node, found):
                found[node] = _Whole(_in_whole(graph, node, found), *masks)
    _forget_counts(graph, found)


def _taken_by(node: fx.Node) -> fx.Node | None:
    """The mask by which a call takes values out, if that is what it does."""
    kind = packet(node)
    if kind not in (aten.index, aten.masked_select):
        return None
    x, mask = arguments(node)[:2]
    mask = _only(mask) if kind is aten.index else mask
    if mask is None or mask.meta["val"].dtype != torch.bool:
        return None
    axes = len(shape_of(mask)) if kind is aten.index else None
    return mask if shape_of(x)[:axes] == shape_of(mask) else None


def _puts_back(node: fx.Node, found: dict[fx.Node, _Whole], same: dict[fx.Node, fx.Node]) -> bool:
    """Whether a call writes what a mask took out to the places of that mask."""
    if packet(node) is not aten.index_put:
        return False
    base, indices, values, *accumulate = arguments(node)
    mask = _only(indices)
    if mask is None or values not in found or base in found or any(accumulate):
        return False
    return found[values].mask is same[mask] and shape_of(found[values].node) == shape_of(base)


def _keeps_places(node: fx.Node, found: dict[fx.Node, _Whole]) -> bool:
    """Whether a call is elementwise, and what it reads beside what was taken out is one for all places of the mask."""
    if torch.Tag.pointwise not in getattr(node.target, "tags", ()):
        return False
    sources = node.all_input_nodes
    further = {found[source].further for source in sources if source in found}
    others = [source for source in sources if source not in found]
    if len(further) > 1 or not all(isinstance(source.meta["val"], Tensor) for source in others):  # a count is read
        return False
    (further_axes,) = further
    return all(size == 1 for source in others for size in shape_of(source)[: -further_axes or None])


def _only(indices: Any) -> fx.Node | None:
    """The one index of a list of such."""
    return indices[0] if len(indices) == 1 else None


def _chosen(graph: fx.Graph, mask: fx.Node, there: fx.Node, elsewhere: fx.Node | float) -> fx.Node:
    """A value where a mask of its first axes says so, another elsewhere."""
    ones = [1] * (len(shape_of(there)) - len(shape_of(mask)))
    mask = _call(graph, aten.reshape.default, mask, [*shape_of(mask), *ones]) if ones else mask
    function = aten.where.self if isinstance(elsewhere, fx.Node) else aten.where.ScalarOther
    return _call(graph, function, mask, there, elsewhere)


def _in_whole(graph: fx.Graph, node: fx.Node, found: dict[fx.Node, _Whole]) -> fx.Node:
    """An elementwise call on all values instead of those taken out."""
    whole = {source: found[source].node for source in node.all_input_nodes if source in found}
    args = fx.map_arg(arguments(node), lambda source: whole.get(source, source))
    return _call(graph, function_of(node), *args, **keywords(node))


def _call(graph: fx.Graph, function: Any, *args: Any, **kwargs: Any) -> fx.Node:
    """A call, with what it gives as metadata."""
    node = graph.call_function(function, args, kwargs)
    values = fx.map_arg((args, kwargs), lambda source: source.meta["val"])
    node.meta = {"val": function(*values[0], **values[1])}
    return node


def _first_alike(graph: fx.Graph) -> dict[fx.Node, fx.Node]:
    """For each call the first one that does the same to the same: `x[x > 0] = f(x[x > 0])` asks for its mask twice."""
    first: dict[str, fx.Node] = {}
    same: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        args = fx.map_arg((node.args, node.kwargs), same.__getitem__)
        call = node.op == "call_function"
        same[node] = first.setdefault(f"{node.target} {args}" if call else node.name, node)
    return same


def _forget_counts(graph: fx.Graph, found: dict[fx.Node, _Whole]) -> None:
    """Remove what an exported program asserts of how many values were taken out."""
    counts: list[fx.Node] = []
    for node in graph.nodes:
        if packet(node) in _COUNTS and any(source in found or source in counts for source in node.all_input_nodes):
            counts.append(node)
    for node in reversed(counts):
        if not node.users:
            graph.erase_node(node)
