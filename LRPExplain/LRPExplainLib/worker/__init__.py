"""The child process that computes for the Slicer module: its command line, its last words, what it needs installed.

Standard library alone, since Slicer imports this before anything is installed.
"""

from .command import AS_THE_MODEL_SAYS, COMPOSITE_CHOICES, error_sentence, explain_arguments
from .requirements import missing_requirements

__all__ = ["AS_THE_MODEL_SAYS", "COMPOSITE_CHOICES", "error_sentence", "explain_arguments", "missing_requirements"]
