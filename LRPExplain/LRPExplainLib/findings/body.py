"""What of a volume is the body, and what is air around it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from .field import Field

GRID_MM = 4.5  # the body is sought on a grid of about this size
# Between the darkest value and Otsu's threshold, which separates bright from dark tissue rather than tissue from air
_LEVEL = 0.5
# What is at least this bright, between the darkest value and the body's median, is no noise of air
_BRIGHT = 0.5
# A model sees through a window: relevance may lie this far outside the skin without meaning anything
MARGIN_MM = 6.0
# CT knows nothing darker than the first; one value below, as -2000 or -3024 outside the scanner's circle, is padding.
# What is darker than the second is air.
_DARKEST_HU, _AIR_HU = -1024.0, -900.0


@dataclass(frozen=True)
class Thing:
    """Something bright in the air around the body: a marker, an annotation, a device, the table.

    Attributes:
        share: of the |relevance|, on it and within `MARGIN_MM` of it, as far as that is outside the body (0..1).
        density: the share over that of the field of view's volume; 1 is what chance would give.
        ml: its volume, on a grid of about `GRID_MM`.
        away_mm: its distance from the body.
    """

    share: float
    density: float
    ml: float
    away_mm: float


@dataclass(frozen=True)
class Air:
    """What of a map lies in the air around the body.

    Attributes:
        share: of the |relevance|, outside the body and more than `MARGIN_MM` away from it (0..1).
        thing: what holds most of that, if anything bright is there.
    """

    share: float
    thing: Thing | None


def relevance_outside(relevance: Field, volume: Field) -> Air | None:
    """How much of the relevance lies in air, and on what there.

    Both fields are on the same grid. None where no air can be told from the body (no air, or an even volume).
    """
    image, factors = _coarse(volume)
    body = _body(image, _through(volume))
    if body is None:
        return None
    away = _distance(body)
    air = sitk.GetArrayViewFromImage(away) > MARGIN_MM
    if not air.any():
        return None
    weights = block_sums(np.abs(relevance.values), factors)
    whole = float(weights.sum()) or 1.0
    values = sitk.GetArrayViewFromImage(image)
    tissue = float(np.median(values[sitk.GetArrayViewFromImage(body) > 0]))
    bright = image > float(values.min()) + _BRIGHT * (tissue - float(values.min()))
    return Air(float(weights[air].sum()) / whole, _thing(bright, away, weights / whole))


def tissue(volume: Field) -> NDArray[np.floating]:
    """Intensities of the body, on the coarse grid; of all that there is where no air can be told from it."""
    image, _ = _coarse(volume)
    body, values = _body(image, _through(volume)), sitk.GetArrayFromImage(image)
    return values.ravel() if body is None else values[sitk.GetArrayViewFromImage(body) > 0]


def padding_of(values: NDArray[np.floating]) -> NDArray[np.bool_] | None:
    """Where a CT was not scanned, as outside the scanner's circle; None: everywhere it was."""
    darker = values < _DARKEST_HU
    return darker if darker.any() and np.ptp(values[darker]) == 0 else None


def _coarse(volume: Field) -> tuple[sitk.Image, list[int]]:
    """The volume on a grid of about `GRID_MM`, with air in the place of padding; how many voxels a step is along i, j,
    k."""
    factors = [max(1, round(GRID_MM / step)) for step in volume.spacing]
    step = tuple(slice(None, None, factor) for factor in factors[::-1])
    values = np.array(volume.values[step], np.float32)
    padding = padding_of(values)
    if padding is not None:
        air = values[~padding & (values < _AIR_HU)]  # as noisy as it is, which the corners are asked for
        values[padding] = np.resize(air, padding.sum()) if air.size else _DARKEST_HU
    image = sitk.GetImageFromArray(values)
    image.SetSpacing([s * f for s, f in zip(volume.spacing, factors, strict=True)])
    return image, factors


