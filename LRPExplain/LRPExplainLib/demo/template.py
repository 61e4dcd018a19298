"""Where the MNI152 brain lies that the nilearn package carries."""

import importlib.util
from pathlib import Path
from typing import Literal

from ..errors import UserError

__all__ = ["mni152_path"]

# nilearn's own names of the ICBM 2009a symmetric nonlinear templates at 1 mm (T1 without skull, tissue probabilities)
_PATTERN = "mni_icbm152_{tissue}_tal_nlin_sym_09a_converted.nii.gz"


def mni152_path(tissue: Literal["t1", "gm", "wm"] = "t1") -> Path:
    """The path of the MNI152 T1 (or of its grey or white matter probability map), a NIfTI file at 1 mm.

    nilearn is found but not imported: importing it would take seconds, and its dependencies are not needed.

    Raises:
        UserError: nilearn is not installed, or does not carry the file.
    """
    found = importlib.util.find_spec("nilearn")
    if found is None or not found.submodule_search_locations:
        raise UserError(
            "The demo needs the MNI152 brain of the nilearn package: install it with 'pip install nilearn'."
        )
    name = _PATTERN.format(tissue=tissue)
    path = Path(found.submodule_search_locations[0]) / "datasets" / "data" / name
    if not path.is_file():
        raise UserError(
            f"The installed nilearn does not carry {name}: reinstall it with 'pip install --force-reinstall nilearn'."
        )
    return path
