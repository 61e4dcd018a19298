"""What stands between our tensor and a network trained on another layout: exact, and part of the explained graph.

Our tensors have the spatial axes k, j, i ([D, H, W], as SimpleITK and PyTorch have them) and a channel per volume. A
card may say that the network wants i, j, k (MONAI, nibabel), a volume repeated over several channels (a grey X-ray for
a network made for colour), each with its own mean and standard deviation, or a fixed number of voxels. Each is linear
in the voxels, so relevance passes it without loss; what the means subtract has no part in it, as if the network had
been given what comes out.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .. import lrp
from .card import ModelCard
from .resizing import Resize


def captured(module: nn.Module, x: Tensor) -> lrp.Graph:
    """The network as a graph that returns scores (`lrp.to_scores`): what a card resizes back is scores as well."""
    return lrp.to_scores(lrp.capture(module, x), resampled=isinstance(module, Adapted) and module.resizes)


def adapt(module: nn.Module, card: ModelCard) -> nn.Module:
    """A network that takes our tensors, as its card says; the network itself where it does already."""
    adapted = Adapted(module, card)
    return adapted if adapted.needed else module


class Adapted(nn.Module):
    """A network between a change of its input's layout and, for answers in the same layout, the change back.

    Input [N, volumes, k, j, i] or [N, volumes, j, i]. The names of its weights are the network's own, since rules
    refer to layers by them.

    Attributes:
        turned: whether the network has the spatial axes in the opposite order.
    """

    def __init__(self, network: nn.Module, card: ModelCard) -> None:
        super().__init__()
        self.network = network
        slices = 2 * (card.preprocessing.slices or {}).get("neighbours", 0) + 1
        each = [entry for entry in card.inputs for _ in range(entry.width * slices)]  # channels of our tensors
        self._repeats = [entry.channels for entry in each]
        self._resize = Resize(card.preprocessing.resize) if card.preprocessing.resize else None
        self._mean = [value for entry in each for value in entry.mean or [0.0] * entry.channels]
        self._std = [value for entry in each for value in entry.std or [1.0] * entry.channels]
        self.turned = card.preprocessing.axes == "ijk"
        self.training = network.training

    @property
    def resizes(self) -> bool:
        return self._resize is not None

    @property
    def needed(self) -> bool:
        return self.turned or self.resizes or self._standardises or any(n > 1 for n in self._repeats)

    @property
    def _standardises(self) -> bool:
        return any(self._mean) or set(self._std) - {1.0} != set()

    def forward(self, x: Tensor) -> Any:
        if self.turned:
            x = _reversed(x)
        before = x.shape[2:]
        if self._resize is not None:
            x = self._resize(x)
        if any(n > 1 for n in self._repeats):
            x = _repeated(x, self._repeats)
        if self._standardises:
            x = _standardised(x, self._mean, self._std)
        output = self.network(x)
        if self._resize is not None and isinstance(output, Tensor) and list(output.shape[2:]) == self._resize.size:
            output = self._resize.undone(output, before)
        return _reversed(output) if self.turned and isinstance(output, Tensor) else output

    def named_parameters(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, nn.Parameter]]:
        return self.network.named_parameters(*args, **kwargs)

    def named_buffers(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, Tensor]]:
        return self.network.named_buffers(*args, **kwargs)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        return self.network.state_dict(*args, **kwargs)


def _repeated(x: Tensor, repeats: Sequence[int]) -> Tensor:
    parts = [x[:, n : n + 1].expand(-1, count, *x.shape[2:]) for n, count in enumerate(repeats)]
    return torch.cat(parts, dim=1)


def _standardised(x: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(x - mean) / std for each channel, as torchvision's Normalize does it."""
    each = (1, -1, *[1] * (x.dim() - 2))
    return (x - x.new_tensor(mean).reshape(each)) / x.new_tensor(std).reshape(each)


def _reversed(x: Tensor) -> Tensor:
    """With the spatial axes in the opposite order."""
    return x.permute(0, 1, *reversed(range(2, x.dim()))).contiguous() if x.dim() > 3 else x
