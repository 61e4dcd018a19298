"""Connected regions of relevance above a level, each of one sign."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from .field import Field, Index
from .steps import finished

# voxels that touch by a face, an edge or a corner belong together, as in FSL's cluster
_FULLY_CONNECTED = True


@dataclass(frozen=True, eq=False)
class Clusters:
    """Regions in order of their |relevance|, strongest first; region n has the label n + 1.

    Attributes:
        labels: int32 [d, h, w], 0 where there is no region; a box cut out of the volume.
        start: the box's first voxel (i, j, k) in the volume.
        voxels, totals, peaks: of each region: number of voxels, sum of relevance, strongest value (with its sign).
        places: of each region, the voxel (i, j, k) of the strongest value; int [n, 3].
        dropped: a bool array like ``labels``: above the level, but in a region that is too small.
    """

    labels: NDArray[np.int32]
    start: Index
    voxels: NDArray[np.int64]
    totals: NDArray[np.float64]
    peaks: NDArray[np.float64]
    places: NDArray[np.int64]
    dropped: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.voxels)

    def of_at_least(self, ml: float, voxel_ml: float) -> Clusters:
        """The regions that are as large, with labels by their rank among these."""
        large = self.voxels * voxel_ml >= ml * (1 - 1e-9)
        if large.all():
            return self
        new = np.zeros(len(self) + 1, np.int32)
        new[1:][large] = np.arange(1, np.count_nonzero(large) + 1)
        labels = new[self.labels]
        return replace(
            self,
            labels=labels,
            voxels=self.voxels[large],
            totals=self.totals[large],
            peaks=self.peaks[large],
            places=self.places[large],
            dropped=(self.labels > 0) & (labels == 0),
        )

    @property
    def box(self) -> tuple[slice, slice, slice]:
        """The box as slices of the volume's array [D, H, W]."""
        k, j, i = (slice(s, s + n) for s, n in zip(self.start[::-1], self.labels.shape, strict=True))
        return k, j, i

    def at(self, index: Index) -> int:
        """The label of the region that holds a voxel (i, j, k); 0 for none."""
        place = tuple(n - s for n, s in zip(index, self.start, strict=True))[::-1]
        inside = all(0 <= n < size for n, size in zip(place, self.labels.shape, strict=True))
        return int(self.labels[place]) if inside else 0


def find_clusters(field: Field, level: float, sign: str = "both", minimum_ml: float = 0.0) -> Clusters:
    """Regions of at least ``minimum_ml`` whose voxels have |relevance| >= ``level`` (and > 0), each of one sign.

    ``sign``: "positive", "negative" or "both"; voxels of opposite sign never share a region.
    """
    return finished(regions_in_steps(field, level, sign)).of_at_least(minimum_ml, field.voxel_ml)


def regions_in_steps(field: Field, level: float, sign: str) -> Generator[None, None, Clusters]:
    """`find_clusters` of any size in steps, for who has other things to do in between."""
    values = field.values
    floor = max(level, float(np.finfo(np.float32).tiny))
    positive, negative = values >= floor, values <= -floor
    selected = {"positive": positive, "negative": negative, "both": positive | negative}[sign]
    box = _bounding_box(selected)
    start: Index = (box[2].start, box[1].start, box[0].start)
    inside, chosen = values[box], selected[box]
    raw = np.zeros(chosen.shape, np.int32)
    for arm in (positive[box] & chosen, negative[box] & chosen):
        yield
        if arm.any():
            found = sitk.ConnectedComponent(sitk.GetImageFromArray(arm.view(np.uint8)), _FULLY_CONNECTED)
            np.add(sitk.GetArrayViewFromImage(found), raw.max(), out=raw, where=arm, casting="unsafe")
    yield
    where = np.flatnonzero(raw)
    label, value = raw.ravel()[where], inside.ravel()[where].astype(np.float64)
    count = int(label.max(initial=0)) + 1
    voxels: NDArray[Any] = np.bincount(label, minlength=count)
    totals: NDArray[Any] = np.bincount(label, weights=value, minlength=count)
    ranked = 1 + np.argsort(-np.abs(totals[1:]), kind="stable")
    strongest = np.zeros(count)
    np.maximum.at(strongest, label, np.abs(value))
    peak_at = np.zeros(count, np.int64)
    is_peak = np.flatnonzero(np.abs(value) == strongest[label])[::-1]  # backwards: of equal ones the first stays
    peak_at[label[is_peak]] = where[is_peak]
    yield
    new = np.zeros(count, np.int32)
    new[ranked] = np.arange(1, count)
    places = np.stack(np.unravel_index(peak_at[ranked], chosen.shape)[::-1], axis=1) + start
    peaks = inside.ravel()[peak_at[ranked]].astype(np.float64)
    dropped = np.zeros(raw.shape, np.bool_)
    return Clusters(new[raw], start, voxels[ranked], totals[ranked], peaks, places, dropped)


def _bounding_box(mask: NDArray[np.bool_]) -> tuple[slice, slice, slice]:
    """Around all that is true; of one voxel where nothing is."""
    ranges = []
    for axes in ((1, 2), (0, 2), (0, 1)):
        hit = np.flatnonzero(mask.any(axis=axes))
        ranges.append(slice(int(hit[0]), int(hit[-1]) + 1) if len(hit) else slice(0, 1))
    return ranges[0], ranges[1], ranges[2]
