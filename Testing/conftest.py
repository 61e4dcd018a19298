"""Fixtures that several suites share, and the path on which they find `helpers`."""

import sys
from pathlib import Path

import pytest
import SimpleITK as sitk

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "Testing"))

from helpers.volumes import make_volume  # noqa: E402  (only now is it found)


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real volumes and a trained network beside the checkout; tests that ask for it skip where it is absent."""
    for folder in (ROOT / "shared" / "data", ROOT.parent / "shared" / "data"):
        if folder.is_dir():
            return folder
    pytest.skip("needs shared/data, which is not beside this checkout")


@pytest.fixture
def oblique_volume() -> sitk.Image:
    """An oblique, anisotropic volume with an odd origin."""
    return make_volume()
