"""Colour maps of relevance: zero-centred tables, transparent around zero, built as data.

In the default map positive relevance runs from dark red to yellow, negative from dark blue to pale cyan, as in
statistical maps of brain imaging. Both arms have the same CIELAB lightness at the same magnitude, rising with it, so
that on grey anatomy a brighter voxel means more relevance whatever its sign, also to a reader who does not tell red
from green. In the maps of magnitude (inferno, viridis) both signs have the same colours.

Slicer maps a value v of the window [-w, w] to the row floor((v + w) / 2w * 255) (vtkImageMapToWindowLevelColors): row
127 is centred on zero, and rows 127 + n and 127 - n are its mirror images. The transparent band is a whole number of
rows, and `window_for` chooses the window such that its edge is exactly the threshold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

COLOR_TABLES = {"colors": "LRP relevance", "legendColors": "LRP relevance legend"}  # names by role
ENTRIES = 256
ZERO_ROW = 127
# Colour of what is transparent in the views, for the legend alone
_HIDDEN = 0.22

Stops = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class ColorMap:
    """sRGB anchors (0..255), evenly spaced from the threshold to the end of the window, for each sign."""

    negative: Stops
    positive: Stops


# L* of fire and ice = 36, 48, 60, 72, 84, 94
_FIRE: Stops = ((171, 3, 50), (227, 16, 35), (252, 90, 21), (253, 152, 43), (254, 203, 59), (249, 245, 28))
_ICE: Stops = ((19, 50, 245), (27, 104, 245), (23, 150, 239), (28, 190, 248), (95, 226, 253), (166, 253, 255))
_ORANGE: Stops = ((160, 72, 0), (196, 97, 0), (226, 128, 20), (248, 164, 72), (254, 203, 136), (255, 236, 205))
_PURPLE: Stops = ((104, 50, 150), (126, 82, 184), (147, 113, 208), (172, 147, 226), (204, 186, 241), (234, 226, 252))
_MAGENTA: Stops = ((170, 10, 105), (206, 44, 136), (230, 98, 166), (241, 150, 197), (248, 196, 223), (254, 235, 244))
_GREEN: Stops = ((40, 102, 24), (62, 132, 34), (92, 162, 56), (135, 192, 92), (183, 220, 147), (229, 245, 210))
_INFERNO: Stops = ((106, 23, 110), (147, 38, 103), (188, 55, 84), (229, 92, 48), (251, 155, 6), (252, 255, 164))
_VIRIDIS: Stops = ((71, 45, 123), (59, 82, 139), (44, 114, 142), (33, 165, 133), (108, 205, 90), (253, 231, 37))

FIRE_AND_ICE = "Fire and ice"
COLOR_MAPS: dict[str, ColorMap] = {
    FIRE_AND_ICE: ColorMap(_ICE, _FIRE),
    "Purple and orange": ColorMap(_PURPLE, _ORANGE),
    "Green and magenta": ColorMap(_GREEN, _MAGENTA),
    "Inferno (magnitude)": ColorMap(_INFERNO, _INFERNO),
    "Viridis (magnitude)": ColorMap(_VIRIDIS, _VIRIDIS),
}


def window_for(limit: float, peak: float, level: float) -> tuple[float, int]:
    """The half-width w of the window and the band b that show exactly |relevance| >= ``level``.

    ``limit`` is the half-width where nothing speaks against it; a high level widens the window towards ``peak``, so
    that there is room for colours above it. Rows 127 - b < n < 127 + b are transparent: |v| < w (2b - 1) / 255.
    """
    level *= 1 - 1e-5  # below zero the edge itself belongs to the band, and scene files keep six digits of the window
    wished = max(limit, min(peak, 2 * level))
    band = max(1, min(ZERO_ROW, round((level / wished * 255 + 1) / 2)))
    return (255 * level / (2 * band - 1) if level > wished / 255 else wished), band


def relevance_colors(band: int = 12, color_map: str = FIRE_AND_ICE, sign: str = "both") -> NDArray[np.float64]:
    """The table as RGBA rows in 0..1, shape [256, 4]; row 0 is the most negative value of the window.

    Less than ``band`` (1..127) rows from row 127, and where the sign is not shown, alpha is 0; elsewhere 1.
    """
    if not 1 <= band <= ZERO_ROW:
        raise ValueError(f"The transparent band is 1 to {ZERO_ROW} rows wide, not {band}.")
    away = np.arange(ENTRIES) - ZERO_ROW
    along_arm = np.clip((np.abs(away) - band) / max(ZERO_ROW - band, 1), 0, 1)
    shown = (np.abs(away) >= band) & {"both": away != 0, "positive": away > 0, "negative": away < 0}[sign]
    colors = np.where((away < 0)[:, None], *(arm_colors(color_map, negative, along_arm) for negative in (True, False)))
    return np.column_stack([np.where(shown[:, None], colors, _HIDDEN), shown.astype(float)])


def arm_colors(color_map: str, negative: bool, along_arm: NDArray[np.float64]) -> NDArray[np.float64]:
    """RGB (0..1) of one sign, ``along_arm`` running from 0 at the threshold to 1 at the end of the window: [n, 3]."""
    chosen = COLOR_MAPS[color_map]
    arm = np.array(chosen.negative if negative else chosen.positive, float) / 255
    stops = np.linspace(0, 1, len(arm))
    return np.stack([np.interp(along_arm, stops, channel) for channel in arm.T], axis=1)
