"""What the volumes of a cohort look like in the common space, as ground for its mean maps."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import UserError
from ..explanation import Explanation
from ..imaging.grid import Size
from ..imaging.reading import read_volume
from .space import Blocks, Space, together

_BRIGHT = 99.0  # percentile that is shown white


def mean_anatomy(folders: Iterable[Path], space: Space, start: Size, stop: Size) -> sitk.Image | None:
    """The mean of the first volumes of explanations, each with its bright end at 1; None where none is at hand.

    Args:
        start, stop: the part of the lattice that is shown.
    """
    found = [one for folder in folders if (one := _volume(folder, space)) is not None]
    if not found:
        return None
    # a map without anything holds the place for the whole part of the lattice
    i, j, k = (b - a for a, b in zip(start, stop, strict=True))
    whole, *_ = together([Blocks(start, np.zeros((k, j, i), np.float32)), *found])
    mean = whole[1:].mean(axis=0)
    grid = space.grid(start, stop)
    return grid.image(mean) if mean.shape == grid.shape else None


def _volume(folder: Path, space: Space) -> Blocks | None:
    explanation = Explanation.load(folder)
    path = explanation.volumes[0]["path"]
    try:
        image = read_volume(path) if path is not None and Path(path).exists() else None
    except UserError:
        return None
    if image is None or image.GetSize() != explanation.relevance[0].GetSize():
        return None
    blocks = space.averages(sitk.Cast(image, sitk.sitkFloat32), explanation)
    values = np.clip(blocks.values - np.median(_rim(blocks.values)), 0, None)
    bright = float(np.percentile(values, _BRIGHT)) or 1.0
    return Blocks(blocks.start, np.clip(values / bright, 0, 1).astype(np.float32))


def _rim(values: np.ndarray) -> np.ndarray:
    """The outermost blocks, which are mostly air."""
    inner = np.zeros(values.shape, bool)
    inner[tuple(slice(1, -1) if n > 2 else slice(None) for n in values.shape)] = True
    return values[~inner] if not inner.all() else values.min(keepdims=True)
