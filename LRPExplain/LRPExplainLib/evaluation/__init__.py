"""How far to trust a relevance map: agreement with an expert, faithfulness, sanity, complexity.

Names and definitions are those of the literature and of Quantus; each function names its source.
"""

from .baselines import BASELINES
from .checks import CHECKS, Settings
from .evaluate import Evaluation, evaluate, evaluation_problem, plan
from .evaluate import check_output as check_evaluation_output
from .faithfulness import Perturbation, Perturbed, faithfulness
from .subject import Method, Request, Subject, attribution_method, lrp_method

__all__ = [
    "BASELINES",
    "CHECKS",
    "Evaluation",
    "Method",
    "Perturbation",
    "Perturbed",
    "Request",
    "Settings",
    "Subject",
    "attribution_method",
    "check_evaluation_output",
    "evaluate",
    "evaluation_problem",
    "faithfulness",
    "lrp_method",
    "plan",
]
