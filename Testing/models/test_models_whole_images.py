"""Whole images, such as X-rays, before a network made for colour and one size: what it sees is what the libraries that
train such networks would give it, and relevance goes back to the grey voxels."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from helpers.networks import RANGE, classes, save_model
from helpers.questions import array, assert_closed
from LRPExplainLib import lrp
from LRPExplainLib.errors import UserError
from LRPExplainLib.explain import explain
from LRPExplainLib.models import draft_card, load_model, read_card
from LRPExplainLib.models.adapting import adapt
from LRPExplainLib.models.card import CardInput, ModelCard, Preprocessing
from monai.transforms import Resize, SpatialPad
from PIL import Image
from torch import nn

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SLICES = {"slices": {"axis": "k"}}


def seen(image: np.ndarray, resize: dict[str, Any]) -> np.ndarray:
    """What a classifier gets of an image [H, W] or [D, H, W]."""
    card = ModelCard("seen", "seen", inputs=(CardInput("image"),), preprocessing=Preprocessing(resize=resize))
    return adapt(nn.Flatten(), card)(torch.from_numpy(image)[None, None]).reshape(resize["size"]).numpy()


def pillow(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))


def torchxrayvision(image: np.ndarray) -> np.ndarray:
    """XRayCenterCrop and XRayResizer(16)."""
    height, width = image.shape
    side = min(height, width)
    top, left = height // 2 - side // 2, width // 2 - side // 2
    return pillow(image[top : top + side, left : left + side], (16, 16))


def torchvision(image: np.ndarray) -> np.ndarray:
    """Resize(20) and CenterCrop(16)."""
    short, long = sorted(image.shape)
    sides = (20, int(20 * long / short))
    resized = pillow(image, sides if image.shape[0] == short else sides[::-1])
    top, left = (round((n - 16) / 2) for n in resized.shape)
    return resized[top : top + 16, left : left + 16]


def letterbox(image: np.ndarray) -> np.ndarray:
    resized = Resize(16, size_mode="longest", mode="bilinear")(torch.from_numpy(image)[None])
    return SpatialPad([16] * image.ndim)(resized)[0].numpy()


PILLOWS = {"size": [16, 16], "mode": "linear-antialiased"}
CONVENTIONS: dict[str, tuple[dict[str, Any], Callable[[np.ndarray], np.ndarray]]] = {
    "stretched": (PILLOWS, lambda image: pillow(image, (16, 16))),
    "torchxrayvision": ({**PILLOWS, "aspect": "crop"}, torchxrayvision),
    "torchvision": ({**PILLOWS, "aspect": "crop", "shorter": 20}, torchvision),
    "MONAI": ({"size": [16, 16], "mode": "linear", "aspect": "pad"}, letterbox),
}


@pytest.mark.parametrize("shape", [(61, 48), (40, 77), (33, 33), (9, 12)])
@pytest.mark.parametrize("name", CONVENTIONS)
def test_an_image_is_resized_as_its_library_does_it(name, shape):
    wishes, theirs = CONVENTIONS[name]
    image = np.random.default_rng(0).random(shape, dtype=np.float32)
    assert np.abs(seen(image, wishes) - theirs(image)).max() < 1e-5


def test_a_volume_is_resized_axis_by_axis():
    """Triangles along the three axes: as along two, and then along the last."""
    volume = np.random.default_rng(0).random((19, 24, 31), dtype=np.float32)
    inner = np.stack([pillow(each, (8, 10)) for each in volume])
    expected = pillow(inner.reshape(19, 80), (6, 80)).reshape(6, 8, 10)
    assert np.abs(seen(volume, {"size": [6, 8, 10], "mode": "linear-antialiased"}) - expected).max() < 1e-5
    padded = seen(volume, {"size": [16, 16, 16], "mode": "linear", "aspect": "pad"})
    assert np.abs(padded - letterbox(volume)).max() < 1e-5


def test_a_padded_segmentation_goes_back_to_the_image():
    """Of a ramp, which linear interpolation keeps but at its ends."""
    ramp = (np.arange(24, dtype=np.float32)[:, None] + np.arange(40, dtype=np.float32)) / 64
    card = ModelCard(
        "ramp", "ramp", "segmentation", inputs=(CardInput("image"),),
        preprocessing=Preprocessing(resize={"size": [20, 20], "mode": "linear", "aspect": "pad"}),
    )  # fmt: skip
    network = nn.Conv2d(1, 2, 1, bias=False)
    nn.init.constant_(network.weight, 1)
    with torch.no_grad():
        found = adapt(network, card)(torch.from_numpy(ramp)[None, None]).numpy()
    assert found.shape == (1, 2, 24, 40)
    assert np.abs(found[0, :, 1:-1, 1:-1] - ramp[1:-1, 1:-1]).max() < 1e-5


def colour(tmp_path: Path, **wishes: Any) -> tuple[nn.Module, Path]:
    """A classifier of colour images, trained on standardised channels."""
    torch.manual_seed(3)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2),
    )  # fmt: skip
    entry = {"name": "X-ray", "channels": 3, "mean": MEAN, "std": STD}
    wishes = {"intensity": RANGE, **SLICES, **wishes}
    return network.eval(), save_model(
        tmp_path, network, "colour", task="classification", inputs=[entry], preprocessing=wishes,
        output=classes("clear", "nodule"),
    )  # fmt: skip


@pytest.mark.parametrize("biases", ["absorb", "share"])
def test_channels_of_their_own_statistics_get_the_relevance_of_a_standardised_input(tmp_path, biases):
    """As if the network were explained before what the means have been subtracted from; nothing is absorbed there."""
    network, path = colour(tmp_path)
    image = np.random.default_rng(1).random((1, 24, 20), dtype=np.float32) * 100
    found = explain(path, [sitk.GetImageFromArray(image)], target="nodule", composite="epsilon-plus", biases=biases)
    assert_closed(found, 1e-5)
    standardised = (torch.from_numpy(image / 100)[None] - torch.tensor(MEAN).reshape(3, 1, 1)) / torch.tensor(
        STD
    ).reshape(3, 1, 1)
    expected = lrp.attribute(
        lrp.capture(network, standardised), standardised, 1, lrp.composite_named("epsilon-plus").with_biases(biases)
    )
    assert found.ledger["target_value"] == pytest.approx(float(expected.output[0, 1]), rel=1e-5)
    whole = expected.relevance.sum(1)[0].numpy()
    assert np.abs(array(found.relevance[0])[0] - whole).max() < 1e-4 * np.abs(whole).max()


@pytest.mark.parametrize("composite", ["volume", "epsilon"])
def test_relevance_goes_back_to_what_a_pixel_was_made_of(tmp_path, composite):
    """By how much each voxel has to do with it: black ones too, which are below the mean that is subtracted."""
    network, path = colour(tmp_path, resize=PILLOWS)
    image = np.random.default_rng(4).random((1, 48, 40), dtype=np.float32) * 100
    image[:, :, :24] = 0
    found = explain(path, [sitk.GetImageFromArray(image)], target="nodule", composite=composite)
    assert_closed(found, 1e-5)
    voxels = torch.from_numpy(image / 100)[None].requires_grad_()
    pixels = nn.functional.interpolate(voxels, size=[16, 16], mode="bilinear", antialias=True)
    seen = ((pixels - torch.tensor(MEAN).reshape(3, 1, 1)) / torch.tensor(STD).reshape(3, 1, 1)).detach()
    chosen = lrp.composite_named(composite).with_biases("share")
    at_pixels = lrp.attribute(lrp.capture(network, seen), seen, 1, chosen).relevance.sum(1, keepdim=True)
    (expected,) = torch.autograd.grad(pixels, voxels, at_pixels)
    relevance = array(found.relevance[0])
    assert np.abs(relevance - expected[0].numpy()).max() < 1e-4 * np.abs(relevance).max()
    assert np.abs(relevance[0, :, :16]).min(0).all()
    own = lrp.composite_named(composite).override({"resampled": "epsilon"})
    by_brightness = explain(path, [sitk.GetImageFromArray(image)], target="nodule", composite=own)
    assert not array(by_brightness.relevance[0])[0, :, :16].any()


def test_what_is_cut_off_gets_nothing(tmp_path):
    _, path = colour(tmp_path, resize={**PILLOWS, "aspect": "crop"})
    image = np.random.default_rng(2).random((1, 48, 30), dtype=np.float32) * 100
    found = explain(path, [sitk.GetImageFromArray(image)], target="nodule")
    assert_closed(found, 1e-5)
    relevance = array(found.relevance[0])[0]
    assert (np.abs(relevance).sum(1) > 0).nonzero()[0].tolist() == list(range(9, 39))


def test_neighbouring_slices_are_repeated_each_by_itself():
    card = ModelCard(
        "slices", "slices", inputs=(CardInput("a", channels=2, mean=(1, 2)), CardInput("b")),
        preprocessing=Preprocessing(slices={"axis": "k", "neighbours": 1}),
    )  # fmt: skip
    x = torch.arange(10.0, 16.0).reshape(1, 6, 1, 1)  # three slices of a, three of b
    assert adapt(nn.Flatten(), card)(x).tolist() == [[9, 8, 10, 9, 11, 10, 13, 14, 15]]


CONTRADICTIONS = {
    "a mean for each channel": (
        {"inputs": [{"name": "X-ray", "channels": 3, "mean": [0.5]}]},
        "'X-ray' has 3 channels to standardise, but a mean of 1",
    ),
    "a label map is not standardised": (
        {"inputs": [{"name": "CT"}, {"name": "lobes", "labels": [1, 2], "std": [1, 1]}]}, "'lobes' has 0 channels",
    ),
    "no deviation of 0": ({"inputs": [{"name": "X-ray", "std": [0]}]}, "std"),
    "a shorter side without a crop": ({"preprocessing": {"resize": {"size": [8, 8], "shorter": 10}}}, '"crop" alone'),
    "a step for a volume that is not there": (
        {"preprocessing": {"intensity": [{"type": "zscore", "mean": 0.5, "std": 1, "channels": [1]}]}},
        "is for channel 1, but there is 1 volume",
    ),
    "a cropped segmentation": (
        {"task": "segmentation", "preprocessing": {"resize": {"size": [8, 8], "aspect": "crop"}}}, 'use "pad"',
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_a_card_that_contradicts_itself_is_refused(tmp_path, name):
    changes, said = CONTRADICTIONS[name]
    _, path = colour(tmp_path)
    place = path.with_name("colour.card.json")
    place.write_text(json.dumps({**json.loads(place.read_text()), **changes}))
    with pytest.raises(UserError, match=r"correct|use") as caught:
        read_card(place)
    assert said in str(caught.value)


def test_a_drafted_card_takes_a_network_of_colour_for_one_that_sees_a_grey_image(tmp_path):
    network, _ = colour(tmp_path)
    path = save_model(tmp_path, network, "bare")
    draft, notes = draft_card(path)
    assert draft["inputs"] == [{"name": "image", "modality": None, "channels": 3}]
    assert draft["preprocessing"]["slices"] == {"axis": "k"}
    assert any('"mean" and "std"' in note for note in notes)
    path.with_name("bare.card.json").write_text(json.dumps(draft))
    assert load_model(path).module(torch.rand(1, 1, 24, 20)).shape == (1, 2)
