"""Groups of maps: spectral clustering of a nearest-neighbour graph, as spectral relevance analysis does it.

The graph joins each map to its nearest ones in Euclidean distance (Lapuschkin 2019), weighted by exp(-d^2 / (s_i s_j))
with s the distance to the third neighbour (L. Zelnik-Manor, P. Perona, Self-tuning spectral clustering, NIPS 2004), so
that a small tight group is not held to a loose one by the neighbours it has to have. The number of groups is where the
eigenvalues of the normalised Laplacian have their widest gap; rows of the eigenvectors at length 1 are grouped by
k-means (A. Ng, M. Jordan, Y. Weiss, NIPS 2001; U. von Luxburg, Statistics and Computing 17, 2007).
"""

from dataclasses import dataclass
from math import ceil, sqrt

import numpy as np
from scipy.sparse.csgraph import laplacian

from ..errors import UserError
from ..seeds import check_seed

MOST = 10  # groups that are looked for
_NEAR = 1.5  # neighbours, in square roots of the number of maps; chosen on planted groups, see benchmarks/cohort.py
_SCALE = 3  # which neighbour's distance is a map's own scale
_ALIKE = 1e-6  # of the largest distance: maps this close are the same
_EXACT = 1000  # up to so many points t-SNE is computed without approximation


@dataclass(frozen=True)
class Groups:
    """Which group each map is in.

    Attributes:
        labels: int [N], from 0.
        eigenvalues: the lowest of the normalised Laplacian, ascending, one more than groups were looked for.
        neighbours: of each map in the graph.
    """

    labels: np.ndarray
    eigenvalues: np.ndarray
    neighbours: int


def require_sklearn() -> None:
    """Ask for scikit-learn before anything is computed.

    Raises:
        UserError: it is not installed.
    """
    try:
        import sklearn  # noqa: F401
    except ImportError:
        raise UserError(
            "The cohort view needs the package scikit-learn: install it with 'pip install scikit-learn'."
        ) from None


def distances(maps: np.ndarray) -> np.ndarray:
    """Euclidean, float64 [N, N], of maps [N, ...]."""
    from sklearn.metrics import pairwise_distances

    rows = maps.reshape(len(maps), -1).astype(np.float64)
    return pairwise_distances(rows - rows.mean(axis=0))


def group(apart: np.ndarray, number: int | None = None, neighbours: int | None = None, seed: int = 0) -> Groups:
    """Group maps by their distances.

    Args:
        apart: [N, N].
        number: of groups; None: where the eigenvalues have their widest gap.
        neighbours: of each map in the graph; None: 1.5 times the square root of N, rounded up. A group of fewer
            maps is found where it is much tighter than its distance from the others.
        seed: of k-means.

    Raises:
        UserError: more groups than maps, a number below 1, or a seed that is none.
    """
    from sklearn.cluster import KMeans

    check_seed(seed)
    count = len(apart)
    if number is not None and not 1 <= number <= count:
        raise UserError(f"{number} clusters cannot be made of {count} explanations: choose a number from 1 to {count}.")
    if neighbours is not None and neighbours < 1:
        raise UserError(f"Each map has 1 neighbour at least, not {neighbours}.")
    near = min(count - 1, neighbours or ceil(_NEAR * sqrt(count)))
    values, vectors = np.linalg.eigh(laplacian(_affinity(apart, near), normed=True))
    values = np.clip(values, 0, None)
    most = max(1, min(MOST, count // 2))
    found = number or int(np.argmax(np.diff(values[: most + 1]))) + 1
    rows = vectors[:, :found]
    rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(float).tiny)
    labels = KMeans(found, n_init=20, random_state=seed).fit_predict(rows) if found > 1 else np.zeros(count, int)
    return Groups(labels, values[: max(most, found) + 1], near)


def embed(apart: np.ndarray, seed: int = 0) -> np.ndarray:
    """The maps in a plane, near each other as they are alike: t-SNE (L. van der Maaten, G. Hinton, JMLR 9, 2008).

    Returns:
        float64 [N, 2], within -1 to 1. Distances between groups mean nothing, as always with t-SNE.

    Raises:
        UserError: a seed that is none.
    """
    from sklearn.manifold import TSNE

    check_seed(seed)
    count = len(apart)
    if not apart.any():
        return np.zeros((count, 2))
    plane = TSNE(
        perplexity=min(30.0, (count - 1) / 3), metric="precomputed", init="random", random_state=seed,
        method="exact" if count <= _EXACT else "barnes_hut",
    ).fit_transform(apart / apart.max())  # fmt: skip
    plane = plane - (plane.max(axis=0) + plane.min(axis=0)) / 2
    return plane.astype(np.float64) / max(float(np.abs(plane).max()), np.finfo(float).tiny)


def _affinity(apart: np.ndarray, neighbours: int) -> np.ndarray:
    """Symmetric weights [N, N] of the graph; 0 where neither is among the nearest of the other."""
    count = len(apart)
    others = apart + np.diag(np.full(count, np.inf))
    order = np.argsort(others, axis=1, kind="stable")[:, :neighbours]
    largest = float(apart.max()) or 1.0
    scale = np.take_along_axis(others, order, axis=1)[:, min(_SCALE, neighbours) - 1]
    scale = np.maximum(scale, _ALIKE * largest)
    rows = np.arange(count)[:, None]
    weights = np.zeros((count, count))
    weights[rows, order] = np.exp(-(apart[rows, order] ** 2) / (scale[rows] * scale[order]))
    return np.maximum(weights, weights.T)
