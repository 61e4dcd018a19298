"""Kinds of operators: what several rows of the table have in common, and what is known of the values they make."""

from __future__ import annotations

import operator
from typing import Any

import torch

aten = torch.ops.aten


def known(*names: str) -> set[Any]:
    """The operators of these names that this version of PyTorch has."""
    return {getattr(aten, name) for name in names if hasattr(aten, name)}


SOFTMAX = {aten._softmax, *known("_safe_softmax")}  # since PyTorch 2.5
ELEMENTWISE = {
    aten.relu, aten.leaky_relu, aten._prelu_kernel, aten.prelu, aten.elu, aten.celu, aten.selu, aten.gelu,
    aten.silu, aten.mish, aten.softplus, aten.sigmoid, aten.tanh, aten.hardtanh, aten.hardsigmoid,
    aten.hardswish, aten.relu6, aten.clamp, aten.clamp_min, aten.clamp_max, aten.log_sigmoid_forward, aten.exp,
    aten.log, aten.sqrt, aten.rsqrt, aten.abs, aten.pow, aten.square, aten.erf, aten.neg, aten._to_copy,
    aten.threshold, aten.reciprocal, aten.exp2, aten.expm1, aten.log1p, aten.log2,
    aten.log10, aten.erfc, aten.sin, aten.cos, aten.tan, aten.asin, aten.acos, aten.atan, aten.sinh, aten.cosh,
    aten.asinh, aten.acosh, aten.atanh, aten.logit, aten.sinc, aten.nan_to_num, aten.softshrink,
    aten.hardshrink, aten.floor, aten.ceil, aten.round, aten.trunc,
}  # fmt: skip
DECISIONS = {
    aten.gt, aten.ge, aten.lt, aten.le, aten.eq, aten.ne, aten.logical_not, aten.logical_and, aten.logical_or,
    aten.argmax, aten.argmin, aten.sign, aten.sgn, aten.heaviside, aten.isnan, aten.bitwise_not,
}  # fmt: skip
AVERAGES = {
    aten.avg_pool1d, aten.avg_pool2d, aten.avg_pool3d, aten._adaptive_avg_pool2d, aten._adaptive_avg_pool3d,
    aten.adaptive_avg_pool1d, aten.mean, aten.sum, aten.upsample_nearest1d, aten.upsample_nearest2d,
    aten.upsample_nearest3d, aten._upsample_nearest_exact1d, aten._upsample_nearest_exact2d,
    aten._upsample_nearest_exact3d, aten.upsample_linear1d, aten.upsample_bilinear2d,
    aten._upsample_bilinear2d_aa, aten.upsample_trilinear3d, aten.cumsum, aten.col2im,
}  # fmt: skip
SELECTIONS = {
    aten.reflection_pad1d, aten.reflection_pad2d, aten.reflection_pad3d, aten.replication_pad1d,
    aten.replication_pad2d, aten.replication_pad3d, aten.roll, aten.flip, aten.repeat, aten.index,
    aten.index_select, aten.gather, aten.slice_scatter, aten.select_scatter, aten.pixel_shuffle,
    aten.pixel_unshuffle, aten.channel_shuffle, aten.unfold, aten.stack, aten.diagonal,
    aten.index_fill, aten.masked_scatter, aten.rot90, aten.take, aten.embedding,
}  # fmt: skip
RESHAPES = {aten.reshape, aten.squeeze, aten.unsqueeze, aten.flatten, aten.unflatten, operator.getitem}
GATES = {aten.sigmoid, aten.hardsigmoid, *SOFTMAX, *DECISIONS}
PROBABILITIES = {  # by what they are made of a network's last values
    "softmax": SOFTMAX,
    "sigmoid": {aten.sigmoid, aten.hardsigmoid},
}
DIVISORS = {aten.rsqrt, aten.reciprocal}  # times one of these is a division
SCALINGS = {aten.mul, aten.div, aten.neg}
# What makes each element of the elements at its place
POINTWISE = {
    *ELEMENTWISE, *DECISIONS, aten.add, aten.sub, aten.rsub, aten.mul, aten.div, aten.where, aten.masked_fill,
}  # fmt: skip
# What a gate remains one through, where all that it is joined with are constants or gates: 1 - z, a pooled map, say
GATE_KEEPING = {
    *SCALINGS, aten.add, aten.sub, aten.rsub, aten.clamp, aten.clamp_min, aten.clamp_max, aten.cat, aten.where,
    aten.constant_pad_nd, aten.masked_fill, aten.max_pool2d_with_indices, aten.max_pool3d_with_indices, aten.amax,
    aten.maximum, aten.minimum, aten.pow, aten.sqrt,
    *AVERAGES, *SELECTIONS, aten.index_put, aten.scatter,
}  # fmt: skip
TRANSPARENT = {
    aten.reshape, aten.expand, aten.permute, aten.transpose, aten.unsqueeze, aten.squeeze, aten.t, aten._to_copy,
    aten.select, aten.slice, aten.repeat, aten.upsample_nearest1d, aten.upsample_nearest2d, aten.upsample_nearest3d,
    aten._upsample_nearest_exact1d, aten._upsample_nearest_exact2d, aten._upsample_nearest_exact3d,
    aten.upsample_linear1d, aten.upsample_bilinear2d, aten._upsample_bilinear2d_aa, aten.upsample_trilinear3d,
    operator.getitem, aten.split, aten.split_with_sizes, aten.unsafe_split, aten.unbind,
}  # fmt: skip
NON_NEGATIVE = {
    aten.relu, aten.sigmoid, aten.hardsigmoid, aten.abs, aten.exp, aten.softplus, aten.relu6, aten.sqrt, aten.square,
    *SOFTMAX,
}  # fmt: skip
SIGN_KEEPING = {
    aten.max_pool2d_with_indices, aten.max_pool3d_with_indices, aten.amax, aten.maximum, aten.minimum, aten.cat,
    *AVERAGES, *SELECTIONS, *RESHAPES, aten.index_put, aten.scatter, aten.transpose, aten.t, aten.expand,
    aten.im2col, aten.permute, aten.slice, aten.select, aten.split, aten.split_with_sizes, aten.unbind,
}  # fmt: skip
