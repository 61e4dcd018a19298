"""MONAI bundles, read as data: what metadata.json and the inference configuration say becomes a network and a card."""

from .bundle import BundleModel, read_bundle
from .files import BundleFiles, InFolder, InMemory, InZip, bundle_files

__all__ = ["BundleFiles", "BundleModel", "InFolder", "InMemory", "InZip", "bundle_files", "read_bundle"]
