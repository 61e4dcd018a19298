"""The way back is the transpose of the way in, whatever the card asks for and however the volumes lie."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from helpers.volumes import rotation
from hypothesis import given, settings
from hypothesis import strategies as st
from LRPExplainLib.errors import UserError
from LRPExplainLib.imaging import Grid, prepare
from LRPExplainLib.imaging.boxes import overlap, placed
from LRPExplainLib.imaging.foreground import bounding_box, foreground
from LRPExplainLib.imaging.splines import resize
from LRPExplainLib.models import Preprocessing
from scipy import ndimage
from skimage import transform

angle = st.floats(-3.1, 3.1)
ORIENTATIONS = [None, "RAS", "LPS", "SAR", "IPL"]
WAYS = [
    {"resampling": "extent", "interpolation": "linear-antialiased"},
    {"resampling": "extent", "interpolation": "linear"},
    {"resampling": "first-voxel", "interpolation": "linear"},
    {"resampling": "extent-rounded", "interpolation": "cubic"},
    {"resampling": "extent-rounded", "interpolation": "linear"},
]
CROPS = [
    None,
    {"nonzero": True},
    {"above": 50, "margin": 1, "when": "first"},
    {"above": 50, "margin": 2, "when": "resampled"},
    {"above": 50, "margin": 5, "when": "last"},
]


def volume(rng: np.random.Generator, angles, flipped: bool, near: Grid | None = None) -> sitk.Image:
    """Random voxels with zeros around them; left-handed if flipped; about the same centre as `near`."""
    size = tuple(int(n) for n in rng.integers(6, 16, 3))
    spacing = rng.uniform(0.6, 4, 3)
    matrix = rotation(angles) * ([1, 1, -1] if flipped else [1, 1, 1])
    centre = np.zeros(3) if near is None else np.asarray(near.point((np.array(near.size) - 1) / 2))
    origin = centre - matrix @ ((np.array(size) - 1) / 2 * spacing)
    array = rng.uniform(10, 100, size[::-1]).astype(np.float32)
    array[:2] = array[:, :1] = array[..., -2:] = 0
    grid = Grid(size, tuple(spacing.tolist()), tuple(origin.tolist()), tuple(matrix.ravel().tolist()))
    return grid.image(array)


@settings(max_examples=80, deadline=None)
@given(
    st.integers(0, 2**31), st.tuples(angle, angle, angle), st.tuples(angle, angle, angle), st.booleans(),
    st.sampled_from(ORIENTATIONS), st.sampled_from(WAYS), st.sampled_from(CROPS), st.booleans(),
    st.sampled_from([1, 8]), st.sampled_from([None, (9, 0, 12)]),
)  # fmt: skip
def test_the_way_back_is_the_transpose(seed, angles, others, flipped, orientation, way, crop, shared, multiple, size):
    rng = np.random.default_rng(seed)
    first = volume(rng, angles, flipped)
    second = volume(rng, others, False, Grid.of(first)) if not shared else Grid.of(first).image(
        rng.uniform(10, 100, Grid.of(first).shape).astype(np.float32)
    )  # fmt: skip
    wishes = Preprocessing(
        orientation=orientation,
        spacing=(*rng.uniform(0.6, 4, 2).tolist(), None),
        crop=crop,
        size=size,
        size_multiple=multiple,
        intensity=({"type": "linear"},),
        **way,
    )
    prepared = prepare([first, second], wishes)
    y = torch.from_numpy(rng.uniform(-1, 1, prepared.tensor.shape).astype(np.float32))
    for n, (source, channel, linear) in enumerate(zip(prepared.sources, y[0], prepared.maps, strict=True)):
        x = torch.from_numpy(rng.uniform(0, 1, source.shape).astype(np.float32))
        there, back = linear.forward(x), linear.adjoint(channel)
        scale = float(there.norm() * channel.norm()) + 1
        assert abs(float((there.double() * channel).sum() - (x.double() * back).sum())) < 1e-5 * scale
        assert not there[~linear.inside].any()
        if way["interpolation"] != "cubic" or not (n == 0 or shared):  # elsewhere splines go in, their triangles back
            own = torch.from_numpy(sitk.GetArrayFromImage([first, second][n]))
            torch.testing.assert_close(linear.forward(own), prepared.tensor[0, n], atol=1e-3, rtol=0)
    images, outside = prepared.relevance_to_source(y)
    arrays = [sitk.GetArrayFromImage(image) for image in images]
    total = sum(float(array.sum(dtype=float)) for array in arrays) + sum(outside)
    assert total == pytest.approx(float(y.sum(dtype=torch.float64)), abs=1e-3)
    if crop and crop.get("when", "first") == "first":
        margin = crop.get("margin", 0)
        on_first = [torch.from_numpy(sitk.GetArrayFromImage(first))]
        if shared:
            on_first.append(torch.from_numpy(sitk.GetArrayFromImage(second)))
            start, extent = bounding_box(foreground(on_first, crop), margin, "first", beyond=False)
            kept = np.zeros(arrays[0].shape, dtype=bool)
            kept[tuple(slice(s, s + n) for s, n in zip(reversed(start), reversed(extent), strict=True))] = True
            assert not arrays[0][~kept].any()


def test_relevance_of_what_was_cropped_is_zero_and_padding_is_named():
    array = np.zeros((8, 9, 10), dtype=np.float32)
    array[2:5, 3:7, 4:9] = 5
    image = sitk.GetImageFromArray(array)
    for crop in ({"nonzero": True}, {"when": "resampled"}, {"when": "last"}):
        prepared = prepare([image], Preprocessing(crop=crop, minimum_size=(8, 8, 8)))
        assert prepared.tensor.shape == (1, 1, 8, 8, 8)
        assert float(prepared.tensor.sum()) == array.sum()
        (back,), (outside,) = prepared.relevance_to_source(torch.ones(1, 1, 8, 8, 8))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(back), (array > 0).astype(np.float32))
        assert outside == 8**3 - 3 * 4 * 5
        labels = prepared.labels_to_source(torch.ones(8, 8, 8))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(labels), (array > 0).astype(np.uint8))


def test_what_was_cropped_is_counted_as_unseen():
    """In the box nothing is; a volume on another grid is unseen where the box does not reach."""
    rng = np.random.default_rng(0)
    image = volume(rng, (0.3, 0.2, 0.1), False)
    prepared = prepare([image], Preprocessing(crop={"nonzero": True}))
    (unseen,) = prepared.unseen()
    array = sitk.GetArrayFromImage(image)
    box = np.ones(array.shape, dtype=bool)
    box[2:, 1:, :-2] = False
    np.testing.assert_array_equal(unseen, box)
    (back,), _ = prepared.relevance_to_source(torch.ones_like(prepared.tensor))
    assert not sitk.GetArrayFromImage(back)[unseen].any()
    whole = prepare([image], Preprocessing(spacing=(2.0, 2.0, 2.0)))
    assert not whole.unseen()[0].any()


def test_a_margin_ends_at_the_volume_or_is_padding():
    array = np.zeros((6, 6, 6), dtype=np.float32)
    array[:2, 2:4, 2:4] = 1
    image = sitk.GetImageFromArray(array)
    first = prepare([image], Preprocessing(crop={"margin": 1}))
    assert first.grid.size == (4, 4, 3)
    assert bool(first.inside.all())
    last = prepare([image], Preprocessing(crop={"margin": 1, "when": "last"}))
    assert last.grid.size == (4, 4, 4)
    assert not last.inside[0].any()
    assert bool(last.inside[1:].all())


@pytest.mark.parametrize("when", ["first", "resampled", "last"])
def test_a_size_is_cut_around_the_foreground_and_not_around_the_volume(when):
    array = np.zeros((9, 10, 11), dtype=np.float32)
    array[1:4, :3, -4:-1] = 5
    image = sitk.GetImageFromArray(array)
    prepared = prepare([image], Preprocessing(crop={"when": when}, size=(5, 4, 3)))
    assert prepared.tensor.shape == (1, 1, 3, 4, 5)
    assert float(prepared.tensor.sum()) == array.sum()
    (back,), _ = prepared.relevance_to_source(prepared.tensor)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(back), array)


def test_volumes_without_foreground_and_contradictory_cards_are_refused():
    image = sitk.GetImageFromArray(np.ones((4, 4, 4), dtype=np.float32))
    with pytest.raises(UserError, match=r"'T1' holds no foreground"):
        prepare([image], Preprocessing(crop={"above": 1}), ["T1"])
    with pytest.raises(UserError, match="extent-rounded"):
        prepare([image], Preprocessing(spacing=(2, 2, 2), interpolation="cubic"))
    assert bool((prepare([image], Preprocessing(interpolation="cubic")).tensor == 1).all())
    with pytest.raises(UserError, match="intensity_first"):
        prepare([image], Preprocessing(intensity=({"type": "zscore", "foreground": True},)))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31))
def test_filled_foregrounds_are_scipys(seed):
    mask = np.random.default_rng(seed).random((5, 6, 7)) > 0.45
    found = foreground([torch.from_numpy(mask.astype(np.float32))], {"nonzero": True})
    np.testing.assert_array_equal(found.numpy(), ndimage.binary_fill_holes(mask))


@pytest.mark.parametrize("shape", [(9, 14, 20), (5, 8, 30), (17, 10, 11), (9, 4, 1)])
def test_splines_are_scikit_images(shape):
    array = np.random.default_rng(0).normal(size=(9, 10, 11))
    expected = transform.resize(array, shape, order=3, mode="edge", anti_aliasing=False)
    found = resize(torch.from_numpy(array).float(), shape).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_frames_and_their_overlap():
    grid = Grid((5, 4, 3), (1.0, 2.0, 3.0), (7.0, 8.0, 9.0), (0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, -1.0))
    other = Grid((4, 2, 9), grid.spacing, grid.point((3, -1, -2)), grid.direction)
    assert overlap(grid, other).size == (2, 1, 3)
    values = torch.arange(60).reshape(3, 4, 5)
    there = placed(values, grid, other)
    assert there.shape == other.shape
    assert torch.equal(placed(there, other, overlap(grid, other)), values[:, :1, 3:])
    assert int((there != 0).sum()) == 6


@pytest.mark.parametrize("size", [(30, 1, 1), (9, 25, 40)])
def test_repeated_edges_give_their_relevance_to_the_voxels_they_repeat(size):
    """A volume smaller than a window that asks for replicate padding: <A x, y> = <x, A' y>, and nothing is outside."""
    rng = np.random.default_rng(4)
    image = volume(rng, (0.2, 0.1, -0.3), True)
    wishes = Preprocessing(spacing=(1.5, 1.5, 2.0), window={"size": [8, 8, 8], "padding": "replicate"})
    prepared = prepare([image], wishes, least=size)
    bare = prepare([image], wishes)
    assert list(prepared.grid.shape) == [max(n, m) for n, m in zip(size, bare.grid.shape, strict=True)]
    start = [(new - old) // 2 for new, old in zip(prepared.grid.shape, bare.grid.shape, strict=True)]
    before_after = [(a, n - o - a) for a, n, o in zip(start, prepared.grid.shape, bare.grid.shape, strict=True)]
    np.testing.assert_array_equal(prepared.tensor[0, 0], np.pad(bare.tensor[0, 0].numpy(), before_after, mode="edge"))
    y = torch.from_numpy(rng.standard_normal(prepared.tensor.shape).astype(np.float32))
    (back,), (outside,) = prepared.relevance_to_source(y)
    array, on = sitk.GetArrayFromImage(image).astype(np.float64), sitk.GetArrayFromImage(back).astype(np.float64)
    inner = float((prepared.tensor.double() * y.double()).sum())
    scale = float((prepared.tensor.double() * y.double()).abs().sum())
    assert abs(float((array * on).sum()) - inner) < 1e-5 * scale
    assert outside == 0
    assert on.sum() == pytest.approx(float(y.double().sum()), abs=1e-4 * float(y.abs().sum()))
    assert int(prepared.inside.sum()) == bare.grid.shape[0] * bare.grid.shape[1] * bare.grid.shape[2]
