"""torchvision's network definitions, also where its compiled half does not load.

PyPI's torchvision is compiled against a CUDA build of torch. Beside a CPU build its extension stays unloaded, and the
import stops where it describes two operators of that extension. Nothing here uses either: declared by name, they let
the Python half (all of the networks) load. Zennit and onnx2torch import torchvision as well.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import torch

_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def torchvision() -> ModuleType | None:
    """The module, or None where it is not installed."""
    try:
        return importlib.import_module("torchvision")
    except ModuleNotFoundError:
        return None
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]  # what the failed import left behind
    for operator in ("nms", "qnms"):
        torch.library.define(f"torchvision::{operator}", _SIGNATURE)
    return importlib.import_module("torchvision")
