"""The way in, from volumes to the model's input tensor, and the way back for relevance and labels.

    crop ("first") -> [intensity, if first] -> orientation, axes, spacing -> crop ("resampled") -> size
      -> [intensity, if not first] -> crop ("last")

Relevance goes back by the adjoint of that way: none for what was cropped away, all of it onto voxels that the network
saw, but for what sat on padding, which is named.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from ..errors import UserError
from .foreground import bounding_box, foreground
from .grid import Grid, Size, core_grid, cut, fitted, same_grid
from .intensity import normalise_all
from .resampling import Cropped, LinearMap, linear_map, nearest
from .splines import resize, separate_axis


class Preprocessing(Protocol):
    """What a model asks of its input; `models.card.Preprocessing` is one."""

    @property
    def orientation(self) -> str | None: ...
    @property
    def axes(self) -> Sequence[str] | None: ...
    @property
    def spacing(self) -> Sequence[float | None] | None: ...
    @property
    def size(self) -> Sequence[int] | None: ...
    @property
    def size_multiple(self) -> int: ...
    @property
    def resampling(self) -> str: ...
    @property
    def interpolation(self) -> str: ...
    @property
    def intensity(self) -> Sequence[Mapping[str, Any]]: ...
    @property
    def intensity_first(self) -> bool: ...
    @property
    def crop(self) -> Mapping[str, Any] | None: ...


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
        seen = labels.detach().cpu().to(torch.uint8) * self.inside
        found = nearest(seen, self.grid, self.sources[0])
        return self.sources[0].image(found.numpy())


def prepare(
    volumes: Sequence[sitk.Image], preprocessing: Preprocessing, names: Sequence[str] | None = None
) -> Prepared:
    """Bring volumes into the model's space, in the order that the head of this file gives.

    The first volume sets the grid and the box; further ones are interpolated to it wherever they lie in patient space
    (always linearly, unless they share the first one's grid). Intensity statistics are taken over the voxels in a
    volume's field of view: the model's voxels, or the volume's own in the box where intensities come first (all of
    its own for a volume on another grid than the first one's).

    Args:
        volumes: checked 3D scalar images, in the order of the model's channels.
        names: how errors call them.

    Raises:
        UserError: a volume does not overlap the first one or has no foreground, its intensities cannot be scaled, or
            the wishes contradict each other.
    """
    names = [f"volume {n}" for n in range(1, len(volumes) + 1)] if names is None else names
    wanted = preprocessing
    _check(wanted)
    when = wanted.crop.get("when", "first") if wanted.crop else None
    examination = _Examination(volumes, wanted, names)
    if when == "first":
        examination.crop()
    if wanted.intensity_first:
        examination.normalise()
    core = examination.core()
    grid = core if when in ("resampled", "last") else fitted(core, wanted.size, wanted.size_multiple)
    maps = examination.maps(core, grid)
    tensor = examination.tensor(core, grid, maps)
    if when == "resampled":
        tensor, grid = _cropped(tensor, grid, wanted, names[0])
        maps = examination.maps(core, grid)
    if not wanted.intensity_first:
        seen = [channel[way.inside] for channel, way in zip(tensor, maps, strict=True)]
        scaled = normalise_all(seen, wanted.intensity, names, [None] * len(names))
        for channel, way, values in zip(tensor, maps, scaled, strict=True):
            channel[way.inside] = values
    if when == "last":
        tensor, grid = _cropped(tensor, grid, wanted, names[0])
        maps = examination.maps(core, grid)
    return Prepared(tensor[None], grid, examination.sources, examination.from_sources(maps))


def _cropped(tensor: Tensor, grid: Grid, wanted: Preprocessing, name: str) -> tuple[Tensor, Grid]:
    """The box of [C, D, H, W] around the foreground of its channels, brought to the card's size."""
    crop = wanted.crop or {}
    start, size = bounding_box(foreground(list(tensor), crop), crop.get("margin", 0), name, beyond=True)
    box = fitted(cut(grid, start, size), wanted.size, wanted.size_multiple)
    way = linear_map(grid, box)
    return torch.stack([way.forward(channel) for channel in tensor]), box


class _Examination:
    """The volumes on their own grids, or the boxes that are left of them."""

    def __init__(self, volumes: Sequence[sitk.Image], wanted: Preprocessing, names: Sequence[str]) -> None:
        self.sources = tuple(Grid.of(volume) for volume in volumes)
        self._wanted, self._names = wanted, names
        self._voxels = [_voxels(volume) for volume in volumes]
        self._first = self.sources[0]
        self._shared = [same_grid(self._first, source) for source in self.sources]
        self._box: tuple[Size, Size] | None = None

    def crop(self) -> None:
        """Keep the box around the foreground; volumes on another grid than the first one's stay whole."""
        first, rule = self.sources[0], self._wanted.crop or {}
        on_first = [
            voxels if shared else linear_map(source, first).forward(voxels)
            for voxels, source, shared in zip(self._voxels, self.sources, self._shared, strict=True)
        ]
        start, size = bounding_box(foreground(on_first, rule), rule.get("margin", 0), self._names[0], beyond=False)
        box = tuple(slice(begin, begin + n) for begin, n in zip(reversed(start), reversed(size), strict=True))
        self._box, self._first = (start, size), cut(first, start, size)
        self._voxels = [
            voxels[box] if shared else voxels for voxels, shared in zip(self._voxels, self._shared, strict=True)
        ]

    def normalise(self) -> None:
        """Intensity steps on the voxels that are left; volumes that share a grid have their foreground in common."""
        masks: list[Tensor | None] = [None] * len(self._voxels)
        if _needs_foreground(self._wanted):
            rule = self._wanted.crop or {"nonzero": True}
            common = foreground([voxels for voxels, shared in self._each() if shared], rule)
            masks = [common if shared else foreground([voxels], rule) for voxels, shared in self._each()]
        self._voxels = normalise_all(self._voxels, self._wanted.intensity, self._names, masks)

    def core(self) -> Grid:
        """What is left of the first volume, oriented and in the model's voxels."""
        wanted = self._wanted
        return core_grid(self._first, wanted.orientation, wanted.spacing, wanted.axes, wanted.resampling)

    def maps(self, core: Grid, grid: Grid) -> tuple[LinearMap, ...]:
        """From what is left of each volume to a grid that holds (some of) the voxels of `core`."""
        widened = self._wanted.interpolation != "linear"
        common = linear_map(self._first, grid, widened, core)
        maps = []
        for source, shared, name in zip(self.sources, self._shared, self._names, strict=True):
            way = common if shared else linear_map(source, grid)
            if not way.inside.any():
                raise UserError(
                    f"'{name}' does not overlap '{self._names[0]}' in patient space: choose volumes of one examination."
                )
            maps.append(way)
        return tuple(maps)

    def from_sources(self, maps: Sequence[LinearMap]) -> tuple[LinearMap, ...]:
        """The same maps from the whole volumes."""
        if self._box is None:
            return tuple(maps)
        start, size = self._box
        return tuple(
            Cropped(way, source, start, size) if shared else way
            for way, source, shared in zip(maps, self.sources, self._shared, strict=True)
        )

    def tensor(self, core: Grid, grid: Grid, maps: Sequence[LinearMap]) -> Tensor:
        """float32 [C, D, H, W]: the volumes on the model's grid, 0 outside their field of view."""
        cubic = self._wanted.interpolation == "cubic"
        place = linear_map(core, grid)
        return torch.stack([
            place.forward(self._splined(voxels, core)) if cubic and shared else way.forward(voxels)
            for way, (voxels, shared) in zip(maps, self._each(), strict=True)
        ])  # fmt: skip

    def _splined(self, voxels: Tensor, core: Grid) -> Tensor:
        turned = core_grid(self._first, self._wanted.orientation, None, self._wanted.axes)
        wanted = self._wanted.spacing or turned.spacing
        steps = [own if step is None else step for own, step in zip(turned.spacing, wanted, strict=True)]
        separate = separate_axis(turned.spacing[::-1], steps[::-1])
        return resize(linear_map(self._first, turned).forward(voxels), core.shape, separate)

    def _each(self) -> list[tuple[Tensor, bool]]:
        return list(zip(self._voxels, self._shared, strict=True))


def _check(wanted: Preprocessing) -> None:
    if wanted.interpolation == "cubic" and wanted.spacing is not None and wanted.resampling != "extent-rounded":
        raise UserError(
            'The card asks for cubic interpolation, which goes with the resampling "extent-rounded" alone: correct one.'
        )
    if _needs_foreground(wanted) and not wanted.intensity_first:
        raise UserError(
            "The card asks for statistics over the foreground, which is that of the volume's own voxels: set"
            ' "intensity_first" in it.'
        )


def _needs_foreground(wanted: Preprocessing) -> bool:
    return any(step.get("foreground", False) for step in wanted.intensity)


def _voxels(volume: sitk.Image) -> Tensor:
    return torch.from_numpy(sitk.GetArrayViewFromImage(volume).astype(np.float32))
