"""Slicer's markups files (.mrk.json): a box from an ROI, points from a point list."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from .regions import Box, Points, Region

# What turns the file's coordinates into RAS; old files number their coordinate system.
_TO_RAS = {"RAS": (1.0, 1.0, 1.0), "LPS": (-1.0, -1.0, 1.0), "0": (1.0, 1.0, 1.0), "1": (-1.0, -1.0, 1.0)}
# A markups file is text of a few kilobytes; more than this is something else.
_LARGEST = 64 << 20


def read_markups(path: str | os.PathLike[str]) -> Region:
    """The region that a markups file describes: its first ROI or point list.

    Raises:
        UserError: no such file, not JSON, not markups, no ROI or point list in it, or not in mm.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"There is no markups file '{path}': check the path.")
    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError("it is too large")
        markups = json.loads(path.read_text(encoding="utf-8"))["markups"]
        kinds = [str(entry["type"]) for entry in markups]
        found = next((entry for entry in markups if entry["type"] in _READERS), None)
        if found is not None:
            return _READERS[found["type"]](found, path)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"'{path}' is no markups file of Slicer's that can be read ({_reason(error)}): save the ROI or the points"
            " as .mrk.json again."
        ) from error
    raise UserError(
        f"'{path}' holds {', '.join(kinds) or 'nothing'}, but an ROI or a point list is needed: choose one."
    )


def _box(entry: Mapping[str, Any], path: Path) -> Box:
    sign = _signs(entry, path)
    if entry.get("insideOut", False):
        raise UserError(f"The ROI in '{path}' is inside out: turn that off, or draw what is meant.")
    axes = np.reshape(np.asarray(entry.get("orientation", np.diag(sign)), dtype=float), (3, 3)) * sign[:, None]
    centre = np.asarray(entry["center"], dtype=float) * sign
    return Box(tuple(centre.tolist()), tuple(entry["size"]), tuple(axes.ravel().tolist()))


def _points(entry: Mapping[str, Any], path: Path) -> Points:
    sign = _signs(entry, path)
    placed = [point for point in entry["controlPoints"] if point.get("positionStatus", "defined") == "defined"]
    if not placed:
        raise UserError(f"The point list in '{path}' holds no placed point: place one at least.")
    positions = [np.asarray(point["position"], dtype=float) * sign for point in placed]
    return Points(tuple(tuple(position.tolist()) for position in positions))


_READERS: dict[str, Callable[[Mapping[str, Any], Path], Box | Points]] = {"ROI": _box, "Fiducial": _points}


def _signs(entry: Mapping[str, Any], path: Path) -> np.ndarray:
    system, units = str(entry.get("coordinateSystem", "LPS")), entry.get("coordinateUnits", "mm")
    units = units[0] if isinstance(units, list) and units else units  # coded as [value, scheme, meaning]
    if system not in _TO_RAS:
        raise UserError(f"The markups in '{path}' are in the coordinate system '{system}': save them in LPS or RAS.")
    if units != "mm":
        raise UserError(f"The markups in '{path}' are in '{units}': save them in mm.")
    return np.array(_TO_RAS[system])


def _reason(error: Exception) -> str:
    return f"it has no {error}" if isinstance(error, KeyError) else str(error).splitlines()[0] if str(error) else "?"
