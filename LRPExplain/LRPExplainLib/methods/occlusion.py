"""Occlusion: what the answer loses when a block of the volume is covered."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import ClassVar

import torch
from torch import Tensor

from ..imaging.windows import View
from ..inference import Inference
from ..progress import ViewProgress
from .base import Found, Method, Told, baseline_of, one_by_one, require, require_baseline
from .replay import Scored, counted
from .with_captum import captum_attr, quiet


@dataclass(frozen=True)
class Occlusion(Method):
    """
    Attributes:
        edge: of a block, in voxels of the model's grid.
        baseline: what covers it: "zero", "mean" or "minimum" of each prepared input.
    """

    edge: int = 8
    baseline: str = "zero"

    name = "occlusion"
    description = (
        "What the target value loses when a block of one input is covered, shared out evenly over its voxels"
        " (Zeiler 2014)."
    )
    account = (
        "Occlusion measures each block by itself: blocks that stand in for each other, or need each other, make the"
        " map's sum smaller or larger than the target value; the difference is unaccounted for."
    )
    needs_captum: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require(self.edge >= 1, "A block of occlusion is at least 1 voxel wide.")
        require_baseline(self.baseline)

    def passes(self, inference: Inference) -> float:
        size = inference.windows.extent
        blocks = [
            min(n, ceil(n / self.edge) + (n < whole)) for n, whole in zip(size, inference.windows.shape, strict=True)
        ]
        return 2.0 + torch.Size(blocks).numel() * inference.volume.shape[1]

    def relevance(self, inference: Inference, coefficients: Tensor, progress: ViewProgress) -> Found:
        baseline, windows = baseline_of(inference, self.baseline), inference.windows
        blocks = _blocks(inference.volume, baseline, self.edge)
        drops = torch.zeros(int(blocks.max()) + 1, dtype=torch.float64)

        def explain(number: int, x: Tensor, c: Tensor, told: Told) -> Tensor:
            """Not a map, but what each block costs this view, [1, blocks]."""
            view = windows.views[number]
            present, local = windows.cut(blocks, view).unique(return_inverse=True)
            batch = min(inference.setting.batch, len(present))
            ablation = captum_attr(self.name).FeatureAblation(
                Scored(inference, c, counted(told, 1 + ceil(len(present) / batch)))
            )
            with quiet():
                lost = ablation.attribute(
                    x, baselines=windows.cut(baseline, view).to(x), feature_mask=local.to(x.device),
                    perturbations_per_eval=batch,
                )  # fmt: skip
            each = torch.zeros(len(present), dtype=torch.float64)
            each.scatter_(0, local.flatten(), lost.flatten().double().cpu())  # alike at all voxels of a block
            return torch.zeros_like(drops).index_copy_(0, present, each)[None]

        def visit(views: Sequence[View], x: Tensor, c: Tensor, told: Told) -> None:
            drops.add_(one_by_one(inference, explain)(views, x, c, told).sum(0))

        inference.each(coefficients, visit, progress)
        voxels = blocks.flatten().bincount(minlength=len(drops))
        shares = (drops / voxels.clamp(min=1)).to(inference.volume.dtype)
        shares[0] = 0
        return Found(shares[blocks])


def _blocks(x: Tensor, baseline: Tensor, edge: int) -> Tensor:
    """Number of the block of each voxel of each input, [1, C, D, H, W]; 0 for blocks that covering would not change."""
    shape = x.shape[1:]
    sides = [1, *(min(edge, n) for n in shape[1:])]
    counts = [ceil(n / side) for n, side in zip(shape, sides, strict=True)]
    numbers = torch.zeros(shape, dtype=torch.long)
    for axis, (n, side, count) in enumerate(zip(shape, sides, counts, strict=True)):
        line = torch.arange(n) // side
        numbers = numbers * count + line.reshape([-1 if a == axis else 1 for a in range(4)])
    changed = torch.zeros(torch.Size(counts).numel(), dtype=torch.bool)
    changed[numbers[(x != baseline)[0]]] = True
    return torch.where(changed, changed.cumsum(0), 0)[numbers][None]
