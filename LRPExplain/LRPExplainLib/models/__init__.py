"""Trained networks from disk: weights, and the card that says how to feed them and how to read their output."""

from .card import CardInput, ClassInfo, ModelCard, OutputInfo, Preprocessing, default_card, read_card
from .loading import ExplainableModel, load_model

__all__ = [
    "CardInput",
    "ClassInfo",
    "ExplainableModel",
    "ModelCard",
    "OutputInfo",
    "Preprocessing",
    "default_card",
    "load_model",
    "read_card",
]
