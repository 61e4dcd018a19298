"""The ledger as explanation.json has it; each figure is summed from its own terms."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import SimpleITK as sitk


def ledger_facts(
    target_value: float, images: Sequence[sitk.Image], outside: Sequence[float], account: Mapping[str, Any]
) -> dict[str, Any]:
    """JSON-ready.

    Args:
        target_value: what is shared out; not 0.
        images: relevance on the source volumes.
        outside: relevance outside each one's field of view.
        account: what else became of it: "absorbed", "absorbed_bias", "absorbed_stabiliser", "changed", "by_layer".
    """
    arrays = [sitk.GetArrayViewFromImage(image) for image in images]
    in_volume = [float(array.sum(dtype=np.float64)) for array in arrays]
    gap = target_value - sum(in_volume) - account["absorbed"] - sum(outside)
    return {
        "target_value": target_value,
        "in_volume": sum(in_volume),
        "absorbed": account["absorbed"],
        "outside": sum(outside),
        # what speaks for and against the target; their sum is in_volume
        "in_volume_positive": sum(float(array.sum(dtype=np.float64, where=array > 0)) for array in arrays),
        "in_volume_negative": sum(float(array.sum(dtype=np.float64, where=array < 0)) for array in arrays),
        "gap": gap,
        "relative_gap": abs(gap / target_value),
        "in_volume_by_input": in_volume,
        "outside_by_input": list(outside),
        "absorbed_bias": account["absorbed_bias"],
        "absorbed_stabiliser": account["absorbed_stabiliser"],
        "changed": account["changed"],
        "by_layer": account["by_layer"],
    }
