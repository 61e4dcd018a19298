"""LRP's rules as their papers write them, on explicit matrices: the oracle of `test_brute_force.py`.

A layer at the point of its forward pass is `y_j = sum_i w_ji x_i + c_j + t_j`: weights times inputs, a constant, and
(only with a norm whose mean is a function of the input) what the mean contributes, `t_j = sum_i m_ji x_i`. A formula
says in which proportion output j shares its relevance among all of these; nothing here is clever, fast or shared with
the engine.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Layer:
    """`w` [outputs, inputs], `x` [inputs], `c` [outputs], `m` [outputs, inputs] or None."""

    w: Tensor
    x: Tensor
    c: Tensor
    m: Tensor | None = None

    @property
    def t(self) -> Tensor:
        return torch.zeros_like(self.c) if self.m is None else self.m @ self.x

    @property
    def y(self) -> Tensor:
        return self.w @ self.x + self.c + self.t


# Of the relevance that `share` [outputs] selects, numerators for inputs [outputs, inputs], constant and mean [outputs].
Split = tuple[Tensor, Tensor, Tensor, Tensor]
Formula = Callable[[Layer], Iterator[Split]]
Stabiliser = Callable[[Tensor], Tensor]


def plus(v: Tensor) -> Tensor:
    return torch.where(v > 0, v, torch.zeros_like(v))


def minus(v: Tensor) -> Tensor:
    return torch.where(v < 0, v, torch.zeros_like(v))


def all_of(layer: Layer) -> Tensor:
    return torch.ones_like(layer.c)


def epsilon(layer: Layer) -> Iterator[Split]:
    """Bach 2015, eq. 58: z_ij = x_i w_ij."""
    yield all_of(layer), layer.w * layer.x, layer.c, layer.t


def z_plus(layer: Layer) -> Iterator[Split]:
    """Bach 2015, eq. 60 with alpha 1: the positive z_ij; ours shares among the negative where there is no positive."""
    z = layer.w * layer.x
    speaks_for = (plus(z).sum(1) + plus(layer.c) + plus(layer.t) > 0).to(z)
    yield speaks_for, plus(z), plus(layer.c), plus(layer.t)
    yield 1 - speaks_for, minus(z), minus(layer.c), minus(layer.t)


def z_plus_of_inputs(layer: Layer) -> Iterator[Split]:
    """Montavon 2017: as above with neither bias nor mean among the contributions."""
    nothing = torch.zeros_like(layer.c)
    for share, inputs, _, _ in z_plus(Layer(layer.w, layer.x, nothing)):
        yield share, inputs, nothing, nothing


def alpha_beta(alpha: float, beta: float) -> Formula:
    """Bach 2015, eq. 60: alpha z+ / sum z+ - beta z- / sum z-."""

    def formula(layer: Layer) -> Iterator[Split]:
        z = layer.w * layer.x
        yield alpha * all_of(layer), plus(z), plus(layer.c), plus(layer.t)
        yield -beta * all_of(layer), minus(z), minus(layer.c), minus(layer.t)

    return formula


def gamma(g: float) -> Formula:
    """Generalised, Andeol 2021: x+ (w + g w+) + x- (w + g w-) where y > 0; w+ and w- change places where y < 0."""

    def formula(layer: Layer) -> Iterator[Split]:
        w, x, c, t = layer.w, layer.x, layer.c, layer.t
        positive = (layer.y >= 0).to(w)
        favours_plus = plus(x) * (w + g * plus(w)) + minus(x) * (w + g * minus(w))
        favours_minus = plus(x) * (w + g * minus(w)) + minus(x) * (w + g * plus(w))
        yield positive, favours_plus, c + g * plus(c), t + g * plus(t)
        yield 1 - positive, favours_minus, c + g * minus(c), t + g * minus(t)

    return formula


def z_box(low: float, high: float) -> Formula:
    """Montavon 2017: x w - low w+ - high w-."""

    def formula(layer: Layer) -> Iterator[Split]:
        numerator = layer.x * layer.w - low * plus(layer.w) - high * minus(layer.w)
        yield all_of(layer), numerator, 0 * layer.c, 0 * layer.t

    return formula


def w_square(layer: Layer) -> Iterator[Split]:
    """Montavon 2017: w squared."""
    yield all_of(layer), layer.w**2, 0 * layer.c, 0 * layer.t


def flat(layer: Layer) -> Iterator[Split]:
    """Lapuschkin 2019: the same for every input that is connected."""
    yield all_of(layer), (layer.w != 0).to(layer.w), 0 * layer.c, 0 * layer.t


def magnitude(layer: Layer) -> Iterator[Split]:
    """Ours: |x w|."""
    yield all_of(layer), (layer.w * layer.x).abs(), layer.c.abs(), layer.t.abs()


def alpha_beta_of_inputs(alpha: float, beta: float) -> Formula:
    """Alpha-beta without biases: where one sign has no contribution, the other takes its part."""

    def formula(layer: Layer) -> Iterator[Split]:
        z, nothing = layer.w * layer.x, torch.zeros_like(layer.c)
        some = [(part(z).sum(1) != 0).to(z) for part in (plus, minus)]
        yield alpha * some[0] - beta * (1 - some[1]), plus(z), nothing, nothing
        yield alpha * (1 - some[0]) - beta * some[1], minus(z), nothing, nothing

    return formula


def magnitude_of_inputs(layer: Layer) -> Iterator[Split]:
    """|x w| alone."""
    yield all_of(layer), (layer.w * layer.x).abs(), 0 * layer.c, 0 * layer.t


def inherited(formula: Formula) -> Formula:
    """A formula whose constant leaves what it gets to the inputs, in proportion to the size of their numerators."""

    def shared(layer: Layer) -> Iterator[Split]:
        for share, inputs, constant, mean in formula(layer):
            sizes = inputs.abs().sum(1)
            some = sizes > 0
            portion = inputs.abs() / torch.where(some, sizes, 1.0)[:, None]
            yield (
                share,
                inputs + torch.where(some, constant, 0.0)[:, None] * portion,
                torch.where(some, 0.0, constant),
                mean,
            )

    return shared


def share_out(layer: Layer, relevance: Tensor, formula: Formula, stabiliser: Stabiliser) -> tuple[Tensor, float]:
    """Relevance [inputs] for relevance [outputs], and what the constants absorb."""
    received, absorbed = torch.zeros_like(layer.x), 0.0
    for share, inputs, constant, mean in formula(layer):
        z = inputs.sum(1) + constant + mean
        s = relevance * share / (z + stabiliser(z))
        received += inputs.T @ s
        absorbed += float(constant @ s)
        if layer.m is not None:  # what the mean gets goes on to its inputs, as their contributions to it are
            received += layer.x * (layer.m.T @ (s * mean / layer.t))
    return received, absorbed


def absolute(epsilon: float) -> Stabiliser:
    return lambda z: torch.where(z >= 0, epsilon, -epsilon)


def relative(epsilon: float, batch: int) -> Stabiliser:
    """Epsilon times the root mean square of each sample's outputs, which come flattened."""

    def stabiliser(z: Tensor) -> Tensor:
        scale = z.reshape(batch, -1).square().mean(1, keepdim=True).sqrt()
        return torch.where(z >= 0, 1.0, -1.0) * (epsilon * scale).expand(batch, z.numel() // batch).flatten()

    return stabiliser
