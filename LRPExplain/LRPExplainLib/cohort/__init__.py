"""A cohort of explanations: maps of many volumes in one space, grouped, with the groups that stand apart first.

Spectral relevance analysis: S. Lapuschkin, S. Wäldchen, A. Binder, G. Montavon, W. Samek, K.-R. Müller, Unmasking
Clever Hans predictors and assessing what machines really learn, Nature Communications 10, 1096, 2019.
"""

from .cohort import Cohort, check_cohort_output, cohort
from .space import ALIGNMENTS

__all__ = ["ALIGNMENTS", "Cohort", "check_cohort_output", "cohort"]
