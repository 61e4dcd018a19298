"""DICOM files of many frames: in Enhanced CT and MR each says by itself where it lies and what it means; in RT Dose and
reconstructed Nuclear Medicine (`dicom_stacks`) they are a stack.

GDCM takes the first two frames' geometry and rescaling for all of them, in whatever order they are stored, so pydicom
reads these files. It is optional: without it they are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from ..errors import UserError, reason
from .dicom_frame import Frame, rescale_of, spacing_of, told, understood
from .dicom_stacks import STACKS
from .grid import Grid
from .series import Placed, stack_problem

if TYPE_CHECKING:
    from pydicom import Dataset

_MOST_VOXELS = 1 << 31  # some ten times the largest volumes there are
_MOST_FRAMES = 1 << 20  # of a Segmentation there may be one for each segment and slice


def read_frames(path: Path) -> sitk.Image:
    """The volume that the frames of a file make, in the order in which they lie.

    Raises:
        UserError: pydicom is missing, the file is damaged, or its frames are no straight and even stack.
    """
    dataset = open_dicom(path)
    with understood(path):
        return _volume(dataset, frames_of(dataset, path), path)


def _volume(dataset: Dataset, frames: list[Frame], path: Path) -> sitk.Image:
    if len({frame.spacing for frame in frames}) > 1:
        raise UserError(f"The DICOM file '{path}' has frames of several voxel sizes, which are no volume: split it.")
    order = np.argsort(along_normal(frames), kind="stable")
    frames = [frames[n] for n in order]
    problem = stack_problem([frame.placed for frame in frames], frames[0].spacing or (1.0, 1.0))
    if problem is not None:
        raise UserError(f"The DICOM file '{path}' {problem}.")
    depths = along_normal(frames)
    grid = frame_grid(frames[0], len(frames), float(np.ptp(depths)) / (len(frames) - 1), dataset, path)
    values = _as_seen(pixels_of(dataset, path)[order], dataset)
    return grid.image(_rescaled(values, [frame.rescale for frame in frames]))


def open_dicom(path: Path) -> Dataset:
    """The file as pydicom reads it.

    Raises:
        UserError: pydicom is missing, or the file is damaged.
    """
    try:
        import pydicom
    except ImportError as error:
        raise UserError(
            f"'{path}' is a DICOM file of several frames, which pydicom is needed for: pip install pydicom, or give it"
            " as NIfTI or NRRD."
        ) from error
    try:
        return pydicom.dcmread(path, force=True)
    except Exception as error:  # of many kinds, from all over pydicom
        raise UserError(f"The DICOM file '{path}' is damaged ({reason(error)}): export it again.") from error


def pixels_of(dataset: Dataset, path: Path) -> NDArray[Any]:
    """Stored values [frame, row, column].

    Raises:
        UserError: they are cut off, in colour, or compressed by what pydicom has no decoder of.
    """
    try:
        values = dataset.pixel_array
    except Exception as error:  # of many kinds, each decoder's own
        raise UserError(
            f"The frames of '{path}' cannot be read ({reason(error)}): export the file uncompressed, or give it as"
            " NIfTI or NRRD."
        ) from error
    if dataset.get("SamplesPerPixel", 1) != 1:
        raise UserError(f"'{path}' is in colour, but a scalar volume is needed: extract one component first.")
    return values[None] if values.ndim == 2 else values


def frames_of(dataset: Dataset, path: Path) -> list[Frame]:
    """What each frame says of itself, in the order in which they are stored.

    Raises:
        UserError: the file is damaged, claims frames without end, or is of a kind whose frames are a stack and does not
            say which.
    """
    count = int(dataset.get("NumberOfFrames") or 1)
    if count > _MOST_FRAMES:
        raise UserError(f"The DICOM file '{path}' claims {count} frames, more than there are in any: export it again.")
    stacked = STACKS.get(str(dataset.get("SOPClassUID", "")))
    if stacked is not None:
        return stacked(dataset, count, path)
    if len(dataset.get("PerFrameFunctionalGroupsSequence") or [None] * count) != count:
        raise UserError(f"The DICOM file '{path}' is damaged (it does not describe each frame): export it again.")
    return [_frame(dataset, n) for n in range(count)]


def said_of_frame(dataset: Dataset, n: int, sequence: str) -> Dataset | None:
    """The item of a functional group that holds for frame `n`: its own, or else what all frames share."""
    own = dataset.get("PerFrameFunctionalGroupsSequence")
    for groups in (own[n] if own else None, *(dataset.get("SharedFunctionalGroupsSequence") or ())):
        found = groups.get(sequence) if groups is not None else None
        if found:
            return found[0]
    return None


def along_normal(frames: Sequence[Frame]) -> NDArray[np.float64]:
    """How far each frame lies along the normal of the first one's plane, in mm; zeros where one does not say."""
    positions, orientation = [frame.placed.position for frame in frames], frames[0].placed.orientation
    if orientation is None or any(position is None for position in positions):
        return np.zeros(len(frames))
    return np.asarray(positions) @ np.cross(orientation[:3], orientation[3:])


