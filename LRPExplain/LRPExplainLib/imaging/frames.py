"""DICOM files of many frames, as Enhanced CT and MR are: each frame says by itself where it lies and what it means.

GDCM takes the first two frames' geometry and rescaling for all of them, in whatever order they are stored, so pydicom
reads these files. It is optional: without it they are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from ..errors import UserError, reason
from .grid import Grid
from .series import Placed, finite, stack_problem

if TYPE_CHECKING:
    from pydicom import Dataset

_SAME_SPACING = 1e-4  # in mm


@dataclass(frozen=True)
class Frame:
    """What a frame says of itself.

    Attributes:
        placed: where it lies.
        spacing: between columns and between rows in mm; None where it does not say.
        step, thickness: to the next slice, and of this one, in mm; None where it does not say.
        rescale: (slope, intercept) from stored to real values.
    """

    placed: Placed
    spacing: tuple[float, float] | None
    step: float | None
    thickness: float | None
    rescale: tuple[float, float]


def read_frames(path: Path) -> sitk.Image:
    """The volume that the frames of a file make, in the order in which they lie.

    Raises:
        UserError: pydicom is missing, the file is damaged, or its frames are no straight and even stack.
    """
    dataset = open_dicom(path)
    frames = frames_of(dataset, path)
    if len({frame.spacing for frame in frames}) > 1:
        raise UserError(f"The DICOM file '{path}' has frames of several voxel sizes, which are no volume: split it.")
    order = np.argsort(along_normal(frames), kind="stable")
    frames = [frames[n] for n in order]
    problem = stack_problem([frame.placed for frame in frames], frames[0].spacing or (1.0, 1.0))
    if problem is not None:
        raise UserError(f"The DICOM file '{path}' {problem}.")
    depths = along_normal(frames)
    grid = frame_grid(frames[0], len(frames), float(np.ptp(depths)) / (len(frames) - 1), dataset, path)
    return grid.image(_rescaled(pixels_of(dataset, path)[order], [frame.rescale for frame in frames]))


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
        UserError: the file is damaged.
    """
    count = int(dataset.get("NumberOfFrames") or 1)
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
        UserError: the frames do not say how large a voxel is.
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
    return Grid(
        (int(dataset.Columns), int(dataset.Rows), count),
        (*first.spacing, step),
        (x, y, z),
        tuple((axes / np.linalg.norm(axes, axis=0)).ravel().tolist()),
    )


def _frame(dataset: Dataset, n: int) -> Frame:
    def told(sequence: str, name: str, count: int) -> NDArray[np.float64] | None:
        group = said_of_frame(dataset, n, sequence)
        value = None if group is None else group.get(name)
        return None if value is None else finite(value, count)

    measures = "PixelMeasuresSequence"
    spacing = told(measures, "PixelSpacing", 2)
    step, thickness = told(measures, "SpacingBetweenSlices", 1), told(measures, "SliceThickness", 1)
    meaning = "PixelValueTransformationSequence"
    slope, intercept = told(meaning, "RescaleSlope", 1), told(meaning, "RescaleIntercept", 1)
    return Frame(
        Placed(
            told("PlanePositionSequence", "ImagePositionPatient", 3),
            told("PlaneOrientationSequence", "ImageOrientationPatient", 6),
        ),
        None if spacing is None or not (spacing > 0).all() else (float(spacing[1]), float(spacing[0])),
        None if step is None else abs(float(step[0])) or None,
        None if thickness is None else abs(float(thickness[0])) or None,
        (1.0 if slope is None else float(slope[0]), 0.0 if intercept is None else float(intercept[0])),
    )


def _rescaled(values: NDArray[Any], rescales: Sequence[tuple[float, float]]) -> NDArray[Any]:
    """Real values: as stored where nothing is to be done, whole numbers where they stay whole."""
    if set(rescales) == {(1.0, 0.0)}:
        return values
    slopes, intercepts = np.asarray(rescales).T[..., None, None]
    kind = np.int64 if not np.any([slopes % 1, intercepts % 1]) else np.float64
    real = values.astype(kind) * slopes.astype(kind) + intercepts.astype(kind)
    return real.astype(np.int32 if kind is np.int64 else np.float32)
