"""The relevance colour table: diverging, zero-centred, transparent around zero. Built as data.

Positive relevance runs from dark red to yellow, negative from dark blue to pale cyan, as in statistical maps of brain
imaging. Both arms have the same CIELAB lightness at the same magnitude, rising with it, so that on grey anatomy a
brighter voxel means more relevance whatever its sign, also to a reader who does not tell red from green.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

TABLE_NAME = "LRP relevance"
ENTRIES = 256
# Slice views show an alpha above zero as opaque: this half-width of the transparent band, as a share of the
# window's half-width, is therefore a two-sided threshold, and all softness comes from the layer's opacity.
TRANSPARENT_BAND = 0.1

# sRGB anchors (0..255) evenly spaced from the edge of the band to the end of the window; L* = 36, 48, 60, 72, 84, 94
POSITIVE = ((171, 3, 50), (227, 16, 35), (252, 90, 21), (253, 152, 43), (254, 203, 59), (249, 245, 28))
NEGATIVE = ((19, 50, 245), (27, 104, 245), (23, 150, 239), (28, 190, 248), (95, 226, 253), (166, 253, 255))


def relevance_colors(band: float = TRANSPARENT_BAND, entries: int = ENTRIES) -> NDArray[np.float64]:
    """The table as RGBA rows in 0..1, shape [entries, 4]; row 0 is the most negative value of the window.

    ``band`` in [0, 1) is the share of each arm that is transparent (alpha exactly 0).
    """
    if not 0 <= band < 1:
        raise ValueError(f"The transparent band is a share of the window in [0, 1), not {band}.")
    position = (np.arange(entries) + 0.5) / entries * 2 - 1
    along_arm = (np.abs(position) - band) / (1 - band)
    stops = np.linspace(0, 1, len(POSITIVE))
    arms = [
        np.stack([np.interp(along_arm, stops, channel) for channel in np.array(arm, float).T / 255], axis=1)
        for arm in (NEGATIVE, POSITIVE)
    ]
    colors = np.where(position[:, None] < 0, *arms)
    alpha = (along_arm >= 0).astype(float)
    return np.column_stack([colors, alpha])
