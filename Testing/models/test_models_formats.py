"""TorchScript with MONAI's metadata, torch.export, ONNX: the same network, and what the file says of itself."""

import builtins
import json
import logging
import re
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.bundles import CHANNEL_FIRST, LOAD, config, make_network, metadata, write_bundle
from helpers.programs import need_programs
from LRPExplainLib.errors import UserError
from LRPExplainLib.explain import explain
from LRPExplainLib.models import load_model
from LRPExplainLib.models.formats import exported
from monai.bundle import ckpt_export
from monai.data import save_net_with_metadata
from torch import nn

from benchmarks.vision import torchvision

X = torch.rand(1, 1, 10, 12, 14, generator=torch.Generator().manual_seed(0))
INTENSITY = [{"_target_": "ScaleIntensityRanged", "keys": "image", "a_min": 0, "a_max": 80, "b_min": 0, "b_max": 1}]


@pytest.fixture
def network() -> nn.Module:
    return make_network(config([]))


def card(path: Path, **more: object) -> Path:
    """A card of ours beside a model."""
    content = {"schema": 1, "name": "Mine", "task": "segmentation", "weights": path.name, "inputs": [{"name": "T1"}]}
    file = path.with_name(f"{path.stem}.card.json")
    file.write_text(json.dumps({**content, "output": {"classes": [{"name": "no"}, {"name": "yes"}]}, **more}))
    return file


def program(path: Path, network: nn.Module) -> Path:
    """A torch.export program for any size."""
    need_programs()
    sizes = dict.fromkeys((2, 3, 4), torch.export.Dim.AUTO)
    logging.disable(logging.WARNING)
    made = torch.export.export(network, (torch.zeros(1, 1, 16, 16, 16),), dynamic_shapes=(sizes,), strict=False)
    torch.export.save(made, path)
    logging.disable(logging.NOTSET)
    return path


def onnx(path: Path, network: nn.Module) -> Path:
    pytest.importorskip("onnx")
    torchvision()
    torch.onnx.export(network, (X,), path, dynamo=False, opset_version=17)
    return path


def script(path: Path, network: nn.Module) -> Path:
    torch.jit.trace(network, X, check_trace=False).save(path)
    return path


FORMATS = {"net.pt2": program, "net.onnx": onnx, "net.ts": script}


@pytest.mark.parametrize("axes", ["kji", "ijk"])
@pytest.mark.parametrize("name", FORMATS)
def test_any_format_with_a_card_of_ours(tmp_path, network, name, axes):
    path = FORMATS[name](tmp_path / name, network)
    card(path, preprocessing={"axes": axes})
    model = load_model(path)
    assert model.card.output.classes[1].name == "yes"
    assert not any(part.training for part in model.module.modules())
    order = (0, 1, 4, 3, 2) if axes == "ijk" else (0, 1, 2, 3, 4)
    x = X.permute(order)
    with torch.no_grad():
        torch.testing.assert_close(model.module(x), network(X).permute(order), atol=1e-4, rtol=1e-4)


class Two(nn.Module):
    """T1 and FLAIR apart."""

    def __init__(self) -> None:
        super().__init__()
        self.t1, self.flair = nn.Conv3d(1, 2, 1), nn.Conv3d(1, 2, 1)

    def forward(self, t1: torch.Tensor, flair: torch.Tensor) -> torch.Tensor:
        return (self.t1(t1) + self.flair(flair)).relu()


