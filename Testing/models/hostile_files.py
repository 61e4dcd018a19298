"""What the suites of hostile model files share: a sound file of each format, ways to spoil it, and its refusal."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.bundles import CHANNEL_FIRST, LOAD, config, make_network, write_bundle
from helpers.programs import need_programs
from LRPExplainLib.cli import main
from LRPExplainLib.models.architectures import ARCHITECTURES
from safetensors.torch import save_file
from torch import nn

from benchmarks.vision import torchvision

Make = Callable[[Path], Path]
TINY = {"in_channels": 1, "out_channels": 2, "channels": [2, 4]}
SCALE = {"_target_": "ScaleIntensityd", "keys": "image"}


class Trap:
    """Unpickled, it leaves a file named `ran`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.folder / "ran",))


def conv() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv3d(1, 2, 3, padding=1), nn.ReLU()).eval()


def torchscript(folder: Path, network: nn.Module | None = None) -> Path:
    path = folder / "net.ts"
    torch.jit.trace(network or conv(), torch.zeros(1, 1, 4, 4, 4), check_trace=False).save(path)
    return path


def exported(folder: Path, network: nn.Module | None = None) -> Path:
    need_programs()
    path = folder / "net.pt2"
    program = torch.export.export(network or conv(), (torch.zeros(1, 1, 32, 32, 32),), strict=False)
    torch.export.save(program, path)
    return path


def onnx(folder: Path, network: nn.Module | None = None) -> Path:
    pytest.importorskip("onnx")
    torchvision()
    path = folder / "net.onnx"
    torch.onnx.export(network or conv(), (torch.zeros(1, 1, 8, 8, 8),), path, dynamo=False, opset_version=17)
    return path


def safetensors(folder: Path, network: nn.Module | None = None, **arguments: Any) -> Path:
    network = network or ARCHITECTURES["UNet3d"](**TINY)
    save_file(network.state_dict(), folder / "net.safetensors")
    card = {
        "schema": 1, "name": "x", "task": "segmentation", "weights": "net.safetensors", "inputs": [{"name": "a"}],
        "network": {"architecture": "UNet3d", "arguments": {**TINY, **arguments}},
    }  # fmt: skip
    (folder / "net.card.json").write_text(json.dumps(card))
    return folder / "net.safetensors"


def bundle(folder: Path, transforms: Any = (LOAD, CHANNEL_FIRST, SCALE), **facts: Any) -> Path:
    """A bundle; facts go into its configuration, `network` takes the place of the weights' network."""
    network = facts.pop("network_module", None) or make_network(config(transforms))
    more = {key: facts.pop(key) for key in ("zipped", "file", "facts") if key in facts}
    return write_bundle(folder, config(transforms, **facts), network=network, **more)


def rezipped(path: Path, change: Callable[[str, bytes], bytes | None], more: dict[str, bytes] | None = None) -> Path:
    """The archive with its members changed, left out (None) or added."""
    with zipfile.ZipFile(path) as archive:
        members = [(member, archive.read(member)) for member in archive.infolist()]
        root = members[0][0].filename.split("/")[0]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for member, content in members:
            changed = change(member.filename.partition("/")[2], content)
            if changed is not None:
                archive.writestr(zipfile.ZipInfo(member.filename), changed)
        for name, content in (more or {}).items():
            archive.writestr(f"{root}/{name}", content)
    return path


@pytest.fixture(autouse=True)
def nothing_ran(tmp_path):
    yield
    assert not (tmp_path / "ran").exists(), "code from the file was run"


def refused(path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The sentence with which the shell command refuses a model."""
    capsys.readouterr()
    assert main(["inspect", str(path)]) == 2
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    assert len(said.err.strip().splitlines()) == 1
    assert said.err.startswith("lrpexplain: ")
    return said.err
