"""Grad-CAM and, for segmentations, Seg-Grad-CAM, on the graph: captum needs a module to hook, TorchScript has none."""

import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from .. import lrp
from ..errors import UserError
from ..imaging.windows import View
from ..inference import Inference
from ..lrp.edit import packet
from ..lrp.graph import layer_of, shape_of
from ..lrp.inner import deepest_convolution, layer_named, steps_to
from ..progress import ViewProgress
from .base import Found, Method, Told, summed
from .guided import RECTIFIERS
from .replay import Replay, scored

aten = torch.ops.aten
_LINEAR = {3: "linear", 4: "bilinear", 5: "trilinear"}
_FOLLOWED = {*RECTIFIERS, aten.native_group_norm, aten.native_batch_norm, aten._native_batch_norm_legit_no_training}


@dataclass(frozen=True)
class GradCam(Method):
    """
    Attributes:
        layer: name of a layer or of a call, whose output is looked at; "": the last convolution on the coarsest grid
            (in a U-Net its bottleneck), and the norm and rectifier that follow it.
    """

    layer: str = ""

    name = "grad-cam"
    description = (
        "A layer's channels, weighted by the mean gradient of the target value and rectified, brought to the input's"
        " voxels (Selvaraju 2017; for regions of a segmentation Vinogradova 2020)."
    )
    account = (
        "Grad-CAM tells where a layer's channels speak for the target, and no share of it: the map's sum means nothing,"
        " the ledger does not close, and of several volumes each gets the same map."
    )

    def settled(self, inference: Inference) -> "GradCam":
        node = layer_named(inference.graph, self.layer) if self.layer else _deepest(inference.graph)
        shape, wanted = shape_of(node), len(inference.windows.input_shape(1))
        if len(shape) != wanted:
            raise UserError(
                f"The layer '{self.layer or layer_of(node)}' gives {list(shape)}, which has no places: choose another"
                " layer for grad-cam ('lrpexplain inspect' lists them)."
            )
        return replace(self, layer=self.layer or (node.meta.get("layer") or node.name))

    def passes(self, inference: Inference) -> float:
        return 3.0

    def relevance(self, inference: Inference, coefficients: Tensor, progress: ViewProgress) -> Found:
        def explain(views: Sequence[View], x: Tensor, c: Tensor, told: Told) -> Tensor:
            node = layer_named(inference.graph, self.layer)
            replay = Replay(inference.graph, inference.setting.estimate.schedule, watched=[node])
            with torch.enable_grad():
                score = scored(replay(x.detach().requires_grad_()), c).sum()
                value = replay.values[node]
                activations: Tensor = value[0] if isinstance(value, (tuple, list)) else value
                (gradient,) = torch.autograd.grad(score, activations)
            beside = inference.windows.input_shape(1)[1]  # slices that share their middle one's map
            return _on_input(_cam(activations, gradient), x, inference.turned) / beside

        return Found(summed(inference, coefficients, explain, progress))


def _cam(activations: Tensor, gradient: Tensor) -> Tensor:
    """[n, 1, ...] on the layer's grid."""
    places = tuple(range(2, gradient.dim()))
    return (gradient.mean(places, keepdim=True) * activations).sum(1, keepdim=True).clamp(min=0)


def _on_input(cam: Tensor, x: Tensor, turned: bool) -> Tensor:
    """The map for each channel of an input [n, C', ...]."""
    if turned:
        cam = cam.permute(0, 1, *reversed(range(2, cam.dim())))
    cam = F.interpolate(cam, size=x.shape[2:], mode=_LINEAR[x.dim()], align_corners=False)
    return cam.expand_as(x)


def _deepest(graph: lrp.Graph) -> fx.Node:
    """What follows the last convolution on the coarsest grid, the one that makes the output aside."""
    node, on_the_way = deepest_convolution(graph), set(steps_to(graph, graph.outputs[0]))
    while len(users := [user for user in node.users if user in on_the_way]) == 1:
        (user,) = users
        if packet(user) not in _FOLLOWED and user.target is not operator.getitem:
            break
        node = user
    return node
