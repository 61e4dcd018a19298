"""Six configurations of MONAI's model zoo, filled with random weights.

Each is tested as we wrote it, with the same structure and a smaller network (helpers.zoo); and as the zoo has it, where
the zoo lies beside this checkout.
"""

import inspect
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import SimpleITK as sitk
import torch
from helpers import zoo as written
from helpers.bundles import their_logits
from helpers.volumes import make_volume
from LRPExplainLib.explain import explain
from LRPExplainLib.imaging import Points, Windows, least_size, prepare, read_volume
from LRPExplainLib.models import ExplainableModel, load_model, trust_request
from monai.bundle import ConfigParser
from monai.networks.nets import SwinUNETR, torchvision_fc

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


SOURCES = ("ours", *(["zoo"] if zoo() is not None else []))


@pytest.fixture(params=[(source, name) for source in SOURCES for name in ZOO], ids="-".join)
def bundle(request, tmp_path, monkeypatch) -> Path:
    """A configuration with random weights."""
    source, name = request.param
    if name == "breast_density_classification":
        vision = torchvision()
        if vision is None:
            pytest.skip("needs torchvision")
        monkeypatch.setattr(torchvision_fc, "models", vision.models)
    folder = zoo()
    path = tmp_path / name
    if source == "ours" or folder is None:
        written.write(name, tmp_path)
    else:
        shutil.copytree(folder / name, path)
    (path / "models").mkdir(exist_ok=True)
    configs = [path / "configs" / f"inference.{suffix}" for suffix in ("json", "yaml")]
    content = ConfigParser.load_config_file(next(file for file in configs if file.is_file()))
    network = dict(content["network_def"])
    if "img_size" not in inspect.signature(SwinUNETR).parameters:  # MONAI 1.5 and later
        network.pop("img_size", None)
    network |= {"pretrained": False} if "pretrained" in network else {}
    parser = ConfigParser({"network_def": network, "num_classes": content.get("num_classes")})
    torch.manual_seed(0)
    torch.save(parser.get_parsed_content("network_def").state_dict(), path / "models" / "model.pt")
    return path


def small_input(model: ExplainableModel) -> torch.Tensor:
    """As small as passes all layers of these networks."""
    sides = (64, 64) if model.card.preprocessing.slices else (64, 32, 32)
    return torch.rand(1, len(model.card.inputs), *sides, generator=torch.Generator().manual_seed(0))


def synthetic(model: ExplainableModel, folder: Path) -> list[Path]:
    """A volume of noise and shapes for each input; for a network of two dimensions a picture."""
    flat = model.card.preprocessing.slices is not None
    paths = []
    for n in range(len(model.card.inputs)):
        image = make_volume((48, 40, 1) if flat else (44, 36, 18), (1.7, 1.6, 2.6), (0.0, 0.0, 0.0), seed=n)
        if len(model.card.inputs) > 1:  # brains without skull
            image = sitk.Cast(image > 12, sitk.sitkFloat32) * image
        paths.append(folder / f"{n}.nii.gz")
        sitk.WriteImage(image[:, :, 0] if flat else image, str(paths[-1]))
    return paths


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


def test_its_logits_are_monais(bundle, tmp_path):
    """The whole of its preprocessing and inference, with smaller windows to save time."""
    file = next(file for file in (bundle / "configs").glob("inference.*"))
    content = ConfigParser.load_config_file(file)
    if "roi_size" in content["inferer"]:
        content["inferer"]["roi_size"] = [64, 32, 32]
        file.write_text(json.dumps(content))
    model = load_model(bundle)
    wishes = model.card.preprocessing
    paths = synthetic(model, tmp_path)
    transforms = content["transforms"] if "transforms" in content else content["preprocessing"]["transforms"]
    for transform in transforms:
        transform.pop("reader", None)  # ITK's, which is not installed here
    data = {"image": [str(path) for path in paths] if len(paths) > 1 else str(paths[0])}
    if model.card.inputs[0].channels == 3:  # the grey picture as a colour one, in the layout that LoadImage gives it
        data = {"image": str(tmp_path / "colour.nii.gz")}
        sitk.WriteImage(sitk.JoinSeries([sitk.ReadImage(str(paths[0]))] * 3), data["image"])
    theirs = their_logits(content, model.module.network, data)
    prepared = prepare([read_volume(path) for path in paths], wishes, least=least_size(wishes.window, wishes.slices))
    windows = Windows(prepared.tensor.shape[2:], wishes.window, wishes.slices)
    ours = None
    with torch.no_grad():
        for view in windows.views:
            answer = model.module(windows.cut(prepared.tensor, view))
            ours = windows.blank(answer) if ours is None else ours
            windows.blend(answer, view, ours)
    ours = ours.permute(0, 1, 4, 3, 2) if ours.dim() == 5 else ours
    for axis in range(2, ours.dim()):  # a volume smaller than a window is padded evenly; MONAI has cut that off
        start = (ours.shape[axis] - theirs.shape[axis]) // 2
        ours = ours.narrow(axis, start, theirs.shape[axis])
    assert ours.shape == theirs.shape
    assert float((ours - theirs).abs().max()) < 1e-3


def test_it_is_explained_without_trust(bundle, tmp_path):
    """With smaller windows, asked about a point, to save time; relevance on every given volume's own voxels."""
    model = load_model(bundle)
    paths = synthetic(model, tmp_path)
    whole = model.card.preprocessing.window is None
    image = read_volume(paths[0])
    x, y, z = image.TransformContinuousIndexToPhysicalPoint([n / 2 for n in image.GetSize()])
    explanation = explain(
        model,
        paths,
        1,
        device="cpu",
        region=None if whole else Points(((-x, -y, z),)),
        window=None if whole else {"size": [64, 32, 32], "overlap": 0.25},
    )
    ledger = explanation.ledger
    assert ledger["relative_gap"] < 1e-3
    assert explanation.target["class"] == model.card.output.classes[1].name
    for map_, path in zip(explanation.relevance, paths, strict=True):
        array = sitk.GetArrayFromImage(map_)
        assert map_.GetSize() == read_volume(path).GetSize()
        assert bool(abs(array).max() > 0)
