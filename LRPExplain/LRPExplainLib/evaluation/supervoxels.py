"""The pieces in which a volume is perturbed: blocks of so many mm, or SLIC supervoxels where scikit-image is installed.

Pieces are int32 labels [K, J, I] from 1 on in the volume's own geometry, where relevance is. They are brought to the
model's grid by nearest neighbour.
"""

from collections.abc import Callable, Sequence
from importlib.util import find_spec

import numpy as np

from ..errors import UserError
from ..imaging import Grid
from ..imaging.grid import nearest_on

Array = np.ndarray
EDGE_MM = 10.0
MOST = 1_000_000  # pieces; the bookkeeping of a quarter of it took 20 s without the network
_COMPACTNESS = 0.1  # SLIC's weight of nearness against likeness, for intensities from 0 to 1


def blocks(grid: Grid, edge_mm: float = EDGE_MM, voxels: Array | None = None) -> Array:
    """Boxes with edges of about so many mm (whole voxels, one at least), numbered from 1 on.

    Args:
        voxels: not needed; supervoxels take it.

    Raises:
        UserError: the edge is not above 0, or makes too many boxes.
    """
    _check(edge_mm)
    lines, counts = [], []
    for n, step in zip(grid.shape, reversed(grid.spacing), strict=True):
        lines.append(np.arange(n, dtype=np.int32) // max(1, round(min(n, edge_mm / step))))
        counts.append(int(lines[-1][-1]) + 1)
    _check_count(float(np.prod(counts)), edge_mm)
    k, j, i = lines
    labels = (k[:, None, None] * counts[1] + j[None, :, None]) * counts[2] + i[None, None, :] + 1
    return np.ascontiguousarray(labels, dtype=np.int32)


def slic(grid: Grid, edge_mm: float = EDGE_MM, voxels: Array | None = None) -> Array:
    """Supervoxels that follow the image's edges, of about the volume of a block (Achanta 2012).

    Args:
        voxels: the volume [K, J, I].

    Raises:
        UserError: scikit-image is not installed, or the edge is not above 0 or makes too many supervoxels.
    """
    _check(edge_mm)
    if find_spec("skimage") is None:
        raise UserError(
            "SLIC supervoxels need scikit-image: install it with 'pip install scikit-image', or use blocks."
        )
    if voxels is None:
        raise ValueError("supervoxels need the volume")
    from skimage.segmentation import slic as superpixels

    count = max(1.0, voxels.size * float(np.prod(grid.spacing)) / edge_mm / edge_mm / edge_mm)
    if count > voxels.size:
        raise UserError(f"Supervoxels of {edge_mm:g} mm would be smaller than the voxels: give a larger edge.")
    _check_count(count, edge_mm)
    low, high = np.percentile(voxels, (1, 99))
    scaled = np.clip((voxels - low) / max(high - low, np.finfo(float).tiny), 0, 1)
    labels = superpixels(
        scaled, round(count), _COMPACTNESS, max_num_iter=5, spacing=tuple(reversed(grid.spacing)), channel_axis=None
    )
    return np.unique(labels, return_inverse=True)[1].reshape(voxels.shape).astype(np.int32) + 1


Pieces = Callable[[Grid, float, Array | None], Array]
PIECES: dict[str, Pieces] = {"blocks": blocks, "slic": slic}


def brought_to(labels: Array, grid: Grid, target: Grid) -> Array:
    """Labels on `grid` looked up at the voxels of `target`, 0 where `grid` does not reach; int32 [D, H, W]."""
    return nearest_on(grid.image(labels.astype(np.int32)), target)


def relevance_of(labels: Sequence[Array], maps: Sequence[Array]) -> Array:
    """The relevance of each piece, summed over the maps; entry 0 is what lies in none.

    Args:
        labels: the same pieces on the grid of each map.
    """
    count = max(int(one.max()) for one in labels) + 1
    sums = [
        np.bincount(one.ravel(), values.ravel().astype(np.float64), minlength=count)
        for one, values in zip(labels, maps, strict=True)
    ]
    return np.sum(sums, axis=0)


def _check(edge_mm: float) -> None:
    if not edge_mm > 0:
        raise UserError(f"Pieces of {edge_mm:g} mm cannot be made: give an edge above 0.")


def _check_count(count: float, edge_mm: float) -> None:
    if count > MOST:
        raise UserError(
            f"The volume would fall into {count:.3g} pieces of {edge_mm:g} mm, more than {MOST} that can be followed:"
            " give a larger edge."
        )
