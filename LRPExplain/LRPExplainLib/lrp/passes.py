"""Graph passes: from what tracing recorded to what relevance has to cross. Each is a small function on the graph."""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx

from .dense_bias import join_dense_biases
from .edit import constant, packet, replace
from .errors import LRPError
from .graph import arguments, differentiable, first_of, function_of, is_whole, results_of, shape_of
from .idioms import restore_gelu, restore_group_norm, restore_layer_norm
from .linear import scale_channels

aten = torch.ops.aten

SAME_VALUES = {aten.alias, aten.detach, aten.clone, aten.lift_fresh_copy, aten.lift_fresh, aten.contiguous}
FROM_SHAPE = {  # calls that read their first argument's shape and none of its values
    aten.new_empty, aten.new_zeros, aten.new_ones, aten.new_full, aten.empty_like, aten.zeros_like, aten.ones_like,
    aten.full_like, aten.zero, aten.fill,
}  # fmt: skip
AFFINE_AT = {aten.native_group_norm: 1, aten.native_batch_norm: 1, aten.native_layer_norm: 2}  # weight, then bias
NORMS = {aten.native_group_norm, aten.native_layer_norm}  # with the sample's own statistics
BICUBIC = {aten.upsample_bicubic2d, aten._upsample_bicubic2d_aa}
PROMOTING = {  # calls that make numbers of masks and counts beside numbers
    aten.add, aten.sub, aten.rsub, aten.maximum, aten.minimum, aten.fmax, aten.fmin, aten.where, aten.cat, aten.stack,
}  # fmt: skip
VIEWS = {aten.view, aten._unsafe_view, aten.reshape}


def identity(tensor: Tensor) -> tuple[Any, ...]:
    """What tells one parameter from another even when Python holds several wrappers of it."""
    return (tensor.data_ptr(), tuple(tensor.shape), tuple(tensor.stride()), tensor.dtype)


def normalize(traced: fx.GraphModule) -> dict[fx.Node, Tensor]:
    """Run every pass in order; returns the values of the nodes that do not depend on the input."""
    graph = traced.graph
    graph.eliminate_dead_code()
    spell_writes_as_reads(graph)
    drop_copies(graph)
    spell_convolution(graph)
    spell_promotions(graph)
    constants = fold_constants(traced)
    spell_bicubic(graph, constants)
    join_dense_biases(graph, constants)
    spell_computed_affine(graph, constants)
    spell_instance_norm_as_group_norm(graph, constants)
    fold_batch_norm(graph, constants)
    restore_group_norm(graph, constants)
    restore_layer_norm(graph, constants)
    restore_gelu(graph, constants)
    graph.eliminate_dead_code()
    spell_results(graph)
    alive = set(graph.nodes)
    return {node: value for node, value in constants.items() if node in alive}


def refuse_randomness(graph: fx.Graph) -> None:
    """LRPError when the network draws random numbers or updates running statistics."""
    for node in graph.nodes:
        kind = packet(node)
        random = torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())
        if random and (node.users or kind is aten.native_dropout):
            raise LRPError(
                f"The model draws random numbers ({node.name}), so no explanation would fit its answer; "
                "call model.eval() first or remove the random layer."
            )
        if kind in (aten._native_batch_norm_legit_functional, aten.cudnn_batch_norm, aten.miopen_batch_norm) or (
            kind is aten.native_batch_norm and node.args[5] and node.args[3] is not None
        ):
            raise LRPError(f"The model's batch norm ({node.name}) is in training mode; call model.eval() first.")


def refuse_shapes_from_data(graph: fx.Graph) -> None:
    """LRPError when how large a tensor is depends on values (`x[x > 0]`): no graph would fit the next input."""
    for node in graph.nodes:
        value = node.meta.get("val")
        if isinstance(value, Tensor) and not all(isinstance(n, int) for n in value.shape):
            raise LRPError(
                f"The model lets its data decide how large its tensors are ({node.name}), so its graph cannot be "
                "captured; replace that selection by a mask."
            )


def refuse_numbers_from_data(graph: fx.Graph, constants: dict[fx.Node, Tensor]) -> None:
    """LRPError when a signal is read as a Python number (`x.mean().item()`): relevance cannot cross that."""
    for node in graph.nodes:
        if packet(node) in (aten._local_scalar_dense, aten.item) and node not in constants:
            raise LRPError(
                f"The model reads a value of its data as a Python number ({node.name}), so its graph cannot be "
                "captured; keep it a tensor (leave out .item() or float())."
            )


def forget_writes_to_inputs(graph: fx.Graph) -> None:
    """Remove what functionalised calls end with: the copying of what a network wrote to its inputs into these."""
    for node in list(graph.nodes):
        if node.target is aten.copy_.default and arguments(node)[0].op == "placeholder" and not node.users:
            graph.erase_node(node)


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
        if same and isinstance(source, fx.Node):
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
            condition = 1 if packet(node) is aten.where else 0
            rest = fx.node.map_arg(node.args[condition:], partial(_number, graph, node))
            node.args = (*node.args[:condition], *rest)


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


