"""The way in, from volumes to the model's input tensor, and the way back for relevance and labels.

    crop ("first") -> [intensity, if first] -> orientation, spacing -> crop ("resampled") -> size
      -> [intensity, if not first] -> crop ("last")

Relevance goes back by the adjoint of that way: none for what was cropped away, all of it onto voxels that the network
saw, but for what sat on padding, which is named.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from ..errors import UserError
from .boxes import Reframed, Replicated, overlap, placed
from .examination import Examination, Maps, needs_foreground
from .foreground import bounding_box, foreground
from .grid import Grid, cut, fitted, same_grid
from .intensity import check_steps, normalise_all
from .preprocessing import Preprocessing
from .resampling import LinearMap, linear_map, nearest


@dataclass(frozen=True, eq=False)
class Prepared:
    """Volumes in the model's space.

    Attributes:
        tensor: float32 [1, C, D, H, W], one channel per volume (of a label map one per label); 0 outside a volume's
            field of view.
        grid: where the voxels of `tensor` are; all channels share it.
        sources: the grids of the volumes as they were given.
        maps: per volume the way in, from the voxels of its source [K, J, I] to the model's [D, H, W], with its adjoint.
        widths: how many channels each volume has.
        core, box: `grid` without padding, and what was left of the first volume before that was resampled to it.
    """

    tensor: Tensor
    grid: Grid
    sources: tuple[Grid, ...]
    maps: tuple[LinearMap, ...]
    widths: tuple[int, ...]
    core: Grid
    box: Grid

    @property
    def inside(self) -> Tensor:
        """bool [D, H, W]: the model voxels in the first volume's field of view."""
        return self.maps[0].inside

    def relevance_to_source(self, relevance: Tensor) -> tuple[list[sitk.Image], list[float]]:
        """Carry relevance [1, C, D, H, W] back by the adjoint of the way in.

        Returns:
            One float32 image per volume, on exactly its grid (of a label map, the sum over its channels); and per
            volume the relevance that sat on model voxels outside its field of view (padding). The two add up to the
            relevance given, to rounding.
        """
        images, outside = [], []
        parts = [part.sum(0) for part in relevance[0].detach().float().cpu().split(self.widths)]
        for channel, source, way_in in zip(parts, self.sources, self.maps, strict=True):
            kept = way_in.kept if isinstance(way_in, Replicated) else way_in.inside
            images.append(source.image(way_in.adjoint(channel).numpy()))
            outside.append(float(channel.masked_select(~kept).sum(dtype=torch.float64)))
        return images, outside

    def unseen(self) -> list[np.ndarray]:
        """Per volume, bool [k, j, i]: the voxels that nothing of the tensor depends on, such as those cropped away."""
        ones = torch.ones(self.grid.shape)
        seen = [(way_in.adjoint(ones) != 0).numpy() for way_in in self.maps]
        return [~found for found in seen]

    def labels_to_source(self, labels: Tensor) -> sitk.Image:
        """Labels [D, H, W] (0..255) on the first volume's grid, nearest neighbour; 0 where the model did not look."""
        seen = labels.detach().cpu().to(torch.uint8) * self.inside
        found = nearest(seen, self.grid, self.sources[0])
        return self.sources[0].image(found.numpy())


