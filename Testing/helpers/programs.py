"""torch.export programs as files, where they can be read."""

import pytest
import torch
from LRPExplainLib.models.formats import exported


def need_programs() -> None:
    """Skip where this PyTorch writes programs in a layout that is not opened."""
    if not exported.READABLE:
        pytest.skip(f"PyTorch {torch.__version__} pickles the weights of torch.export programs")