class Together(nn.Module):
    """What the refusal says to do."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Two()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x[:, :1], x[:, 1:])


def write_two(path: Path) -> None:
    if path.suffix == ".ts":
        torch.jit.script(Two().eval()).save(path)
    elif path.suffix == ".pt2":
        need_programs()
        torch.export.save(torch.export.export(Two().eval(), (X, X)), path)
    else:
        pytest.importorskip("onnx")
        torchvision()
        torch.onnx.export(Two(), (X, X), path, dynamo=False, opset_version=17, input_names=["t1", "flair"])


@pytest.mark.parametrize("name", FORMATS)
def test_a_network_of_several_inputs_is_refused_with_what_to_do(tmp_path, name):
    path = tmp_path / name
    write_two(path)
    with pytest.raises(UserError, match=r"takes 2 inputs \(t1, flair\), but a model is given one tensor") as caught:
        load_model(path)
    assert "\n" not in str(caught.value)
    torch.jit.script(Together().eval()).save(tmp_path / "together.ts")
    assert load_model(tmp_path / "together.ts").module(X.repeat(1, 2, 1, 1, 1)).shape == (1, 2, *X.shape[2:])


def test_what_has_a_default_is_no_further_input(tmp_path):
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv3d(1, 2, 1)

        def forward(self, x: torch.Tensor, scale: float = 2.0) -> torch.Tensor:
            return scale * self.layer(x)

    torch.jit.script(Scaled().eval()).save(tmp_path / "net.ts")
    assert load_model(tmp_path / "net.ts").module(X).shape[1] == 2


def test_an_exported_program_is_explained(tmp_path, network):
    import SimpleITK as sitk

    path = program(tmp_path / "net.pt2", network)
    card(path)
    array = 4 * np.random.default_rng(0).random((12, 16, 8), dtype=np.float32)
    explanation = explain(path, [sitk.GetImageFromArray(array)], target="yes")
    assert explanation.ledger["relative_gap"] < 1e-3
    assert explanation.model["card"]["name"] == "Mine"


def test_without_onnx2torch_one_sentence_says_what_to_install(tmp_path, network, monkeypatch):
    path = onnx(tmp_path / "net.onnx", network)
    real = builtins.__import__

    def absent(name, *args, **kwargs):
        if name.split(".")[0] == "onnx2torch":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr("importlib.import_module", lambda name: absent(name))
    with pytest.raises(UserError, match="pip install onnx onnx2torch"):
        load_model(path)


def test_an_onnx2torch_that_cannot_be_imported_says_why(tmp_path, network, monkeypatch):
    path = onnx(tmp_path / "net.onnx", network)

    def broken(name):
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr("importlib.import_module", broken)
    with pytest.raises(
        UserError, match=r"torchvision of PyTorch's own build \(operator torchvision::nms does not exist\)"
    ):
        load_model(path)


def test_constants_that_an_onnx_file_keeps_once_for_several_layers(tmp_path):
    """As of an untrained network, whose biases are all 0: PyTorch copies the first by Identity for the others."""
    layers = [nn.Conv3d(1, 2, 1), nn.Conv3d(2, 2, 1), nn.Conv3d(2, 2, 1)]
    for layer in layers:
        nn.init.zeros_(layer.bias)
    network = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
    path = onnx(tmp_path / "net.onnx", network)
    import onnx as library

    assert [node.op_type for node in library.load(path).graph.node].count("Identity") == 2
    with torch.no_grad():
        torch.testing.assert_close(load_model(path).module(X), network(X))


def test_a_network_of_onnx_runs_without_warnings(tmp_path):
    class Sliced(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[:, :, 1:-1] * 2

    path = onnx(tmp_path / "net.onnx", Sliced())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_model(path).module(X).shape[2] == X.shape[2] - 2


def test_onnx_of_an_opset_that_cannot_be_read_is_refused_with_the_export_that_can(tmp_path, network):
    path = onnx(tmp_path / "net.onnx", network)
    import onnx as library

    model = library.load(path)
    model.graph.node[-1].op_type, model.opset_import[0].version = "Gelu", 20
    library.save(model, path)
    with pytest.raises(UserError, match=r"cannot be converted .*Gelu.*dynamo=False, opset_version=17"):
        load_model(path)
    path.write_bytes(b"")
    with pytest.raises(UserError, match=r"there is no network in it\): export it again"):
        load_model(path)


def test_metadata_within_torchscript(tmp_path, network):
    """As save_net_with_metadata and ckpt_export leave it."""
    facts = metadata(["T1"], ["background", "tumour"])
    traced = torch.jit.trace(network, X, check_trace=False)
    save_net_with_metadata(traced, str(tmp_path / "net.ts"), meta_values=facts)
    model = load_model(tmp_path / "net.ts")
    assert [entry.name for entry in model.card.output.classes] == ["background", "tumour"]
    assert (model.card.inputs[0].name, model.card.inputs[0].modality) == ("T1", "MR")
    assert model.card.preprocessing.axes == "ijk"  # MONAI's order
    assert "says nothing about intensities" in model.card.notes[0]
    x = X.permute(0, 1, 4, 3, 2)
    torch.testing.assert_close(model.module(x), network(X).permute(0, 1, 4, 3, 2))


@pytest.mark.parametrize("category", [DeprecationWarning, FutureWarning])
def test_torchscript_is_loaded_without_a_warning(tmp_path, network, monkeypatch, category):
    """That it is deprecated PyTorch says since 2.10, and since 2.14 in a category that Python prints in a terminal."""
    path, load = tmp_path / "net.ts", torch.jit.load
    torch.jit.trace(network, X, check_trace=False).save(path)

    def loudly(*given, **how):
        warnings.warn("`torch.jit.load` is deprecated. Please switch to `torch.export`.", category, stacklevel=2)
        return load(*given, **how)

    monkeypatch.setattr(torch.jit, "load", loudly)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_model(path).module(X).shape == network(X).shape


def test_a_whole_configuration_within_torchscript(tmp_path):
    """MONAI's own export of a bundle, moved elsewhere."""
    content = config([LOAD, CHANNEL_FIRST, *INTENSITY])
    root = write_bundle(tmp_path, content)
    ckpt_export(
        net_id="network_def",
        filepath=str(tmp_path / "alone.ts"),
        ckpt_file=str(root / "models" / "model.pt"),
        meta_file=str(root / "configs" / "metadata.json"),
        config_file=str(root / "configs" / "inference.json"),
        key_in_ckpt="model",
    )
    model, of_bundle = load_model(tmp_path / "alone.ts"), load_model(root)
    assert model.card.preprocessing == of_bundle.card.preprocessing
    assert model.card.preprocessing.intensity[0]["upper"] == 80
    assert model.card.output == of_bundle.card.output
    x = X.permute(0, 1, 4, 3, 2)
    torch.testing.assert_close(model.module(x), of_bundle.module(x))


