"""DICOM Segmentation objects: frames of segments, each with its place, as label layers on one grid.

Read as an image they would be a stack of whatever frames there are, one segment's behind the other's, with all planes
left out that are empty.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from .dicom_frame import Frame, understood
from .dicom_frames import along_normal, frame_grid, frames_of, open_dicom, pixels_of, said_of_frame
from .grid import Grid
from .labels import Table, told_apart
from .series import on_one_line

if TYPE_CHECKING:
    from pydicom import Dataset

# Segmentation and Label Map Segmentation Storage; the head of a file, which is never compressed, names its class.
_CLASSES = (b"1.2.840.10008.5.1.4.1.1.66.4", b"1.2.840.10008.5.1.4.1.1.66.7")
_HEAD, _MARK = 512, slice(128, 132)
# Of what a fractional segment may hold, this share counts as inside.
_INSIDE = 0.5
# Gaps between frames may differ from whole steps by this share of a step; frames that lie this close are at one place.
_OFF, _SAME_PLACE_MM = 0.05, 0.01


def is_segmentation(path: Path) -> bool:
    """Whether this file is one; False too where it cannot be read, which whoever reads it says."""
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD)
    except OSError:
        return False
    return head[_MARK] == b"DICM" and any(each in head for each in _CLASSES)


def read_dicom_segments(path: Path) -> tuple[Grid, NDArray[Any], Table]:
    """Its grid; labels [k, j, i, layer], a segment's number being its label value; and the names of the segments.

    Raises:
        UserError: pydicom is missing, the file is damaged, or its frames do not lie on one grid.
    """
    dataset = open_dicom(path)
    with understood(path):
        return _segments(dataset, path)


def _segments(dataset: Dataset, path: Path) -> tuple[Grid, NDArray[Any], Table]:
    frames = frames_of(dataset, path)
    grid, places = _places(frames, dataset, path)
    pixels, numbers = pixels_of(dataset, path), _numbers(dataset, len(frames))
    if str(dataset.get("SegmentationType", "")) == "LABELMAP":
        if len(set(places)) < len(places):
            raise _twice(path)
        labels = np.zeros(grid.shape, pixels.dtype)
        labels[places] = pixels
        return grid, labels[..., None], {name: (0, number) for name, number in _names(dataset).items()}
    if None in numbers:
        raise UserError(f"The segmentation '{path}' does not say which segment its frames are of: export it again.")
    if len(set(zip(numbers, places, strict=True))) < len(places):
        raise _twice(path)
    found = pixels >= _INSIDE * max(1, int(dataset.get("MaximumFractionalValue") or 1))
    layers: list[NDArray[Any]] = []
    table = {}
    for name, number in _names(dataset).items():
        own = [n for n, each in enumerate(numbers) if each == number]
        mask = np.zeros(grid.shape, bool)
        mask[[places[n] for n in own]] = found[own]
        layer = next((n for n, taken in enumerate(layers) if not taken[mask].any()), len(layers))
        if layer == len(layers):
            layers.append(np.zeros(grid.shape, np.uint16))
        layers[layer][mask] = number
        table[name] = (layer, number)
    if not layers:
        raise UserError(f"The segmentation '{path}' describes no segment: export it again.")
    return grid, np.stack(layers, axis=-1), table


def _places(frames: list[Frame], dataset: Dataset, path: Path) -> tuple[Grid, list[int]]:
    """The grid on which all frames lie, and on which of its slices each does; empty slices may have none."""
    depths = along_normal(frames)
    order = np.argsort(depths, kind="stable")
    first = frames[order[0]]
    gaps = np.diff(depths[order])
    apart = gaps > _SAME_PLACE_MM
    counts = np.zeros(len(gaps), int)
    found = _counts(gaps[apart], first.step)
    if found is None or not on_one_line([frame.placed for frame in frames], first.spacing or (1.0, 1.0)):
        raise UserError(
            f"The frames of the segmentation '{path}' do not lie on one grid in the patient: export it on the grid of"
            " its series, or give it as .seg.nrrd or NIfTI."
        )
    counts[apart] = found
    slices = np.zeros(len(frames), int)
    slices[order[1:]] = np.cumsum(counts)
    last = int(counts.sum())
    step = float(np.ptp(depths)) / last if last else first.step or first.thickness or 1.0
    return frame_grid(first, last + 1, step, dataset, path), slices.tolist()


def _counts(gaps: NDArray[np.float64], told: float | None) -> NDArray[Any] | None:
    """How many slices further the next frame lies, at each gap in mm, with slices as far apart as was told, or else as
    the nearest frames are; None: neither fits."""
    if not len(gaps):
        return np.zeros(0, int)
    for step in (told, float(gaps.min())):
        counts = np.rint(gaps / step).astype(int) if step else np.zeros(1, int)
        if counts.min() >= 1:
            exact = gaps.sum() / counts.sum()  # what is told is rounded, which adds up over many slices
            if np.abs(gaps - counts * exact).max() <= _OFF * exact:
                return counts
    return None


def _numbers(dataset: Dataset, count: int) -> list[int | None]:
    """Of which segment each frame is."""
    found = [said_of_frame(dataset, n, "SegmentIdentificationSequence") for n in range(count)]
    return [None if each is None else int(each.get("ReferencedSegmentNumber") or 0) or None for each in found]


def _names(dataset: Dataset) -> dict[str, int]:
    """Name -> number of each segment."""
    told = [(str(entry.get("SegmentLabel") or ""), int(entry.get("SegmentNumber") or 0))
            for entry in dataset.get("SegmentSequence") or ()]  # fmt: skip
    numbered = [(label, number) for label, number in told if number > 0]
    return dict(zip(told_apart(numbered), [number for _, number in numbered], strict=True))


def _twice(path: Path) -> UserError:
    return UserError(
        f"The segmentation '{path}' has several frames of one segment at one place, as points in time: export one of"
        " them alone."
    )
