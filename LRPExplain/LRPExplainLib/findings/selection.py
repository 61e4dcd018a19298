"""Which relevance is looked at: a threshold, the sign, and how small a region may be."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import UserError
from .magnitudes import Magnitudes

PEAK = "peak"
MASS = "mass"
KINDS = (PEAK, MASS)
SIGNS = ("both", "positive", "negative")


@dataclass(frozen=True)
class Selection:
    """What of a map is shown and counted.

    Attributes:
        threshold_kind: "peak": percent of the strongest voxel; "mass": percent of the relevance that is kept, strongest
            voxels first.
        threshold: percent, 0..100.
        minimum_cluster_ml: connected regions smaller than this are left out.
        sign: "both", "positive" or "negative"; peak and mass are those of the chosen sign.

    Raises:
        UserError: a value out of its range.
    """

    threshold_kind: str = MASS
    threshold: float = 80.0
    minimum_cluster_ml: float = 0.0
    sign: str = "both"

    def __post_init__(self) -> None:
        if self.threshold_kind not in KINDS:
            raise UserError(f"There is no threshold by '{self.threshold_kind}': choose one of {', '.join(KINDS)}.")
        if self.sign not in SIGNS:
            raise UserError(f"There is no sign '{self.sign}': choose one of {', '.join(SIGNS)}.")
        if not 0 <= self.threshold <= 100:
            raise UserError(f"A threshold is a percentage from 0 to 100, not {self.threshold:g}.")
        if not self.minimum_cluster_ml >= 0:
            raise UserError(f"The smallest region is 0 ml or more, not {self.minimum_cluster_ml:g}.")

    def level(self, magnitudes: Magnitudes) -> float:
        """The threshold in units of relevance; a voxel of |relevance| at or above it is selected."""
        if self.threshold_kind == PEAK:
            return magnitudes.peak(self.sign) * self.threshold / 100
        return magnitudes.level(self.threshold / 100, self.sign)
