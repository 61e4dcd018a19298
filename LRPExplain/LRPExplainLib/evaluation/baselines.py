"""What a piece of the volume is replaced by. None of these is neutral, which is why there are several.

They work on the model's input, behind its intensity steps, whose statistics so stay those of the whole volume: that
one piece is replaced does not rescale the others. Arrays are float32 [C, D, H, W].
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from ..seeds import check_seed
from .imputation import imputed

Array = np.ndarray
Replace = Callable[[Array], Array]  # mask [D, H, W] -> the volume with what is in the mask replaced
NOISE = 0.01  # of a channel's standard deviation


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
    """Noisy linear imputation (Rong 2022, ROAD), in three dimensions; see `imputation`."""
    check_seed(seed)
    deviations = original.x[:, original.pieces].std(axis=1)
    drawn = np.random.default_rng(seed).standard_normal(original.x.shape, dtype=np.float32)
    drawn *= noise * deviations[:, None, None, None]

    def replace(mask: Array) -> Array:
        return np.where(mask, imputed(original.x, mask) + drawn, original.x)

    return replace


BASELINES: dict[str, Callable[[Original], Replace]] = {"mean": mean, "blur": blur, "noisy-linear": noisy_linear}


def _by(original: Original, other: Array) -> Replace:
    return lambda mask: np.where(mask, other, original.x)
