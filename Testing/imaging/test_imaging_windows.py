"""Windows and slices: MONAI's and nnU-Net's inference to the last voxel, and the adjoint of both directions."""

import itertools
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.volumes import make_volume
from hypothesis import given, settings
from hypothesis import strategies as st
from LRPExplainLib.errors import UserError
from LRPExplainLib.imaging.preparation import prepare
from LRPExplainLib.imaging.windows import View, Windows, least_size
from LRPExplainLib.models import Preprocessing
from monai.inferers import sliding_window_inference
from torch import Tensor, nn

nnunet = pytest.importorskip("nnunetv2.inference.sliding_window_prediction")


def inner(a: Tensor, b: Tensor) -> float:
    return float((a.double() * b.double()).sum())


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def network(inputs: int = 2, outputs: int = 3, dimensions: int = 3) -> nn.Module:
    """Sees the borders of its windows (zero padding) and their sides (no symmetry), so that nothing cancels."""
    torch.manual_seed(0)
    convolution = nn.Conv3d if dimensions == 3 else nn.Conv2d
    return nn.Sequential(convolution(inputs, 4, 3, padding=1), nn.ReLU(), convolution(4, outputs, 3, padding=1)).eval()


@torch.no_grad()
def predict(module: nn.Module, x: Tensor, windows: Windows) -> Tensor:
    blended = None
    for view in windows.views:
        y = module(windows.cut(x, view))
        blended = windows.blank(y) if blended is None else blended
        windows.blend(y, view, blended)
    return blended


