"""Sliding windows, slices and mirroring as linear maps: how a volume is cut for a network and its answers blended.

A network sees `View`s of a volume: windows of it, perhaps mirrored, or slices for a network of two dimensions. The
blended output is linear in the network's outputs,

    out(v) = sum over views  importance(v) y(v) / sum over views importance(v),

mirrored ones turned back, so that each view's part in it is known exactly. `Windows.share` is that part, `unblend` the
adjoint of `blend`, and `give_back` the adjoint of `cut`. Placement and importance are those of MONAI's
`sliding_window_inference` or of nnU-Net's `compute_steps_for_sliding_window` and `compute_gaussian`, to the last voxel.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import combinations, product
from math import ceil
from typing import Any

import torch
from torch import Tensor

from ..errors import UserError

Shape = tuple[int, int, int]
# Tensor axis of [D, H, W] that a card's letter means.
_AXES = {"k": 0, "j": 1, "i": 2}
_OVERLAP, _SIGMA = 0.5, 0.125
_NNUNET_PEAK = 10.0  # nnU-Net scales its Gaussian up so that float16 holds more of its rim


@dataclass(frozen=True)
class View:
    """What the network sees at once: where it starts in the volume [D, H, W], and along which axes it is mirrored."""

    start: Shape
    mirrored: tuple[int, ...] = ()


class Windows:
    """All views of a volume, and the linear maps between it and them.

    Attributes:
        views: in the order in which MONAI and nnU-Net take them.
        extent: a view's size in the volume [d, h, w]; 1 along the axis of slices.
        flat: the axis of slices, which the network's tensors do not have, or None.
    """

    def __init__(
        self, shape: Sequence[int], window: Mapping[str, Any] | None = None, slices: Mapping[str, Any] | None = None
    ) -> None:
        """
        Args:
            shape: of the volume [D, H, W], at least `least_size`.
            window, slices: as in a model card; None: the whole volume at once, and a network of three dimensions.

        Raises:
            UserError: the window is mirrored along the axis of slices.
        """
        depth, height, width = shape
        self.shape: Shape = (depth, height, width)
        wishes = window or {}
        self.flat = None if slices is None else _AXES[slices.get("axis", "k")]
        self._reach = 0 if slices is None else int(slices.get("neighbours", 0))
        least = least_size(window, slices)
        own = [n if window is None else wanted for n, wanted in zip(self.shape, least, strict=True)]
        if self.flat is not None:
            own[self.flat] = 1
        if any(n > whole for n, whole in zip(own, self.shape, strict=True)):
            raise ValueError(f"a window of {own} does not fit into a volume of {list(shape)}: pad it first")
        self.extent: Shape = (own[0], own[1], own[2])
        mirrored = sorted(_AXES[letter] for letter in wishes.get("mirror", ()))
        if self.flat in mirrored:
            raise UserError("The model's card mirrors windows along the axis of its slices: take that axis out.")
        self._flips = [axes for n in range(len(mirrored) + 1) for axes in combinations(mirrored, n)]
        starts, gaussian = _PLACEMENTS[wishes.get("placement", "monai")]
        overlap = float(wishes.get("overlap", _OVERLAP))
        lines = [
            starts(whole, n, overlap if axis != self.flat else 0.0)
            for axis, (whole, n) in enumerate(zip(self.shape, self.extent, strict=True))
        ]
        self.starts: list[Shape] = [(d, h, w) for d, h, w in product(*lines)]
        self.views = [View(start, flip) for start in self.starts for flip in self._flips]
        self._importance = torch.ones(())
        self._total: Tensor | None = None  # every voxel belongs to one window alone
        if window is not None and len(self.starts) > 1:
            if wishes.get("blending", "gaussian") == "gaussian":
                self._importance = gaussian(self.extent, float(wishes.get("sigma", _SIGMA)))
            self._total = self._sum_of(self._importance)

    @property
    def whole(self) -> bool:
        """Whether the one view is the volume itself, so that there is nothing to blend."""
        return self.flat is None and self.extent == self.shape and len(self.views) == 1

    def input_shape(self, channels: int) -> tuple[int, ...]:
        """Of what `cut` makes of a volume [1, channels, D, H, W]: [1, C', d, h, w], or [1, C', h, w] for slices."""
        if self.flat is None:
            return (1, channels, *self.extent)
        return (1, channels * (2 * self._reach + 1), *(n for axis, n in enumerate(self.extent) if axis != self.flat))

    def cut(self, x: Tensor, view: View) -> Tensor:
        """The network's input for a view of the volume `x` [1, C, D, H, W]; see `input_shape`.

        Of slices, channel c * (2 n + 1) + m is slice m - n beside the view's own; at the ends the last one is repeated.
        """
        for axis in range(3):
            if axis != self.flat:
                x = x.narrow(2 + axis, view.start[axis], self.extent[axis])
        if view.mirrored:
            x = x.flip([2 + axis for axis in view.mirrored])
        if self.flat is None:
            return x
        stack = x.index_select(2 + self.flat, self._stack(view).to(x.device))
        return stack.movedim(2 + self.flat, 2).flatten(1, 2)

    def give_back(self, r: Tensor, view: View, volume: Tensor) -> None:
        """Add the adjoint of `cut`, applied to `r` of the input's shape, to a volume [1, C, D, H, W]."""
        if self.flat is not None:
            r = r.unflatten(1, (volume.shape[1], 2 * self._reach + 1)).movedim(2, 2 + self.flat)
        if view.mirrored:
            r = r.flip([2 + axis for axis in view.mirrored])
        for axis in range(3):
            if axis != self.flat:
                volume = volume.narrow(2 + axis, view.start[axis], self.extent[axis])
        if self.flat is None:
            volume += r
        else:
            volume.index_add_(2 + self.flat, self._stack(view).to(r.device), r)

    def blank(self, y: Tensor) -> Tensor:
        """Zeros to blend answers like `y` [1, K, ...] into: [1, K, D, H, W], or [1, K] where an answer has no place.

        Raises:
            UserError: the answer has places, but not those of the input.
        """
        if y.shape[2:].numel() == 1:
            return y.new_zeros(1, y.shape[1])
        if y.shape[2:] != self.input_shape(1)[2:]:
            raise UserError(
                f"The model's output has size {list(y.shape[2:])} for an input of {list(self.input_shape(1)[2:])}, but"
                " what is blended must have the input's size: export the model with its last resampling."
            )
        return y.new_zeros(1, y.shape[1], *self.shape)

    def blend(self, y: Tensor, view: View, output: Tensor) -> None:
        """Add a view's part to the blended output: its answer `y`, turned back, times its share."""
        if output.dim() == 2:  # answers without a place are averaged
            output += y.reshape(output.shape) / len(self.views)
            return
        y = y if self.flat is None else y.unsqueeze(2 + self.flat)
        y = y.flip([2 + axis for axis in view.mirrored]) if view.mirrored else y
        self._region(output, view).add_(y * self.share(view).to(y))

    def unblend(self, c: Tensor, view: View) -> Tensor:
        """The adjoint of `blend`: what coefficients `c` of the blended output are as those of a view's answer."""
        if c.dim() == 2:
            return c / len(self.views)
        part = self._region(c, view) * self.share(view).to(c)
        part = part.flip([2 + axis for axis in view.mirrored]) if view.mirrored else part
        return part if self.flat is None else part.squeeze(2 + self.flat)

    def share(self, view: View) -> Tensor:
        """A view's share of the blended output, [d, h, w]: its importance over the sum of all, mirrored ones alike."""
        if self._total is None:
            return torch.full((1, 1, 1), 1 / len(self._flips))
        return self._importance / (self._region(self._total[None, None], view)[0, 0] * len(self._flips))

    def touching(self, c: Tensor) -> list[View]:
        """The views whose answers coefficients `c` of the blended output ask for; no other can have relevance."""
        if c.dim() == 2:
            return self.views
        asked = c.any(dim=1, keepdim=True)
        return [view for view in self.views if bool(self._region(asked, view).any())]

    def _region(self, volume: Tensor, view: View) -> Tensor:
        """The part of a volume [1, C, D, H, W] that a view covers."""
        for axis, (start, n) in enumerate(zip(view.start, self.extent, strict=True)):
            volume = volume.narrow(2 + axis, start, n)
        return volume

    def _stack(self, view: View) -> Tensor:
        """The slices that a view takes."""
        assert self.flat is not None
        middle = view.start[self.flat]
        return torch.arange(middle - self._reach, middle + self._reach + 1).clamp(0, self.shape[self.flat] - 1)

    def _sum_of(self, importance: Tensor) -> Tensor:
        """Of all windows' importance, [D, H, W]."""
        total = torch.zeros(self.shape)
        for start in self.starts:
            self._region(total[None, None], View(start))[0, 0].add_(importance)
        return total


