"""Whether spectral clustering finds the planted groups, and with which graph: `LRPExplainLib.cohort.groups` and others.

    .venv/bin/python -m benchmarks.cohort [--cohorts 8]

A map is relevance on a lesion somewhere in the head, or on a marker in a corner, over relevance spread across the head;
all on a lattice of blocks as `lrpexplain cohort` makes it. Told is, of each kind of cohort, in how many the number of
clusters was that of the planted groups, and in how many a cluster mixed lesions and markers.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from math import ceil, log, sqrt

import numpy as np
from LRPExplainLib.cohort.groups import distances, group

LATTICE = (18, 24, 20)  # blocks [k, j, i]
KINDS = ((16, 6), (20, 10), (12, 12), (24, 4), (24, 0), (40, 20), (40, 5))  # lesions, markers
SPREAD = (0.1, 0.3, 0.6)  # how much of a map's relevance is spread over the head, by turns
MARKER, HEAD = np.array((15.5, 20.5, 17.5)), np.array((9.0, 12.0, 10.0))
MOST = 10

Affinity = Callable[[np.ndarray], np.ndarray]  # distances -> weights of the graph
Labelling = Callable[[np.ndarray], np.ndarray]  # distances -> labels


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cohorts", type=int, default=8, help="of each kind (%(default)s)")
    options = parser.parse_args()
    print(f"Right number of clusters / cohorts with a mixed cluster, of {options.cohorts} (lesions + markers)\n")
    heads = ["graph", *(f"{lesions} + {markers}" for lesions, markers in KINDS)]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    cohorts = {kind: [planted(*kind, seed) for seed in range(options.cohorts)] for kind in KINDS}
    for name, labels_of in GRAPHS.items():
        cells = [f"{right} / {mixed}" for right, mixed in (counts(cohorts[kind], labels_of) for kind in KINDS)]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def planted(lesions: int, markers: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Distances between the maps of a cohort, and which of them are on the marker."""
    rng = np.random.default_rng((seed, lesions, markers))
    spread = SPREAD[seed % len(SPREAD)]
    maps = []
    for n in range(lesions + markers):
        place = HEAD + rng.uniform(-5, 5, 3) if n < lesions else MARKER + rng.uniform(-0.7, 0.7, 3)
        head = bell(HEAD, 4.5) * (1 + 0.5 * rng.standard_normal(LATTICE))
        spot = bell(place, rng.uniform(0.8, 1.6))
        one = (1 - spread) * spot / spot.sum() + spread * head / np.abs(head).sum()
        maps.append(one / np.abs(one).sum())
    return distances(np.array(maps)), np.arange(lesions + markers) >= lesions


def bell(centre: np.ndarray, width: float) -> np.ndarray:
    place = np.moveaxis(np.indices(LATTICE), 0, -1)
    return np.exp(-np.sum((place - centre) ** 2, axis=-1) / (2 * width**2))


def counts(cohorts: list[tuple[np.ndarray, np.ndarray]], labels_of: Labelling) -> tuple[int, int]:
    right = mixed = 0
    for apart, marked in cohorts:
        labels = labels_of(apart)
        right += len(set(labels)) == len(set(marked))
        mixed += any(len(set(marked[labels == label])) > 1 for label in set(labels))
    return right, mixed


def by(affinity: Affinity) -> Labelling:
    """Labels by another graph, with the rest as in `group`."""
    from scipy.sparse.csgraph import laplacian
    from sklearn.cluster import KMeans

    def labels_of(apart: np.ndarray) -> np.ndarray:
        values, vectors = np.linalg.eigh(laplacian(affinity(apart), normed=True))
        number = int(np.argmax(np.diff(values[: min(MOST, len(apart) // 2) + 1]))) + 1
        rows = vectors[:, :number] / np.maximum(np.linalg.norm(vectors[:, :number], axis=1, keepdims=True), 1e-12)
        return KMeans(number, n_init=20, random_state=0).fit_predict(rows)

    return labels_of


def nearest(neighbours: Callable[[int], int]) -> Affinity:
    """Each map joined to its nearest ones, all joints alike, as spectral relevance analysis was published."""

    def affinity(apart: np.ndarray) -> np.ndarray:
        order = np.argsort(apart + np.diag(np.full(len(apart), np.inf)), axis=1)[:, : neighbours(len(apart))]
        joined = np.zeros(apart.shape)
        np.put_along_axis(joined, order, 1, axis=1)
        return np.maximum(joined, joined.T)

    return affinity


def everywhere(neighbour: int) -> Affinity:
    """All maps joined, in units of their own scales."""

    def affinity(apart: np.ndarray) -> np.ndarray:
        scale = np.sort(apart, axis=1)[:, min(neighbour, len(apart) - 1)]
        joined = np.exp(-(apart**2) / np.outer(scale, scale))
        np.fill_diagonal(joined, 0)
        return joined

    return affinity


GRAPHS: dict[str, Labelling] = {
    "ours": lambda apart: group(apart).labels,
    "log N nearest, alike": by(nearest(lambda n: ceil(log(n)))),
    "√N nearest, alike": by(nearest(lambda n: ceil(sqrt(n)))),
    "10 nearest, alike": by(nearest(lambda n: 10)),
    "all, scale of the 7th": by(everywhere(7)),
    "all, scale of the 3rd": by(everywhere(3)),
}

if __name__ == "__main__":
    main()
