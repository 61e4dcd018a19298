"""Guided backpropagation, on the graph: captum's hooks see neither TorchScript nor functional activations."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from .. import lrp
from ..errors import UserError
from ..imaging.windows import View
from ..inference import Inference
from ..lrp.edit import packet
from ..progress import ViewProgress
from .base import Found, Method, Told, summed
from .replay import Replay, scored

aten = torch.ops.aten
# Activations that are ReLU, or take its place; each is guided as ReLU is.
RECTIFIERS = frozenset((
    aten.relu, aten.leaky_relu, aten.elu, aten.celu, aten.selu, aten.gelu, aten.silu, aten.mish, aten.softplus,
    aten.prelu, aten._prelu_kernel, aten.hardtanh, aten.hardswish,
))  # fmt: skip


@dataclass(frozen=True)
class GuidedBackprop(Method):
    """No parameters."""

    name = "guided-backprop"
    description = (
        "The gradient, of which each rectifier (ReLU and its kin) hands on positive parts only (Springenberg 2015)."
    )
    account = (
        "Guided backpropagation leaves negative gradients out, so that its map is neither a gradient nor a share of the"
        " target value: the map's sum means nothing, and the ledger does not close."
    )

    def settled(self, inference: Inference) -> "GuidedBackprop":
        if not rectifiers(inference.graph):
            raise UserError("The model has no rectifier that could be guided: choose the method gradient.")
        return self

    def passes(self, inference: Inference) -> float:
        return 3.0

    def relevance(self, inference: Inference, coefficients: Tensor, progress: ViewProgress) -> Found:
        def explain(views: Sequence[View], x: Tensor, c: Tensor, told: Told) -> Tensor:
            guided = dict.fromkeys(rectifiers(inference.graph), _Guided.apply)
            replay = Replay(inference.graph, inference.setting.estimate.schedule, guided)
            leaf = x.detach().requires_grad_()
            with torch.enable_grad():
                (found,) = torch.autograd.grad(scored(replay(leaf), c).sum(), leaf)
            return found

        return Found(summed(inference, coefficients, explain, progress))


def rectifiers(graph: lrp.Graph) -> list[fx.Node]:
    """The rectifiers among a network's calls."""
    return [node for node in graph.steps if packet(node) in RECTIFIERS]


class _Guided(torch.autograd.Function):
    """Nothing on the way forward; on the way back only what is positive."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.clamp(min=0)
