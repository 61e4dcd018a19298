"""Small synthetic volumes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import SimpleITK as sitk


def rotation(angles: tuple[float, float, float]) -> np.ndarray:
    """A 3x3 rotation matrix from three angles in radians about x, y and z."""
    transform = sitk.Euler3DTransform()
    transform.SetRotation(*angles)
    return np.asarray(transform.GetMatrix()).reshape(3, 3)


def make_volume(
    size: tuple[int, int, int] = (30, 26, 14),
    spacing: tuple[float, float, float] = (0.9, 1.1, 2.7),
    angles: tuple[float, float, float] = (0.3, -0.2, 0.4),
    origin: tuple[float, float, float] = (-31.0, 12.5, 40.25),
    seed: int = 0,
) -> sitk.Image:
    """A float32 volume with smooth structure and noise; by default oblique and anisotropic."""
    rng = np.random.default_rng(seed)
    k, j, i = np.meshgrid(*(np.linspace(-1, 1, n) for n in reversed(size)), indexing="ij")
    array = 100 * np.exp(-3 * (i**2 + j**2 + k**2)) + 5 * rng.random(i.shape)
    image = sitk.GetImageFromArray(array.astype(np.float32))
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(rotation(angles).ravel().tolist())
    return image


def write_series(
    volume: sitk.Image,
    folder: Path,
    uid: str = "1.2.826.0.1.3680043.2.1125.1",
    skip: int = -1,
    told: Callable[[int, dict[str, str]], dict[str, str]] = lambda k, tags: tags,
) -> None:
    """Write int16 slices as a DICOM series.

    Args:
        skip: the slice to leave out.
        told: (slice, tags) -> the tags that it shall have.
    """
    folder.mkdir(exist_ok=True)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    direction = volume.GetDirection()
    for k in range(volume.GetSize()[2]):
        if k == skip:
            continue
        image = volume[:, :, k : k + 1]
        position = image.GetOrigin()
        tags = {
            "0008|0060": "MR",
            "0020|000e": uid,
            "0020|000d": "1.2.826.0.1.3680043.2.1125.9",
            "0008|0018": f"{uid}.{k + 1}",
            "0020|0013": str(k + 1),
            "0020|0032": "\\".join(f"{x:.8f}" for x in position),
            "0020|0037": "\\".join(f"{direction[n]:.10f}" for n in (0, 3, 6, 1, 4, 7)),
            "0018|0050": str(volume.GetSpacing()[2]),
        }
        for tag, value in told(k, tags).items():
            image.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{uid[-1]}-{k:03d}.dcm"))
        writer.Execute(image)