def prepare(
    volumes: Sequence[sitk.Image],
    preprocessing: Preprocessing,
    names: Sequence[str] | None = None,
    least: Sequence[int] = (1, 1, 1),
    labels: Sequence[Sequence[int] | None] = (),
) -> Prepared:
    """Bring volumes into the model's space, in the order that the head of this file gives.

    The first volume sets the grid and the box; further ones are interpolated to it wherever they lie in patient space
    (always linearly, unless they share the first one's grid). Intensity statistics are taken over the voxels in a
    volume's field of view: the model's voxels, or the volume's own in the box where intensities come first (all of
    its own for a volume on another grid than the first one's).

    Args:
        volumes: checked 3D scalar images, in the order of the model's channels.
        names: how errors call them.
        least: size [D, H, W] to which a smaller volume is padded at last, such as that of a window: with 0, or as the
            window's "padding" says.
        labels: for each volume the label values of which it has a channel each, or None for an image; label maps come
            after all images, are not scaled and have no part in the foreground (see `stages`).

    Raises:
        UserError: a volume does not overlap the first one or has no foreground, its intensities cannot be scaled, or
            the wishes contradict each other.
    """
    names = [f"volume {n}" for n in range(1, len(volumes) + 1)] if names is None else names
    wanted = preprocessing
    _check(wanted)
    repeated = (wanted.window or {}).get("padding", "constant") == "replicate"
    least, last = ((1, 1, 1), least) if repeated else (least, (1, 1, 1))
    when = wanted.crop.get("when", "first") if wanted.crop else None
    count = len(volumes) - sum(1 for values in labels if values is not None)
    maps_of_labels, volumes = list(volumes[count:]), volumes[:count]
    label_names, names = names[count:], names[:count]
    examination = Examination(volumes, wanted, names)
    if when == "first":
        examination.crop()
    if wanted.intensity_first:
        examination.normalise()
    core = examination.core()
    tensor, maps = examination.resampled(core)
    grid = core
    if when == "resampled":
        tensor, maps, grid = _cropped(tensor, maps, core, wanted, least, names[0])
    elif when != "last":
        grid = _fitted(core, wanted, least)
        tensor, maps = _reframed(tensor, maps, core, grid)
    _check_overlap(maps, names)
    if not wanted.intensity_first:
        seen = [channel[way.inside] for channel, way in zip(tensor, maps, strict=True)]
        scaled = normalise_all(seen, wanted.intensity, names, [None] * len(names))
        for channel, way, values in zip(tensor, maps, scaled, strict=True):
            channel[way.inside] = values
    if when == "last":
        tensor, maps, grid = _cropped(tensor, maps, core, wanted, least, names[0])
    frame = fitted(grid, None, minimum_size=last[::-1])
    maps = examination.from_sources(maps)
    if frame != grid:
        grown = tuple(Replicated(way, grid, frame) for way in maps)
        tensor = torch.stack([way.grown(channel) for channel, way in zip(tensor, grown, strict=True)])
        maps, grid = grown, frame
    prepared = Prepared(tensor[None], grid, examination.sources, maps, (1,) * count, core, examination.box)
    for found, name, own in zip(maps_of_labels, label_names, labels[count:], strict=True):
        prepared = _with_labels(prepared, found, examination.labels(found, core, own or ()), name, names[0])
    return prepared


def _with_labels(prepared: Prepared, found: sitk.Image, channels: Tensor, name: str, first: str) -> Prepared:
    """With a label map's channels on the core, cut to what the images show, behind the others."""
    grid, core, source = prepared.grid, prepared.core, Grid.of(found)
    seen = torch.stack([placed(channel, core, grid) for channel in channels]) * prepared.inside
    way: LinearMap = prepared.maps[0]
    if not same_grid(source, prepared.sources[0]):
        way = linear_map(source, core)
        way = way if grid == core else Reframed(way, core, grid)
        if not way.inside.any():
            raise _apart(name, first)
    return replace(
        prepared,
        tensor=torch.cat([prepared.tensor, seen[None]], dim=1),
        sources=(*prepared.sources, source),
        maps=(*prepared.maps, way),
        widths=(*prepared.widths, len(channels)),
    )


def _fitted(grid: Grid, wanted: Preprocessing, least: Sequence[int]) -> Grid:
    grid = fitted(grid, wanted.size, wanted.size_multiple, wanted.minimum_size)
    return fitted(grid, None, minimum_size=least[::-1])


def _reframed(tensor: Tensor, maps: Maps, grid: Grid, frame: Grid) -> tuple[Tensor, Maps]:
    """[C, D, H, W] cut or grown from `grid` to `frame` by whole voxels, and the maps to there."""
    if grid == frame:
        return tensor, maps
    return torch.stack([placed(channel, grid, frame) for channel in tensor]), tuple(
        Reframed(way, grid, frame) for way in maps
    )


def _cropped(
    tensor: Tensor, maps: Maps, core: Grid, wanted: Preprocessing, least: Sequence[int], name: str
) -> tuple[Tensor, Maps, Grid]:
    """The box around the foreground of [C, D, H, W] and its margin, then brought to the card's size; on what grid."""
    crop = wanted.crop or {}
    start, size = bounding_box(foreground(list(tensor), crop), crop.get("margin", 0), name, beyond=True)
    box = cut(core, start, size)
    visible = overlap(core, box)
    tensor, maps = _reframed(tensor, maps, core, visible)
    grid = _fitted(box, wanted, least)
    tensor, maps = _reframed(tensor, maps, visible, grid)
    return tensor, maps, grid


def _check(wanted: Preprocessing) -> None:
    check_steps(wanted.intensity)
    if wanted.interpolation == "cubic" and wanted.spacing is not None and wanted.resampling != "extent-rounded":
        raise UserError(
            'The card asks for cubic interpolation, which goes with the resampling "extent-rounded" alone: correct one.'
        )
    if needs_foreground(wanted) and not wanted.intensity_first:
        raise UserError(
            "The card asks for statistics over the foreground, which is that of the volume's own voxels: set"
            ' "intensity_first" in it.'
        )


def _check_overlap(maps: Maps, names: Sequence[str]) -> None:
    for way, name in zip(maps, names, strict=True):
        if not way.inside.any():
            raise _apart(name, names[0])


def _apart(name: str, first: str) -> UserError:
    return UserError(f"'{name}' does not overlap '{first}' in patient space: choose volumes of one examination.")
