"""Many explanations of one model at once: which strategies does it have, and is one of them odd?

SpRAy (Lapuschkin et al. 2019, "Unmasking Clever Hans predictors and assessing what machines really learn", Nature
Communications 10:1096): maps are reduced to a coarse common grid and clustered spectrally; the eigengap of the
Laplacian tells how many groups there are.
"""

from .collect import Member, collect
from .common import ALIGNMENTS, Space
from .groups import Groups, group
from .study import Cohort, check_cohort_output, cohort

__all__ = [
    "ALIGNMENTS",
    "Cohort",
    "Groups",
    "Member",
    "Space",
    "check_cohort_output",
    "cohort",
    "collect",
    "group",
]
