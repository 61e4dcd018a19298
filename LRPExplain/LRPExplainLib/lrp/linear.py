"""What a rule sees of a layer: one linear map of its input signals, `y = |scale| * (W x_1 + W x_2 + ...) + bias`.

Convolutions, dense layers, pooling by averages, resampling, residual sums and normalisation with fixed statistics are
all of this form. A rule asks a map to apply itself to modified inputs with modified weights, and for its adjoint.

`scale` is what a normalisation that was folded into the layer multiplies each channel by (its sign has been moved into
the weights, so it is positive); `bias` then holds everything that does not depend on the input.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from .kernels import by_phases, convolve, convolve_adjoint
from .optimizations import on
from .precision import product

Modified = Callable[[str], Tensor]  # name of a weight modification -> the weight so modified
RAW = "raw"  # the layer's weight before a norm's factor was folded into it: what the norm's mean is a mean of


class LinearMap(ABC):
    """A linear layer at the point of its forward pass.

    Attributes:
        inputs: the signals that enter, each with its own relevance.
        output: what left, including scale and bias; empty where no rule reads it.
        bias: what was added, broadcastable to `output`, or None.
        scale: positive factor broadcastable to `output`, or None.
        mean: averages a tensor of the output's shape over each statistic of the folded norm, when the sample's mean
            is treated as the linear function of the input that it is; None when it is held fixed (part of the bias).
        mean_term: what the mean contributes to `output` (with `mean` only), broadcastable.
        mean_factor: the norm's own factor per channel, which the mean is multiplied by after it was subtracted.
        rounded: `output` was kept in half precision, less than what products are computed in.
        non_negative: no input is negative anywhere.
        grouped: an output sees only a group of the input's channels.
        weighted: has weights that a rule may modify; otherwise its coefficients are fixed and non-negative.
        fresh: `apply` and `adjoint` return tensors that nobody else holds, and that may be written to.
        slab: the most elements of the output that are worked on at once, to need less memory; None: all.
        samples: how many samples the first axis of the input holds, where that has several places of each (tokens of a
            transformer, one after the other); None: it is the batch.
        frame: makes 1 where the input is a signal and 0 in a frame of zeros that was put around it, broadcastable to
            the input; None without such a frame. Rules that do not look at the input's values would see one.
    """

    inputs: Sequence[Tensor]
    output: Tensor
    bias: Tensor | None = None
    scale: Tensor | None = None
    mean: Callable[[Tensor], Tensor] | None = None
    mean_term: Tensor | None = None
    mean_factor: Tensor | float = 1.0
    rounded: bool = False
    non_negative: bool = False
    grouped: bool = False
    weighted: bool = False
    fresh: bool = False
    slab: int | None = None
    samples: int | None = None
    frame: Callable[[], Tensor] | None = None

    @abstractmethod
    def apply(self, inputs: Sequence[Tensor], weight: str) -> Tensor:
        """W' (x'_1 + x'_2 + ...) for modified inputs and the weight modification of this name; no scale, no bias."""

    @abstractmethod
    def adjoint(self, r: Tensor, weight: str) -> Sequence[Tensor]:
        """W'^T r, one tensor per input."""

    def adjoints(self, r: Tensor, weights: Sequence[str]) -> Iterator[Sequence[Tensor]]:
        """The adjoint with each of several weight modifications, one after the other."""
        return (self.adjoint(r, weight) for weight in weights)


