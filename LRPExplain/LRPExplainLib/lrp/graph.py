"""A captured network: a flat list of ATen calls in which only what depends on the input is left.

A :class:`Graph` is what :func:`~LRPExplainLib.lrp.capture.capture` returns. Everything that depends on parameters
alone is a constant; every remaining node carries relevance. Shapes are fixed at capture.
"""

from __future__ import annotations

import operator
from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import fields, is_dataclass
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from .edit import packet
from .errors import LRPError
from .kernels import convolve, group_norm
from .onednn import laid_out
from .optimizations import without
from .precision import HALF, as_relevance, lower, product, require_lower, run_in_half
from .switches import switched_off
from .writes import Unwritten

aten = torch.ops.aten
Rebuild = Callable[[list[Tensor]], Any]
Store = Callable[[Any], Any]
FASTER: dict[Any, Callable[..., Any]] = {aten.convolution: convolve, aten.native_group_norm: group_norm}
PRODUCTS = (aten.mm, aten.bmm, aten.addmm, aten.matmul)
MOVES = {
    aten.reshape, aten.permute, aten.transpose, aten.t, aten.squeeze, aten.unsqueeze, aten.expand, aten.slice,
    aten.select, aten.cat, aten.stack, aten.split, aten.split_with_sizes, aten.unbind, aten.chunk, aten.flip, aten.roll,
    aten.repeat, aten.index, aten.constant_pad_nd, aten._to_copy, operator.getitem,
}  # fmt: skip
Progress = Callable[[float], None]  # told the share that is done, 0..1; may raise to stop


def no_progress(share: float) -> None:
    """Nobody is told."""


