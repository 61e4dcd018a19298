"""How alike two maps are."""

import numpy as np
from scipy.ndimage import uniform_filter
from scipy.stats import rankdata

from ..correlation import pearson

Array = np.ndarray
_WINDOW = 7  # voxels a side, as Wang 2004 in its plain form
_K1, _K2 = 0.01, 0.03


def spearman(one: Array, other: Array) -> float:
    """Spearman's rank correlation, ties sharing their rank; NaN where a map does not vary."""
    return pearson(rankdata(one, axis=None), rankdata(other, axis=None))


def ssim(one: Array, other: Array) -> float:
    """Structural similarity in windows of 7 voxels a side (Wang 2004), each map scaled to its largest magnitude.

    The mean over the windows that lie within the volume; along an axis shorter than a window there is none, and the
    window is as short as that.
    """
    a, b = (_scaled(x) for x in (one, other))
    size = [min(_WINDOW, n) for n in a.shape]
    count = int(np.prod(size))
    spread = max(a.max(), b.max()) - min(a.min(), b.min())
    if not spread > 0 or count < 2:
        return np.nan

    def mean(x: Array) -> Array:
        return uniform_filter(x, size)

    ma, mb = mean(a), mean(b)
    unbiased = count / (count - 1)
    va, vb, vab = (
        unbiased * (mean(x * y) - mx * my) for x, y, mx, my in ((a, a, ma, ma), (b, b, mb, mb), (a, b, ma, mb))
    )
    c1, c2 = (_K1 * spread) ** 2, (_K2 * spread) ** 2
    index = ((2 * ma * mb + c1) * (2 * vab + c2)) / ((ma**2 + mb**2 + c1) * (va + vb + c2))
    inside = tuple(slice((n - 1) // 2, length - (n - 1) // 2) for n, length in zip(size, a.shape, strict=True))
    return float(index[inside].mean())


def _scaled(x: Array) -> Array:
    values = np.asarray(x, dtype=np.float64)
    largest = float(np.abs(values).max())
    return values / largest if largest > 0 else values
