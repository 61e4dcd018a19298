"""Labels on a grid: what their segments are called, and whether whole numbers are labels at all.

Many images hold their grey levels as whole numbers too.

How many values there are and how large they are tells nothing: an atlas has hundreds of labels, up to 14175 in
FreeSurfer's. But labels fill regions, so that most neighbours share theirs, while grey levels change from voxel to
voxel. Of neighbours within slices the same value had 2 to 38 % in brains as stored, in 8 bits and smoothed, and 61 to
96 % in 100 to 1000 parcels of a cortex at 4 to 1 mm. Few values are never taken for an image: there may be little else
in a cut-out.
"""

from collections.abc import Sequence

import numpy as np

Table = dict[str, tuple[int, int]]  # name of a segment -> (layer, label value)
_FEW = 20  # labels
_ALIKE = 0.5  # of neighbours, at least
_SLICES = 64  # are looked at, evenly spread


def told_apart(segments: Sequence[tuple[str, int]]) -> list[str]:
    """Names for segments, of which each has a name and a number; names that several have, or that are empty, tell their
    numbers too."""
    names = [name for name, _ in segments]
    return [name if name and names.count(name) == 1 else f"{name or 'segment'} ({number})" for name, number in segments]


def looks_grey(labels: np.ndarray) -> bool:
    """Whether these are more likely the grey levels of an image than labels.

    Args:
        labels: whole numbers [k, j, i]; 0 and the most frequent value are background and not looked at.
    """
    slices = labels[:: max(1, len(labels) // _SLICES)]
    values, counts = np.unique(slices, return_counts=True)
    if len(values) <= _FEW:
        return False
    shown = (slices != 0) & (slices != values[counts.argmax()])
    pairs = alike = 0
    for here, there in ((np.s_[:, 1:], np.s_[:, :-1]), (np.s_[:, :, 1:], np.s_[:, :, :-1])):
        both = shown[here] & shown[there]
        pairs += int(both.sum())
        alike += int((both & (slices[here] == slices[there])).sum())
    return alike < _ALIKE * pairs
