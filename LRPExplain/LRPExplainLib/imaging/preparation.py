"""The way in, from volumes to the model's input tensor, and the way back for relevance and labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from ..errors import UserError
from .grid import Grid, model_grid, refit
from .intensity import normalise
from .resampling import LinearMap, linear_map, nearest


class Preprocessing(Protocol):
    """What a model asks of its input; `models.card.Preprocessing` is one."""

    @property
    def orientation(self) -> str | None: ...
    @property
    def spacing(self) -> Sequence[float] | None: ...
    @property
    def size(self) -> Sequence[int] | None: ...
    @property
    def size_multiple(self) -> int: ...
    @property
    def intensity(self) -> Sequence[Mapping[str, Any]]: ...


@dataclass(frozen=True, eq=False)
class Prepared:
    """Volumes in the model's space.

    Attributes:
        tensor: float32 [1, C, D, H, W], one channel per volume; 0 outside a volume's field of view.
        grid: where the voxels of `tensor` are; all channels share it.
        sources: the grids of the volumes as they were given.
    """

    tensor: Tensor
    grid: Grid
    sources: tuple[Grid, ...]
    maps: tuple[LinearMap, ...]

    @property
    def inside(self) -> Tensor:
        """bool [D, H, W]: the model voxels in the first volume's field of view."""
        return self.maps[0].inside

    def relevance_to_source(self, relevance: Tensor) -> tuple[list[sitk.Image], list[float]]:
        """Carry relevance [1, C, D, H, W] back by the adjoint of the way in.

        Returns:
            One float32 image per volume, on exactly its grid; and per volume the relevance that sat on model voxels
            outside its field of view (padding). The two add up to the relevance given, to rounding.
        """
        images, outside = [], []
        for channel, source, way_in in zip(relevance[0].detach().float().cpu(), self.sources, self.maps, strict=True):
            images.append(source.image(way_in.adjoint(channel).numpy()))
            outside.append(float(channel.masked_select(~way_in.inside).sum(dtype=torch.float64)))
        return images, outside

    def labels_to_source(self, labels: Tensor) -> sitk.Image:
        """Labels [D, H, W] (0..255) on the first volume's grid, nearest neighbour; 0 where the model did not look."""
        found = nearest(labels.detach().cpu().to(torch.uint8), self.grid, self.sources[0])
        return self.sources[0].image(found.numpy())


def prepare(
    volumes: Sequence[sitk.Image],
    preprocessing: Preprocessing,
    names: Sequence[str] | None = None,
    least: Sequence[int] = (1, 1, 1),
) -> Prepared:
    """Bring volumes into the model's space: orientation, spacing, size, then intensity.

    The first volume sets the grid; further ones are interpolated to it wherever they lie in patient space. Intensity
    statistics are taken over the model voxels in a volume's field of view, after interpolation.

    Args:
        volumes: checked 3D scalar images, in the order of the model's channels.
        names: how errors call them.
        least: size [D, H, W] to which a smaller volume is padded (see `windows.least_size`).

    Raises:
        UserError: a volume does not overlap the first one, or its intensities cannot be scaled.
    """
    names = [f"volume {n}" for n in range(1, len(volumes) + 1)] if names is None else names
    sources = tuple(Grid.of(volume) for volume in volumes)
    wanted = preprocessing
    grid = model_grid(sources[0], wanted.orientation, wanted.spacing, wanted.size, wanted.size_multiple)
    grid = refit(grid, [max(n, m) for n, m in zip(grid.size, reversed(least), strict=True)])
    maps = tuple(linear_map(source, grid) for source in sources)
    tensor = torch.zeros((1, len(volumes), *grid.shape))
    for channel, volume, way_in, name in zip(tensor[0], volumes, maps, names, strict=True):
        if not way_in.inside.any():
            raise UserError(
                f"'{name}' does not overlap '{names[0]}' in patient space: choose volumes of one examination."
            )
        voxels = way_in.forward(_voxels(volume))
        channel[way_in.inside] = normalise(voxels[way_in.inside], wanted.intensity, name)
    return Prepared(tensor, grid, sources, maps)


def _voxels(volume: sitk.Image) -> Tensor:
    return torch.from_numpy(sitk.GetArrayViewFromImage(volume).astype(np.float32))
