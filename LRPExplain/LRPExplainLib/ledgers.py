"""The ledger as explanation.json has it; each figure is summed from its own terms."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray


def ledger_facts(
    target_value: float,
    images: Sequence[sitk.Image],
    outside: Sequence[float],
    account: Mapping[str, Any],
    unseen: Sequence[NDArray[np.bool_]] | None = None,
) -> dict[str, Any]:
    """JSON-ready.

    Args:
        target_value: what is shared out; not 0.
        images: relevance on the source volumes.
        outside: relevance outside each one's field of view.
        account: what else became of it: "absorbed", "absorbed_bias", "absorbed_stabiliser", "changed", "by_layer".
        unseen: per volume, bool [k, j, i]: voxels that the model did not see; None: it saw all.
    """
    arrays = [sitk.GetArrayViewFromImage(image) for image in images]
    in_volume = [float(array.sum(dtype=np.float64)) for array in arrays]
    unseen = [np.zeros(array.shape, dtype=bool) for array in arrays] if unseen is None else unseen
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
        # which of several volumes mattered: shares of the relevance in all of them, and of its absolute values
        "share_by_input": _shares(in_volume),
        "absolute_share_by_input": _shares([float(np.abs(array).sum(dtype=np.float64)) for array in arrays]),
        "outside_by_input": list(outside),
        # cropped away, or skipped between the model's coarser voxels: how many voxels, and what relevance they have
        "unseen_voxels_by_input": [int(mask.sum()) for mask in unseen],
        "unseen_relevance": sum(float(np.abs(array[mask]).sum()) for array, mask in zip(arrays, unseen, strict=True)),
        "absorbed_bias": account["absorbed_bias"],
        "absorbed_stabiliser": account["absorbed_stabiliser"],
        "changed": account["changed"],
        "by_layer": account["by_layer"],
    }


def _shares(parts: Sequence[float]) -> list[float]:
    whole = sum(parts)
    return [part / whole if whole else 0.0 for part in parts]
