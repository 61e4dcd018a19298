"""Small synthetic volumes."""

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