def least_size(window: Mapping[str, Any] | None, slices: Mapping[str, Any] | None = None) -> Shape:
    """What a volume [D, H, W] must at least measure; smaller ones are padded evenly with 0, as MONAI and nnU-Net do."""
    if window is None:
        return 1, 1, 1
    size = [int(n) for n in reversed(window["size"])]
    if slices is not None:
        size[_AXES[slices.get("axis", "k")]] = 1
    return size[0], size[1], size[2]


def _monai_starts(whole: int, n: int, overlap: float) -> list[int]:
    """Equal steps of what does not overlap; the last window is moved back into the volume."""
    step = max(1, int(n * (1 - overlap)))
    count = 1 + ceil(max(0, whole - n) / step)
    return [min(index * step, whole - n) for index in range(count)]


def _nnunet_starts(whole: int, n: int, overlap: float) -> list[int]:
    """As many windows as steps of what does not overlap need, the steps evened out."""
    count = ceil((whole - n) / (n * (1 - overlap))) + 1
    step = (whole - n) / (count - 1) if count > 1 else 0.0
    return [round(step * index) for index in range(count)]


def _monai_gaussian(extent: Shape, sigma: float) -> Tensor:
    lines = [torch.arange(-(n - 1) / 2.0, (n - 1) / 2.0 + 1, dtype=torch.float) for n in extent]
    lines = [torch.exp(x**2 / (-2 * (n * sigma) ** 2)) for x, n in zip(lines, extent, strict=True)]
    importance = _outer(lines)
    return importance.clamp(min=max(float(importance.min()), 1e-3))


