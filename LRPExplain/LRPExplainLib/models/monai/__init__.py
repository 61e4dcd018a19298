"""MONAI bundles, read as data: what metadata.json and the inference configuration say becomes a network and a card."""

from .bundle import bundle_card, bundle_network
from .config import Untranslated
from .files import BundleFiles, InFolder, InMemory, InZip, bundle_files

__all__ = [
    "BundleFiles",
    "InFolder",
    "InMemory",
    "InZip",
    "Untranslated",
    "bundle_card",
    "bundle_files",
    "bundle_network",
]
