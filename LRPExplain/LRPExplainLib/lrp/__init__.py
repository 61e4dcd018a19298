"""Layer-wise Relevance Propagation on ATen graphs. Pure torch; knows nothing of medicine, files or Slicer.

graph = capture(model, x)
a = attribute(graph, x, Target(1), composite="epsilon-plus-flat")
a.relevance, a.output, a.ledger
"""

from . import rules
from .capture import capture
from .composites import COMPOSITES, DEFAULT_COMPOSITE, Biases, Composite, Row, composite_named
from .endings import Ending, ending, to_scores
from .errors import LRPError, RefusedInput
from .graph import Graph
from .inner import InnerLayer, goes_around, inner_layer, inner_layers, only
from .ledger import Ledger, LedgerRow
from .memory import Estimate, estimates, products
from .operators import OperatorCount, count_operators
from .propagation import Attribution, Evaluation, attribute, evaluate
from .segments import Schedule
from .target import Target

__all__ = [
    "COMPOSITES",
    "DEFAULT_COMPOSITE",
    "Attribution",
    "Biases",
    "Composite",
    "Ending",
    "Estimate",
    "Evaluation",
    "Graph",
    "InnerLayer",
    "LRPError",
    "Ledger",
    "LedgerRow",
    "OperatorCount",
    "RefusedInput",
    "Row",
    "Schedule",
    "Target",
    "attribute",
    "capture",
    "composite_named",
    "count_operators",
    "ending",
    "estimates",
    "evaluate",
    "goes_around",
    "inner_layer",
    "inner_layers",
    "only",
    "products",
    "rules",
    "to_scores",
]