def _nnunet_gaussian(extent: Shape, sigma: float) -> Tensor:
    """Cut off at 4 sigma and rounded to float16, as nnU-Net has it, which changes shares at the rim by per cents.

    nnU-Net sums in float16, too: in a volume's corners, where a single window has the least weight there is (2^-24),
    its logits become whole numbers. Ours are what the network said.
    """
    lines = []
    for n in extent:
        x = torch.arange(n, dtype=torch.float64) - n // 2
        line = torch.exp(x**2 / (-2 * (n * sigma) ** 2))
        lines.append(line.masked_fill(x.abs() > int(4 * n * sigma + 0.5), 0.0))
    importance = (_outer(lines) * _NNUNET_PEAK).half().float()
    return torch.where(importance == 0, importance[importance > 0].min(), importance)


def _outer(lines: Sequence[Tensor]) -> Tensor:
    return reduce(lambda a, b: a.unsqueeze(-1) * b, lines)


Starts = Callable[[int, int, float], list[int]]
# How windows are placed along an axis, and what their Gaussian is.
_PLACEMENTS: dict[str, tuple[Starts, Callable[[Shape, float], Tensor]]] = {
    "monai": (_monai_starts, _monai_gaussian),
    "nnunet": (_nnunet_starts, _nnunet_gaussian),
}
