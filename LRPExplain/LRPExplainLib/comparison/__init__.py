"""Explanations of one answer side by side: how far they agree, what they have in common, and their weighted mean."""

from .compare import OWN, Comparison, check_comparison_output, compare

__all__ = ["OWN", "Comparison", "check_comparison_output", "compare"]
