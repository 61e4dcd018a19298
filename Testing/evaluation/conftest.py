"""Quantus, the oracle of this folder's tests, as it imports beside a CPU build of torch."""

import importlib
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]

from benchmarks.vision import torchvision  # noqa: E402  (only now is it found)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """These tensors are so small that a second thread only waits for the first."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def quantus() -> ModuleType:
    """The peer, where it is installed."""
    if importlib.util.find_spec("quantus") is None:
        pytest.skip("needs quantus")
    torchvision()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("quantus")
