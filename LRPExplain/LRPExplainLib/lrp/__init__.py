"""Layer-wise Relevance Propagation on ATen graphs. Pure torch; knows nothing of medicine, files or Slicer.

graph = capture(model, x)
a = attribute(graph, x, Target(1), composite="epsilon-plus-flat")
a.relevance, a.output, a.ledger
"""

from . import rules
from .capture import capture
from .composites import COMPOSITES, DEFAULT_COMPOSITE, Biases, Composite, Row, composite_named
from .errors import LRPError
from .graph import Graph
from .ledger import Ledger, LedgerRow
from .propagation import Attribution, Evaluation, attribute, evaluate
from .target import Target

__all__ = [
    "COMPOSITES",
    "DEFAULT_COMPOSITE",
    "Attribution",
    "Biases",
    "Composite",
    "Evaluation",
    "Graph",
    "LRPError",
    "Ledger",
    "LedgerRow",
    "Row",
    "Target",
    "attribute",
    "capture",
    "composite_named",
    "evaluate",
    "rules",
]
