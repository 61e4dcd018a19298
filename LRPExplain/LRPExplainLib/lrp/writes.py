"""Whether tensors that are shared with the caller are still what they were."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor
from torch.utils.weak import TensorWeakRef


class Unwritten:
    """Tensors as they are now. PyTorch counts the writes to each, an optimiser's and `load_state_dict`'s among them;
    not those to what was made in inference mode, by way of `.data`, or by a batch norm in training mode. What nobody
    else holds any more is let go of, and cannot be written to.
    """

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        self._counted = [(TensorWeakRef(tensor), tensor._version) for tensor in tensors if not tensor.is_inference()]

    def holds(self) -> bool:
        """Whether none of them has been written to since."""
        held = ((reference(), count) for reference, count in self._counted)
        return all(tensor is None or tensor._version == count for tensor, count in held)
