"""Our way to the logits of a MONAI bundle is MONAI's own: its transforms, its inferer, its network."""

from pathlib import Path
from typing import Any

import pytest
import SimpleITK as sitk
import torch
from helpers.bundles import CHANNEL_FIRST, LOAD, UNET, config, make_network, metadata, their_logits, write_bundle
from helpers.volumes import make_volume
from LRPExplainLib import lrp
from LRPExplainLib.errors import UserError
from LRPExplainLib.imaging import prepare, read_volume
from LRPExplainLib.models import ExplainableModel, load_model
from torch import Tensor

AGREE = 1e-3
IMAGE = {"keys": "image"}
PAD = {"_target_": "DivisiblePadd", **IMAGE, "k": 4}
DENSENET: dict[str, Any] = {
    "_target_": "monai.networks.nets.DenseNet",
    "spatial_dims": 3,
    "in_channels": 2,
    "out_channels": 3,
    "init_features": 8,
    "growth_rate": 4,
    "block_config": [2, 2],
}


def volume(folder: Path, name: str, seed: int, zeros: bool = False) -> Path:
    """An anisotropic volume with axes that run neither as RAS nor as LPS do."""
    image = make_volume((26, 22, 14), (1.1, 0.9, 2.3), (0.0, 0.0, 0.0), seed=seed)
    image.SetDirection((0, 0, -1, 1, 0, 0, 0, -1, 0))
    if zeros:
        image = sitk.Cast(image > 12, sitk.sitkFloat32) * image
    path = folder / f"{name}.nii.gz"
    sitk.WriteImage(image, str(path))
    return path


def our_logits(model: ExplainableModel, files: list[Path]) -> Tensor:
    """[1, K, i, j, k] or [1, K]."""
    prepared = prepare([read_volume(file) for file in files], model.card.preprocessing)
    x = prepared.tensor
    wishes = model.card.preprocessing
    with torch.no_grad():
        output = blended(model, x) if wishes.window or wishes.slices else model.module(x)
    return output.permute(0, 1, 4, 3, 2) if output.dim() == 5 else output


def blended(model: ExplainableModel, x: Tensor) -> Tensor:
    """The windows or slices of the card, blended."""
    windows = pytest.importorskip("LRPExplainLib.imaging.windows", reason="windows come with imaging.windows")
    views = windows.Windows(x.shape[2:], model.card.preprocessing.window, model.card.preprocessing.slices)
    output = None
    for view in views.views:
        y = model.module(views.cut(x, view))
        output = views.blank(y) if output is None else output
        views.blend(y, view, output)
    assert output is not None
    return output


def assert_agree(content: dict[str, Any], path: Path, data: Any, files: list[Path]) -> ExplainableModel:
    theirs = their_logits(content, make_network(content), data)
    model = load_model(path)
    ours = our_logits(model, files)
    assert ours.shape == theirs.shape
    assert float(theirs.std()) > 0.01  # the comparison says something
    assert float((ours - theirs).abs().max()) < AGREE * max(1.0, float(theirs.abs().max()))
    return model


CT = [
    LOAD,
    CHANNEL_FIRST,
    {"_target_": "Orientationd", **IMAGE, "axcodes": "RAS"},
    {"_target_": "Spacingd", **IMAGE, "pixdim": "@pixdim", "mode": "bilinear"},
    {"_target_": "ScaleIntensityRanged", **IMAGE, "a_min": 5, "a_max": 80, "b_min": 0, "b_max": 1, "clip": True},
    PAD,
    {"_target_": "EnsureTyped", **IMAGE},
]


@pytest.mark.parametrize("weights", ["model.pt", "model.ts"])
@pytest.mark.parametrize("zipped", [False, True], ids=["folder", "zip"])
def test_ct(tmp_path, weights, zipped):
    content = config(CT, pixdim="$[1.5, 1.5, 2.0] if @fine else [3.0, 3.0, 3.0]", fine=True)
    example = torch.zeros(1, 1, 16, 16, 16)
    path = write_bundle(tmp_path, content, weights=weights, zipped=zipped, example=example)
    file = volume(tmp_path, "ct", 0)
    model = assert_agree(content, path, {"image": str(file)}, [file])
    assert model.card.preprocessing.orientation == "RAS"
    assert model.card.preprocessing.spacing == (1.5, 1.5, 2.0)


