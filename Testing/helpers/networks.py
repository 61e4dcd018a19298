"""Small networks with known answers, and cards for them, for the tests of the road."""

import json
import warnings
from pathlib import Path
from typing import Any

import SimpleITK as sitk
import torch
from torch import Tensor, nn

from .volumes import make_volume

RANGE = [{"type": "range", "lower": 0, "upper": 100}]


class BlobFinder(nn.Module):
    """Segments what is bright: background logit 0.25, blob logit the local mean; exact by construction."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        self.smooth = nn.Conv3d(channels, 1, 3, padding=1, bias=False)
        self.head = nn.Conv3d(1, 2, 1)
        nn.init.constant_(self.smooth.weight, 1 / 27 / channels)
        with torch.no_grad():
            self.head.weight[:, 0] = torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1)
            self.head.bias[:] = torch.tensor([0.25, 0.0])

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.smooth(x)))


def segmenter(channels: int = 1, outputs: int = 3) -> nn.Module:
    """A small random segmentation network with biases, so that some relevance is absorbed; it predicts every class."""
    torch.manual_seed(1)
    network = nn.Sequential(
        nn.Conv3d(channels, 6, 3, padding=1), nn.ReLU(), nn.Conv3d(6, 6, 3, padding=1), nn.BatchNorm3d(6), nn.ReLU(),
        nn.Conv3d(6, outputs, 1),
    ).eval()  # fmt: skip
    with torch.no_grad():  # no class is ahead of the others on a usual volume
        voxels = torch.from_numpy(sitk.GetArrayFromImage(make_volume())) / 100
        network[-1].bias -= network(voxels.expand(1, channels, *voxels.shape)).mean((0, 2, 3, 4))
    return network


def classifier(outputs: int = 2) -> nn.Module:
    """A small random classification network for any size."""
    torch.manual_seed(2)
    return nn.Sequential(
        nn.Conv3d(1, 4, 3, stride=2, padding=1), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, outputs)
    ).eval()


def fixed_size() -> nn.Module:
    """A network that takes 8 x 8 x 8 voxels and nothing else."""
    return nn.Sequential(nn.Flatten(), nn.Linear(512, 2)).eval()


def save_model(folder: Path, module: nn.Module, name: str = "net", **card: Any) -> Path:
    """Write TorchScript, and a card if any of its entries is given."""
    path = folder / f"{name}.ts"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(module.eval()).save(path)
    if card:
        content = {"schema": 1, "name": name, "task": "segmentation", "weights": path.name, "inputs": [{"name": "T1"}]}
        (folder / f"{name}.card.json").write_text(json.dumps({**content, **card}))
    return path


def classes(*names: str, activation: str = "softmax") -> dict[str, Any]:
    """The output entry of a card."""
    return {"activation": activation, "classes": [{"name": name} for name in names]}
