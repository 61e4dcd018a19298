"""Volumes in and out: files, geometry and intensity, and the adjoint of the way in.

`prepare` brings volumes into a model's space; `Prepared.relevance_to_source` carries relevance back into the
geometry of each volume so that sums agree, and names what fell outside the field of view.
"""

from .grid import Grid
from .intensity import INTENSITY
from .prepare import Prepared, Preprocessing, prepare
from .reading import check_volume, read_volume

__all__ = ["INTENSITY", "Grid", "Prepared", "Preprocessing", "check_volume", "prepare", "read_volume"]
