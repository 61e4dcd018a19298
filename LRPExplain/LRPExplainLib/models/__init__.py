"""Trained networks from disk: weights, and the card that says how to feed them and how to read their output."""

from .card import CardInput, ClassInfo, ModelCard, OutputInfo, Preprocessing, default_card, read_card
from .draft import draft_card
from .example import example_input
from .loading import ExplainableModel, TrustRequest, load_model, trust_request

__all__ = [
    "CardInput",
    "ClassInfo",
    "ExplainableModel",
    "ModelCard",
    "OutputInfo",
    "Preprocessing",
    "TrustRequest",
    "default_card",
    "draft_card",
    "example_input",
    "load_model",
    "read_card",
    "trust_request",
]
