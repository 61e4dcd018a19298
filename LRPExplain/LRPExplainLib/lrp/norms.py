"""Graph passes on normalisations that are called: each becomes one of those that have an answer."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from .edit import constant, packet, replace
from .errors import LRPError
from .graph import arguments, results_of, shape_of

aten = torch.ops.aten

AFFINE_AT = {aten.native_group_norm: 1, aten.native_batch_norm: 1, aten.native_layer_norm: 2}  # weight, then bias
NORMS = {aten.native_group_norm, aten.native_layer_norm}  # with the sample's own statistics
# What a batch norm with running statistics is called while it is traced. What `native_batch_norm` gives, fake tensors
# compute in ten steps, a third of the time that capturing takes; of this one they are told.
_TRACED = "lrpexplain::batch_norm"
if not hasattr(torch.ops.lrpexplain, "batch_norm"):  # for good: a module that is loaded again finds it there
    torch.library.define(
        _TRACED,
        "(Tensor x, Tensor? weight, Tensor? bias, Tensor? mean, Tensor? variance, bool training, float momentum,"
        " float eps) -> (Tensor, Tensor, Tensor)",
    )
    torch.library.impl(_TRACED, "default", aten.native_batch_norm)
    torch.library.register_fake(_TRACED, lambda x, *_: (torch.empty_like(x), x.new_empty(0), x.new_empty(0)))
traced_batch_norm = torch.ops.lrpexplain.batch_norm.default
# Batch norm's other names, those of vendors and of decompositions, and how its arguments follow from theirs. They are
# no decompositions for tracing, since older versions of PyTorch decompose the one into the other without end.
BATCH_NORMS: dict[Any, Callable[..., tuple[Any, ...]]] = {
    traced_batch_norm: lambda *given: given,
    aten.cudnn_batch_norm.default: lambda *given: given,
    aten.miopen_batch_norm.default: lambda *given: given,
    aten._native_batch_norm_legit_no_training.default: lambda *given: (*given[:5], False, *given[5:]),
    aten._native_batch_norm_legit.no_stats: lambda *given: (*given[:3], None, None, *given[3:]),
}


def _in_tracing(x: Tensor, *how: Any) -> Any:
    training = how[4]
    return NotImplemented if training else traced_batch_norm(x, *how)


# A decomposition that `spell_batch_norm` takes back.
TRACED: dict[Any, Callable[..., Any]] = {aten.native_batch_norm.default: _in_tracing}


def spell_batch_norm(graph: fx.Graph) -> None:
    """Batch norm has one name, whoever computes it and however often a program was decomposed."""
    for node in graph.nodes:
        if node.target in BATCH_NORMS:
            node.args = BATCH_NORMS[node.target](*arguments(node))
            node.target = aten.native_batch_norm.default


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
