"""Graph pass on bicubic resampling, whose weights have signs that rules must see."""

from __future__ import annotations

import torch
from torch import Tensor, fx

from .edit import constant, packet, replace
from .graph import arguments, function_of, shape_of

aten = torch.ops.aten

BICUBIC = {aten.upsample_bicubic2d, aten._upsample_bicubic2d_aa}


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
        eye = torch.eye(length, dtype=torch.float64, device="cpu")[None, None]
        matrix = function_of(resampling)(eye, [size[axis], length], align_corners, scale, None)[0, 0]
        matrices.append(matrix.to(like.device, like.dtype))
    return matrices[0], matrices[1].mT.contiguous()
