"""What several suites share: a real-data folder that may be absent, and small synthetic volumes."""

import math
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

ROOT = Path(__file__).resolve().parents[1]


def find_shared_data() -> Path | None:
    """The folder with real data beside the checkout, or None in a fresh clone."""
    for folder in (ROOT / "shared" / "data", ROOT.parent / "shared" / "data"):
        if folder.is_dir():
            return folder
    return None


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real volumes and a trained network; tests that ask for it skip where it is absent."""
    folder = find_shared_data()
    if folder is None:
        pytest.skip("needs shared/data, which this checkout has not")
    return folder


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


@pytest.fixture
def oblique_volume() -> sitk.Image:
    """An oblique, anisotropic volume with an odd origin."""
    volume = make_volume()
    assert not math.isclose(volume.GetDirection()[0], 1.0)
    return volume