class Convolution(LinearMap):
    """`aten.convolution` of any dimension, stride, padding, dilation, grouping, transposed or not.

    Only the data gradient is computed.
    """

    weighted = True
    fresh = True

    def __init__(self, x: Tensor, weights: Modified, geometry: tuple[Any, ...], output: Tensor) -> None:
        self.inputs = (x,)
        self.output = output
        self.weights = weights
        self.grouped = geometry[5] > 1
        self.geometry = geometry  # stride, padding, dilation, transposed, output_padding, groups

    def apply(self, inputs: Sequence[Tensor], weight: str) -> Tensor:
        return self.forward(inputs[0], weight)

    def adjoint(self, r: Tensor, weight: str) -> Sequence[Tensor]:
        return (self.backward(r, self.inputs[0].shape, weight),)

    def adjoints(self, r: Tensor, weights: Sequence[str]) -> Iterator[Sequence[Tensor]]:
        """Together where the input has few channels: what is done for one of them has room for all."""
        shape = self.inputs[0].shape
        together = len(weights) * shape[1]
        if self.geometry[3] or not by_phases(together, self.geometry[5], self.geometry[2]):
            return super().adjoints(r, weights)
        several = torch.cat([self.weights(weight) for weight in weights], 1)
        found = self.given_back(r, torch.Size((shape[0], together, *shape[2:])), several)
        return ((part,) for part in found.split(shape[1], 1))

    def forward(self, x: Tensor, weight: str) -> Tensor:
        """The convolution of x with the modified weight."""
        w = self.weights(weight)
        if self._alike(weight):
            y = convolve(x.sum(1, keepdim=True), w[:1, :1], None, *self.geometry)
            return y.repeat(1, w.shape[1 if self.geometry[3] else 0], *(1,) * (y.dim() - 2))
        return convolve(x, w, None, *self.geometry)

    def backward(self, r: Tensor, shape: torch.Size, weight: str) -> Tensor:
        """Its adjoint, of that shape."""
        w = self.weights(weight)
        if self._alike(weight):
            one = self.given_back(r.sum(1, keepdim=True), torch.Size((shape[0], 1, *shape[2:])), w[:1, :1])
            return one.repeat(1, shape[1], *(1,) * (len(shape) - 2))
        return self.given_back(r, shape, w)

    def given_back(self, r: Tensor, shape: torch.Size, w: Tensor) -> Tensor:
        """The adjoint for a weight that is given as such."""
        return convolve_adjoint(r, shape, w, *self.geometry)

    def _alike(self, weight: str) -> bool:
        """Whether all channels have the same weights, so that one does for all."""
        return weight == "one" and self.geometry[5] == 1 and on("collapsed")


class Matmul(LinearMap):
    """A product of the signal with a constant matrix, `x @ w` or (`from_left`) `w @ x`, batched or not."""

    weighted = True

    def __init__(self, x: Tensor, weights: Modified, output: Tensor, from_left: bool = False) -> None:
        self.inputs = (x,)
        self.output = output
        self._weights = weights
        self._from_left = from_left

    def apply(self, inputs: Sequence[Tensor], weight: str) -> Tensor:
        return self._times(inputs[0], self._weights(weight))

    def adjoint(self, r: Tensor, weight: str) -> Sequence[Tensor]:
        return (unbroadcast(self._times(r, self._weights(weight).mT), self.inputs[0].shape),)

    def _times(self, x: Tensor, w: Tensor) -> Tensor:
        return product(torch.matmul, *((w, x) if self._from_left else (x, w)))


class Sum(LinearMap):
    """Residual addition of signals; signs and factors are already in them. A constant summand is the bias."""

    def __init__(self, inputs: Sequence[Tensor], output: Tensor, shape: torch.Size, bias: Tensor | None = None) -> None:
        self.inputs = inputs
        self.output = output
        self.shape = shape
        self.bias = bias

    def apply(self, inputs: Sequence[Tensor], weight: str) -> Tensor:
        total = inputs[0]
        for x in inputs[1:]:
            total = total + x
        return fixed(total.expand(self.shape), weight)

    def adjoint(self, r: Tensor, weight: str) -> Sequence[Tensor]:
        return [unbroadcast(fixed(r, weight), x.shape) for x in self.inputs]


