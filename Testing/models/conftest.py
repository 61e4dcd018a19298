"""Lets the tests of this folder import `hostile_files`; a trained nnU-Net, made once for all tests that ask for it."""

import os
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def nnunet_results(tmp_path_factory) -> Path:
    """nnUNet_results/Dataset901_Synthetic with 2d and 3d_fullres, two folds each."""
    pytest.importorskip("nnunetv2")
    from helpers.nnunet import train

    threads = torch.get_num_threads()
    before = dict(os.environ)
    try:
        return train(tmp_path_factory.mktemp("nnunet"))
    finally:
        torch.set_num_threads(threads)  # nnU-Net sets its own
        os.environ.clear()
        os.environ.update(before)
