"""PyTorch is loaded without the garbage collector looking through it, in processes of ours alone."""

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest
from LRPExplainLib.loading import loading

LOADED = """
import gc
from LRPExplainLib.loading import loading
with loading():
    assert not gc.isenabled()
    import torch
print(gc.isenabled(), gc.get_freeze_count() > 100_000)
with loading():
    print(gc.isenabled())
"""
FAILED = """
import gc
from LRPExplainLib.loading import loading
try:
    with loading():
        raise ImportError
except ImportError:
    print(gc.isenabled(), gc.get_freeze_count())
"""


@pytest.mark.parametrize(("source", "told"), [(LOADED, "True True\nTrue\n"), (FAILED, "True 0\n")])
def test_in_a_process_of_its_own(root: Path, source: str, told: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(root / "LRPExplain")}
    done = subprocess.run([sys.executable, "-c", source], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == told


def test_what_is_there_already_is_left_to_the_collector() -> None:
    import torch  # noqa: F401

    before = gc.get_freeze_count()
    with loading():
        assert gc.isenabled()
    assert gc.get_freeze_count() == before
