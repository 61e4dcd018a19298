"""What a piece of the volume is replaced by. None of these is neutral, which is why there are several.

They work on the model's input, behind its intensity steps, whose statistics so stay those of the whole volume: that
one piece is replaced does not rescale the others. Arrays are float32 [C, D, H, W].
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.sparse import coo_matrix, diags
from scipy.sparse.linalg import cg

from ..seeds import check_seed

Array = np.ndarray
Replace = Callable[[Array], Array]  # mask [D, H, W] -> the volume with what is in the mask replaced
NOISE = 0.01  # of a channel's standard deviation
_TOLERANCE, _MOST_ITERATIONS = 1e-6, 1000


@dataclass(frozen=True, eq=False)
class Original:
    """A model's input, and what is known of it.

    Attributes:
        x: [C, D, H, W].
        pieces: bool [D, H, W]: what can be replaced at all, over which statistics are taken.
        edge: of a piece in voxels along each axis.
    """

    x: Array
    pieces: Array
    edge: tuple[float, ...]


def mean(original: Original) -> Replace:
    """Each channel's mean over all pieces."""
    values = np.asarray([channel[original.pieces].mean() for channel in original.x], dtype=np.float32)
    return _by(original, np.broadcast_to(values[:, None, None, None], original.x.shape))


def blur(original: Original) -> Replace:
    """The volume without detail of a piece's size: a Gaussian of that standard deviation."""
    smooth = np.stack([gaussian_filter(channel, original.edge, mode="nearest") for channel in original.x])
    return _by(original, smooth.astype(np.float32))


def noisy_linear(original: Original, noise: float = NOISE, seed: int = 0) -> Replace:
    """Noisy linear imputation (Rong 2022, ROAD), in three dimensions; see `imputed`."""
    check_seed(seed)
    deviations = original.x[:, original.pieces].std(axis=1)
    drawn = np.random.default_rng(seed).standard_normal(original.x.shape, dtype=np.float32)
    drawn *= noise * deviations[:, None, None, None]

    def replace(mask: Array) -> Array:
        return np.where(mask, imputed(original.x, mask) + drawn, original.x)

    return replace


BASELINES: dict[str, Callable[[Original], Replace]] = {"mean": mean, "blur": blur, "noisy-linear": noisy_linear}


def imputed(x: Array, mask: Array) -> Array:
    """Every masked voxel as the weighted mean of its neighbours, masked ones included: one sparse linear system.

    Neighbours are the 26 (in a single slice the 8) around a voxel; a shared face weighs twice a shared edge and four
    times a shared corner, which in a slice are the weights of Rong 2022. Where no unmasked voxel is connected to a
    masked one, it gets the channel's mean.

    Args:
        x: [C, D, H, W].
        mask: bool [D, H, W].
    """
    count = int(mask.sum())
    if not count:
        return x.copy()
    result = x.copy()
    if count == mask.size:
        result[:] = x.mean(axis=(1, 2, 3), keepdims=True)
        return result
    box = _box_around(mask)
    x, mask = x[(slice(None), *box)], mask[box]
    number = np.full(mask.shape, -1, dtype=np.int64)
    number[mask] = np.arange(count)
    known = np.zeros((count, len(x)))
    weights = np.zeros(count)
    rows, columns, values = [], [], []
    for offset in product((-1, 0, 1), repeat=3):
        weight = 2.0 ** (1 - np.abs(offset).sum())
        if not any(offset):
            continue
        here, there = _shifted(offset)
        own, other = number[here], number[there]
        masked = own >= 0
        both, edge = masked & (other >= 0), masked & (other < 0)
        weights[own[masked]] += weight
        known[own[edge]] += weight * x[(slice(None), *there)][:, edge].T
        rows.append(own[both])
        columns.append(other[both])
        values.append(np.full(int(both.sum()), -weight))
    off = coo_matrix((np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), (count, count)).tocsr()
    matrix = off + diags(weights)
    inverse = diags(1 / np.maximum(weights, np.finfo(float).tiny))
    for channel in range(len(x)):
        start = np.full(count, float(x[channel][~mask].mean()))
        solved, _ = cg(matrix, known[:, channel], start, rtol=_TOLERANCE, maxiter=_MOST_ITERATIONS, M=inverse)
        result[channel][box][mask] = solved
    return result


def _box_around(mask: Array) -> tuple[slice, ...]:
    """The mask's bounding box and one voxel around it."""
    box = []
    for axis in range(3):
        found = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        box.append(slice(max(0, int(found[0]) - 1), int(found[-1]) + 2))
    return tuple(box)


def _by(original: Original, other: Array) -> Replace:
    return lambda mask: np.where(mask, other, original.x)


def _shifted(offset: tuple[int, ...]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """The slices of all voxels that have a neighbour at this offset, and of these neighbours."""
    here = tuple(slice(max(0, -step), None if step <= 0 else -step) for step in offset)
    there = tuple(slice(max(0, step), None if step >= 0 else step) for step in offset)
    return here, there