class Diagonal(LinearMap):
    """A factor per channel, `y = factor * x + bias`: normalisation that stands alone, its statistics held fixed."""

    weighted = True

    def __init__(self, x: Tensor, factor: Tensor, output: Tensor) -> None:
        self.inputs = (x,)
        self.output = output
        self._factor = factor

    def apply(self, inputs: Sequence[Tensor], weight: str) -> Tensor:
        return inputs[0] if weight == RAW else inputs[0] * modify(self._factor, weight)

    def adjoint(self, r: Tensor, weight: str) -> Sequence[Tensor]:
        return (r if weight == RAW else r * modify(self._factor, weight),)


class Average(LinearMap):
    """Pooling by averages, resampling, sums over axes: coefficients are fixed and not negative.

    The adjoint is the operator's own derivative, which for a linear operator does not depend on the input.
    """

    def __init__(self, x: Tensor, operator: Callable[[Tensor], Tensor], output: Tensor) -> None:
        self.inputs = (x,)
        self.output = output
        self._operator = operator

    def apply(self, inputs: Sequence[Tensor], weight: str) -> Tensor:
        return fixed(self._operator(inputs[0]), weight)

    def adjoint(self, r: Tensor, weight: str) -> Sequence[Tensor]:
        return (transposed(self._operator, self.inputs[0], fixed(r, weight)),)


def transposed(operator: Callable[[Tensor], Tensor], x: Tensor, r: Tensor) -> Tensor:
    """The adjoint of a linear operator at x applied to r, through PyTorch's own derivative of it."""
    leaf = x.detach().requires_grad_()
    with torch.enable_grad():
        y = operator(leaf)
    (gradient,) = torch.autograd.grad(y, leaf, r)
    return gradient


def fixed(value: Tensor, weight: str) -> Tensor:
    """`value` times what a weight modification makes of a coefficient that is fixed and not negative."""
    factor = _of_one(weight)
    return value if factor == 1.0 else value * factor


@cache
def _of_one(weight: str) -> float:
    return 1.0 if weight == RAW else float(modify(torch.ones((), device="cpu"), weight))


def scale_channels(weight: Tensor, factor: Tensor, transposed: bool, groups: int) -> Tensor:
    """A convolution's weight with each output channel multiplied by its element of `factor` [C_out]."""
    ones = (1,) * (weight.dim() - 2)
    if not transposed:
        return weight * factor.view(-1, 1, *ones)
    split = weight.unflatten(0, (groups, -1))  # [groups, C_in / groups, C_out / groups, ...]
    return (split * factor.view(groups, 1, -1, *ones)).flatten(0, 1)


def unbroadcast(r: Tensor, shape: torch.Size) -> Tensor:
    """Sum a tensor over the axes along which something of `shape` was broadcast to it."""
    if r.shape == shape:
        return r
    extra = r.dim() - len(shape)
    axes = [*range(extra), *(i + extra for i, n in enumerate(shape) if n == 1 and r.shape[i + extra] != 1)]
    return r.sum(axes, keepdim=True).reshape(shape) if axes else r.reshape(shape)


def modify(value: Tensor, name: str) -> Tensor:
    """A modification of inputs, weights or biases by its name in the rules' tables.

    `same`, `+` and `-` (the parts), `|.|`, `squared`, `one`, `zero`, and `same+0.25*+` or `same+0.25*-` for gamma.
    """
    if name[0] == name[-1] == "|" and name != "|.|":
        return modify(value, name[1:-1]).abs()
    if name.startswith("same") and len(name) > 4:
        factor, part = name[5:].split("*")
        return torch.add(value, modify(value, part), alpha=float(factor))
    return MODIFICATIONS[name](value)


MODIFICATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "same": lambda v: v,
    "+": lambda v: v.clamp(min=0),
    "-": lambda v: v.clamp(max=0),
    "|.|": torch.abs,
    "squared": torch.square,
    "one": torch.ones_like,
    "zero": torch.zeros_like,
}