def _thing(bright: sitk.Image, away: sitk.Image, weights: NDArray[np.float64]) -> Thing | None:
    """The thing in the air that holds most of the weights; what is close together, as letters are, is one."""
    air = away > MARGIN_MM
    things = bright & air
    around = sitk.ConnectedComponent((_distance(things) <= MARGIN_MM) & air)
    label = sitk.GetArrayViewFromImage(around).ravel()
    share = np.bincount(label, weights=weights.ravel())
    share[0] = 0.0
    most = int(share.argmax())
    if not share[most]:
        return None
    its = (label == most) & (sitk.GetArrayViewFromImage(things).ravel() > 0)
    ml = float(its.sum() * np.prod(bright.GetSpacing())) / 1000
    density = float(share[most] / (label == most).mean())
    return Thing(float(share[most]), density, ml, float(sitk.GetArrayViewFromImage(away).ravel()[its].min()))


def block_sums(values: NDArray[np.floating], factors: list[int]) -> NDArray[np.float64]:
    """Sums over blocks of ``factors`` voxels along i, j, k (the last ones may be smaller): [D/fk, H/fj, W/fi]."""
    result: NDArray[np.floating] = values
    for axis, factor in enumerate(factors[::-1]):
        whole = result.shape[axis] // factor * factor
        parts = [_along(result, axis, slice(n, whole, factor)) for n in range(factor)]
        total = sum(parts[1:], start=parts[0])  # adding strided views is much faster than np.add.reduceat
        if whole < result.shape[axis]:
            rest = _along(result, axis, slice(whole, None)).sum(axis=axis, keepdims=True)
            total = np.concatenate([total, rest], axis=axis)
        result = total
    return np.asarray(result, np.float64)


def _along(values: NDArray[np.floating], axis: int, part: slice) -> NDArray[np.floating]:
    return values[(slice(None),) * axis + (part,)]


def _through(volume: Field) -> int:
    """Across which of the array's axes lie the slices that show the body closed: of an X-ray the one there is, else
    from foot to head, as the lungs of a chest are open where the volume ends and at the windpipe."""
    if 1 in volume.values.shape:
        return volume.values.shape.index(1)
    upwards = np.abs(volume.ijk_to_ras[2, :3]) / volume.spacing
    return 2 - int(upwards.argmax())


def _body(image: sitk.Image, through: int) -> sitk.Image | None:
    """The largest part that is brighter than air, without holes, also in the slices across an axis of the array; None
    in an even volume, and where no corner is air."""
    values = sitk.GetArrayViewFromImage(image)
    low, high = float(values.min()), float(np.percentile(values, 99.5))
    if not high > low:
        return None
    clipped = sitk.Clamp(image, sitk.sitkFloat32, low, high)  # metal and vessels would draw the threshold up
    otsu = sitk.OtsuThresholdImageFilter()
    otsu.Execute(clipped)
    level = low + _LEVEL * (otsu.GetThreshold() - low)
    corners = _darkest_corners(values)
    if float(np.median(corners)) > level:  # an X-ray of the chest may show nothing but the chest
        return None
    noise = float(np.percentile(corners, 99.5))
    mask = clipped > min(max(level, noise), max(otsu.GetThreshold(), level))
    labels = sitk.RelabelComponent(sitk.ConnectedComponent(mask), sortByObjectSize=True)
    return _filled(sitk.BinaryFillhole(labels == 1), through)


def _filled(mask: sitk.Image, through: int) -> sitk.Image:
    """Without holes in the slices across an axis of the array: all at once, with a wall between any two of them."""
    slices = np.moveaxis(sitk.GetArrayFromImage(mask), through, 0)
    walled = np.ones((2 * len(slices) + 1, *slices.shape[1:]), slices.dtype)
    walled[1::2] = slices
    filled = sitk.GetArrayFromImage(sitk.BinaryFillhole(sitk.GetImageFromArray(walled)))[1::2]
    result = sitk.GetImageFromArray(np.moveaxis(filled, 0, through))
    result.CopyInformation(mask)
    return result


def _distance(mask: sitk.Image) -> sitk.Image:
    """From the mask in mm; negative inside."""
    return sitk.SignedMaurerDistanceMap(mask, squaredDistance=False, useImageSpacing=True)


def _darkest_corners(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """The voxels of the four darkest of the eight corners, which are air if there is any."""
    sides = [(slice(0, max(1, size // 8)), slice(size - max(1, size // 8), size)) for size in values.shape]
    corners = [values[k, j, i].ravel() for k in sides[0] for j in sides[1] for i in sides[2]]
    darkest = sorted(corners, key=lambda corner: float(np.median(corner)))[:4]
    return np.concatenate(darkest)
