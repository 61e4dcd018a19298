"""Other attribution methods behind the same call: on the same targets, windows and geometry as LRP.

captum's where it has them and takes any function of a volume; ours where it needs `nn.Module` hooks, which TorchScript
and functional calls escape, and for RISE, which it has not.
"""

from .base import Method
from .grad_cam import GradCam
from .gradients import Gradient, GradientXInput, IntegratedGradients, SmoothGrad
from .guided import GuidedBackprop
from .naming import LRP, METHODS, method_named
from .occlusion import Occlusion
from .rise import Rise

__all__ = [
    "LRP",
    "METHODS",
    "GradCam",
    "Gradient",
    "GradientXInput",
    "GuidedBackprop",
    "IntegratedGradients",
    "Method",
    "Occlusion",
    "Rise",
    "SmoothGrad",
    "method_named",
]
