"""Small explanations to present: built by hand, so that every voxel's place and value is known."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from LRPExplainLib.explanation import Explanation, Prediction
from LRPExplainLib.imaging.grid import Grid

SIZE = (40, 48, 36)
# A place in the patient's right, anterior, superior eighth: RAS in mm
LANDMARK = (24.0, 30.0, 20.0)


def every_node(scene: Any) -> list[Any]:
    return [scene.GetNthNode(n) for n in range(scene.GetNumberOfNodes())]


def node_ids(scene: Any) -> set[str]:
    return {node.GetID() for node in every_node(scene)}


def head(size: tuple[int, int, int] = SIZE, spacing: float = 2.0) -> sitk.Image:
    """An ellipsoid of 100 around the origin with a ball of 200 at LANDMARK, stored left to right, back to front."""
    image = sitk.Image(size, sitk.sitkFloat32)
    image.SetSpacing((spacing,) * 3)
    image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    half = [(n - 1) * spacing / 2 for n in size]
    image.SetOrigin((half[0], half[1], -half[2]))
    return fill(image)


def oblique(size: tuple[int, int, int], spacing: tuple[float, float, float]) -> sitk.Image:
    """Noise around a bright middle on a rotated, anisotropic grid that is centred on the origin."""
    k, j, i = np.meshgrid(*(np.linspace(-1, 1, n) for n in reversed(size)), indexing="ij")
    noise = np.random.default_rng(0).random(i.shape)
    image = sitk.GetImageFromArray((100 * np.exp(-3 * (i**2 + j**2 + k**2)) + 5 * noise).astype(np.float32))
    rotation = sitk.Euler3DTransform()
    rotation.SetRotation(0.3, -0.2, 0.4)
    image.SetDirection(rotation.GetMatrix())
    image.SetSpacing(spacing)
    center = np.array(image.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in size]))
    image.SetOrigin((-center).tolist())
    return image


def fill(image: sitk.Image) -> sitk.Image:
    """Draw the ellipsoid and the ball by physical position, whatever the grid."""
    ras = ras_positions(image)
    inside = np.sum((ras / np.array([36.0, 44.0, 32.0])) ** 2, axis=-1) < 1
    values = np.where(inside, 100.0, 0.0)
    values[np.linalg.norm(ras - LANDMARK, axis=-1) < 6.5] = 200.0
    result = sitk.GetImageFromArray(values.astype(np.float32))
    result.CopyInformation(image)
    return result


def ras_positions(image: sitk.Image) -> np.ndarray:
    """RAS in mm of every voxel, shape [D, H, W, 3]."""
    k, j, i = np.indices(image.GetSize()[::-1])
    index = np.stack([i, j, k], axis=-1)
    matrix = np.reshape(image.GetDirection(), (3, 3)) * np.array(image.GetSpacing())
    return (index @ matrix.T + np.array(image.GetOrigin())) * np.array([-1, -1, 1])


def like(image: sitk.Image, values: np.ndarray) -> sitk.Image:
    """An image with ``values`` and the geometry of ``image``."""
    result = sitk.GetImageFromArray(values)
    result.CopyInformation(image)
    return result


def blob_relevance(image: sitk.Image, center: tuple[float, float, float] = LANDMARK) -> sitk.Image:
    """Relevance +1 in a ball of 8 mm around ``center``, -0.5 in a ball of 8 mm at the mirrored place on the left."""
    ras = ras_positions(image)
    values = np.zeros(ras.shape[:3], np.float32)
    values[np.linalg.norm(ras - center, axis=-1) < 8] = 1.0
    values[np.linalg.norm(ras - np.array(center) * [-1, 1, 1], axis=-1) < 8] = -0.5
    return like(image, values)


def build(folder: Path, images: list[sitk.Image] | None = None, **changes: Any) -> Explanation:
    """An explanation of the head (or of ``images``), with its sources written to ``folder``."""
    images = images or [head()]
    volumes = []
    for n, image in enumerate(images):
        path = folder / f"scan{n + 1}.nii.gz"
        sitk.WriteImage(image, str(path))
        volumes.append({"name": path.name, "path": str(path), "sha256": "0" * 64, "geometry": Grid.of(image).as_dict()})
    bright = (sitk.GetArrayViewFromImage(images[0]) > 150).astype(np.uint8)
    classes = [
        {"name": "background", "color": [0, 0, 0]},
        {"name": "lesion", "color": [0, 255, 0]},
        {"name": "oedema", "color": [0, 0, 255]},
    ]
    explanation = Explanation(
        relevance=tuple(blob_relevance(image) for image in images),
        prediction=Prediction(like(images[0], bright), {}, classes),
        target={"class": "lesion", "index": 1, "where": "prediction"},
        composite={"name": "epsilon-plus-flat", "description": "", "rules": []},
        ledger={"target_value": 12.5, "in_volume": 12.0, "absorbed": 0.5, "outside": 0.0, "by_layer": []},
        model={"name": "test model", "path": "model.ts", "sha256": "1" * 64, "card": {}},
        volumes=volumes,
        provenance={},
    )
    return replace(explanation, **changes)
