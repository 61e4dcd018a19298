"""A volume and a segmentation network on disk, for tests that go the whole road with them."""

from pathlib import Path

import SimpleITK as sitk

from .networks import RANGE, classes, save_model, segmenter
from .volumes import make_volume

CARD = {
    "preprocessing": {"orientation": "RAS", "intensity": RANGE},
    "output": classes("background", "grey", "white"),
}


def write_case(folder: Path) -> Path:
    """`t1.nrrd` and the network with its card; returns the folder."""
    sitk.WriteImage(make_volume(), str(folder / "t1.nrrd"))
    save_model(folder, segmenter(), **CARD)
    return folder


def model_of(folder: Path) -> Path:
    """The network's file."""
    return next(path for path in folder.iterdir() if path.suffix in {".ts", ".pt"})
