"""Whether tensors that are shared with the caller are still what they were."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor


class Unwritten:
    """Tensors as they are now. PyTorch counts the writes to each, an optimiser's and `load_state_dict`'s among them;
    not those to what was made in inference mode, by way of `.data`, or by a batch norm in training mode.
    """

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        self._counted = [(tensor, tensor._version) for tensor in tensors if not tensor.is_inference()]

    def holds(self) -> bool:
        """Whether none of them has been written to since."""
        return all(tensor._version == count for tensor, count in self._counted)