@pytest.mark.parametrize("blending", ["constant", "gaussian"])
@pytest.mark.parametrize(
    ("shape", "size", "overlap"),
    [
        ((17, 19, 23), (8, 8, 8), 0.5),
        ((17, 19, 23), (9, 7, 11), 0.25),
        ((16, 16, 16), (8, 16, 4), 0.0),
        ((13, 12, 11), (12, 5, 11), 0.75),
        ((9, 9, 9), (4, 3, 5), 0.9),
        ((8, 8, 12), (8, 8, 8), 0.5),
        ((8, 8, 8), (8, 8, 8), 0.5),
    ],
)
def test_blended_output_is_that_of_monai(shape, size, overlap, blending):
    x, module = noise(1, 2, *shape), network()
    windows = Windows(shape, {"size": size[::-1], "overlap": overlap, "blending": blending})
    with torch.no_grad():
        expected = sliding_window_inference(x, size, 3, module, overlap=overlap, mode=blending)
    torch.testing.assert_close(predict(module, x, windows), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("size", [(20, 30, 18), (9, 40, 33), (14, 27, 30)])
def test_a_volume_smaller_than_the_window_is_padded_as_monai_does(size):
    """The volume has [14, 26, 30] voxels."""
    wishes = Preprocessing()
    window = {"size": size[::-1]}
    module = network(1)
    prepared = prepare([make_volume()], wishes, least=least_size(window))
    output = predict(module, prepared.tensor, Windows(prepared.grid.shape, window))
    with torch.no_grad():
        x = prepare([make_volume()], wishes).tensor
        expected = sliding_window_inference(x, size, 2, module, overlap=0.5, mode="gaussian")
    inside = output[:, :, prepared.inside].reshape(expected.shape)
    torch.testing.assert_close(inside, expected, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("sigma", [0.05, 0.3])
def test_the_gaussians_width_is_that_of_monai(sigma):
    x, module = noise(1, 2, 14, 12, 10), network()
    windows = Windows((14, 12, 10), {"size": [6, 6, 6], "sigma": sigma})
    with torch.no_grad():
        expected = sliding_window_inference(x, (6, 6, 6), 1, module, 0.5, "gaussian", sigma)
    torch.testing.assert_close(predict(module, x, windows), expected, atol=1e-5, rtol=1e-4)


def nnunet_predict(module: nn.Module, x: Tensor, size: tuple[int, ...], step: float, mirror: tuple[int, ...]) -> Tensor:
    """nnU-Net's own steps and Gaussian, put together as its predictor does it, but summed in float32."""
    gaussian = nnunet.compute_gaussian(size, 1.0 / 8, 10, device=torch.device("cpu")).float()
    lines = nnunet.compute_steps_for_sliding_window(x.shape[-len(size) :], size, step)
    total, count = torch.zeros(3, *x.shape[2:]), torch.zeros(x.shape[2:])
    flips = [axes for n in range(len(mirror) + 1) for axes in itertools.combinations(mirror, n)]
    planes = range(x.shape[2]) if len(size) == 2 else [slice(None)]
    for plane, *starts in itertools.product(planes, *lines):
        box = [slice(a, a + n) for a, n in zip(starts, size, strict=True)]
        where = (plane, *box) if len(size) == 2 else tuple(box)
        cut = x[(slice(None), slice(None), *where)]
        answers = [module(cut.flip([2 + a for a in axes])).flip([2 + a for a in axes]) for axes in flips]
        total[(slice(None), *where)] += sum(answers)[0] / len(flips) * gaussian
        count[where] += gaussian
    return (total / count)[None]


@pytest.mark.parametrize(
    ("shape", "size", "overlap", "mirror"),
    [
        ((40, 30, 33), (16, 16, 16), 0.5, ""),
        ((20, 18, 16), (12, 9, 16), 0.5, "ijk"),
        ((23, 30, 16), (12, 16, 8), 0.7, "k"),
        ((12, 16, 8), (12, 16, 8), 0.5, "ij"),
    ],
)
@torch.no_grad()
def test_blended_output_is_that_of_nnunet(shape, size, overlap, mirror):
    x, module = noise(1, 2, *shape), network()
    wishes = {"size": size[::-1], "overlap": overlap, "placement": "nnunet", "mirror": list(mirror)}
    axes = tuple(sorted("kji".index(letter) for letter in mirror))
    expected = nnunet_predict(module, x, size, 1 - overlap, axes)
    torch.testing.assert_close(predict(module, x, Windows(shape, wishes)), expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_nnunets_2d_configuration_is_slices_and_windows():
    x, module = noise(1, 2, 5, 30, 23), network(dimensions=2)
    windows = Windows((5, 30, 23), {"size": [12, 16, 99], "placement": "nnunet", "mirror": ["i", "j"]}, {"axis": "k"})
    assert len(windows.starts) == 5 * len({start[1:] for start in windows.starts})  # each slice once
    expected = nnunet_predict(module, x, (16, 12), 0.5, (0, 1))
    torch.testing.assert_close(predict(module, x, windows), expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_nnunets_predictor_itself_agrees_where_its_float16_sums_hold():
    """It sums logits and weights in float16, in which both vanish towards the volume's outermost edges and corners."""
    predictor_of = pytest.importorskip("nnunetv2.inference.predict_from_raw_data").nnUNetPredictor
    predictor = predictor_of(use_mirroring=True, device=torch.device("cpu"), perform_everything_on_device=False)
    predictor.configuration_manager = SimpleNamespace(patch_size=(12, 16, 16))
    predictor.label_manager = SimpleNamespace(num_segmentation_heads=3)
    predictor.network, predictor.allowed_mirroring_axes, predictor.allow_tqdm = network(), (0, 2), False
    x = noise(1, 2, 20, 26, 16)
    expected = predictor.predict_sliding_window_return_logits(x[0]).float()[None]
    windows = Windows(x.shape[2:], {"size": [16, 16, 12], "placement": "nnunet", "mirror": ["i", "k"]})
    ours = predict(network(), x, windows)
    weights = torch.zeros(1, 1, *x.shape[2:])
    for view in windows.views:
        weights[0, 0, *(slice(a, a + n) for a, n in zip(view.start, windows.extent, strict=True))] += (
            nnunet.compute_gaussian(windows.extent, 1.0 / 8, 10, device=torch.device("cpu")).float()
        )
    holds = (weights > 0.05).expand_as(ours)
    assert 0.3 < holds.float().mean() < 1
    assert float((ours - expected)[holds].abs().max()) < 4e-3


@pytest.mark.parametrize("axis", ["i", "j", "k"])
@torch.no_grad()
def test_slices_are_seen_one_by_one(axis):
    x, module = noise(1, 2, 4, 5, 6), network(dimensions=2)
    output = predict(module, x, Windows((4, 5, 6), None, {"axis": axis}))
    dim = 2 + "kji".index(axis)
    for n in range(x.shape[dim]):
        torch.testing.assert_close(output.select(dim, n), module(x.select(dim, n)))


@torch.no_grad()
def test_neighbouring_slices_are_channels_and_the_last_one_is_repeated():
    x = noise(1, 2, 5, 4, 3)
    windows = Windows((5, 4, 3), None, {"neighbours": 2})
    assert windows.input_shape(2) == (1, 10, 4, 3)
    stacked = F.pad(x, (0, 0, 0, 0, 2, 2), mode="replicate")
    for view in windows.views:
        k = view.start[0]
        torch.testing.assert_close(windows.cut(x, view)[0], stacked[0, :, k : k + 5].reshape(10, 4, 3))


@torch.no_grad()
def test_relevance_of_a_repeated_slice_adds_up_in_the_slice():
    windows, relevance = Windows((3, 2, 2), None, {"neighbours": 1}), torch.zeros(1, 1, 3, 2, 2)
    windows.give_back(
        torch.tensor([1.0, 10.0, 100.0]).reshape(1, 3, 1, 1).expand(1, 3, 2, 2), View((0, 0, 0)), relevance
    )
    assert relevance[0, 0, :, 0, 0].tolist() == [11.0, 100.0, 0.0]


choices: dict[str, Any] = {
    "overlap": st.floats(0, 0.8),
    "placement": st.sampled_from(["monai", "nnunet"]),
    "blending": st.sampled_from(["constant", "gaussian"]),
    "mirror": st.lists(st.sampled_from("ijk"), unique=True),
}
sides = st.tuples(*[st.integers(2, 9)] * 3)


@settings(max_examples=40, deadline=None)
@given(sides, sides, st.fixed_dictionaries(choices), st.sampled_from([None, 0, 1, 2]), st.sampled_from("ijk"))
def test_cutting_and_blending_have_exact_adjoints(shape, size, wishes, neighbours, axis):
    slices = None if neighbours is None else {"axis": axis, "neighbours": neighbours}
    mirror = [letter for letter in wishes["mirror"] if slices is None or letter != axis]
    size = [min(n, m) for n, m in zip(size, shape, strict=True)]
    windows = Windows(shape, {**wishes, "mirror": mirror, "size": size[::-1]}, slices)
    x, c = noise(1, 2, *shape), noise(1, 3, *shape, seed=1)
    relevance, output = torch.zeros_like(x), torch.zeros_like(c)
    cut = blended = 0.0
    for number, view in enumerate(windows.views):
        r = noise(*windows.input_shape(2), seed=2 + number)
        y = noise(1, 3, *windows.input_shape(1)[2:], seed=1000 + number)
        windows.give_back(r, view, relevance)
        windows.blend(y, view, output)
        cut += inner(windows.cut(x, view), r)
        blended += inner(y, windows.unblend(c, view))
    assert cut == pytest.approx(inner(x, relevance), rel=1e-5, abs=1e-3)
    assert blended == pytest.approx(inner(c, output), rel=1e-5, abs=1e-3)
    ones = torch.zeros(1, 1, *shape)
    for view in windows.views:
        windows.blend(torch.ones(1, 1, *windows.input_shape(1)[2:]), view, ones)
    torch.testing.assert_close(ones, torch.ones_like(ones), atol=1e-5, rtol=0)  # shares add up to one in every voxel


def test_only_views_that_the_coefficients_touch_are_asked():
    windows = Windows((20, 20, 20), {"size": [8, 8, 8], "mirror": ["i"]})
    c = torch.zeros(1, 2, 20, 20, 20)
    c[0, 1, 1, 10, 18] = -1
    touched = windows.touching(c)
    assert {view.start for view in touched} == {(0, h, 12) for h in (4, 8)}
    assert {view.mirrored for view in touched} == {(), (2,)}


def test_answers_without_a_place_are_averaged():
    windows, output = Windows((4, 6, 6), None, {}), torch.zeros(1, 2)
    for n, view in enumerate(windows.views):
        windows.blend(torch.tensor([[float(n), 1.0]]), view, output)
    assert output.tolist() == [[1.5, 1.0]]
    assert windows.unblend(torch.tensor([[2.0, 0.0]]), windows.views[0]).tolist() == [[0.5, 0.0]]


@pytest.mark.parametrize("axis", ["i", "j", "k"])
def test_a_window_along_the_axis_of_slices_asks_for_no_more_than_one(axis):
    """So that a volume of few slices is not padded to the window's depth."""
    window = {"size": [5, 6, 7]}
    assert least_size(window) == (7, 6, 5)
    expected = [7, 6, 5]
    expected["kji".index(axis)] = 1
    assert list(least_size(window, {"axis": axis})) == expected
    assert least_size(None, {"axis": axis}) == (1, 1, 1)


def test_what_cannot_be_done_is_said():
    with pytest.raises(UserError, match="mirrors windows along the axis of its slices"):
        Windows((4, 4, 4), {"size": [4, 4, 4], "mirror": ["k"]}, {})
    with pytest.raises(UserError, match=r"size \[2, 2, 2\] for an input of \[4, 4, 4\]"):
        Windows((8, 8, 8), {"size": [4, 4, 4]}).blank(torch.zeros(1, 2, 2, 2, 2))
    with pytest.raises(ValueError, match="pad it first"):
        Windows((4, 4, 4), {"size": [5, 4, 4]})


def test_the_mirrored_average_of_a_symmetric_volume_is_symmetric():
    x = noise(1, 2, 6, 6, 6)
    x = x + x.flip(4)
    output = predict(network(), x, Windows((6, 6, 6), {"size": [6, 6, 6], "mirror": ["i"]}))
    np.testing.assert_allclose(output, output.flip(4), atol=1e-5)
