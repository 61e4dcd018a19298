"""RISE: which voxels are seen when the answer is high, over many random masks. captum has none."""

from dataclasses import dataclass
from math import ceil, prod

import torch
import torch.nn.functional as F
from torch import Tensor

from ..inference import Inference
from ..progress import ViewProgress
from ..seeds import check_seed
from .base import Found, Method, Told, baseline_of, one_by_one, require, require_baseline, summed
from .replay import Scored, counted

_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


@dataclass(frozen=True)
class Rise(Method):
    """
    Attributes:
        masks: how many; the map's noise falls with the root of it.
        cell: distance in voxels of the model's grid of the random values between which a mask is interpolated.
        share: the probability with which such a value is 1 (seen) rather than 0.
        baseline: what is put where a mask is 0: "zero", "mean" or "minimum" of each prepared input.
        seed: of the masks.
    """

    masks: int = 500
    cell: int = 8
    share: float = 0.5
    baseline: str = "zero"
    seed: int = 0

    name = "rise"
    description = (
        "How the target value rises with a voxel's visibility over random masks (Petsiuk 2018), less the part that is"
        " the same everywhere, and per voxel: covariance over variance, over the voxels that a mask moves together."
    )
    account = (
        "RISE estimates the effect of visibility from random masks: the map's sum comes near the target value only for"
        " nearly linear networks and many masks; the difference is unaccounted for."
    )

    def __post_init__(self) -> None:
        require(self.masks >= 2, "RISE needs at least 2 masks.")
        require(self.cell >= 1, "A cell of RISE is at least 1 voxel wide.")
        require(0 < self.share < 1, "The share of what RISE shows lies between 0 and 1.")
        require_baseline(self.baseline)
        check_seed(self.seed)

    def passes(self, inference: Inference) -> float:
        return 1.0 + self.masks

    def relevance(self, inference: Inference, coefficients: Tensor, progress: ViewProgress) -> Found:
        baseline, windows = baseline_of(inference, self.baseline), inference.windows

        def explain(number: int, x: Tensor, c: Tensor, told: Told) -> Tensor:
            before = windows.cut(baseline, windows.views[number]).to(x)
            batch = min(inference.setting.batch, self.masks)
            score = Scored(inference, c, counted(told, 1 + ceil(self.masks / batch)))
            generator = torch.Generator().manual_seed(self.seed + number)
            sums = _Sums(x)
            with torch.no_grad():
                usual = score(before + self.share * (x - before))  # near the mean, so that sums of squares stay small
                for start in range(0, self.masks, batch):
                    shapes = [x.shape[1:]] * min(batch, self.masks - start)
                    seen = torch.stack([self._mask(shape, generator) for shape in shapes]).to(x)
                    sums.add(seen - self.share, score(before + seen * (x - before)) - usual)
            return (sums.slope() / self._together(x.shape[2:])).to(x)

        return Found(summed(inference, coefficients, one_by_one(inference, explain), progress))

    def _mask(self, shape: torch.Size, generator: torch.Generator) -> Tensor:
        """Random values on a grid, shifted at random and interpolated: 0..1, [C', ...], each input by itself."""
        cells = [min(self.cell, n) for n in shape[1:]]
        grid = [ceil(n / cell) + 2 for n, cell in zip(shape[1:], cells, strict=True)]
        mask = (torch.rand((1, shape[0], *grid), generator=generator) < self.share).float()
        size = [n * cell for n, cell in zip(grid, cells, strict=True)]
        mask = F.interpolate(mask, size=size, mode=_LINEAR[len(size)], align_corners=False)[0]
        for axis, (n, cell) in enumerate(zip(shape[1:], cells, strict=True), 1):
            start = (cell + 1) // 2 + int(torch.randint(cell, (), generator=generator))  # within what is interpolated
            mask = mask.narrow(axis, start, n)
        return mask

    def _together(self, shape: torch.Size) -> float:
        """Voxels that a mask moves together: the sum of the correlations of one voxel's visibility with all others'."""
        return prod(_moved_together(min(self.cell, n)) for n in shape)


def _moved_together(cell: int) -> float:
    """The same along one axis: (sum h)^2 / sum h^2 of the interpolation's hat function h.

    Where cells have an even number of voxels, these lie half a step off the random values.
    """
    squares = (2 * cell**2 + 1) / (3 * cell) if cell % 2 else (4 * cell**2 - 1) / (6 * cell)
    return cell**2 / squares


class _Sums:
    """What the slope of a value against each voxel's visibility needs, mask by mask, in float64."""

    def __init__(self, like: Tensor) -> None:
        self._m, self._mm, self._vm = (torch.zeros_like(like, dtype=torch.float64) for _ in range(3))
        self._v, self._n = 0.0, 0

    def add(self, masks: Tensor, values: Tensor) -> None:
        """Masks [n, C', ...] and values [n]."""
        masks = masks.double()
        self._m += masks.sum(0)
        self._mm += masks.square().sum(0)
        self._vm += torch.tensordot(values.to(masks), masks, dims=1)
        self._v += float(values.sum())
        self._n += len(values)

    def slope(self) -> Tensor:
        """Covariance over variance, [1, C', ...]; 0 where a voxel's visibility never changed."""
        covariance = self._vm - self._m * self._v / self._n
        variance = self._mm - self._m.square() / self._n
        tiny = 1e-9 * self._n
        return torch.where(variance > tiny, covariance / variance.clamp(min=tiny), 0)