class Graph:
    """A network as a list of ATen calls, callable like the network itself.

    Attributes:
        steps: the calls in the order of execution; each is a node that depends on the input.
        inputs: the placeholders, one per input tensor.
        outputs: the nodes whose values are the network's output tensors, in the order of the flattened output.
        constants: value of every node that does not depend on the input.
        precision: in which the network and relevance are computed, or None: the network as it is captured, relevance
            in float32 at least.
        rebuild: puts output tensors into the structure in which the network returns them.
        cache: tensors derived from constants (weights clamped for z+, say), kept between runs.
        taken_off: "softmax" or "sigmoid" where the first output is what the network makes probabilities of by that
            (see :func:`.endings.to_scores`).
        closing: the softmaxes and sigmoids that the first output is made of and that were not taken off.
    """

    def __init__(
        self, calls: fx.Graph, constants: dict[fx.Node, Tensor], rebuild: Rebuild, read: Iterable[Tensor]
    ) -> None:
        self._calls = calls
        self._calls.owning_module = None  # which would hold the weights as they were before they were folded
        self._weights = Unwritten(read)
        self.constants: dict[fx.Node, Any]
        self._hold(constants)
        self.precision: torch.dtype | None = None
        self.taken_off: str | None = None
        self.closing: frozenset[fx.Node] = frozenset()
        self.cache: dict[tuple[Any, ...], Tensor] = {}
        self.rebuild = rebuild
        self._read_calls()

    def _read_calls(self) -> None:
        calls = self._calls
        self.inputs = [node for node in calls.nodes if node.op == "placeholder"]
        self.outputs: list[fx.Node] = list(self._result.args[0])
        self.steps = [node for node in calls.nodes if node.op == "call_function" and node not in self.constants]
        self._last_use = last_uses(self.steps)

    @property
    def _result(self) -> Any:
        return next(node for node in self._calls.nodes if node.op == "output")

    def take_off(self, scored: Callable[[fx.Graph], tuple[str, fx.Node] | None]) -> None:
        """Let the first output be the scores of which an activation makes it.

        Args:
            scored: adds the calls that make these scores, and names the activation; None: there are none, and what it
                added is taken out again.
        """
        calls, result = self._calls, self._result
        before = set(calls.nodes)
        with calls.inserting_before(result):
            found = scored(calls)
        if found is None:
            for added in reversed([node for node in calls.nodes if node not in before]):
                calls.erase_node(added)
            return
        self.taken_off, score = found
        result.args = ([score, *self.outputs[1:]],)
        calls.eliminate_dead_code()
        self._read_calls()

    def is_constant(self, argument: Any) -> bool:
        """Whether a call's argument is a value, or a node whose value does not depend on the input."""
        return not isinstance(argument, fx.Node) or argument in self.constants

    def __call__(self, *inputs: Tensor) -> Any:
        """The network's output, in the structure in which the network returns it, by the kernels that it would use."""
        with without("onednn", "channels-last"):
            return self.forward(*inputs)

    def forward(self, *inputs: Tensor) -> Any:
        """The same by the fastest kernels there are: equal to rounding."""
        values = self.run(inputs, keep=set(self.outputs))
        return self.result([values[node] for node in self.outputs])

    def result(self, outputs: Iterable[Tensor]) -> Any:
        """The values of the outputs in the structure in which the network returns them."""
        whole = (as_relevance(value, None) if self.precision else value for value in outputs)
        return self.rebuild([value.contiguous() for value in whole])

    @switched_off()
    def run(
        self, inputs: Iterable[Tensor], keep: set[fx.Node], progress: Progress = no_progress, store: Store | None = None
    ) -> dict[fx.Node, Any]:
        """Run forward; return the values of `keep`. Everything else is released after its last use.

        `store` gets each kept value after its last use and returns what is kept in its place.
        """
        values: dict[fx.Node, Any] = dict(self.constants)
        given = self.checked(inputs)
        if self.precision is not None:
            given = [as_relevance(x, self.precision) for x in given]
        values.update(zip(self.inputs, given, strict=True))
        with torch.no_grad():
            for done, node in enumerate(self.steps, 1):
                values[node] = _call(node, values)
                for dead in self._last_use.get(node, ()):
                    if dead in self.constants:
                        continue
                    if dead not in keep:
                        del values[dead]
                    elif store is not None:
                        values[dead] = store(values[dead])
                progress(done / len(self.steps))
        return values

    @staticmethod
    def run_again(steps: Sequence[fx.Node], values: Mapping[fx.Node, Any], keep: set[fx.Node]) -> dict[fx.Node, Any]:
        """Run some of the steps from values that are there; return the values of `keep`."""
        made: dict[fx.Node, Any] = {}
        last = last_uses(steps)
        with torch.no_grad():
            for node in steps:
                made[node] = _call(node, ChainMap(made, values))  # type: ignore[arg-type]
                for dead in last.get(node, ()):
                    if dead not in keep:
                        made.pop(dead, None)
        return made

    def require_weights(self) -> None:
        """LRPError when the model was trained on since, of which the folded part of the graph knows nothing."""
        if not self._weights.holds():
            raise LRPError(
                "The model's weights or buffers have been written to since it was captured; capture it again, or a copy"
                " (copy.deepcopy) of a model that is trained further."
            )

    def checked(self, inputs: Iterable[Tensor]) -> list[Tensor]:
        """The inputs as a list, or an LRPError when they do not fit the shapes and types the graph was captured for."""
        self.require_weights()
        given = [differentiable(require_tensor(x)) for x in inputs]
        wanted = [tuple(shape_of(node)) for node in self.inputs]
        if [tuple(x.shape) for x in given] != wanted:
            raise LRPError(
                f"This graph was captured for inputs of shape {wanted} but got {[tuple(x.shape) for x in given]}; "
                "capture the model again for this shape."
            )
        types = [node.meta["val"].dtype for node in self.inputs]
        for x, dtype in zip(given, types, strict=True):
            numbers = x.is_floating_point() and dtype.is_floating_point
            if x.dtype != dtype and not (self.precision and numbers):  # which are brought to it
                raise LRPError(
                    f"This graph was captured for inputs of {dtype} but got {x.dtype}; convert the input by"
                    f" .to({dtype})."
                )
        return given

    @torch.inference_mode(False)
    def to(self, where: torch.device | str | torch.dtype) -> Graph:
        """Move the constants to a device, or the graph to bfloat16, in place; returns the graph.

        In bfloat16 activations, products and relevance are half as large and, where the hardware has arithmetic for it,
        twice as fast; input, output and relevance remain float32 for the caller. Sums are booked in float64 as always.

        Raises:
            LRPError: a precision other than bfloat16.
        """
        if isinstance(where, torch.dtype):
            require_lower(where)
            constants = lower(self._calls, self.constants, where)
            self.precision = where
        else:
            constants = {
                node: value.to(where) if isinstance(value, Tensor) else value for node, value in self.constants.items()
            }
        self._hold(constants)
        self.cache.clear()
        return self

    def _hold(self, constants: dict[fx.Node, Any]) -> None:
        """Keep the constants, the convolutions' weights as kernels like them, so that no run has to reorder them."""
        weights = {node.args[1] for node in self._calls.nodes if packet(node) is aten.convolution}
        self.constants = {node: laid_out(value) if node in weights else value for node, value in constants.items()}
        for node, value in self.constants.items():
            node.meta["val"] = value  # what was there is another copy

    def layers(self) -> list[str]:
        """Names of the layers with parameters, in the order of execution: what patterns and `at` may name."""
        return list(dict.fromkeys(node.meta["layer"] for node in self.steps if "layer" in node.meta))


def require_graph(graph: object) -> None:
    """LRPError for what is no graph, such as the model that it is captured from."""
    if not isinstance(graph, Graph):
        raise LRPError(
            f"A captured graph is needed, but got {type(graph).__name__}; make one of a model with capture(model, x)."
        )


