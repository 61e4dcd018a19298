"""Functions that are spelled out in steps, put back as the one call that they are: told by what they compute.

Converters and decompositions of `torch.export` write a GELU, a hard sigmoid or trilinear resampling as arithmetic, in
many ways. What some calls make of one signal is compared with what the functions named here make of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Set
from itertools import product
from typing import Any

import torch
from torch import Tensor, fx

from .edit import forget_unread, packet, replace
from .graph import arguments, function_of, is_whole, shape_of
from .kinds import POINTWISE

aten = torch.ops.aten
Constants = dict[fx.Node, Tensor]
Order = dict[fx.Node, int]
Candidate = tuple[Any, tuple[Any, ...]]  # an operator, and its arguments after the signal

FUNCTIONS: tuple[Candidate, ...] = (
    (aten.gelu.default, ()), (aten.hardsigmoid.default, ()), (aten.hardswish.default, ()), (aten.silu.default, ()),
    (aten.softplus.default, ()), (aten.mish.default, ()), (aten.elu.default, ()), (aten.selu.default, ()),
    (aten.sigmoid.default, ()), (aten.tanh.default, ()),
)  # fmt: skip
LINEAR = {1: aten.upsample_linear1d.default, 2: aten.upsample_bilinear2d.default, 3: aten.upsample_trilinear3d.default}
CUBIC = {2: aten.upsample_bicubic2d.default}
GATHERED = {aten.index, aten.add, aten.sub, aten.mul, aten._to_copy}
SAME = 1e-6


def restore_functions(graph: fx.Graph, constants: Constants) -> None:
    """Elementwise functions, such as x * 0.5 * (1 + erf(x / sqrt(2)))."""
    near = torch.linspace(-9.0, 9.0, 1001, device="cpu")
    far = torch.linspace(10.0, 80.0, 15, device="cpu")  # where it may be cut off
    probe = torch.cat([near, far, -far]).double()
    known = [(candidate, candidate[0](probe)) for candidate in FUNCTIONS]

    def found(end: fx.Node, order: Order) -> tuple[fx.Node, Candidate] | None:
        for x, steps in _made_of_one(end, POINTWISE, constants, order, 16):
            if (
                shape_of(x) == shape_of(end)
                and not is_whole(x)
                and all(value.numel() == 1 for value in _read(steps, constants))
            ):
                y = _computed(steps, x, probe, constants)
                for candidate, expected in known:
                    if y.is_floating_point() and _same(y, expected):
                        return x, candidate
        return None

    _restore(graph, constants, POINTWISE, found)


def restore_resampling(graph: fx.Graph, constants: Constants) -> None:
    """Linear and cubic resampling as sums of gathered values times fixed weights."""

    def found(end: fx.Node, order: Order) -> tuple[fx.Node, Candidate] | None:
        for x, steps in _made_of_one(end, GATHERED, constants, order, 64):
            before, after = shape_of(x), shape_of(end)
            spatial = range(2, len(before))
            if len(before) != len(after) or not _gathers_in_space(steps, len(spatial), constants):
                continue
            generator = torch.Generator("cpu").manual_seed(0)
            probe = torch.randn(1, 1, *before[2:], dtype=torch.float64, device="cpu", generator=generator)
            y = _computed(steps, x, probe, constants)
            for call, corners, scale in product((LINEAR, CUBIC), (False, True), _scales(before[2:], after[2:])):
                if len(spatial) in call:
                    how = (list(after[2:]), corners, *[scale for _ in spatial])
                    if _same(y, call[len(spatial)](probe, *how)):
                        return x, (call[len(spatial)], how)
        return None

    _restore(graph, constants, GATHERED - {aten.index}, found)


def _restore(
    graph: fx.Graph,
    constants: Constants,
    ends: Set[Any],
    found: Callable[[fx.Node, Order], tuple[fx.Node, Candidate] | None],
) -> None:
    order = {node: i for i, node in enumerate(graph.nodes)}
    for end in reversed(order):  # the whole before its parts
        if packet(end) not in ends or end in constants or is_whole(end) or not end.users:
            continue
        recognised = found(end, order)
        if recognised is not None:
            x, (target, how) = recognised
            with graph.inserting_before(end):
                call = graph.call_function(target, (x, *how))
                call.meta = dict(end.meta)
            left = end.all_input_nodes
            replace(graph, end, call)
            forget_unread(graph, left)


def _made_of_one(
    end: fx.Node, kinds: Set[Any], constants: Constants, order: Order, most: int
) -> Iterator[tuple[fx.Node, list[fx.Node]]]:
    """Each signal that alone a call is made of by several calls of these kinds, and the calls in their order."""
    steps, open_ = [end], {source for source in end.all_input_nodes if source not in constants}
    while open_ and len(steps) < most:
        latest = max(open_, key=order.__getitem__)
        if len(open_) == 1 and len(steps) > 1:
            yield latest, steps[::-1]
        if latest.op != "call_function" or packet(latest) not in kinds:
            return
        steps.append(latest)
        open_ = (open_ - {latest}) | {source for source in latest.all_input_nodes if source not in constants}


def _read(steps: list[fx.Node], constants: Constants) -> list[Tensor]:
    """The constants that calls read."""
    return [constants[source] for step in steps for source in step.all_input_nodes if source in constants]


def _gathers_in_space(steps: list[fx.Node], dims: int, constants: Constants) -> bool:
    """Whether calls gather something, and treat all samples and channels alike."""
    places = [arguments(step)[1] for step in steps if packet(step) is aten.index]
    in_space = all(index[:2] == [None, None] for index in places)
    weights = [value for value in _read(steps, constants) if value.is_floating_point()]
    return bool(places) and in_space and all(value.shape[:-dims].numel() == 1 for value in weights)


def _computed(steps: list[fx.Node], x: fx.Node, value: Tensor, constants: Constants) -> Tensor:
    """What calls make of another value of x, in float64 and on the CPU."""
    values: dict[fx.Node, Any] = {x: value}

    def given(node: fx.Node) -> Any:
        if node in values:
            return values[node]
        known = constants[node].cpu()
        known = known.double() if known.is_floating_point() else known
        return known.reshape(()) if known.numel() == 1 and value.dim() == 1 else known

    for step in steps:
        if packet(step) is aten._to_copy and not is_whole(step):
            values[step] = given(arguments(step)[0]).double()
        else:
            values[step] = function_of(step)(*fx.node.map_arg(step.args, given), **fx.node.map_arg(step.kwargs, given))
    return values[steps[-1]]


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, SAME, SAME)


def _scales(before: torch.Size, after: torch.Size) -> list[float | None]:
    """The scale factors that can have been given: sizes that are rounded down do not tell."""
    quarters = range(1, 4 * max(after, default=1) + 1)
    fits = [q / 4 for q in quarters if all(int(n * q / 4) == m for n, m in zip(before, after, strict=True))]
    return [None, *fits]