def _known_arguments(node: fx.Node, constants: dict[fx.Node, Any]) -> tuple[Any, Any] | None:
    """A call's arguments if all are constants; of a call from a shape, the first may be a signal."""
    first = node.args[0] if node.args else None
    if packet(node) in FROM_SHAPE and isinstance(first, fx.Node) and first not in constants:
        like = first.meta["val"]
        constants = {**constants, first: torch.zeros((), dtype=like.dtype, device=like.device).expand(like.shape)}
    if not all(source in constants for source in node.all_input_nodes):
        return None
    return fx.node.map_arg((node.args, node.kwargs), constants.__getitem__)


def spell_computed_affine(graph: fx.Graph, constants: dict[fx.Node, Tensor]) -> None:
    """A norm whose weight or bias is a signal (as styles give) is the norm without them, a product and a sum."""
    for node in list(graph.nodes):
        at = AFFINE_AT.get(packet(node))
        if at is None or all(p is None or p in constants for p in node.args[at : at + 2]):
            continue
        parameters = node.args[at : at + 2]
        node.args = (*node.args[:at], None, None, *node.args[at + 2 :])
        normed = made = results_of(node)[0]
        users = list(normed.users)
        shape = [1, -1, *[1] * (len(shape_of(normed)) - 2)] if at == 1 else None
        with graph.inserting_before(normed.next):
            for operation, parameter in zip((aten.mul.Tensor, aten.add.Tensor), parameters, strict=True):
                if parameter is not None:
                    given = parameter if shape is None else _reshaped(graph, constants, parameter, shape)
                    made = graph.call_function(operation, (made, given))
                    made.meta = dict(normed.meta)
        for user in users:
            user.replace_input_with(normed, made)


def _reshaped(graph: fx.Graph, constants: dict[fx.Node, Tensor], source: fx.Node, shape: list[int]) -> fx.Node:
    if source in constants:
        return constant(graph, constants, constants[source].reshape(shape), source)
    view = graph.call_function(aten.reshape.default, (source, shape))
    view.meta = {**source.meta, "val": source.meta["val"].reshape(shape)}
    return view


def spell_instance_norm_as_group_norm(graph: fx.Graph, constants: dict[fx.Node, Tensor]) -> None:
    """Instance norm arrives as batch norm of [1, N*C, ...] with its own statistics: it is group norm with C groups."""
    for node in list(graph.nodes):
        if packet(node) is not aten.native_batch_norm or not node.args[5]:
            continue
        x, weight, bias, eps = node.args[0], node.args[1], node.args[2], node.args[7]
        # the view is gone where there is one sample; a reshape before the norm may also be the network's own
        viewed = packet(x) is aten.reshape and shape_of(x)[2:] == shape_of(x.args[0])[2:]
        source = x.args[0] if viewed else x
        batch, channels = shape_of(source)[:2]
        if tuple(shape_of(x)[:2]) != (1, batch * channels):
            raise LRPError(
                f"The batch norm at {node.meta.get('layer', node.name)} has no running statistics and mixes the "
                "samples of a batch; explain one sample at a time."
            )
        with graph.inserting_before(node):
            # repeated over the batch by torch; the first C values are the layer's own
            affine = [
                None if p is None else constant(graph, constants, constants[p][:channels].contiguous(), p)
                for p in (weight, bias)
            ]
            voxels = shape_of(source)[2:].numel()
            norm = graph.call_function(
                aten.native_group_norm.default, (source, *affine, batch, channels, voxels, channels, eps)
            )
            norm.meta = {**node.meta, "val": (source.meta["val"], None, None)}
            result = graph.call_function(operator.getitem, (norm, 0))
            result.meta = {**node.meta, "val": source.meta["val"]}
        for user in list(node.users):
            if user.args[1] == 0:
                for view in list(user.users):
                    if packet(view) is aten.reshape and shape_of(view) == shape_of(source):
                        replace(graph, view, result)
                if shape_of(x) == shape_of(source):
                    replace(graph, user, result)
                elif user.users:
                    with graph.inserting_before(user):
                        again = graph.call_function(aten.reshape.default, (result, list(shape_of(x))))
                        again.meta = dict(user.meta)
                    replace(graph, user, again)
    graph.eliminate_dead_code()


def spell_results(graph: fx.Graph) -> None:
    """Make each result of a norm (output, mean, deviation) a node, so that it is kept only where it is read."""
    for node in list(graph.nodes):
        if packet(node) not in NORMS:
            continue
        known = results_of(node)
        with graph.inserting_after(node):
            for index, value in enumerate(node.meta["val"]):
                if index not in known:
                    result = graph.call_function(operator.getitem, (node, index))
                    result.meta = {**node.meta, "val": value}