def test_mr_of_two_channels_as_they_are(tmp_path):
    """No orientation: the arrays are what the files have, with MONAI's order of axes."""
    transforms = [LOAD, CHANNEL_FIRST, {"_target_": "NormalizeIntensityd", **IMAGE, "nonzero": True,
                                        "channel_wise": True}, PAD]  # fmt: skip
    content = config(transforms, {**UNET, "in_channels": 2, "out_channels": 3})
    path = write_bundle(tmp_path, content, metadata(["T1", "FLAIR"], ["core", "whole", "edge"]))
    files = [volume(tmp_path, "t1", 0, zeros=True), volume(tmp_path, "flair", 1, zeros=True)]
    model = assert_agree(content, path, {"image": [str(file) for file in files]}, files)
    assert [entry.name for entry in model.card.inputs] == ["T1", "FLAIR"]


JOINT = {
    "over all channels": [{"_target_": "ScaleIntensityd", **IMAGE, "minv": -1.0, "maxv": 2.0}],
    "normalised over all": [{"_target_": "NormalizeIntensityd", **IMAGE, "nonzero": True}],
    "a value each": [
        {"_target_": "NormalizeIntensityd", **IMAGE, "subtrahend": [20, 30], "divisor": [10, 20], "channel_wise": True},
        {"_target_": "ShiftIntensityd", **IMAGE, "offset": 0.25},
        {"_target_": "ScaleIntensityd", **IMAGE, "minv": None, "maxv": None, "factor": -0.5},
    ],
    "percentiles": [
        {"_target_": "ScaleIntensityRangePercentilesd", **IMAGE, "lower": 2, "upper": 95, "b_min": -1, "b_max": 1,
         "clip": True, "relative": True, "channel_wise": True},
    ],
    "clipped": [
        {"_target_": "ClipIntensityPercentilesd", **IMAGE, "lower": 5, "upper": 90},
        {"_target_": "ScaleIntensityRanged", **IMAGE, "a_min": 0, "a_max": 50},
    ],
    "turned around": [
        {"_target_": "ScaleIntensityRanged", **IMAGE, "a_min": 80, "a_max": 5, "b_min": 0, "b_max": 2, "clip": True},
        {"_target_": "ScaleIntensityRanged", **IMAGE, "a_min": 2, "a_max": -1},
    ],
}  # fmt: skip


@pytest.mark.parametrize("case", JOINT)
def test_intensity(tmp_path, case):
    content = config([LOAD, CHANNEL_FIRST, *JOINT[case], PAD], {**UNET, "in_channels": 2})
    path = write_bundle(tmp_path, content, metadata(["T1", "T2"]))
    files = [volume(tmp_path, "t1", 0, zeros=True), volume(tmp_path, "t2", 1)]
    assert_agree(content, path, {"image": [str(file) for file in files]}, files)


def test_a_crop_to_the_foreground(tmp_path):
    transforms = [
        *CT[:3],
        {"_target_": "ScaleIntensityRanged", **IMAGE, "a_min": 20, "a_max": 80, "b_min": 0, "b_max": 1, "clip": True},
        {"_target_": "CropForegroundd", **IMAGE, "source_key": "image", "margin": 2},
        {"_target_": "SpatialPadd", **IMAGE, "spatial_size": [24, 12, 20]},
        PAD,
    ]
    content = config(transforms)
    file = volume(tmp_path, "t1", 0)
    assert_agree(content, write_bundle(tmp_path, content), {"image": str(file)}, [file])


def test_a_classifier_of_joined_volumes_of_fixed_size(tmp_path):
    keys = ["t1", "flair"]
    transforms = [
        {"_target_": "LoadImaged", "keys": keys},
        {"_target_": "EnsureChannelFirstd", "keys": keys},
        {"_target_": "ScaleIntensityd", "keys": keys},
        {"_target_": "ConcatItemsd", "keys": keys, "name": "image"},
        {"_target_": "Resized", **IMAGE, "spatial_size": [20, 24, 16]},
    ]
    content = config(transforms, DENSENET)
    facts = metadata(["a", "b"], ["A", "B", "C"], form="labels", shape=(20, 24, 16))
    path = write_bundle(tmp_path, content, facts)
    files = [volume(tmp_path, "t1", 0), volume(tmp_path, "flair", 1)]
    data = {key: str(file) for key, file in zip(keys, files, strict=True)}
    model = assert_agree(content, path, data, files)
    assert model.card.task == "classification"
    assert model.card.preprocessing.resize == {"size": [20, 24, 16], "mode": "area"}


