"""Cohorts whose groups are known: explanations with relevance where a test wants it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from LRPExplainLib.explanation import Explanation, Prediction
from LRPExplainLib.imaging.grid import Grid

SIZE = (40, 48, 36)
SPACING = (2.0, 2.0, 2.0)
MARKER = (-30.0, 36.0, 26.0)  # R, A, S in mm: near a corner of the field of view
CLASSES = [{"name": "no lesion", "color": [0, 0, 0]}, {"name": "lesion", "color": [255, 0, 0]}]


def frame(
    size: Sequence[int] = SIZE, spacing: Sequence[float] = SPACING, centre: Sequence[float] = (0.0, 0.0, 0.0),
    direction: Sequence[float] = (-1, 0, 0, 0, -1, 0, 0, 0, 1),
) -> sitk.Image:  # fmt: skip
    """An empty image whose field of view is centred on a place (R, A, S in mm); i, j, k run to R, A, S by default."""
    image = sitk.Image([int(n) for n in size], sitk.sitkFloat32)
    image.SetSpacing([float(step) for step in spacing])
    image.SetDirection([float(value) for value in direction])
    middle = np.array(image.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in size]))
    image.SetOrigin((np.array([-centre[0], -centre[1], centre[2]]) - middle).tolist())
    return image


def ras_of(image: sitk.Image) -> np.ndarray:
    """R, A, S in mm of every voxel: [k, j, i, 3]."""
    grid = Grid.of(image)
    k, j, i = np.indices(grid.shape)
    return (np.stack([i, j, k], axis=-1) @ grid.axes.T + np.array(grid.origin)) * [-1, -1, 1]


def ball(image: sitk.Image, centre: Sequence[float], width: float = 5.0) -> np.ndarray:
    """A bell of this width (mm) at a place (R, A, S in mm)."""
    return np.exp(-np.sum((ras_of(image) - centre) ** 2, axis=-1) / (2 * width**2)).astype(np.float32)


def save(
    folder: Path, image: sitk.Image, *maps: np.ndarray, volume: Path | None = None,
    segmentation: np.ndarray | None = None, **changes: dict[str, Any],
) -> Path:  # fmt: skip
    """An explanation folder with these maps on the image's grid."""
    grid = Grid.of(image)
    entry = {"name": "t1.nrrd", "path": None if volume is None else str(volume), "sha256": "0" * 64}
    labels = None if segmentation is None else grid.image(segmentation.astype(np.uint8))
    prediction = Prediction(labels, {} if labels else {"no lesion": 0.1, "lesion": 0.9}, CLASSES)
    facts: dict[str, dict[str, Any]] = {
        "target": {"class": "lesion", "index": 1, "where": "output", "value": "logit", "start": "value",
                   "text": "lesion"},
        "composite": {"name": "volume", "description": "", "biases": "share", "rules": []},
        "ledger": {"target_value": 2.0, "in_volume": 2.0, "absorbed": 0.0, "outside": 0.0, "by_layer": []},
        "model": {"name": "Planted", "path": "model.ts", "sha256": "1" * 64, "card": {}},
        "provenance": {"created": "2026-11-25T00:00:00+00:00"},
    }  # fmt: skip
    facts = {key: value | changes.get(key, {}) for key, value in facts.items()}
    relevance = tuple(grid.image(values.astype(np.float32)) for values in maps)
    volumes = [entry | {"geometry": grid.as_dict()} for _ in maps]
    Explanation(relevance=relevance, prediction=prediction, volumes=volumes, **facts).save(folder)
    return folder


def lesion_place(rng: np.random.Generator) -> np.ndarray:
    """Somewhere around the middle of the head."""
    return rng.uniform((-22, -26, -18), (22, 20, 12))


def plant(folder: Path, lesions: int, markers: int, seed: int = 0) -> list[str]:
    """Relevance on lesions at varying places, and on a marker in a corner; returns the names of the latter."""
    rng = np.random.default_rng(seed)
    image = frame()
    names = [f"{n:02d}" for n in rng.permutation(lesions + markers)]
    for n, name in enumerate(names):
        place = lesion_place(rng) if n < lesions else MARKER + rng.uniform(-2, 2, 3)
        values = ball(image, place) + 0.02 * ball(image, (0, 0, 0), 20) * rng.standard_normal(SIZE[::-1])
        save(folder / name, image, values)
    return sorted(names[lesions:])
