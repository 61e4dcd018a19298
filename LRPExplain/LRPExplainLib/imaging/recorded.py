"""Regions as explanation.json records them, for showing again where was asked."""

from collections.abc import Callable, Mapping
from typing import Any

from ..errors import UserError
from .regions import Box, Points, Region
from .segmentation import read_segment


def region_of(target: Mapping[str, Any]) -> Region | None:
    """The region of an explanation's `target`; None for a question without one.

    Raises:
        UserError: its segmentation came from memory, or its file has gone or changed.
    """
    reader = _READERS.get(target["where"])
    return reader(target["region"]) if reader else None


def _segment(values: Mapping[str, Any]) -> Region:
    if values["file"] is None:
        raise UserError(f"The segment '{values['segment']}' was given from memory: it cannot be shown again.")
    segment = read_segment(values["file"], values["chosen"])
    if segment.sha256 != values["sha256"]:
        raise UserError(f"The segmentation '{values['file']}' has changed since it was asked about: ask again.")
    return segment


_READERS: dict[str, Callable[[Mapping[str, Any]], Region]] = {
    "segment": _segment,
    "box": lambda values: Box(values["centre_ras"], values["size_mm"], values["axes_ras"]),
    "points": lambda values: Points(tuple(values["points_ras"])),
}
