"""The choices that the parameter node keeps, as enumerations. Members' names are what scenes are saved with."""

from __future__ import annotations

from enum import Enum

from slicer.i18n import tr as _


class Where(Enum):
    """The place that a question is about; the values are those of explanation.json's "where"."""

    PREDICTION = "prediction"
    SEGMENT = "segment"
    ROI = "box"
    POINTS = "points"
    EVERYWHERE = "everywhere"

    def label(self) -> str:
        return {
            Where.PREDICTION: _("Where it is predicted"),
            Where.SEGMENT: _("In a segment"),
            Where.ROI: _("In a box (ROI)"),
            Where.POINTS: _("At points"),
            Where.EVERYWHERE: _("Everywhere (whole output)"),
        }[self]


class Value(Enum):
    """What of the class is explained."""

    LOGIT = "logit"
    PROBABILITY = "probability"

    def label(self) -> str:
        return {Value.LOGIT: _("Output (logit)"), Value.PROBABILITY: _("Probability")}[self]


class Start(Enum):
    """What each voxel of the answer starts with."""

    VALUE = "value"
    ONE = "one"

    def label(self) -> str:
        return {Start.VALUE: _("Its value"), Start.ONE: _("1: all voxels alike")}[self]


class Biases(Enum):
    """What becomes of the relevance that biases receive."""

    MODEL = ""
    SHARE = "share"
    ABSORB = "absorb"

    def label(self) -> str:
        return {
            Biases.MODEL: _("As the model says"),
            Biases.SHARE: _("Share it"),
            Biases.ABSORB: _("Absorb it, as in the literature"),
        }[self]


class Device(Enum):
    """Where the network runs."""

    AUTO = "auto"
    CUDA = "cuda"
    CPU = "cpu"

    def label(self) -> str:
        return {Device.AUTO: _("Automatic"), Device.CUDA: _("Graphics card (CUDA)"), Device.CPU: _("CPU")}[self]


class Precision(Enum):
    """What the network is computed in."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"

    def label(self) -> str:
        return {
            Precision.FLOAT32: _("Full (float32)"),
            Precision.BFLOAT16: _("Half (bfloat16)"),
        }[self]


class Result(Enum):
    """What becomes of the map that is shown when the same volumes are explained again."""

    CREATE = "create"
    UPDATE = "update"

    def label(self) -> str:
        return {Result.CREATE: _("A new map each time"), Result.UPDATE: _("Update the map that is shown")}[self]


class Composite(Enum):
    """The presets of `lrp`, named here because importing that would load PyTorch into Slicer; a test compares them."""

    MODEL = ""
    VOLUME = "volume"
    EPSILON_PLUS_FLAT = "epsilon-plus-flat"
    EPSILON_PLUS = "epsilon-plus"
    EPSILON_GAMMA_BOX = "epsilon-gamma-box"
    GAMMA = "gamma"
    EPSILON_ALPHA2_BETA1_FLAT = "epsilon-alpha2-beta1-flat"
    EPSILON_ALPHA2_BETA1 = "epsilon-alpha2-beta1"
    EXCITATION_BACKPROP = "excitation-backprop"
    ATTN_LRP = "attn-lrp"
    EPSILON = "epsilon"

    def label(self) -> str:
        return self.value or _("As the model says")