def test_metadata_beside_torchscript(tmp_path, network):
    path = script(tmp_path / "net.ts", network)
    (tmp_path / "metadata.json").write_text(json.dumps(metadata(classes=["a", "b"])))
    assert [entry.name for entry in load_model(path).card.output.classes] == ["a", "b"]
    card(path)
    assert load_model(path).card.name == "Mine"  # a card of ours goes first


def test_torchscript_without_metadata_keeps_the_defaults(tmp_path, network):
    traced = torch.jit.trace(network, X, check_trace=False)
    save_net_with_metadata(traced, str(tmp_path / "net.ts"), meta_values={"about": "nothing of use"})
    assert not load_model(tmp_path / "net.ts").card.stated


OLDER = {  # the layouts of older PyTorch
    "2.7": ("serialized_exported_program.json", "serialized_state_dict.pt", "serialized_constants.pt", "version"),
    "2.8": ("net/models/model.json", "net/data/weights/model.pt", "net/data/constants/model.pt", "net/version"),
}


@pytest.mark.parametrize("version", OLDER)
def test_a_program_of_an_older_pytorch_is_said_to_be_one(tmp_path, version, monkeypatch):
    monkeypatch.setattr(exported, "READABLE", True)
    with zipfile.ZipFile(tmp_path / "net.pt2", "w") as archive:
        for name in OLDER[version]:
            archive.writestr(name, "{}")
    with pytest.raises(UserError, match=r"exported by PyTorch 2\.8 or older.*again with PyTorch 2\.9 or newer"):
        load_model(tmp_path / "net.pt2")


def test_an_older_pytorch_says_that_it_opens_no_program(tmp_path, monkeypatch):
    monkeypatch.setattr(exported, "READABLE", False)
    (tmp_path / "net.pt2").write_bytes(b"PK")
    with pytest.raises(UserError, match=rf"this is {re.escape(torch.__version__)}: update PyTorch, or .* TorchScript"):
        load_model(tmp_path / "net.pt2")


def test_half_precision_programs_are_refused(tmp_path):
    need_programs()
    path = tmp_path / "half.pt2"
    made = torch.export.export(nn.Conv3d(1, 2, 1).half(), (torch.zeros(1, 1, 4, 4, 4).half(),), strict=False)
    torch.export.save(made, path)
    with pytest.raises(UserError, match=r"computes with torch.float16.*export it in float32"):
        load_model(path)
