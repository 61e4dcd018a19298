"""DICOM files whose frames are a stack: they say where the first frame lies, and how far from it the others do.

RT Dose by PS3.3 C.8.8.3.2, reconstructed Nuclear Medicine by C.8.4.8 and C.8.4.15.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from .dicom_frame import Frame, rescale_of, spacing_of, told
from .series import Placed

if TYPE_CHECKING:
    from pydicom import Dataset

_UPRIGHT = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
_SAME_MM = 1e-3
_SLICES = 0x00540080  # the tag of NM's Slice Vector


def rt_dose(dataset: Dataset, count: int, path: Path) -> list[Frame]:
    """The planes of a dose grid, in the dose's units.

    Raises:
        UserError: it does not say where they lie, or what its values mean.
    """
    placed = _first(dataset)
    offsets, scaling = told(dataset, "GridFrameOffsetVector", count), told(dataset, "DoseGridScaling", 1)
    if placed is None or offsets is None or scaling is None:
        raise UserError(
            f"The dose '{path}' does not say where each of its planes lies, or what its values mean: export it again."
        )
    position, orientation = placed
    if abs(offsets[0]) > _SAME_MM:  # then they are patient coordinates, which the standard has for axial planes alone
        axial = np.allclose(orientation, _UPRIGHT, rtol=0, atol=_SAME_MM)
        if not axial or abs(offsets[0] - position[2]) > _SAME_MM:
            raise UserError(
                f"The dose '{path}' says in no way that DICOM knows where its planes lie (Grid Frame Offset Vector):"
                " export it again, or give it as NIfTI or NRRD."
            )
        offsets = offsets - offsets[0]
    return _stacked(dataset, position, orientation, offsets, (float(scaling[0]), 0.0))


def nuclear_medicine(dataset: Dataset, count: int, path: Path) -> list[Frame]:
    """The slices of a reconstructed volume.

    Raises:
        UserError: it is none, as projections and gated volumes are, or does not say where its slices lie.
    """
    pointer = dataset.get("FrameIncrementPointer")
    tags = [int(tag) for tag in (pointer if isinstance(pointer, Sequence) else [pointer] if pointer else ())]
    if list(dataset.get("ImageType") or ())[2:3] != ["RECON TOMO"] or tags != [_SLICES]:
        raise UserError(
            f"'{path}' is Nuclear Medicine, but no reconstructed volume of one point in time, so its frames are no"
            " slices: give a reconstruction (RECON TOMO)."
        )
    detectors = [_first(item) for item in dataset.get("DetectorInformationSequence") or ()]
    placed = [each for each in detectors if each is not None]
    numbers, step = told(dataset, "SliceVector", count), told(dataset, "SpacingBetweenSlices", 1)
    if not placed or step is None or step[0] == 0 or _differ(placed):
        raise UserError(
            f"The reconstruction '{path}' does not say where its slices lie (the detector's Image Position and"
            " Orientation, or Spacing Between Slices is missing): give it as NIfTI or NRRD."
        )
    if numbers is None or (numbers != np.arange(1, count + 1)).any():
        raise UserError(  # the position is the first frame's, which then need not be the first slice
            f"The slices of the reconstruction '{path}' are not stored in their order (Slice Vector): give it as NIfTI"
            " or NRRD."
        )
    offsets = np.arange(count) * step[0]  # below 0 they are stacked against the normal
    return _stacked(dataset, *placed[0], offsets, rescale_of(dataset))


# Storage class -> its frames, given how many there are
STACKS: dict[str, Callable[[Dataset, int, Path], list[Frame]]] = {
    "1.2.840.10008.5.1.4.1.1.481.2": rt_dose,
    "1.2.840.10008.5.1.4.1.1.20": nuclear_medicine,
}

_Place = tuple[NDArray[np.float64], NDArray[np.float64]]  # of the first frame: position, orientation


def _first(group: Dataset) -> _Place | None:
    position, orientation = told(group, "ImagePositionPatient", 3), told(group, "ImageOrientationPatient", 6)
    return None if position is None or orientation is None else (position, orientation)


def _differ(places: Sequence[_Place]) -> bool:
    return any(np.abs(np.concatenate(one) - np.concatenate(places[0])).max() > _SAME_MM for one in places)


def _stacked(
    dataset: Dataset,
    position: NDArray[np.float64],
    orientation: NDArray[np.float64],
    offsets: NDArray[np.float64],
    rescale: tuple[float, float],
) -> list[Frame]:
    """Frames so many mm along the normal of the first one's plane."""
    normal, spacing = np.cross(orientation[:3], orientation[3:]), spacing_of(dataset)
    return [
        Frame(Placed(position + offset * normal, orientation), spacing, rescale=rescale) for offset in offsets.tolist()
    ]
