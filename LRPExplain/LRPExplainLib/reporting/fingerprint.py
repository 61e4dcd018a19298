"""A relevance map in a few kilobytes, by which it can be compared within a tolerance.

The volume is cut into at most 12 x 12 x 12 blocks, and the relevance for and against the target is summed in each:
neither what moves from block to block nor what changes its sign goes unseen, and the sums add up to the ledger's.
"""

import base64
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCKS = 12  # along an axis


def fingerprint(values: NDArray[np.floating]) -> dict[str, Any]:
    """What a record keeps of a map [K, J, I]; see record.schema.json."""
    voxels = np.ascontiguousarray(values, "<f4")
    sums = _block_sums(voxels)
    return {
        "sha256": hashlib.sha256(voxels.tobytes()).hexdigest(),
        "voxels": list(voxels.shape),
        "blocks": list(sums.shape[1:]),
        "positive": _text(sums[0]),
        "negative": _text(sums[1]),
    }


def block_sums(mark: Mapping[str, Any]) -> NDArray[np.float64]:
    """The sums of a fingerprint: [2, k, j, i], for and (below 0) against the target.

    Raises:
        ValueError: it is damaged.
    """
    return np.stack([_numbers(mark[sign]).reshape(mark["blocks"]) for sign in ("positive", "negative")])


def distance(told: Mapping[str, Any], found: Mapping[str, Any]) -> float:
    """How far two fingerprints lie apart: sum of |differences| over the sum of |relevance| that was told.

    Infinite where the maps have different sizes, or nothing was told and something is found.
    """
    if told["voxels"] != found["voxels"] or told["blocks"] != found["blocks"]:
        return float("inf")
    a, b = block_sums(told), block_sums(found)
    apart, whole = float(np.abs(a - b).sum()), float(np.abs(a).sum())
    if whole == 0:
        return 0.0 if apart == 0 else float("inf")
    return apart / whole


def _block_sums(values: NDArray[np.floating]) -> NDArray[np.float64]:
    signs = []
    for part in (np.maximum(values, 0), np.minimum(values, 0)):
        for axis, size in enumerate(values.shape):
            count = min(BLOCKS, size)
            part = np.add.reduceat(part, np.arange(count) * size // count, axis=axis, dtype=np.float64)
        signs.append(part)
    return np.stack(signs)


def _text(sums: NDArray[np.float64]) -> str:
    return base64.b64encode(sums.astype("<f4").tobytes()).decode("ascii")


def _numbers(text: str) -> NDArray[np.float64]:
    return np.frombuffer(base64.b64decode(text, validate=True), "<f4").astype(np.float64)
