"""What a frame of a DICOM file says of itself, and how a file is asked: pydicom reads it piece by piece."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError, reason
from .series import Placed, finite

if TYPE_CHECKING:
    from pydicom import Dataset


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
    step: float | None = None
    thickness: float | None = None
    rescale: tuple[float, float] = (1.0, 0.0)


def told(group: Dataset | None, name: str, count: int) -> NDArray[np.float64] | None:
    """So many finite numbers that a group of elements tells under a name; None: it does not."""
    value = None if group is None else group.get(name)
    return None if value is None else finite(value, count)


def spacing_of(group: Dataset | None) -> tuple[float, float] | None:
    """Between columns and between rows in mm; DICOM tells rows first."""
    found = told(group, "PixelSpacing", 2)
    return None if found is None or not (found > 0).all() else (float(found[1]), float(found[0]))


def rescale_of(group: Dataset | None) -> tuple[float, float]:
    """Slope and intercept; those of stored values that are the real ones where nothing is told."""
    slope, intercept = told(group, "RescaleSlope", 1), told(group, "RescaleIntercept", 1)
    return 1.0 if slope is None else float(slope[0]), 0.0 if intercept is None else float(intercept[0])


@contextmanager
def understood(path: Path) -> Iterator[None]:
    """Say in one sentence that an element holds what it cannot: pydicom reads each when it is asked for.

    Raises:
        UserError: it does, or something that is always there is missing.
    """
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, NotImplementedError, TypeError, ValueError) as error:
        raise UserError(f"The DICOM file '{path}' is damaged ({reason(error)}): export it again.") from error
