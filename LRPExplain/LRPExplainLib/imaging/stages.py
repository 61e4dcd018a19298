"""Between the stages of a cascade: a label map becomes input channels of the next network, and logits become labels.

Both as nnU-Net does it. A label map is cut to the image's box, brought to the model's voxels label by label (linear
interpolation of each label's indicator; the largest wins, at a tie the nearest voxel's) and split into one channel for
each label. Logits are brought back to the voxels of the image by linear interpolation before the largest is taken.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import SimpleITK as sitk
import torch
from scipy import ndimage
from torch import Tensor

from .boxes import placed
from .grid import Grid, core_grid, nearest_on, same_grid
from .resampling import linear_map, nearest
from .splines import nearest_slices, resize, separate_axis

_NOTHING = -1  # the label of what lies outside the images' foreground, which is no background


def on_grid(labels: sitk.Image, grid: Grid) -> Tensor:
    """A label map of any geometry on a grid, by nearest neighbour: int64 [K, J, I]; 0 where it does not reach."""
    same = same_grid(Grid.of(labels), grid)
    return torch.from_numpy((sitk.GetArrayFromImage(labels) if same else nearest_on(labels, grid)).astype(np.int64))


def channels(
    found: Tensor,
    box: Grid,
    core: Grid,
    values: Sequence[int],
    orientation: str | None,
    spacing: Sequence[float | None] | None,
    foreground: Tensor | None = None,
) -> Tensor:
    """One channel for each of `values`: float32 [len(values), D, H, W] on the model's voxels, 1 where the label is it.

    Args:
        found: labels on `box`, [K, J, I].
        box: what the images were cropped to.
        core: the model's grid: `box` oriented, then in the model's voxels over the same extent.
        orientation, spacing: that led from one to the other.
        foreground: bool [K, J, I]: where the images show something, if they were cropped to that.
    """
    if foreground is not None:
        found = torch.where((found == 0) & ~foreground, _NOTHING, found)
    turned = core_grid(box, orientation)
    labels = nearest(found, box, turned).numpy()
    return split(torch.from_numpy(_resized(labels, core.shape, _separate(turned, spacing))), values)


def split(labels: Tensor, values: Sequence[int]) -> Tensor:
    """float32 [len(values), ...]: for each value, 1 where the label is it."""
    return torch.stack([labels == value for value in values]).float()


def labels_of_logits(
    logits: Tensor,
    grid: Grid,
    core: Grid,
    box: Grid,
    source: Grid,
    orientation: str | None,
    spacing: Sequence[float | None] | None,
    decide: Callable[[Iterator[Tensor]], Tensor],
) -> sitk.Image:
    """A network's logits [K, D, H, W] on `grid` as a uint8 label map on the image's own voxels; 0 outside the box.

    Args:
        grid, core, box, source: padded, without padding, what was left of the image, and the whole image.
        orientation, spacing: that led from the box to `core`.
        decide: from the logits of one class after the other, each [K, J, I], to labels: of a hundred classes those of a
            CT would fill a computer's memory.
    """
    turned = core_grid(box, orientation)
    separate = _separate(turned, spacing)
    back = linear_map(turned, box)  # axes swapped and turned round, no more
    scores = (back.forward(resize(placed(part, grid, core), turned.shape, separate, order=1)) for part in logits)
    return source.image(placed(decide(scores), box, source).to(torch.uint8).numpy())


def _separate(turned: Grid, spacing: Sequence[float | None] | None) -> int | None:
    wanted = spacing or turned.spacing
    steps = [own if step is None else step for own, step in zip(turned.spacing, wanted, strict=True)]
    return separate_axis(turned.spacing[::-1], steps[::-1])


def _resized(labels: np.ndarray, shape: Sequence[int], separate: int | None) -> np.ndarray:
    """Labels [D, H, W] in another number of voxels over the same extent; across `separate` by nearest neighbour."""
    if labels.shape == tuple(shape):
        return labels
    if separate is None:
        return _voted(labels, shape)
    within = [n for axis, n in enumerate(shape) if axis != separate]
    slices = [_voted(part, within) for part in np.moveaxis(labels, separate, 0)]
    index = nearest_slices(len(slices), shape[separate])
    return np.moveaxis(np.stack([slices[n] for n in index]), 0, separate)


def _voted(labels: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Each voxel gets the label whose interpolated indicator is largest there."""
    if labels.shape == tuple(shape):
        return labels
    factors = [new / old for new, old in zip(shape, labels.shape, strict=True)]
    closest = ndimage.zoom(labels.astype(float), factors, order=0, mode="nearest", grid_mode=True).astype(labels.dtype)
    best = np.full(tuple(shape), -np.inf)
    best_of_closest = np.full(tuple(shape), -np.inf)
    winner = np.zeros(tuple(shape), dtype=labels.dtype)
    for label in np.unique(labels):
        score = ndimage.zoom((labels == label).astype(float), factors, order=1, mode="nearest", grid_mode=True)
        winner[score > best] = label
        best = np.maximum(best, score)
        best_of_closest = np.where(closest == label, score, best_of_closest)
    return np.where(best_of_closest == best, closest, winner)
