"""Draw the extension's icon: an axial head with relevance glowing where a small network looked.

    python Resources/draw_icon.py LRPExplain/Resources/Icons/LRPExplain.png

The colours are those of the relevance overlay itself. Needs Pillow and NumPy.
"""

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "LRPExplain"))
from LRPExplainLib.scene.colors import ENTRIES, relevance_colors

SIZE = 128
OVERSAMPLING = 6
BACKGROUND = (20, 24, 34)
SKULL, BRAIN, FISSURE, NODE = (205, 210, 220), (122, 130, 146), (58, 64, 78), (255, 255, 255)
GLOW_CENTER, GLOW_WIDTH = (0.34, -0.22), 0.27
# The network: input (in the glow), hidden layer, output
LAYERS = (((0.34, -0.22),), ((-0.18, 0.06), (-0.06, 0.42)), ((-0.5, 0.5),))


def draw() -> np.ndarray:
    """The icon as RGBA, uint8, shape [SIZE, SIZE, 4]."""
    n = SIZE * OVERSAMPLING
    y, x = np.mgrid[0:n, 0:n] / n * 2.1 - 1.05
    picture = np.zeros((n, n, 4))
    paint(picture, rounded_square(x, y), BACKGROUND)
    paint(picture, ellipse(x, y, 0.8, 0.95), SKULL)
    paint(picture, ellipse(x, y, 0.72, 0.87), BACKGROUND)
    folds = 1 + 0.035 * np.cos(13 * np.arctan2(y, x)) + 0.02 * np.cos(29 * np.arctan2(y, x))
    paint(picture, ellipse(x, y, 0.66 * folds, 0.81 * folds), BRAIN)
    paint(picture, (np.abs(x) < 0.022) & (np.abs(y) < 0.79), FISSURE)
    glow(picture, x, y)
    for here, there in pairwise(LAYERS):
        for a in here:
            for b in there:
                paint(picture, near_segment(x, y, a, b) < 0.024, NODE)
    for layer in LAYERS:
        for node in layer:
            paint(picture, np.hypot(x - node[0], y - node[1]) < 0.085, NODE)
    small = picture.reshape(SIZE, OVERSAMPLING, SIZE, OVERSAMPLING, 4).mean(axis=(1, 3))
    small[..., :3] /= np.maximum(small[..., 3:], 1e-6)  # the mean of premultiplied colours
    return np.round(small * 255).astype(np.uint8)


def paint(picture: np.ndarray, where: np.ndarray, rgb: tuple[int, int, int]) -> None:
    picture[where] = (*(channel / 255 for channel in rgb), 1.0)


def rounded_square(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (np.abs(x) ** 6 + np.abs(y) ** 6) < 1


def ellipse(x: np.ndarray, y: np.ndarray, a: np.ndarray | float, b: np.ndarray | float) -> np.ndarray:
    return (x / a) ** 2 + (y / b) ** 2 < 1


def near_segment(x: np.ndarray, y: np.ndarray, a: tuple[float, float], b: tuple[float, float]) -> np.ndarray:
    along = np.array(b) - np.array(a)
    t = np.clip(((x - a[0]) * along[0] + (y - a[1]) * along[1]) / (along @ along), 0, 1)
    return np.hypot(x - a[0] - t * along[0], y - a[1] - t * along[1])


def glow(picture: np.ndarray, x: np.ndarray, y: np.ndarray) -> None:
    """Positive relevance with a negative rim, blended over the brain."""
    r = np.hypot(x - GLOW_CENTER[0], y - GLOW_CENTER[1]) / GLOW_WIDTH
    value = 1.25 * np.exp(-((r / 0.75) ** 2)) - 0.55 * np.exp(-(((r - 1.45) / 0.3) ** 2))
    colors = relevance_colors(band=1)[np.clip(((value + 1) / 2 * ENTRIES).astype(int), 0, ENTRIES - 1), :3]
    share = np.clip(np.abs(value) * 2.2, 0, 0.95)[..., None] * ellipse(x, y, 0.7, 0.85)[..., None]
    picture[..., :3] = share * colors + (1 - share) * picture[..., :3]


if __name__ == "__main__":
    Image.fromarray(draw()).save(sys.argv[1], optimize=True)
