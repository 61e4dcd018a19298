"""Resizing by splines as nnU-Net does it: scikit-image's `resize(mode="edge", anti_aliasing=False)`,
slice by slice where the voxels are far from cubes (Isensee et al. 2021, nnU-Net, Nature Methods 18, p. 203)."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from .grid import Size

# Voxels whose sides differ by more than this factor are resized within slices, and across them by nearest neighbour.
_ANISOTROPIC = 3


def separate_axis(spacing: Sequence[float], wanted: Sequence[float]) -> int | None:
    """The axis that is resized by itself: the coarse one of anisotropic voxels, given or wanted; None: none is.

    None too where two axes are equally coarse.
    """
    for steps in (np.asarray(spacing), np.asarray(wanted)):
        if steps.max() / steps.min() > _ANISOTROPIC:
            coarse = np.flatnonzero(steps.max() / steps == 1)
            return int(coarse[0]) if len(coarse) == 1 else None
    return None


def resize(volume: Tensor, shape: Size, separate: int | None = None, order: int = 3) -> Tensor:
    """A volume in another number of voxels over the same extent.

    Args:
        volume: float32 [D, H, W].
        separate: a dimension that is sampled by nearest neighbour, while splines stay within its slices.
        order: of the splines: 3 is cubic, 1 linear.

    Returns:
        float32 of `shape`, without overshoot: within the range of the volume, or of each slice.
    """
    if tuple(volume.shape) == tuple(shape):
        return volume
    within = [dim for dim in range(3) if dim != separate]
    low, high = volume.amin(within, keepdim=True), volume.amax(within, keepdim=True)
    for dim in within:
        volume = _along(volume, dim, _spline_matrix(volume.shape[dim], shape[dim], order))
    volume = torch.minimum(torch.maximum(volume, low), high)
    if separate is None or volume.shape[separate] == shape[separate]:
        return volume
    return volume.index_select(separate, torch.from_numpy(nearest_slices(volume.shape[separate], shape[separate])))


def nearest_slices(count: int, wanted: int) -> NDArray[np.int64]:
    """Which of `count` slices is nearest to each of `wanted` over the same extent."""
    position = count / wanted * (np.arange(wanted) + 0.5) - 0.5
    return np.floor(position + 0.5).clip(0, count - 1).astype(np.int64)


def _along(volume: Tensor, dim: int, matrix: Tensor) -> Tensor:
    lines = volume.movedim(dim, -1)
    return (lines.reshape(-1, lines.shape[-1]) @ matrix.T).reshape(*lines.shape[:-1], -1).movedim(-1, dim)


def _spline_matrix(count: int, wanted: int, order: int) -> Tensor:
    """Spline interpolation along one axis is linear; its matrix [wanted, count] is what becomes of unit vectors."""
    if count == wanted:
        return torch.eye(count)
    unit = np.eye(count)
    columns = ndimage.zoom(unit, (wanted / count, 1), order=order, mode="nearest", grid_mode=True)
    return torch.from_numpy(columns).float()
