"""A fixed number of voxels whatever the image's own: a card's `resize`, as the libraries do it that train so.

stretch  each axis by itself (MONAI's Resize)
crop     the largest central part of the wanted shape, resized (torchxrayvision's XRayCenterCrop and XRayResizer);
         with "shorter": the shorter side brought to that many, then cropped (torchvision's Resize and CenterCrop)
pad      the longer side brought to what is wanted, the rest padded with 0 on both sides (MONAI's
         Resize(size_mode="longest") and SpatialPad)
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

_LINEAR = {3: "linear", 4: "bilinear", 5: "trilinear"}


class Resize:
    """
    Attributes:
        size: of what comes out, along the network's own axes.
    """

    def __init__(self, wishes: Mapping[str, Any]) -> None:
        self.size: list[int] = list(wishes["size"])
        self._mode: str = wishes.get("mode", "area")
        self._aspect: str = wishes.get("aspect", "stretch")
        self._shorter: int | None = wishes.get("shorter")

    def __call__(self, x: Tensor) -> Tensor:
        """[N, C, ...] -> [N, C, *size]; 0 where padded."""
        if self._aspect == "crop" and self._shorter is None:
            x = _central(x, self._part(x.shape[2:]))
        return _framed(_resampled(x, self._inner(x.shape[2:]), self._mode), self.size)

    def undone(self, output: Tensor, shape: Sequence[int]) -> Tensor:
        """A segmentation [N, K, *size], linearly on the voxels of an image of this shape, of which nothing was cut."""
        inner = self._inner(shape)
        for axis, (n, whole) in enumerate(zip(inner, self.size, strict=True), 2):
            output = output.narrow(axis, (whole - n) // 2, n)
        return _resampled(output, shape, "linear")

    def _part(self, shape: Sequence[int]) -> list[int]:
        scale = min(n / wanted for n, wanted in zip(shape, self.size, strict=True))
        return [min(n, max(1, round(scale * wanted))) for n, wanted in zip(shape, self.size, strict=True)]

    def _inner(self, shape: Sequence[int]) -> list[int]:
        """To what the image itself is resized, before it is cut or padded to what is wanted."""
        if self._aspect == "pad":
            scale = min(wanted / n for n, wanted in zip(shape, self.size, strict=True))
            return [max(1, round(scale * n)) for n in shape]
        if self._aspect == "crop" and self._shorter is not None:
            return [int(self._shorter * n / min(shape)) for n in shape]
        return self.size


def _central(x: Tensor, part: Sequence[int]) -> Tensor:
    for axis, n in enumerate(part, 2):
        x = x.narrow(axis, x.shape[axis] // 2 - n // 2, n)
    return x


def _framed(x: Tensor, size: Sequence[int]) -> Tensor:
    """Padded with 0 on both sides, or cut, to this size."""
    missing = [wanted - n for n, wanted in zip(x.shape[2:], size, strict=True)]
    for axis, n in enumerate(missing, 2):
        if n < 0:
            x = x.narrow(axis, round(-n / 2), size[axis - 2])
    padding = [side for n in reversed(missing) for side in (max(n, 0) // 2, max(n, 0) - max(n, 0) // 2)]
    return F.pad(x, padding) if any(padding) else x


def _resampled(x: Tensor, size: Sequence[int], mode: str) -> Tensor:
    size = list(size)
    if list(x.shape[2:]) == size:
        return x
    if mode == "linear":
        return F.interpolate(x, size=size, mode=_LINEAR[x.dim()], align_corners=False)
    if mode == "linear-antialiased":
        return _antialiased(x, size)
    return F.interpolate(x, size=size, mode=mode)


def _antialiased(x: Tensor, size: Sequence[int]) -> Tensor:
    """PyTorch knows it of two axes: of three the first is done after the others, which by then are one."""
    if len(size) == 2:
        return F.interpolate(x, size=list(size), mode="bilinear", antialias=True)
    depth, height, width = x.shape[2], size[1], size[2]
    x = F.interpolate(x.flatten(1, 2), size=[height, width], mode="bilinear", antialias=True)
    x = x.unflatten(1, (-1, depth)).flatten(3)
    return F.interpolate(x, size=[size[0], height * width], mode="bilinear", antialias=True).unflatten(
        3, (height, width)
    )
