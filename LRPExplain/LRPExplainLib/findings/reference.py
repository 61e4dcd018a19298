"""Segments of a reference segmentation on the map's grid, and how much relevance each holds."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..sentences import Sentences
from .field import Field, Index
from .steps import finished


@dataclass(frozen=True, eq=False)
class Layer:
    """Segments that do not overlap: label values on the map's grid [D, H, W] (0: none) and the names of the values."""

    labels: NDArray[np.integer]
    names: Mapping[int, str]


@dataclass(frozen=True, eq=False)
class Reference:
    """A segmentation on the grid of the map.

    Attributes:
        layers: as many as its segments overlap.
        judges: whether relevance ought to be in it; not so for what the model itself predicts.
    """

    layers: tuple[Layer, ...]
    judges: bool = True

    def names_at(self, index: Index) -> list[str]:
        """The segments that hold a voxel (i, j, k)."""
        values = [(layer, int(layer.labels[index[::-1]])) for layer in self.layers]
        return [layer.names[value] for layer, value in values if value in layer.names]


@dataclass(frozen=True)
class Share:
    """Relevance of one segment (or of what is outside all of them).

    Attributes:
        positive, negative: sums of the relevance of each sign (negative: <= 0).
        share: part of the map's |relevance| (0..1).
        ml: volume.
        density: share of relevance over share of the field of view's volume; 1 is what chance would give.
    """

    name: str
    positive: float
    negative: float
    share: float
    ml: float
    density: float


OUTSIDE = Sentences("findings.reference")("outside")
_SIGNS = (np.maximum, np.minimum)  # with 0: what is positive, what is negative


def shares_of(field: Field, reference: Reference) -> list[Share]:
    """One row for each segment, in the order of the segmentation, and a last one named "outside" for what is in none.

    Where segments overlap, a voxel counts for each of them, so that rows may add up to more than the whole.
    """
    return finished(shares_in_steps(field, reference))


def shares_in_steps(field: Field, reference: Reference) -> Generator[None, None, list[Share]]:
    """`shares_of` in steps, for who has other things to do in between."""
    values = np.ascontiguousarray(field.values, np.float32).ravel()
    whole = float(np.abs(values).sum(dtype=np.float64))
    count_all = values.size

    def row(name: str, positive: float, negative: float, voxels: int) -> Share:
        share = (positive - negative) / whole if whole else 0.0
        density = share / (voxels / count_all) if voxels else 0.0
        return Share(name, positive, negative, share, voxels * field.voxel_ml, density)

    rows = []
    uncovered = np.ones(values.shape, bool)
    for layer in reference.layers:
        yield
        where = np.flatnonzero(layer.labels)
        labels, inside = np.asarray(layer.labels).ravel()[where], values[where]
        length = max([*layer.names, int(labels.max(initial=0))], default=0) + 1
        voxels = np.bincount(labels, minlength=length)
        positive, negative = (np.bincount(labels, weights=sign(inside, 0), minlength=length) for sign in _SIGNS)
        rows += [row(name, float(positive[n]), float(negative[n]), int(voxels[n])) for n, name in layer.names.items()]
        known = np.zeros(length, bool)
        known[list(layer.names)] = True
        uncovered[where[known[labels]]] = False
    outside = []
    for sign in _SIGNS:
        yield
        outside.append(float(sign(values, 0).sum(dtype=np.float64, where=uncovered)))
    return [*rows, row(OUTSIDE, outside[0], outside[1], int(uncovered.sum()))]