def require_tensor(x: object) -> Tensor:
    """The input, or an LRPError for what is no tensor."""
    if isinstance(x, Tensor):
        return x
    raise LRPError(
        f"The model's inputs are tensors, but got {type(x).__name__}; make one of an array with torch.from_numpy."
    )


def differentiable(x: Tensor) -> Tensor:
    """The tensor, or its copy if it was made in inference mode: no adjoint could read it."""
    return x.clone() if x.is_inference() else x


def _call(node: fx.Node, values: Mapping[fx.Node, Any]) -> Any:
    args, kwargs = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
    return kernel_of(node)(*args, **kwargs)


def last_uses(steps: Sequence[fx.Node]) -> dict[fx.Node, list[fx.Node]]:
    """For each step the nodes that no later step reads."""
    last: dict[fx.Node, fx.Node] = {}
    for node in steps:
        for source in node.all_input_nodes:
            last[source] = node
        last.setdefault(node, node)
    table: dict[fx.Node, list[fx.Node]] = {}
    for source, user in last.items():
        table.setdefault(user, []).append(source)
    return table


def shape_of(node: fx.Node) -> torch.Size:
    """Shape of a node's (first) output tensor as seen at capture."""
    return first_of(node).shape


def first_of(node: fx.Node) -> Any:
    """A node's (first) output as seen at capture."""
    value = node.meta.get("val")
    return value[0] if isinstance(value, (tuple, list)) else value


def is_whole(node: fx.Node) -> bool:
    """Whether a node's (first) output tensor is of integers or booleans."""
    first = first_of(node)
    return isinstance(first, Tensor) and not (first.is_floating_point() or first.is_complex())


def is_decision(node: fx.Node) -> bool:
    """Whether a node is an index, a mask or a count, and no signal: of integers or booleans that are not the input's
    own, moved at most.
    """
    if not is_whole(node) or node.op == "placeholder":
        return False
    moved = packet(node) in MOVES and any(is_whole(s) and not is_decision(s) for s in node.all_input_nodes)
    return not moved


def is_index(source: fx.Node, user: fx.Node) -> bool:
    """Whether what a call reads says where, and not what: a decision, or integers (also an input) among numbers."""
    return is_decision(source) or (is_whole(source) and not is_whole(user))


def arguments(node: fx.Node) -> tuple[Any, ...]:
    """A call's positional arguments: nodes, numbers, lists (torch's own type for them helps nobody)."""
    return node.args


def results_of(node: fx.Node) -> dict[int, fx.Node]:
    """The nodes that stand for the results of a call that returns several, by position."""
    return {user.args[1]: user for user in node.users if user.target is operator.getitem}  # type: ignore[misc]


def keywords(node: fx.Node) -> dict[str, Any]:
    """A call's keyword arguments."""
    return dict(node.kwargs)


def function_of(node: fx.Node) -> Callable[..., Any]:
    """The operator that a step calls."""
    assert callable(node.target)
    return node.target


def kernel_of(node: fx.Node) -> Callable[..., Any]:
    """What runs that operator: the fastest there is; in half precision, on a detour where PyTorch has no kernel."""
    if packet(node) in FASTER:
        return FASTER[packet(node)]
    first = first_of(node)
    in_half = isinstance(first, Tensor) and first.dtype in HALF
    if not in_half:
        return function_of(node)
    return partial(product if packet(node) in PRODUCTS else run_in_half, function_of(node))


def layer_of(node: fx.Node) -> str:
    """The name by which users know a node: its module's path where it owns parameters, else the call's own name."""
    return node.meta.get("layer", node.name)


def flatten_output(value: Any) -> tuple[list[Tensor], Rebuild]:
    """The tensors in a network's output, and a function that puts others in their place."""
    leaves, spec = pytree.tree_flatten(value)
    parts = [_flatten_leaf(leaf) for leaf in leaves]

    def rebuild(tensors: list[Tensor]) -> Any:
        left = iter(tensors)
        filled = [put(list(islice(left, len(found)))) for found, put in parts]
        return pytree.tree_unflatten(filled, spec)

    return [tensor for found, _ in parts for tensor in found], rebuild


def _flatten_leaf(leaf: Any) -> tuple[list[Tensor], Rebuild]:
    """A tensor, a dataclass with tensors, or what has none and is returned as it is."""
    if isinstance(leaf, Tensor):
        return [leaf], lambda tensors: tensors[0]
    if not is_dataclass(leaf) or isinstance(leaf, type):
        return [], lambda tensors: leaf
    found, put = flatten_output({field.name: getattr(leaf, field.name) for field in fields(leaf)})

    def rebuild(tensors: list[Tensor]) -> Any:
        made = copy(leaf)
        for name, value in put(tensors).items():
            object.__setattr__(made, name, value)  # frozen ones, too
        return made

    return found, rebuild