def frame_grid(first: Frame, count: int, step: float, dataset: Dataset, path: Path) -> Grid:
    """The grid of so many slices, a step in mm apart, of which this frame is the first.

    Raises:
        UserError: the frames do not say how large a voxel is, or the grid would be larger than any volume.
    """
    position, orientation = first.placed.position, first.placed.orientation
    if position is None or orientation is None or first.spacing is None or not step > 0:
        raise UserError(
            f"The DICOM file '{path}' does not say where its frames lie and how large their voxels are: give it as"
            " NIfTI or NRRD."
        )
    rows, columns = orientation.reshape(2, 3)
    axes = np.stack([rows, columns, np.cross(rows, columns)], axis=1)
    x, y, z = (float(value) for value in position)
    size = (int(dataset.Columns), int(dataset.Rows), count)
    if prod(size) > _MOST_VOXELS:
        raise UserError(
            f"The DICOM file '{path}' would fill {count} slices, more than any volume has: export it again."
        )
    return Grid(
        size,
        (*first.spacing, step),
        (x, y, z),
        tuple((axes / np.linalg.norm(axes, axis=0)).ravel().tolist()),
    )


def _frame(dataset: Dataset, n: int) -> Frame:
    measures = said_of_frame(dataset, n, "PixelMeasuresSequence")
    step, thickness = told(measures, "SpacingBetweenSlices", 1), told(measures, "SliceThickness", 1)
    return Frame(
        Placed(
            told(said_of_frame(dataset, n, "PlanePositionSequence"), "ImagePositionPatient", 3),
            told(said_of_frame(dataset, n, "PlaneOrientationSequence"), "ImageOrientationPatient", 6),
        ),
        spacing_of(measures),
        None if step is None else abs(float(step[0])) or None,
        None if thickness is None else abs(float(thickness[0])) or None,
        rescale_of(said_of_frame(dataset, n, "PixelValueTransformationSequence")),
    )


def _as_seen(values: NDArray[Any], dataset: Dataset) -> NDArray[Any]:
    """Stored values turned around where low ones are bright (MONOCHROME1), as GDCM does in files of one frame."""
    if dataset.get("PhotometricInterpretation") != "MONOCHROME1":
        return values
    highest = (1 << int(dataset.BitsStored)) - 1
    return (-1 if values.dtype.kind == "i" else highest) - values  # of both the largest becomes the smallest


def _rescaled(values: NDArray[Any], rescales: Sequence[tuple[float, float]]) -> NDArray[Any]:
    """Real values: as stored where nothing is to be done, whole numbers where they stay whole and are not too large."""
    if set(rescales) == {(1.0, 0.0)}:
        return values
    slopes, intercepts = np.asarray(rescales).T[..., None, None]
    real = values.astype(np.float64) * slopes + intercepts
    whole = not np.any([slopes % 1, intercepts % 1]) and np.abs(real).max(initial=0) <= np.iinfo(np.int32).max
    return real.astype(np.int32 if whole else np.float32)
