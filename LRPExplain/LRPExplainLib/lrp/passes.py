"""Graph passes: from what tracing recorded to what relevance has to cross. Each is a small function on the graph."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx

from .affine import fold_affine
from .bicubic import spell_bicubic
from .dense_bias import join_dense_biases
from .edit import constant, packet, replace
from .graph import arguments, differentiable, first_of, is_whole, shape_of
from .idioms import restore_group_norm, restore_layer_norm, restore_softmax
from .norms import spell_computed_affine, spell_instance_norm_as_group_norm, spell_results
from .recognised import restore_functions, restore_resampling

aten = torch.ops.aten

SAME_VALUES = {aten.alias, aten.detach, aten.clone}
FROM_SHAPE = {  # calls that read their first argument's shape and none of its values
    aten.new_empty, aten.new_zeros, aten.new_ones, aten.new_full, aten.empty_like, aten.zeros_like, aten.ones_like,
    aten.full_like, aten.zero, aten.fill,
}  # fmt: skip
PROMOTING = {  # calls that make numbers of masks and counts beside numbers
    aten.add, aten.sub, aten.rsub, aten.maximum, aten.minimum, aten.fmax, aten.fmin, aten.stack, aten.sum, aten.mean,
    aten.cumsum,
}  # fmt: skip
VIEWS = {aten.view, aten._unsafe_view, aten.reshape}


def identity(tensor: Tensor) -> tuple[Any, ...]:
    """What tells one parameter from another even when Python holds several wrappers of it."""
    return (tensor.data_ptr(), tuple(tensor.shape), tuple(tensor.stride()), tensor.dtype)


def tensors_read(traced: fx.GraphModule) -> list[Tensor]:
    """The parameters, buffers and other tensors of the network that its answer depends on."""
    needed: set[fx.Node] = set()
    for node in reversed(traced.graph.nodes):
        if node.op == "output" or node in needed:
            needed.update(node.all_input_nodes)
    values = [getattr(traced, node.target) for node in traced.graph.nodes if node.op == "get_attr" and node in needed]
    return [value for value in values if isinstance(value, Tensor)]


def normalize(traced: fx.GraphModule) -> dict[fx.Node, Tensor]:
    """Run every pass in order; returns the values of the nodes that do not depend on the input."""
    graph = traced.graph
    graph.eliminate_dead_code()
    spell_writes_as_reads(graph)
    drop_copies(graph)
    spell_convolution(graph)
    spell_promotions(graph)
    constants = fold_constants(traced)
    restore_resampling(graph, constants)
    spell_bicubic(graph, constants)
    join_dense_biases(graph, constants)
    spell_computed_affine(graph, constants)
    spell_instance_norm_as_group_norm(graph, constants)
    restore_group_norm(graph, constants)
    restore_layer_norm(graph, constants)
    restore_functions(graph, constants)
    restore_softmax(graph, constants)
    fold_affine(graph, constants)
    forget_how_constants_were_made(graph, constants)
    spell_results(graph)
    alive = set(graph.nodes)
    return {node: value for node, value in constants.items() if node in alive}


def tell_parameters(traced: fx.GraphModule) -> None:
    """Metadata of parameters and buffers, which older versions of PyTorch leave out."""
    for node in traced.graph.find_nodes(op="get_attr"):
        node.meta.setdefault("val", getattr(traced, node.target))


def forget_writes_to_inputs(graph: fx.Graph) -> None:
    """Remove what functionalised calls end with: the copying of what a network wrote to its inputs into these."""
    for node in list(graph.nodes):
        if node.target is aten.copy_.default and arguments(node)[0].op == "placeholder" and not node.users:
            graph.erase_node(node)


def forget_layouts(graph: fx.Graph) -> None:
    """Remove `as_strided_` that leaves each element where it is, as an average of a whole image in channels-last ends
    with: only the strides of axes with one element are written."""
    for node in list(graph.nodes):
        if node.target is aten.as_strided_.default and _keeps_places(*arguments(node)):
            replace(graph, node, arguments(node)[0])


def _keeps_places(x: fx.Node, size: Sequence[int], strides: Sequence[int], offset: int | None = None) -> bool:
    before = x.meta["val"]
    same = all(new == old for n, new, old in zip(size, strides, before.stride(), strict=False) if n > 1)
    return offset is None and list(size) == list(before.shape) and same


def writes_in_place(graph: fx.Graph) -> bool:
    """Whether a call changes one of its arguments."""
    return any(getattr(getattr(node.target, "_schema", None), "is_mutable", False) for node in graph.nodes)


def name_layers(traced: fx.GraphModule, names: dict[tuple[Any, ...], str]) -> None:
    """Give each node that reads a parameter the path of the module that owns the parameter, as `meta["layer"]`."""
    origin: dict[fx.Node, str] = {}
    depends_on_input: set[fx.Node] = set()
    for node in traced.graph.nodes:
        if node.op == "placeholder":
            depends_on_input.add(node)
        elif node.op == "get_attr":
            value = getattr(traced, node.target)
            found = names.get(identity(value)) if isinstance(value, Tensor) else None
            if found is not None:
                origin[node] = found.rpartition(".")[0] or found
        elif node.op == "call_function":
            owner = next((origin[source] for source in node.all_input_nodes if source in origin), None)
            if any(source in depends_on_input for source in node.all_input_nodes):
                depends_on_input.add(node)
                if owner is not None:
                    node.meta["layer"] = owner
            elif owner is not None:
                origin[node] = owner


def spell_writes_as_reads(graph: fx.Graph) -> None:
    """`copy(old, new)`, which writing in place becomes, is `new` in the old one's shape and dtype; `old` is gone."""
    for node in list(graph.nodes):
        if packet(node) is not aten.copy:
            continue
        source = node.args[1]
        if source.meta["val"].dtype != node.meta["val"].dtype:
            with graph.inserting_before(node):
                source = graph.call_function(aten._to_copy.default, (source,), {"dtype": node.meta["val"].dtype})
                source.meta = {**node.meta, "val": node.args[1].meta["val"].to(node.meta["val"].dtype)}
        node.target, node.args, node.kwargs = aten.expand.default, (source, list(shape_of(node))), {}


