"""What stands between our tensor and a network trained on another layout: exact, and part of the explained graph.

Our tensors have the spatial axes k, j, i ([D, H, W], as SimpleITK and PyTorch have them) and a channel per volume. A
card may say that the network wants i, j, k (MONAI, nibabel), a volume repeated over several channels (a grey X-ray for
a network made for colour), or a fixed number of voxels. Each is linear in the voxels, so relevance passes it without
loss. Hooks do it rather than a wrapper: the names of the layers, which rules refer to, stay as they are.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .card import ModelCard

_LINEAR = {3: "linear", 4: "bilinear", 5: "trilinear"}


def adapt(module: nn.Module, card: ModelCard) -> nn.Module:
    """Let a network take our tensors, as its card says; the network itself, with hooks."""
    repeats = [entry.channels for entry in card.inputs]
    resize = card.preprocessing.resize
    if any(n > 1 for n in repeats):
        module.register_forward_pre_hook(lambda _, args: (_repeated(args[0], repeats), *args[1:]), prepend=True)
    if resize:
        _resize(module, resize)
    if card.preprocessing.axes == "ijk":
        module.register_forward_pre_hook(lambda _, args: (_reversed(args[0]), *args[1:]), prepend=True)
        module.register_forward_hook(lambda _, args, output: _reversed(output))
    return module


def _resize(module: nn.Module, resize: Mapping[str, Any]) -> None:
    """Bring the input to the network's number of voxels, and an output with as many voxels back to the input's."""
    size, mode = list(resize["size"]), resize.get("mode", "area")
    before: list[Sequence[int]] = []

    def enlarge(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        before[:] = [args[0].shape[2:]]
        return (_interpolated(args[0], size, mode), *args[1:])

    def restore(_: nn.Module, args: tuple[Tensor, ...], output: Any) -> Any:
        if isinstance(output, Tensor) and list(output.shape[2:]) == size:
            return _interpolated(output, list(before[0]), "linear")
        return output

    module.register_forward_pre_hook(enlarge, prepend=True)
    module.register_forward_hook(restore)


def _interpolated(x: Tensor, size: list[int], mode: str) -> Tensor:
    if mode == "linear":
        return F.interpolate(x, size=size, mode=_LINEAR[x.dim()], align_corners=False)
    return F.interpolate(x, size=size, mode=mode)


def _repeated(x: Tensor, repeats: Sequence[int]) -> Tensor:
    parts = [x[:, n : n + 1].expand(-1, count, *x.shape[2:]) for n, count in enumerate(repeats)]
    return torch.cat(parts, dim=1)


def _reversed(x: Any) -> Any:
    if not isinstance(x, Tensor) or x.dim() < 4:
        return x
    return x.permute(0, 1, *reversed(range(2, x.dim()))).contiguous()