IMAGENET = {"_target_": "NormalizeIntensityd", **IMAGE, "subtrahend": [0.485, 0.456, 0.406],
            "divisor": [0.229, 0.224, 0.225], "channel_wise": True}  # fmt: skip
REPEATED = [
    LOAD, CHANNEL_FIRST, {"_target_": "ScaleIntensityd", **IMAGE}, {"_target_": "RepeatChanneld", **IMAGE, "repeats": 3}
]  # fmt: skip


def test_channels_of_one_volume_with_statistics_of_their_own(tmp_path):
    content = config([*REPEATED, IMAGENET], {**DENSENET, "in_channels": 3})
    facts = metadata(["grey"], ["A", "B", "C"], form="labels")
    file = volume(tmp_path, "mr", 0)
    model = assert_agree(content, write_bundle(tmp_path, content, facts), {"image": str(file)}, [file])
    (entry,) = model.card.inputs
    assert (entry.channels, entry.mean, entry.std) == (3, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([*REPEATED, {**IMAGENET, "nonzero": True}], "standardises the channels of one volume"),
        ([*REPEATED, {**IMAGENET, "divisor": None}], "standardises the channels of one volume"),
        ([*REPEATED, IMAGENET, {"_target_": "ScaleIntensityd", **IMAGE}], "after each channel has been standardised"),
        ([*REPEATED[:3], IMAGENET], "standardises 3 channels of a volume that has 1"),
    ],
)
def test_other_statistics_of_repeated_channels_are_refused(tmp_path, steps, said):
    content = config(steps, {**DENSENET, "in_channels": 3})
    facts = metadata(["grey"], ["A", "B", "C"], form="labels")
    with pytest.raises(UserError, match=said):
        load_model(write_bundle(tmp_path, content, facts))


def test_relevance_crosses_what_is_adapted(tmp_path):
    """Reversed axes, a repeated channel and another size are part of the graph: the ledger closes over them."""
    content = config([LOAD, {"_target_": "Resized", **IMAGE, "spatial_size": [20, 24, 16]}], DENSENET)
    facts = metadata(["grey"], ["A", "B", "C"], form="labels")
    facts["network_data_format"]["inputs"]["image"]["num_channels"] = 2
    model = load_model(write_bundle(tmp_path, content, facts))
    assert model.card.inputs[0].channels == 2
    x = torch.rand(1, 1, 10, 12, 14)
    expected = make_network(content)(
        torch.nn.functional.interpolate(
            x.permute(0, 1, 4, 3, 2).expand(1, 2, -1, -1, -1), size=(20, 24, 16), mode="area"
        )
    )
    torch.testing.assert_close(model.module(x), expected)
    graph = lrp.capture(model.module, x)
    attribution = lrp.attribute(graph, x, lrp.Target(1), "epsilon-plus")
    assert attribution.relevance.shape == x.shape
    account = attribution.ledger.as_dict()
    assert abs(account["gap"]) < 1e-4 * abs(account["target_value"])
    assert not any(layer.startswith("network") for layer in graph.layers())  # the names are the network's own


WINDOWS = {
    "constant": {"roi_size": [8, 16, 16], "overlap": 0.5},
    "gaussian": {"roi_size": [8, 12, 16], "overlap": 0.25, "mode": "gaussian", "sigma_scale": 0.2},
}


@pytest.mark.parametrize("case", WINDOWS)
def test_sliding_windows(tmp_path, case):
    """Runs where `imaging.windows` is there."""
    content = config(
        CT[:3] + CT[4:5], inferer={"_target_": "SlidingWindowInferer", "sw_batch_size": 2, **WINDOWS[case]}
    )
    file = volume(tmp_path, "ct", 0)
    model = assert_agree(content, write_bundle(tmp_path, content), {"image": str(file)}, [file])
    assert model.card.preprocessing.window["size"] == WINDOWS[case]["roi_size"]


@pytest.mark.parametrize("axis", [0, 2])
def test_slice_by_slice(tmp_path, axis):
    """Runs where `imaging.windows` is there."""
    inferer = {"_target_": "SliceInferer", "roi_size": [12, 12], "spatial_dim": axis, "overlap": 0.25}
    content = config(CT[:3] + CT[4:5], {**UNET, "spatial_dims": 2}, inferer)
    file = volume(tmp_path, "mr", 0)
    model = assert_agree(content, write_bundle(tmp_path, content), {"image": str(file)}, [file])
    assert model.card.preprocessing.slices == {"axis": "ijk"[axis]}
