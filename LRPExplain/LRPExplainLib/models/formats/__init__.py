"""The table of model formats. A further one is a file with `recognises` and `load`, and a row in `FORMATS`."""

from .base import Format, Loaded
from .bundle import BUNDLE
from .exported import EXPORTED
from .nnunet import NNUNET
from .onnx import ONNX
from .safetensors import SAFETENSORS
from .torchscript import TORCHSCRIPT

# The first row that recognises a path has it: what is told by its neighbours comes before what is told by its name.
FORMATS: tuple[Format, ...] = (BUNDLE, NNUNET, TORCHSCRIPT, EXPORTED, ONNX, SAFETENSORS)

__all__ = ["FORMATS", "Format", "Loaded"]
