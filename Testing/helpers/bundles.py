"""Small MONAI bundles, written by the tests, and MONAI's own answer for them."""

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from torch import Tensor, nn

UNET = {
    "_target_": "UNet",
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 2,
    "channels": [4, 8],
    "strides": [2],
    "num_res_units": 1,
    "norm": "batch",
}
LOAD = {"_target_": "LoadImaged", "keys": "image"}
CHANNEL_FIRST = {"_target_": "EnsureChannelFirstd", "keys": "image"}
SIMPLE = {"_target_": "SimpleInferer"}
SOFTMAX = {"_target_": "Compose", "transforms": [{"_target_": "Activationsd", "keys": "pred", "softmax": True}]}


def metadata(
    channels: Sequence[str] = ("image",),
    classes: Sequence[str] = ("background", "lesion"),
    modality: str = "MR",
    shape: Sequence[Any] = (16, 16, 16),
    form: str = "segmentation",
    **more: Any,
) -> dict[str, Any]:
    """The content of metadata.json."""

    def entry(names: Sequence[str], sides: Sequence[Any], **facts: Any) -> dict[str, Any]:
        table = {str(n): name for n, name in enumerate(names)}
        return {"num_channels": len(names), "spatial_shape": list(sides), "channel_def": table, **facts}

    answer = [1, len(classes)] if form == "labels" else shape
    return {
        "name": "A small bundle",
        "version": "0.1.0",
        "network_data_format": {
            "inputs": {"image": entry(channels, shape, modality=modality)},
            "outputs": {"pred": entry(classes, answer, format=form)},
        },
        **more,
    }


def config(
    transforms: Sequence[Any], network: Any = UNET, inferer: Any = SIMPLE, post: Any = SOFTMAX, **more: Any
) -> dict[str, Any]:
    """The content of inference.json, with what real ones have around it."""
    return {
        "imports": ["$import glob", "$import os"],
        "bundle_root": ".",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "datalist": "$list(sorted(glob.glob(@bundle_root + '/images/*.nii.gz')))",
        "network_def": network,
        "network": "$@network_def.to(@device)",
        "preprocessing": {"_target_": "Compose", "transforms": list(transforms)},
        "inferer": inferer,
        "postprocessing": post,
        "run": ["$@evaluator.run()"],
        **more,
    }


def make_network(content: dict[str, Any]) -> nn.Module:
    """The network of a configuration with random weights, and statistics of its norms that matter."""
    torch.manual_seed(0)
    network = ConfigParser(content).get_parsed_content("network_def").eval()
    for name, buffer in network.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.2)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
    return network


def write_bundle(
    folder: Path,
    content: dict[str, Any],
    facts: dict[str, Any] | None = None,
    network: nn.Module | None = None,
    weights: str = "model.pt",
    example: Tensor | None = None,
    file: str = "inference.json",
    zipped: bool = False,
) -> Path:
    """Write a bundle; its path.

    Args:
        weights: model.pt, or model.ts, for which an `example` input is needed.
        zipped: as a zip file with the bundle's folder in it, instead of the folder.
    """
    root = folder / "small_bundle"
    (root / "configs").mkdir(parents=True, exist_ok=True)
    (root / "models").mkdir(exist_ok=True)
    (root / "configs" / "metadata.json").write_text(json.dumps(metadata() if facts is None else facts, indent=4))
    if file.endswith(".json"):
        text = json.dumps(content, indent=4)
    else:
        import yaml

        text = yaml.safe_dump(content, sort_keys=False)
    (root / "configs" / file).write_text(text)
    network = make_network(content) if network is None else network
    if weights.endswith(".ts"):
        torch.jit.trace(network, example, check_trace=False).save(root / "models" / weights)
    else:
        torch.save({"model": network.state_dict(), "epoch": 7}, root / "models" / weights)
    if not zipped:
        return root
    path = folder / "small_bundle.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member in sorted(root.rglob("*")):
            archive.write(member, member.relative_to(folder))
    return path


def their_logits(content: dict[str, Any], network: nn.Module, data: dict[str, Any]) -> Tensor:
    """What MONAI's own transforms and inferer make of these files: [1, K, i, j, k] or [1, K]."""
    parser = ConfigParser({key: value for key, value in content.items() if key not in ("imports", "datalist", "run")})
    prepared = parser.get_parsed_content("preprocessing")(data)
    with torch.no_grad():
        output = parser.get_parsed_content("inferer")(prepared["image"][None], network)
    return output.as_tensor() if hasattr(output, "as_tensor") else output
