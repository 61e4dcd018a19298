"""Noisy linear imputation (Rong 2022): ours beside the sparse matrix that its authors and Quantus solve by SciPy.

    python -m benchmarks.imputation [--threads 1] [--shapes 96x112x96 1x2500x2048]

Blocks of 10 voxels of a smooth random volume are masked and filled in again, each time in a process of its own. Prints
a markdown table: seconds, the most memory that the process took beyond what it began with, and how far the results are
apart, in standard deviations of the volume.
"""

from __future__ import annotations

import argparse
import resource
from collections.abc import Callable
from itertools import product
from multiprocessing import get_context

import numpy as np
import torch
from LRPExplainLib.evaluation.imputation import imputed
from scipy.ndimage import gaussian_filter
from scipy.sparse import coo_matrix, csr_matrix, diags
from scipy.sparse.linalg import cg, spsolve

from .clock import seconds

Array = np.ndarray
_EDGE = 10


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Seconds and memory of one imputation.")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--shapes", nargs="*", default=["96x112x96", "192x224x192", "1x1024x800", "1x2500x2048"])
    parser.add_argument("--direct", type=int, default=200_000, help="most masked voxels that a direct solver is given")
    options = parser.parse_args(arguments)
    print(f"| volume | masked | {' | '.join(WAYS)} |\n|---|---|{'---|' * len(WAYS)}")
    for text, share in product(options.shapes, (0.1, 0.5, 0.9)):
        shape = tuple(int(n) for n in text.split("x"))
        cells, first = [], None
        for name in WAYS:
            count = int(_case(shape, share)[1].sum())
            if name == "direct" and count > options.direct:
                cells.append("")
                continue
            with get_context("spawn").Pool(1) as pool:
                time, memory, found = pool.apply(_measured, (name, shape, share, options.threads))
            first = found if first is None else first
            apart = "" if found is first else f", {np.abs(found - first).max() / first.std():.0e} apart"
            cells.append(f"{time:.2g} s, {memory / 2**20:.0f} MiB{apart}")
        print(f"| {text} | {share:.0%} | {' | '.join(cells)} |", flush=True)


def _measured(name: str, shape: tuple[int, ...], share: float, threads: int) -> tuple[float, int, Array]:
    torch.set_num_threads(threads)
    small, hole = _case((1, 20, 20), 0.5)
    WAYS[name](small, hole)  # what is imported and allocated once
    x, mask = _case(shape, share)
    found: list[Array] = []
    before = _resident()
    time = seconds(lambda: found.append(WAYS[name](x, mask)))
    return time, _resident() - before, found[0]


def _resident() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _case(shape: tuple[int, ...], share: float) -> tuple[Array, Array]:
    rng = np.random.default_rng(0)
    x = gaussian_filter(rng.normal(size=shape), [min(2, n - 1) for n in shape]).astype(np.float32)
    mask = rng.random([-(-n // _EDGE) for n in shape]) < share
    for axis, n in enumerate(shape):
        mask = mask.repeat(_EDGE, axis).take(np.arange(n), axis)
    return x, mask


def _by_matrix(solve: Callable[[csr_matrix, Array], Array]) -> Callable[[Array, Array], Array]:
    """One equation for each masked voxel, each of its neighbours an entry of a sparse matrix."""

    def filled(x: Array, mask: Array) -> Array:
        matrix, known = _equations(x, mask)
        result = x.copy()
        result[mask] = solve(matrix, known)
        return result

    return filled


def _equations(x: Array, mask: Array) -> tuple[csr_matrix, Array]:
    count = int(mask.sum())
    number = np.full(mask.shape, -1, dtype=np.int64)
    number[mask] = np.arange(count)
    known, weights = np.zeros(count), np.zeros(count)
    rows, columns, values = [], [], []
    for offset in product((-1, 0, 1), repeat=3):
        if not any(offset):
            continue
        weight = 2.0 ** (1 - np.abs(offset).sum())
        here = tuple(slice(max(0, -step), None if step <= 0 else -step) for step in offset)
        there = tuple(slice(max(0, step), None if step >= 0 else step) for step in offset)
        own, other = number[here], number[there]
        both, edge = (own >= 0) & (other >= 0), (own >= 0) & (other < 0)
        weights[own[own >= 0]] += weight
        known[own[edge]] += weight * x[there][edge]
        rows.append(own[both])
        columns.append(other[both])
        values.append(np.full(int(both.sum()), -weight))
    off = coo_matrix((np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), (count, count))
    return off.tocsr() + diags(weights), known


def _conjugate_gradients(matrix: csr_matrix, known: Array) -> Array:
    diagonal = matrix.diagonal()
    solved, _ = cg(matrix, known, rtol=1e-6, maxiter=1000, M=diags(1 / diagonal))
    return np.asarray(solved)


WAYS: dict[str, Callable[[Array, Array], Array]] = {
    "ours": lambda x, mask: imputed(x[None], mask)[0],
    "matrix, conjugate gradients": _by_matrix(_conjugate_gradients),
    "direct": _by_matrix(lambda matrix, known: np.asarray(spsolve(matrix.tocsc(), known))),
}


if __name__ == "__main__":
    main()
