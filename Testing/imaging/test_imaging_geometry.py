"""Grids, interpolation between them, and the adjoint."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from helpers.volumes import make_volume, rotation
from hypothesis import given, settings
from hypothesis import strategies as st
from LRPExplainLib.imaging import resampling
from LRPExplainLib.imaging.grid import Grid, core_grid, fitted, reorient, same_grid
from LRPExplainLib.imaging.preparation import prepare
from LRPExplainLib.imaging.resampling import AxisAligned, Oblique, axis_weights, linear_map, nearest
from LRPExplainLib.models import Preprocessing


def model_grid(source: Grid, orientation=None, spacing=None, size=None, size_multiple=1) -> Grid:
    """The grid on which a model that asks for these sees a volume."""
    return fitted(core_grid(source, orientation, spacing), size, size_multiple)


angle = st.floats(-3.1, 3.1)
length = st.floats(0.5, 4.0)


def grids(rng: np.random.Generator, angles) -> Grid:
    return Grid(
        tuple(int(n) for n in rng.integers(2, 18, 3)),
        tuple(rng.uniform(0.5, 4, 3).tolist()),
        tuple(rng.uniform(-5, 5, 3).tolist()),
        tuple(rotation(angles).ravel().tolist()),
    )


def inner(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.double() * b.double()).sum())


def assert_adjoint(way_in, source: Grid, target: Grid, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(source.shape, generator=generator)
    y = torch.rand(target.shape, generator=generator)
    assert inner(way_in.forward(x), y) == pytest.approx(inner(x, way_in.adjoint(y)), rel=1e-5, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**31), st.tuples(angle, angle, angle), st.permutations("RAS"), st.tuples(length, length, length),
    st.sampled_from([None, 8]),
)  # fmt: skip
def test_way_into_a_models_space_has_an_exact_adjoint_and_conserves_sums(seed, angles, letters, spacing, multiple):
    source = grids(np.random.default_rng(seed), angles)
    target = model_grid(source, "".join(letters), spacing, size_multiple=multiple or 1)
    way_in = linear_map(source, target)
    assert isinstance(way_in, AxisAligned)
    assert_adjoint(way_in, source, target, seed)
    y = torch.randn(target.shape, generator=torch.Generator().manual_seed(seed))
    kept = way_in.adjoint(y).sum(dtype=torch.float64)
    outside = y[~way_in.inside].sum(dtype=torch.float64)
    assert float(kept + outside) == pytest.approx(float(y.sum(dtype=torch.float64)), abs=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.tuples(angle, angle, angle), st.tuples(angle, angle, angle))
def test_interpolation_between_any_two_grids_has_an_exact_adjoint_and_conserves_sums(seed, angles, other_angles):
    rng = np.random.default_rng(seed)
    source, target = grids(rng, angles), grids(rng, other_angles)
    way_in = Oblique(source, target)
    assert_adjoint(way_in, source, target, seed)
    y = torch.randn(target.shape, generator=torch.Generator().manual_seed(seed))
    total = way_in.adjoint(y).sum(dtype=torch.float64) + y[~way_in.inside].sum(dtype=torch.float64)
    assert float(total) == pytest.approx(float(y.sum(dtype=torch.float64)), abs=1e-3)


@pytest.mark.parametrize("slices", [3, 0.5])
def test_a_large_target_is_worked_on_in_slabs_without_a_seam(monkeypatch, slices):
    """Several slices at once, the last slab thinner than the others; one where a slice alone is more than a slab."""
    source, target = Grid.of(make_volume()), Grid.of(make_volume(size=(13, 11, 14), angles=(0.0, 0.0, 0.0)))
    x, y = torch.rand(source.shape), torch.rand(target.shape)
    whole = Oblique(source, target)
    monkeypatch.setattr(resampling, "_SLAB_VOXELS", int(slices * 13 * 11))
    slabs = Oblique(source, target)
    assert 0 < int(whole.inside.sum()) < whole.inside.numel()
    assert torch.equal(slabs.inside, whole.inside)
    torch.testing.assert_close(slabs.forward(x), whole.forward(x))
    torch.testing.assert_close(slabs.adjoint(y), whole.adjoint(y))


def test_oblique_and_separable_interpolation_agree_on_parallel_grids():
    source = Grid.of(make_volume())
    target = model_grid(source, "RAS", (0.8, 0.9, 1.1), size_multiple=4)
    x = torch.rand(source.shape)
    separable, general = linear_map(source, target), Oblique(source, target)
    assert torch.equal(separable.inside, general.inside)
    torch.testing.assert_close(separable.forward(x), general.forward(x), atol=1e-4, rtol=1e-4)


@settings(max_examples=40, deadline=None)
@given(st.tuples(angle, angle, angle), st.permutations("LPI"))
def test_orientation_agrees_with_simpleitk(angles, letters):
    volume = make_volume(size=(4, 5, 6), angles=angles)
    orientation = "".join(letters)
    ours, theirs = reorient(Grid.of(volume), orientation), Grid.of(sitk.DICOMOrient(volume, orientation))
    if sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(theirs.direction) != orientation:
        return  # near 45 degrees SimpleITK's own choice is not the one asked for
    current = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(ours.direction)
    if current != orientation:
        return
    assert ours.size == theirs.size
    np.testing.assert_allclose(ours.origin, theirs.origin, atol=1e-6)
    np.testing.assert_allclose(ours.direction, theirs.direction, atol=1e-9)


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "SAR", "IPL", "ASL"])
def test_reordered_voxels_stay_where_they_are_in_the_patient(orientation):
    volume = make_volume(angles=(0.1, 0.2, -0.1))
    source = Grid.of(volume)
    target = model_grid(source, orientation)
    x = torch.from_numpy(sitk.GetArrayFromImage(volume))
    expected = sitk.GetArrayFromImage(sitk.DICOMOrient(volume, orientation))
    np.testing.assert_array_equal(linear_map(source, target).forward(x).numpy(), expected)


def test_finer_grids_get_plain_linear_interpolation():
    volume = make_volume()
    source = Grid.of(volume)
    target = model_grid(source, None, (0.7, 0.5, 0.9))
    ours = linear_map(source, target).forward(torch.from_numpy(sitk.GetArrayFromImage(volume))).numpy()
    theirs = sitk.GetArrayFromImage(
        sitk.Resample(volume, target.size, sitk.Transform(), sitk.sitkLinear, target.origin, target.spacing,
                      target.direction, -1.0, sitk.sitkFloat32)
    )  # fmt: skip
    known = theirs != -1
    assert known.mean() > 0.8
    np.testing.assert_allclose(ours[known], theirs[known], atol=2e-3)


def test_coarser_grids_average_as_pytorch_does_with_antialias():
    source = Grid((24, 20, 16), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
    target = model_grid(source, None, (2.0, 2.0, 1.0))
    x = torch.rand(source.shape)
    ours = linear_map(source, target).forward(x)
    theirs = torch.nn.functional.interpolate(x[None], size=target.shape[1:], mode="bilinear", antialias=True)[0]
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("scale", [1.0, 1.7, 2.0, 3.3, 5.0])
def test_no_source_voxel_is_blind(scale):
    source_count = 40
    count = int(np.ceil(source_count / scale))
    offset = (source_count - 1) / 2 - scale * (count - 1) / 2
    reached = axis_weights(count, source_count, scale, offset).sum(0)
    assert float(reached.min()) > 0.15 / scale


def test_a_grid_covers_its_source_without_padding_and_size_multiples_pad_evenly():
    source = Grid.of(make_volume(size=(31, 26, 15)))
    covered = model_grid(source, None, (1.5, 1.5, 1.5))
    assert bool(linear_map(source, covered).inside.all())
    assert all(n * 1.5 >= m * s - 1e-2 for n, m, s in zip(covered.size, source.size, source.spacing, strict=True))
    padded = model_grid(source, None, size_multiple=8)
    assert padded.size == (32, 32, 16)
    inside = linear_map(source, padded).inside
    assert inside.sum() == 31 * 26 * 15
    assert bool(inside[:15, 3:29, :31].all())


def test_a_fixed_size_crops_around_the_centre():
    source = Grid.of(make_volume(size=(20, 21, 10)))
    target = model_grid(source, size=(10, 10, 16))
    assert target.size == (10, 10, 16)
    x = torch.rand(source.shape)
    cropped = linear_map(source, target).forward(x)
    torch.testing.assert_close(cropped[3:13], x[:, 5:15, 5:15], rtol=0, atol=0)
    assert float(cropped[:3].abs().sum() + cropped[13:].abs().sum()) == 0


def test_labels_come_back_to_the_voxel_they_were_made_on():
    source = Grid.of(make_volume())
    target = model_grid(source, "SAR", size_multiple=4)
    labels = torch.randint(0, 4, source.shape)
    there = nearest(labels, source, target)
    assert torch.equal(nearest(there, target, source), labels)
    cropped = model_grid(source, size=(10, 10, 10))
    back = nearest(torch.ones(cropped.shape, dtype=torch.uint8), cropped, source)
    assert int(back.sum()) == 1000


def test_nearest_refuses_grids_at_an_angle():
    with pytest.raises(ValueError, match="parallel"):
        nearest(torch.zeros(14, 26, 30), Grid.of(make_volume()), Grid.of(make_volume(angles=(0.0, 0.0, 0.0))))


def test_a_planted_landmark_comes_back_on_its_own_voxel(oblique_volume):
    """Relevance on the model voxels that show a landmark returns to the landmark, in the oblique source grid."""
    array = np.zeros(sitk.GetArrayFromImage(oblique_volume).shape, dtype=np.float32)
    landmark = (9, 20, 5)
    array[9, 19:22, 4:7] = 1
    volume = Grid.of(oblique_volume).image(array)
    wishes = Preprocessing(orientation="RAS", spacing=(1.0, 1.0, 1.0), size_multiple=8)
    prepared = prepare([volume], wishes)
    assert prepared.tensor.shape[-1] % 8 == 0
    (image,), (outside,) = prepared.relevance_to_source(prepared.tensor)
    for get in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(image, get)() == getattr(oblique_volume, get)()
    back = sitk.GetArrayFromImage(image)
    assert back.dtype == np.float32
    assert array[np.unravel_index(back.argmax(), back.shape)] == 1
    centre = [
        float((back.sum(axis=tuple({0, 1, 2} - {d})) * np.arange(n)).sum() / back.sum())
        for d, n in enumerate(back.shape)
    ]
    np.testing.assert_allclose(centre, landmark, atol=0.1)
    assert outside == 0


def test_relevance_on_padding_is_named_as_outside(oblique_volume):
    prepared = prepare([oblique_volume], Preprocessing(size_multiple=16))
    relevance = torch.zeros_like(prepared.tensor)
    relevance[..., 0, 0] = 1  # size 30x26x14 -> 32x32x16: the first row and column are padding
    (image,), (outside,) = prepared.relevance_to_source(relevance)
    assert outside == relevance.sum()
    assert not sitk.GetArrayFromImage(image).any()


def test_volumes_of_one_examination_meet_on_the_first_ones_grid():
    """The same object seen on two grids at an angle to each other gives (nearly) the same channel twice."""
    centre = np.array([3.0, -4.0, 10.0])

    def view(size, spacing, angles) -> sitk.Image:
        matrix = rotation(angles)
        origin = centre - matrix @ ((np.array(size) - 1) / 2 * spacing)
        grid = Grid(size, spacing, tuple(origin.tolist()), tuple(matrix.ravel().tolist()))
        k, j, i = np.meshgrid(*(np.arange(n) for n in reversed(size)), indexing="ij")
        points = np.stack([i, j, k], -1) @ grid.axes.T + origin
        shifted = points - centre - np.array([4.0, 0.0, -6.0])
        return grid.image((1000 * np.exp(-(shifted**2).sum(-1) / 200)).astype(np.float32))

    first = view((40, 36, 30), (1.5, 1.5, 2.0), (0.2, 0.1, 0.0))
    second = view((90, 80, 70), (0.8, 0.8, 1.0), (-0.3, 0.5, 0.2))
    prepared = prepare([first, second], Preprocessing(intensity=({"type": "range", "lower": 0, "upper": 1000},)))
    one, two = prepared.tensor[0]
    assert one.shape == two.shape == (30, 36, 40)
    middle = (slice(8, 22), slice(10, 26), slice(10, 30))
    torch.testing.assert_close(one[middle], two[middle], atol=0.02, rtol=0)
    images, outside = prepared.relevance_to_source(torch.ones_like(prepared.tensor))
    assert [image.GetSize() for image in images] == [first.GetSize(), second.GetSize()]
    total = sum(float(sitk.GetArrayFromImage(image).sum(dtype=float)) for image in images) + sum(outside)
    assert total == pytest.approx(prepared.tensor.numel(), rel=1e-5)


TURNED = tuple(rotation((0.02, 0.0, 0.0)).ravel().tolist())


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({}, True),
        ({"origin": (10.005, -20.0, 30.0)}, True),  # of 2 mm
        ({"spacing": (2.0002, 2.0, 3.0)}, True),
        ({"origin": (10.1, -20.0, 30.0)}, False),
        ({"spacing": (2.1, 2.0, 3.0)}, False),  # the first voxel stays where it is, the last one moves by one
        ({"spacing": (2.0, 1.9, 3.0)}, False),
        ({"direction": TURNED}, False),
        ({"size": (20, 21, 23)}, False),
    ],
)
def test_grids_are_the_same_where_each_voxel_lies_on_the_others(change, same):
    one = Grid((20, 21, 22), (2.0, 2.0, 3.0), (10.0, -20.0, 30.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
    other = replace(one, **change)
    corners = list(itertools.product(*((0, n - 1) for n in one.size)))
    moved = np.array([np.subtract(one.point(corner), other.point(corner)) for corner in corners])
    assert (np.abs(moved / one.spacing).max() < 0.01 and one.size == other.size) == same
    assert same_grid(one, other) == same_grid(other, one) == same


@given(st.integers(0, 2**31), st.tuples(angle, angle, angle))
def test_a_grid_is_kept_as_json_and_as_mrml_has_it(seed, angles):
    grid = grids(np.random.default_rng(seed), angles)
    assert Grid.from_dict(json.loads(json.dumps(grid.as_dict()))) == grid
    image, index = grid.image(np.zeros(grid.shape, np.uint8)), (2, 3, 5)
    x, y, z = image.TransformIndexToPhysicalPoint(index)
    np.testing.assert_allclose(grid.ijk_to_ras @ [*index, 1], [-x, -y, z, 1], atol=1e-9)
    for broken in ({"spacing": [1.0, 0.0, 1.0]}, {"direction": [1.0] * 9}, {"origin": [0.0, np.nan, 0.0]}):
        with pytest.raises(ValueError, match=r"axes|extent"):
            Grid.from_dict({**grid.as_dict(), **broken})
