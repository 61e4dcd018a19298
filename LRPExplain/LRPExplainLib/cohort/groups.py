"""Spectral clustering of maps, and what sets a cluster apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh
from scipy.sparse.csgraph import laplacian
from scipy.spatial.distance import cdist

from ..errors import UserError

MOST = 10  # clusters that the eigengap may choose
ODD_OVERLAP = 0.5
_NEIGHBOUR = 7


@dataclass(frozen=True, eq=False)
class Groups:
    """
    Attributes:
        labels: of each map, 0 for the largest cluster.
        eigenvalues: the smallest ones of the normalised Laplacian, ascending, at most `MOST` + 1.
        places: [maps, 2], where t-SNE puts each map in a picture; near ones are alike.
        neighbours: the how-manieth neighbour tells each map's own scale.
    """

    labels: np.ndarray
    eigenvalues: np.ndarray
    places: np.ndarray
    neighbours: int

    @property
    def count(self) -> int:
        return int(self.labels.max()) + 1


def group(maps: np.ndarray, clusters: int | None = None, seed: int = 0) -> Groups:
    """Cluster maps [n, cells], each divided by the sum of its magnitudes first.

    Affinity falls off with the squared Euclidean distance in units of both maps' own scales, the distances of their
    seventh neighbours (Zelnik-Manor and Perona 2004). None for `clusters`: as many as there are eigenvalues before
    the largest gap (von Luxburg 2007; Lapuschkin 2019). On planted groups this found their number where joining each
    map to its nearest neighbours alone split broad groups.

    Raises:
        UserError: scikit-learn is missing, or there are not as many maps as clusters.
    """
    try:
        from sklearn.cluster import SpectralClustering
        from sklearn.manifold import TSNE
    except ImportError:
        raise UserError("Clustering needs scikit-learn, which is not installed: pip install scikit-learn.") from None
    n = len(maps)
    if clusters is not None and not 1 <= clusters < n:
        raise UserError(f"{n} maps cannot be put into {clusters} clusters: choose from 1 to {n - 1}.")
    normed = normalised(maps)
    neighbours = min(_NEIGHBOUR, n - 1)
    affinity = _affinity(cdist(normed, normed), neighbours)
    values = eigh(laplacian(affinity, normed=True), eigvals_only=True)[: MOST + 1]
    count = clusters or gap_after(values)
    if count == 1:
        labels = np.zeros(n, dtype=int)
    else:
        found = SpectralClustering(count, affinity="precomputed", random_state=seed).fit_predict(affinity)
        labels = _largest_first(found)
    tsne = TSNE(perplexity=min(30.0, (n - 1) / 3), init="pca", random_state=seed)
    return Groups(labels, np.clip(values, 0, None), tsne.fit_transform(normed), neighbours)


def _affinity(distance: np.ndarray, neighbours: int) -> np.ndarray:
    scale = np.maximum(np.sort(distance, axis=1)[:, neighbours], np.finfo(float).tiny)
    found = np.exp(-(distance**2) / np.outer(scale, scale))
    np.fill_diagonal(found, 0)
    return np.asarray(found)


def normalised(maps: np.ndarray) -> np.ndarray:
    """Maps [n, ...] as [n, cells], each over the sum of its magnitudes."""
    flat = maps.reshape(len(maps), -1)
    return np.asarray(flat / np.abs(flat).sum(axis=1, keepdims=True))


def gap_after(eigenvalues: np.ndarray) -> int:
    """How many eigenvalues there are before the largest gap."""
    return int(np.diff(eigenvalues).argmax()) + 1


def overlap_with_rest(normed: np.ndarray, inside: np.ndarray) -> float:
    """How much of the positive relevance of a cluster's mean map lies where the others' mean map has its own, 0..1.

    Args:
        normed: [n, cells], see `normalised`.
        inside: bool [n]: the members of the cluster. Of all or none it is 1.
    """
    if inside.all() or not inside.any():
        return 1.0
    ours, theirs = (np.clip(normed[chosen].mean(axis=0), 0, None) for chosen in (inside, ~inside))
    if not ours.sum() or not theirs.sum():
        return 0.0
    return float(np.minimum(ours / ours.sum(), theirs / theirs.sum()).sum())


def is_odd(overlap: float, share: float) -> bool:
    """Whether a cluster that holds this share of the cohort looks elsewhere than the rest."""
    return overlap < ODD_OVERLAP and share <= 0.5


def central(normed: np.ndarray, inside: np.ndarray, count: int) -> list[int]:
    """The members of a cluster that are nearest to its mean."""
    members = np.flatnonzero(inside)
    distance = np.linalg.norm(normed[members] - normed[members].mean(axis=0), axis=1)
    return [int(members[n]) for n in np.argsort(distance, kind="stable")[:count]]


def _largest_first(labels: np.ndarray) -> np.ndarray:
    found, counts = np.unique(labels, return_counts=True)
    order = found[np.argsort(-counts, kind="stable")]
    return np.array([int(np.flatnonzero(order == label)[0]) for label in labels])