def resample(a: Tensor, b: Tensor) -> Tensor:
    """A product of matrices of which one, a constant, resamples along an axis."""
    return a @ b


def spell_bicubic(graph: fx.Graph, constants: dict[fx.Node, Tensor]) -> None:
    """Bicubic resampling as a matrix per axis: its weights have signs, which rules must see."""
    for node in list(graph.nodes):
        kind = packet(node)
        if kind not in BICUBIC:
            continue
        x = node.args[0]
        like = x.meta["val"]
        with graph.inserting_before(node):
            down, across = (constant(graph, constants, matrix, x) for matrix in _along_axes(node))
            columns = graph.call_function(resample, (x, across))
            columns.meta = {**node.meta, "val": like.new_empty(*like.shape[:-1], shape_of(node)[-1])}
            rows = graph.call_function(resample, (down, columns))
            rows.meta = dict(node.meta)
        replace(graph, node, rows)


def _along_axes(resampling: fx.Node) -> tuple[Tensor, Tensor]:
    """The matrices from the left and from the right: what the call makes of images that are one at a time."""
    x, size, align_corners, *scales = arguments(resampling)
    like = x.meta["val"]
    matrices = []
    for axis, scale in zip((-2, -1), (*scales, None, None), strict=False):
        length = like.shape[axis]
        eye = torch.eye(length, dtype=torch.float64)[None, None]
        matrix = function_of(resampling)(eye, [size[axis], length], align_corners, scale, None)[0, 0]
        matrices.append(matrix.to(like.device, like.dtype))
    return matrices[0], matrices[1].mT.contiguous()


def channel_affine(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Batch norm with its running statistics: x [N, C, ...] times scale [C] plus shift [C]."""
    view = (1, -1) + (1,) * (x.dim() - 2)
    return torch.addcmul(shift.view(view), x, scale.view(view))


def fold_batch_norm(graph: fx.Graph, constants: dict[fx.Node, Tensor]) -> None:
    """Batch norm with running statistics is affine per channel: part of the layer before it, or `channel_affine`."""
    for node in list(graph.nodes):
        if packet(node) is not aten.native_batch_norm or node.args[5]:
            continue
        x, *parameters = node.args[:5]
        if not all(p in constants for p in parameters[2:]):
            raise LRPError(
                f"The batch norm at {node.meta.get('layer', node.name)} is given statistics that are computed from the "
                "input; write them as the differences and quotients that they stand for."
            )
        mean, variance = (constants[p] for p in parameters[2:])
        weight, bias = (None if p is None else constants[p] for p in parameters[:2])
        scale = torch.rsqrt(variance + node.args[7])
        scale = scale if weight is None else scale * weight
        shift = -mean * scale if bias is None else bias - mean * scale
        folder = FOLDERS.get(packet(x)) if len(x.users) == 1 else None
        with graph.inserting_before(node):
            merged = folder(graph, constants, x, scale, shift) if folder else None
            if merged is None:
                merged = graph.call_function(
                    channel_affine,
                    (x, *(constant(graph, constants, value, node) for value in (scale, shift))),
                )
                merged.meta = dict(node.meta)
            merged.meta["val"] = x.meta["val"]
        for user in list(node.users):
            replace(graph, user, merged)
    graph.eliminate_dead_code()


def _into_convolution(
    graph: fx.Graph, constants: dict[fx.Node, Tensor], conv: fx.Node, scale: Tensor, shift: Tensor
) -> fx.Node | None:
    x, weight, bias, stride, padding, dilation, transposed, output_padding, groups = arguments(conv)
    if weight not in constants:
        return None
    w = constants[weight]
    scaled = scale_channels(w, scale, transposed, groups)
    b = shift if bias is None else constants[bias] * scale + shift
    merged = graph.call_function(
        function_of(conv),
        (
            x, constant(graph, constants, scaled, conv), constant(graph, constants, b, conv),
            stride, padding, dilation, transposed, output_padding, groups,
        ),
    )  # fmt: skip
    merged.meta = dict(conv.meta)
    return merged


def _into_addmm(
    graph: fx.Graph, constants: dict[fx.Node, Tensor], dense: fx.Node, scale: Tensor, shift: Tensor
) -> fx.Node | None:
    bias, x, weight = arguments(dense)[:3]
    if dense.kwargs or weight not in constants or bias not in constants:
        return None
    merged = graph.call_function(
        function_of(dense),
        (
            constant(graph, constants, constants[bias] * scale + shift, dense), x,
            constant(graph, constants, constants[weight] * scale, dense),
        ),
    )  # fmt: skip
    merged.meta = dict(dense.meta)
    return merged


FOLDERS: dict[Any, Callable[..., fx.Node | None]] = {aten.convolution: _into_convolution, aten.addmm: _into_addmm}
