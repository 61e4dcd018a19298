"""What lies between a network's output x and the value that is explained: nothing, a softmax or a sigmoid.

For a probability p the engine's rule for softmax (Achtibat 2024, prop. 3.1) is applied once more, from p to x. With
weights w_k on p_k, and so the target value sum_k w_k p_k, the coefficients c of x are

    softmax:  c_i = w_i p_i - p_i sum_k w_k p_k        sigmoid:  c_i = w_i p_i (1 - p_i)

which is that value's gradient. (Sigmoid is the softmax over a class and a fixed 0. Handing p through to x instead, as
the engine does within a network, would turn evidence against the class, x < 0, into relevance for it, and would divide
by x in the coefficients.) Of the target value c x reaches the output; the expansion's constant term takes the rest.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

PerChannel = dict[int, Tensor]


@dataclass(frozen=True)
class Activation:
    """A last step that is explained too.

    Attributes:
        values: (x [1, K, ...], channels) -> what is explained of each channel, [...].
        back: (x, values, weights per channel [...]) -> coefficients [1, K, ...] of x, and what the expansion took,
            summed from its own terms.
    """

    values: Callable[[Tensor, Iterable[int]], PerChannel]
    back: Callable[[Tensor, PerChannel, PerChannel], tuple[Tensor, float]]


def total(x: Tensor) -> float:
    """Sum in float64."""
    return float(x.sum(dtype=torch.float64))


def _logits(x: Tensor, channels: Iterable[int]) -> PerChannel:
    return {k: x[0, k] for k in channels}


def _sigmoids(x: Tensor, channels: Iterable[int]) -> PerChannel:
    return {k: x[0, k].sigmoid() for k in channels}


def _softmaxes(x: Tensor, channels: Iterable[int]) -> PerChannel:
    sum_of_all = x[0].logsumexp(0)
    return {k: (x[0, k] - sum_of_all).exp() for k in channels}


def _zeros(x: Tensor) -> Tensor:
    """Zeros like `x`. On the CPU NumPy's, which take memory only where they are written: a question asks about one or
    two classes, of which a network may have a hundred."""
    return torch.zeros_like(x) if x.device.type != "cpu" else torch.from_numpy(np.zeros(x.shape, x.numpy().dtype))


def _through_nothing(x: Tensor, values: PerChannel, weights: PerChannel) -> tuple[Tensor, float]:
    coefficients = _zeros(x)
    for k, w in weights.items():
        coefficients[0, k] = w
    return coefficients, 0.0


def _through_sigmoid(x: Tensor, p: PerChannel, weights: PerChannel) -> tuple[Tensor, float]:
    coefficients = _zeros(x)
    taken = 0.0
    for k, w in weights.items():
        coefficients[0, k] = w * p[k] * (1 - p[k])
        taken += total(w * p[k] * (1 - x[0, k] * (1 - p[k])))
    return coefficients, taken


def _through_softmax(x: Tensor, p: PerChannel, weights: PerChannel) -> tuple[Tensor, float]:
    value = sum((w * p[k] for k, w in weights.items()), torch.zeros_like(x[0, 0]))
    coefficients = x.softmax(1)
    taken = sum(total(value * probability * own) for probability, own in zip(coefficients[0], x[0], strict=True))
    coefficients *= -value  # in its place: these are as large as the output
    for k, w in weights.items():
        coefficients[0, k] += w * p[k]
        taken += total(w * p[k] * (1 - x[0, k]))
    return coefficients, taken


ACTIVATIONS = {
    "none": Activation(_logits, _through_nothing),
    "sigmoid": Activation(_sigmoids, _through_sigmoid),
    "softmax": Activation(_softmaxes, _through_softmax),
}
