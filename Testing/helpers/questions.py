"""What is asked of a small segmentation network, for the tests of the question: a landmark, its logits, the account."""

import numpy as np
import SimpleITK as sitk
import torch
from LRPExplainLib.explanation import Explanation
from LRPExplainLib.imaging import Grid
from LRPExplainLib.models import ExplainableModel
from torch import Tensor

from .networks import RANGE

RAS = np.array([-1, -1, 1])
LANDMARK = (6, 20, 9)  # i, j, k
WISHES = {"intensity": RANGE}
NAMES = ("background", "grey", "white")


def array(image: sitk.Image) -> np.ndarray:
    return sitk.GetArrayFromImage(image)


def ras_of(image: sitk.Image, index: tuple[float, ...]) -> tuple[float, ...]:
    return tuple((np.array(Grid.of(image).point(index)) * RAS).tolist())


def assert_closed(explanation: Explanation, tolerance: float = 1e-3) -> None:
    ledger = explanation.ledger
    in_volume = sum(float(array(image).sum(dtype=np.float64)) for image in explanation.relevance)
    absorbed = sum(row["absorbed_bias"] + row["absorbed_stabiliser"] + row["changed"] for row in ledger["by_layer"])
    gap = ledger["target_value"] - in_volume - absorbed - ledger["outside"]
    assert abs(gap) <= tolerance * abs(ledger["target_value"])
    for row in ledger["by_layer"]:
        assert abs(row["gap"]) <= tolerance * max(abs(row["relevance_out"]), abs(ledger["target_value"]))


def logits(model: ExplainableModel, image: sitk.Image) -> Tensor:
    network = model.module.cpu()  # an explanation has moved it where there is CUDA
    with torch.no_grad():
        return network((torch.from_numpy(array(image)) / 100).clamp(0, 1)[None, None])
