"""Ways to get a relevance map, ours and the peers', behind one call each.

Peers are given their best: in-place activations (which their hooks cannot stand) are made ordinary, and Zennit merges
batch norms into convolutions as its documentation asks.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.fx
from LRPExplainLib import lrp
from torch import Tensor, nn

from .networks import first_tensor
from .vision import torchvision

Run = Callable[[], Tensor]  # one explanation (or forward pass), to be timed
Prepare = Callable[[nn.Module, Tensor, Tensor], Run]  # of a network for an input and a start relevance

FORWARD = "forward"
ZENNIT_PLUS = "Zennit EpsilonPlus"
GRADIENT = "forward + input gradient"
LOW_MEMORY, BFLOAT16, FURTHER = "low memory", "bfloat16", "further question"  # modes of ours


def forward(model: nn.Module, x: Tensor, start: Tensor) -> Run:
    """PyTorch's inference."""

    def run() -> Tensor:
        with torch.no_grad():
            return first_tensor(model(x))

    return run


def input_gradient(model: nn.Module, x: Tensor, start: Tensor) -> Run:
    """PyTorch's forward pass and gradient with respect to the input alone."""
    model = copy.deepcopy(model).requires_grad_(False)

    def run() -> Tensor:
        leaf = x.clone().requires_grad_()
        return torch.autograd.grad(first_tensor(model(leaf)), leaf, start)[0]

    return run


def named(composite: str, mode: str = "") -> str:
    """This library's name for tables."""
    return f"LRPExplain {composite}" + (f", {mode}" if mode else "")


def ours(composite: str, precision: torch.dtype | None = None, thrifty: bool = False) -> Prepare:
    """This library: captured once, then asked.

    `precision`: in which all is computed; None: float32. `thrifty`: in the way that is reckoned to need least memory.
    """

    def prepare(model: nn.Module, x: Tensor, start: Tensor) -> Run:
        graph = lrp.capture(model, x)
        if precision is not None:
            graph.to(precision)
        ways = lrp.estimates(graph, composite)
        schedule = min(ways, key=lambda way: way.peak).schedule if thrifty else lrp.Schedule()

        def run() -> Tensor:
            evaluation = lrp.evaluate(graph, x, composite, schedule=schedule)
            return _map(evaluation.attribute(start, last=True))

        return run

    return prepare


def further(composite: str) -> Prepare:
    """Another question on a forward pass that was kept: why this voxel, the one in the middle."""

    def prepare(model: nn.Module, x: Tensor, start: Tensor) -> Run:
        evaluation = lrp.evaluate(lrp.capture(model, x), x, composite, schedule=lrp.Schedule(remaking=False))
        middle = (slice(None), slice(None), *(size // 2 for size in start.shape[2:]))
        voxel = torch.zeros_like(start)
        voxel[middle] = start[middle]
        return lambda: _map(evaluation.attribute(voxel))

    return prepare


def _map(found: lrp.Attribution) -> Tensor:
    assert isinstance(found.relevance, Tensor)
    return found.relevance


def zennit(name: str, canonize: bool = True) -> Prepare:
    """Zennit's composite of this name; `Epsilon` is its rule of that name in every weighted layer.

    `canonize`: by its widest canonizer: each batch norm is folded into the layer listed before it, which is right for
    most networks, and additions in torchvision's ResNets become modules that it sees.
    """

    def prepare(model: nn.Module, x: Tensor, start: Tensor) -> Run:
        torchvision()
        from zennit import composites, rules, types
        from zennit.torchvision import ResNetCanonizer

        canonizers = [ResNetCanonizer()] if canonize else []
        if name == "Epsilon":
            table: list[tuple[Any, Any]] = [
                (types.Activation, rules.Pass()),
                (types.AvgPool, rules.Norm()),
                ((types.Convolution, types.Linear), rules.Epsilon()),
            ]
            composite = composites.LayerMapComposite(table, canonizers=canonizers)
        else:
            composite = getattr(composites, name)(canonizers=canonizers)
        copied = not_in_place(model).requires_grad_(False)
        composite.register(copied)  # for good: the copy is this method's own

        def run() -> Tensor:
            leaf = x.clone().requires_grad_()
            return torch.autograd.grad(first_tensor(copied(leaf)), leaf, start)[0]

        return run

    return prepare


def captum(model: nn.Module, x: Tensor, start: Tensor) -> Run:
    """Captum's LRP, which knows convolutions of images, dense layers, pooling and batch norm."""
    from captum.attr import LRP

    class Question(nn.Module):
        """Captum explains one number: here the one whose gradient is the start relevance, up to a factor."""

        def __init__(self) -> None:
            super().__init__()
            self.model = not_in_place(model)

        def forward(self, x: Tensor) -> Tensor:
            return (first_tensor(self.model(x)) * start).flatten(1).sum(1, keepdim=True)

    question = Question()

    def run() -> Tensor:
        relevance = LRP(question).attribute(x, target=0)
        with torch.no_grad():
            return relevance / question(x).sum()

    return run


def not_in_place(model: nn.Module) -> nn.Module:
    """A copy whose activations do not overwrite their input."""
    copied = copy.deepcopy(model)
    for module in copied.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
    return copied


def unshared(model: nn.Module) -> nn.Module:
    """A copy in which a module that is called several times has a copy for each call, as peers' hooks need it."""
    traced = torch.fx.symbolic_trace(copy.deepcopy(model))
    seen: set[str] = set()
    for node in list(traced.graph.nodes):
        if node.op != "call_module":
            continue
        if node.target in seen:
            name = f"{node.target}_{node.name}"
            traced.add_submodule(name, copy.deepcopy(traced.get_submodule(node.target)))
            node.target = name
        seen.add(node.target)
    traced.recompile()
    return traced


def methods(composites: tuple[str, ...], detailed: str | None = None) -> dict[str, Prepare]:
    """All of them by name, ours with the given composites; with the detailed one in all its modes."""
    modes = {} if detailed is None else {
        LOW_MEMORY: ours(detailed, thrifty=True), BFLOAT16: ours(detailed, torch.bfloat16), FURTHER: further(detailed),
    }  # fmt: skip
    return {
        FORWARD: forward,
        GRADIENT: input_gradient,
        "Zennit Epsilon": zennit("Epsilon"),
        ZENNIT_PLUS: zennit("EpsilonPlus"),
        "Captum LRP": captum,
        **{named(name): ours(name) for name in composites},
        **{named(detailed or "", mode): prepare for mode, prepare in modes.items()},
    }


def reason(error: Exception) -> str:
    """Why a method does not run, in one short line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = f"{type(error).__name__}: {lines[0] if lines else ''}".replace("|", "/")
    return text if len(text) <= 100 else text[:97] + "..."
