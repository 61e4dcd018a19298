"""The foreground of a volume, and the box around it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from ..errors import UserError
from .grid import Size


def foreground(volumes: Sequence[Tensor], rule: Mapping[str, Any]) -> Tensor:
    """Where any of the volumes shows something: bool, of their common shape [D, H, W].

    Args:
        rule: {"above": value}, or {"nonzero": true}: not 0, and holes (which touch no side of the volume) filled.
    """
    if rule.get("nonzero", False):
        mask = torch.stack([volume != 0 for volume in volumes]).any(0)
        image = sitk.GetImageFromArray(mask.numpy().astype(np.uint8))
        filled = sitk.GetArrayFromImage(sitk.BinaryFillhole(image, fullyConnected=False, foregroundValue=1))
        return torch.from_numpy(filled != 0)
    above = float(rule.get("above", 0.0))
    return torch.stack([volume > above for volume in volumes]).any(0)


def bounding_box(mask: Tensor, margin: int, name: str, beyond: bool) -> tuple[Size, Size]:
    """The first index (i, j, k) and the size of the box around a mask [D, H, W] and `margin` voxels on each side.

    Args:
        beyond: the margin may go beyond the mask's own array; otherwise it ends there.

    Raises:
        UserError: the mask is empty; `name` is how the sentence calls the volume.
    """
    starts, sizes = [], []
    for axis in range(3):
        others = [dim for dim in range(3) if dim != 2 - axis]
        hit = torch.nonzero(mask.any(others[1]).any(others[0])).flatten()
        if not len(hit):
            raise UserError(
                f"'{name}' holds no foreground to which the model's card could crop it: choose another volume, or"
                " correct the card's preprocessing.crop."
            )
        begin, end = int(hit[0]) - margin, int(hit[-1]) + 1 + margin
        if not beyond:
            begin, end = max(0, begin), min(mask.shape[2 - axis], end)
        starts.append(begin)
        sizes.append(end - begin)
    return (starts[0], starts[1], starts[2]), (sizes[0], sizes[1], sizes[2])
