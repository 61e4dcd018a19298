"""Configurations of MONAI's own model zoo, filled with random weights; they lie beside this checkout, or nowhere."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from LRPExplainLib.models import ExplainableModel, load_model, trust_request
from monai.bundle import ConfigParser
from monai.networks.nets import torchvision_fc

from benchmarks.vision import torchvision

ROOT = Path(__file__).resolve().parents[2]
CT = {"orientation": "RAS", "resampling": "first-voxel", "interpolation": "linear", "intensity_first": False}
WINDOW = {"size": [96, 96, 96], "overlap": 0.5, "placement": "monai", "blending": "constant"}

# What each is known to ask for: task, inputs, number of classes, activation, and parts of its preprocessing.
ZOO: dict[str, tuple[str, list[str], int, str, dict[str, Any]]] = {
    "brats_mri_segmentation": (
        "segmentation", ["T1c", "T1", "T2", "FLAIR"], 3, "sigmoid",
        {"intensity": ({"type": "zscore", "nonzero": True},), "window": {**WINDOW, "size": [240, 240, 160]}}),
    "spleen_ct_segmentation": (
        "segmentation", ["image"], 2, "softmax",
        {**CT, "spacing": (1.5, 1.5, 2.0), "window": WINDOW,
         "intensity": ({"type": "range", "lower": -57, "upper": 164, "clip": True, "to": [0, 1]},)}),
    "swin_unetr_btcv_segmentation": (
        "segmentation", ["image"], 14, "softmax",
        {**CT, "spacing": (1.5, 1.5, 2.0), "window": WINDOW,
         "intensity": ({"type": "range", "lower": -175, "upper": 250, "clip": True, "to": [0, 1]},)}),
    "wholeBody_ct_segmentation": (
        "segmentation", ["image"], 105, "softmax",
        {**CT, "spacing": (1.5, 1.5, 1.5),
         "window": {**WINDOW, "overlap": 0.25, "blending": "gaussian", "padding": "replicate"},
         "intensity": ({"type": "zscore", "nonzero": True}, {"type": "minmax", "to": [-1, 1]})}),
    "breast_density_classification": (
        "classification", ["image"], 4, "sigmoid",
        {"slices": {"axis": "k"}, "resize": {"size": [299, 299], "mode": "area"},
         "intensity": ({"type": "minmax", "to": [0, 1]},)}),
    "classification_template": (
        "classification", ["image"], 4, "softmax",
        {"slices": {"axis": "k"}, "intensity": ({"type": "minmax", "to": [0, 1]},)}),
}  # fmt: skip


def zoo() -> Path | None:
    named = os.environ.get("LRPEXPLAIN_MODEL_ZOO")
    roots = [Path(named)] if named else [ROOT.parent / "model-zoo", ROOT.parent / "shared" / "model-zoo"]
    return next(
        (folder for root in roots for folder in (root / "models", root) if (folder / next(iter(ZOO))).is_dir()), None
    )


@pytest.fixture(params=ZOO)
def bundle(request, tmp_path, monkeypatch) -> Path:
    """A configuration of the zoo with random weights."""
    folder = zoo()
    if folder is None:
        pytest.skip("needs MONAI's model zoo beside this checkout, or LRPEXPLAIN_MODEL_ZOO")
    vision = torchvision()
    if request.param == "breast_density_classification":
        if vision is None:
            pytest.skip("needs torchvision")
        monkeypatch.setattr(torchvision_fc, "models", vision.models)
    path = tmp_path / request.param
    shutil.copytree(folder / request.param, path)
    (path / "models").mkdir(exist_ok=True)
    configs = [path / "configs" / f"inference.{suffix}" for suffix in ("json", "yaml")]
    content = ConfigParser.load_config_file(next(file for file in configs if file.is_file()))
    network = {key: value for key, value in content["network_def"].items() if key != "img_size"}
    network |= {"pretrained": False} if "pretrained" in network else {}
    parser = ConfigParser({"network_def": network, "num_classes": content.get("num_classes")})
    torch.manual_seed(0)
    torch.save(parser.get_parsed_content("network_def").state_dict(), path / "models" / "model.pt")
    return path


def small_input(model: ExplainableModel) -> torch.Tensor:
    """As small as passes all layers of these networks."""
    sides = (64, 64) if model.card.preprocessing.slices else (64, 32, 32)
    return torch.rand(1, len(model.card.inputs), *sides, generator=torch.Generator().manual_seed(0))


def test_it_loads_without_trust(bundle):
    task, inputs, classes, activation, wishes = ZOO[bundle.name]
    assert trust_request(bundle).sentences == ()
    model = load_model(bundle)
    card = model.card
    assert (card.task, card.output.activation, len(card.output.classes)) == (task, activation, classes)
    assert [entry.name for entry in card.inputs] == inputs
    assert card.preprocessing.axes == "ijk"
    for key, value in wishes.items():
        found = getattr(card.preprocessing, key)
        assert ({name: found[name] for name in value} if key == "window" else found) == value
    assert all(getattr(card.preprocessing, key) is None for key in ("window", "crop") if key not in wishes)
    with torch.no_grad():
        output = model.module(small_input(model))
    assert output.shape[:2] == (1, classes)
    assert bool(torch.isfinite(output).all())
