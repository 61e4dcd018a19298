"""The volumes of an examination on their own grids, until they are brought to the model's voxels."""

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from . import stages
from .boxes import Cropped, placed
from .foreground import bounding_box, foreground
from .grid import Grid, core_grid, cut, same_grid
from .intensity import normalise_all
from .preprocessing import Preprocessing
from .resampling import LinearMap, linear_map, nearest
from .splines import resize, separate_axis

Maps = tuple[LinearMap, ...]


class Examination:
    """The volumes on their own grids, or the boxes that are left of them."""

    def __init__(self, volumes: Sequence[sitk.Image], wanted: Preprocessing, names: Sequence[str]) -> None:
        self.sources = tuple(Grid.of(volume) for volume in volumes)
        self._wanted, self._names = wanted, names
        self._voxels = [_voxels(volume) for volume in volumes]
        self._first = self.sources[0]
        self._shown: Tensor | None = None  # where any of them is not 0, in the box
        self._shared = [same_grid(self._first, source) for source in self.sources]

    def crop(self) -> None:
        """Keep the box around the foreground; volumes on another grid than the first one's stay whole."""
        first, rule = self.sources[0], self._wanted.crop or {}
        on_first = [
            voxels if shared else linear_map(source, first).forward(voxels)
            for (voxels, shared), source in zip(self._each(), self.sources, strict=True)
        ]
        mask = foreground(on_first, rule)
        start, size = bounding_box(mask, rule.get("margin", 0), self._names[0], beyond=False)
        self._first = cut(first, start, size)
        self._shown = placed(mask, first, self._first) if rule.get("nonzero", False) else None
        self._voxels = [placed(voxels, first, self._first) if shared else voxels for voxels, shared in self._each()]

    def normalise(self) -> None:
        """Intensity steps on the voxels that are left; volumes that share a grid have their foreground in common."""
        masks: list[Tensor | None] = [None] * len(self._voxels)
        if needs_foreground(self._wanted):
            rule = self._wanted.crop or {"nonzero": True}
            common = foreground([voxels for voxels, shared in self._each() if shared], rule)
            masks = [common if shared else foreground([voxels], rule) for voxels, shared in self._each()]
        self._voxels = normalise_all(self._voxels, self._wanted.intensity, self._names, masks)

    @property
    def box(self) -> Grid:
        """What is left of the first volume."""
        return self._first

    def labels(self, found: sitk.Image, core: Grid, values: Sequence[int]) -> Tensor:
        """The channels of a label map on `core`; see `stages.channels`."""
        wanted, whole = self._wanted, self.sources[0]
        own = placed(stages.on_grid(found, whole), whole, self._first)
        if wanted.spacing is not None and wanted.resampling != "extent-rounded":
            return stages.split(nearest(own, self._first, core), values)
        return stages.channels(own, self._first, core, values, wanted.orientation, wanted.spacing, self._shown)

    def core(self) -> Grid:
        """What is left of the first volume, oriented and in the model's voxels."""
        wanted = self._wanted
        return core_grid(self._first, wanted.orientation, wanted.spacing, wanted.resampling)

    def resampled(self, core: Grid) -> tuple[Tensor, Maps]:
        """float32 [C, D, H, W] on `core`, 0 outside a volume's field of view; and the maps from what is left of each
        volume, by whose adjoints relevance goes back."""
        cubic = self._wanted.interpolation == "cubic"
        common = linear_map(self._first, core, self._wanted.interpolation != "linear", continued=True)
        channels, maps = [], []
        for (voxels, shared), source in zip(self._each(), self.sources, strict=True):
            way = common if shared else linear_map(source, core)
            maps.append(way)
            channels.append(self._splined(voxels, core) if cubic and shared else way.forward(voxels))
        return torch.stack(channels), tuple(maps)

    def from_sources(self, maps: Maps) -> Maps:
        """The same maps from the whole volumes."""
        whole = self.sources[0]
        if self._first == whole:
            return maps
        return tuple(
            Cropped(way, whole, self._first) if shared else way for way, shared in zip(maps, self._shared, strict=True)
        )

    def _splined(self, voxels: Tensor, core: Grid) -> Tensor:
        turned = core_grid(self._first, self._wanted.orientation)
        wanted = self._wanted.spacing or turned.spacing
        steps = [own if step is None else step for own, step in zip(turned.spacing, wanted, strict=True)]
        separate = separate_axis(turned.spacing[::-1], steps[::-1])
        return resize(linear_map(self._first, turned).forward(voxels), core.shape, separate)

    def _each(self) -> list[tuple[Tensor, bool]]:
        return list(zip(self._voxels, self._shared, strict=True))


def needs_foreground(wanted: Preprocessing) -> bool:
    return any(step.get("foreground", False) for step in wanted.intensity)


def _voxels(volume: sitk.Image) -> Tensor:
    return torch.from_numpy(sitk.GetArrayViewFromImage(volume).astype(np.float32))
