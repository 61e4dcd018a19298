"""Networks that a model card may name, so that a weights file without code (safetensors) can be loaded.

Every architecture is a plain :class:`torch.nn.Module` whose constructor takes JSON values as keyword arguments:
the ``network`` entry of the card is ``{"architecture": "UNet3d", "arguments": {"channels": [8, 16]}}``.
"""

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

__all__ = ["ARCHITECTURES", "Classifier3d", "UNet3d"]


class UNet3d(nn.Module):
    """A 3D U-Net: input ``[N, in_channels, D, H, W]``, output logits ``[N, out_channels, D, H, W]``.

    Each of D, H and W must be a multiple of :attr:`size_multiple` (2 to the number of levels below the first).

    The parts are chosen for legible relevance maps as well as for segmentation: batch norm folds exactly into the
    convolution before it; average pooling and trilinear resampling are linear and treat all voxels alike, so they
    leave neither the sparse pattern of max pooling nor the checkerboard of strided convolutions in the map
    (Montavon, Samek and Müller 2018, "Methods for interpreting and understanding deep neural networks").

    Args:
        in_channels: number of input volumes.
        out_channels: number of classes.
        channels: width of each level, finest first; at least one.
        norm: "batch", or "instance" (with a factor and shift per channel).
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 2,
        channels: Sequence[int] = (8, 16, 32, 64),
        norm: str = "batch",
    ) -> None:
        super().__init__()
        if not channels:
            raise ValueError("UNet3d needs the width of at least one level in 'channels'.")
        if norm not in _NORMS:
            raise ValueError(f"UNet3d knows no norm '{norm}', only {', '.join(_NORMS)}.")
        widths = [in_channels, *channels]
        self.size_multiple = 2 ** (len(channels) - 1)
        self.encoder = nn.ModuleList(
            _double_conv(wide, wider, norm) for wide, wider in zip(widths, channels, strict=False)
        )
        self.decoder = nn.ModuleList(
            _double_conv(fine + coarse, fine, norm) for fine, coarse in itertools.pairwise(channels)
        )
        self.down = nn.AvgPool3d(2)
        self.up = nn.Upsample(scale_factor=2, mode="trilinear", align_corners=False)
        self.head = nn.Conv3d(channels[0], out_channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        skips: list[Tensor] = []
        for level, block in enumerate(self.encoder):
            x = block(x if level == 0 else self.down(x))
            skips.append(x)
        skips.pop()
        for block, skip in zip(reversed(self.decoder), reversed(skips), strict=True):
            x = block(torch.cat([skip, self.up(x)], dim=1))
        return self.head(x)


class Classifier3d(nn.Module):
    """A small 3D classifier: input ``[N, in_channels, D, H, W]``, output logits ``[N, classes]``.

    Convolutions with batch norm and ReLU, halved in between by averages; the largest value of each feature anywhere
    in the volume decides, so that a small structure counts as much as a large one.

    Args:
        in_channels: number of input volumes.
        classes: number of classes.
        channels: width of each level, finest first; at least one.
    """

    def __init__(self, in_channels: int = 1, classes: int = 2, channels: Sequence[int] = (8, 16, 32, 64)) -> None:
        super().__init__()
        if not channels:
            raise ValueError("Classifier3d needs the width of at least one level in 'channels'.")
        layers: list[nn.Module] = []
        for level, (wide, wider) in enumerate(itertools.pairwise([in_channels, *channels])):
            layers += [nn.AvgPool3d(2)] if level else []
            layers += [nn.Conv3d(wide, wider, kernel_size=3, padding=1, bias=False), nn.BatchNorm3d(wider), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(channels[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).amax(dim=(2, 3, 4)))


_NORMS: dict[str, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm3d,
    "instance": lambda channels: nn.InstanceNorm3d(channels, affine=True),
}


def _double_conv(in_channels: int, out_channels: int, norm: str) -> nn.Sequential:
    """Two 3x3x3 convolutions, each with a norm (hence without a bias of its own) and ReLU."""
    return nn.Sequential(
        nn.Conv3d(in_channels, out_channels, kernel_size=3, padding=1, bias=False),
        _NORMS[norm](out_channels),
        nn.ReLU(),
        nn.Conv3d(out_channels, out_channels, kernel_size=3, padding=1, bias=False),
        _NORMS[norm](out_channels),
        nn.ReLU(),
    )


ARCHITECTURES: dict[str, type[nn.Module]] = {"Classifier3d": Classifier3d, "UNet3d": UNet3d}