def drop_copies(graph: fx.Graph) -> None:
    """Remove calls that change no value; spell every view as reshape, which needs no strides."""
    for node in list(graph.nodes):
        if _moves_no_element(node):
            node.target, node.args = aten.reshape.default, (node.args[0], list(shape_of(node)))
        kind = packet(node)
        source: Any = node.args[0] if node.args else None
        if kind in VIEWS:
            node.target = aten.reshape.default
        same = kind in SAME_VALUES or (kind is aten.expand and shape_of(node) == shape_of(source))
        same = same or (kind is aten._to_copy and source.meta["val"].dtype == node.meta["val"].dtype)
        same = same or (kind in VIEWS and shape_of(node) == shape_of(source))
        same = same or (kind in (aten.as_strided, aten.as_strided_) and _same_elements(node))
        if same:
            replace(graph, node, source)


def _moves_no_element(node: fx.Node) -> bool:
    """Whether a permutation only moves axes of one element, as einsum's do."""
    if packet(node) is not aten.permute:
        return False
    source, axes = arguments(node)
    shape = shape_of(source)
    wide = [axis % len(shape) for axis in axes if shape[axis] > 1]
    return wide == sorted(wide)


def _same_elements(restrided: fx.Node) -> bool:
    """Whether `as_strided` reads its source as it lies: only strides along axes of one element differ."""
    source, _, strides, *offset = arguments(restrided)
    before = source.meta["val"]
    wide = [i for i, n in enumerate(before.shape) if n > 1]
    return (
        shape_of(restrided) == before.shape
        and all(strides[i] == before.stride(i) for i in wide)
        and (not offset or offset[0] in (None, before.storage_offset()))
    )


def spell_convolution(graph: fx.Graph) -> None:
    """`torch.jit.trace` records `_convolution`, which has four more arguments that say how, not what; `padding="valid"`
    gives one number for all axes.
    """
    for node in graph.nodes:
        if packet(node) in (aten._convolution, aten.convolution):
            axes = len(shape_of(node)) - 2
            geometry = (
                given * axes if isinstance(given, list) and len(given) == 1 else given for given in node.args[3:9]
            )
            node.target = aten.convolution.default
            node.args = (*node.args[:3], *geometry)


def spell_promotions(graph: fx.Graph) -> None:
    """A mask or a count among numbers is made a number first, so that it has its share like any other."""
    for node in list(graph.nodes):
        if packet(node) in PROMOTING and not is_whole(node):
            node.args = fx.node.map_arg(node.args, partial(_number, graph, node))


def _number(graph: fx.Graph, user: fx.Node, source: fx.Node) -> fx.Node:
    """What a call reads, in the call's own dtype if it is of integers or booleans."""
    if not is_whole(source):
        return source
    dtype = first_of(user).dtype
    with graph.inserting_before(user):
        number = graph.call_function(aten._to_copy.default, (source,), {"dtype": dtype})
    number.meta = {**source.meta, "val": source.meta["val"].to(dtype)}
    return number


def fold_constants(traced: fx.GraphModule) -> dict[fx.Node, Tensor]:
    """Compute every node that does not depend on the input, or on nothing but its shape."""
    constants: dict[fx.Node, Any] = {}
    with torch.no_grad():
        for node in traced.graph.nodes:
            if node.op == "get_attr":
                value = getattr(traced, node.target)
                constants[node] = differentiable(value.detach()) if isinstance(value, Tensor) else value
            elif node.op == "call_function":
                known = _known_arguments(node, constants)
                if known is not None:
                    args, kwargs = known
                    constants[node] = node.target(*args, **kwargs)
    return constants


def forget_how_constants_were_made(graph: fx.Graph, constants: dict[fx.Node, Tensor]) -> None:
    """Keep the constants that signals meet, and let go of those that they were computed from."""
    for node in [node for node in constants if node.op == "call_function"]:
        if any(user not in constants for user in node.users):
            with graph.inserting_before(node):
                value = constant(graph, constants, constants[node], node)
            replace(graph, node, value)
    graph.eliminate_dead_code()


def _known_arguments(node: fx.Node, constants: dict[fx.Node, Any]) -> tuple[Any, Any] | None:
    """A call's arguments if all are constants; of a call from a shape, the first may be a signal."""
    first = node.args[0] if node.args else None
    if packet(node) in FROM_SHAPE and isinstance(first, fx.Node) and first not in constants:
        like = first.meta["val"]
        constants = {**constants, first: torch.zeros((), dtype=like.dtype, device=like.device).expand(like.shape)}
    if not all(source in constants for source in node.all_input_nodes):
        return None
    return fx.node.map_arg((node.args, node.kwargs), constants.__getitem__)
