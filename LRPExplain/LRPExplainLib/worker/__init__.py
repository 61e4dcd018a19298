"""The child process that computes for the Slicer module, the client that asks it, and what it needs installed.

Standard library alone, since Slicer imports this before anything is installed.
"""

from .requirements import missing_of, missing_requirements

__all__ = ["missing_of", "missing_requirements"]
