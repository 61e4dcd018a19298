"""What sets a group of maps apart from what most explanations do."""

from dataclasses import dataclass

import numpy as np

# L. Kaufman, P. Rousseeuw, Finding groups in data, 1990: above this a silhouette shows a reasonable structure.
STRUCTURE = 0.5


@dataclass(frozen=True)
class Figures:
    """Of one group beside the largest one.

    Attributes:
        silhouette: mean over its maps of (b - a) / max(a, b), where a is the mean distance to the other maps of the
            group and b to those of the largest one (P. Rousseeuw, J. Comput. Appl. Math. 20, 1987, with the largest
            group as the neighbour): 1 for a tight group far away, 0 for one that lies among the others. None for the
            largest group itself and for a group of one.
        elsewhere: how much of its mean relevance (by magnitude) lies where the largest group's mean has none: 1 minus
            the sum over blocks of the lower of both shares; None for the largest group.
        alike: how much of a map's relevance (by magnitude) lies where the mean of the group's others has it, as a mean
            over its maps; None for a group of one.
        odd: its silhouette is above `STRUCTURE`, or it stands alone.
    """

    silhouette: float | None
    elsewhere: float | None
    alike: float | None
    odd: bool


def largest(labels: np.ndarray, apart: np.ndarray) -> int:
    """The label of the largest group; of several as large the loosest: a shortcut repeats itself, patients vary."""
    members = {int(label): np.flatnonzero(labels == label) for label in np.unique(labels)}
    return max(members, key=lambda label: (len(members[label]), apart[np.ix_(members[label], members[label])].sum()))


def figures(label: int, main: int, labels: np.ndarray, apart: np.ndarray, maps: np.ndarray) -> Figures:
    """The figures of a group.

    Args:
        label: its label, and that of the largest group.
        labels: [N].
        apart: distances [N, N].
        maps: [N, ...], each of summed magnitude 1.
    """
    own, others = labels == label, labels == main
    sizes = np.abs(maps.reshape(len(maps), -1))
    alike = _alike(sizes[own])
    if label == main:
        return Figures(None, None, alike, False)
    elsewhere = 1 - _shared(sizes[own].mean(axis=0), sizes[others].mean(axis=0))
    if own.sum() == 1:
        return Figures(None, elsewhere, None, True)
    within = apart[np.ix_(own, own)].sum(axis=1) / (own.sum() - 1)
    beyond = apart[np.ix_(own, others)].mean(axis=1)
    scale = np.maximum(np.maximum(within, beyond), np.finfo(float).tiny)
    silhouette = float(np.mean((beyond - within) / scale))
    return Figures(silhouette, elsewhere, alike, silhouette > STRUCTURE)


def typical(maps: np.ndarray) -> np.ndarray:
    """Indices of a group's maps, those nearest to its mean first."""
    rows = maps.reshape(len(maps), -1)
    return np.argsort(np.linalg.norm(rows - rows.mean(axis=0), axis=1), kind="stable")


def _alike(sizes: np.ndarray) -> float | None:
    if len(sizes) == 1:
        return None
    whole = sizes.sum(axis=0)
    return float(np.mean([_shared(one, whole - one) for one in sizes]))


def _shared(one: np.ndarray, other: np.ndarray) -> float:
    """The sum over blocks of the lower of both shares."""
    a, b = one / one.sum(dtype=np.float64), other / other.sum(dtype=np.float64)
    return float(np.clip(np.minimum(a, b).sum(), 0, 1))
