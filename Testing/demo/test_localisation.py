"""share_inside against maps whose shares can be worked out by hand."""

import numpy as np
import pytest
import SimpleITK as sitk
from LRPExplainLib.demo import share_inside
from LRPExplainLib.errors import UserError

SHAPE = (20, 24, 28)  # [D, H, W]


def volume(voxels: np.ndarray, spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> sitk.Image:
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing(spacing)
    return image


def single_voxel_mask() -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    mask[10, 12, 14] = 1
    return mask


def test_relevance_in_the_mask_alone_is_wholly_inside() -> None:
    mask = single_voxel_mask()
    assert share_inside(volume(mask.astype(np.float32)), volume(mask), 0.0) == (1.0, 1.0)


def test_uniform_relevance_gives_the_share_of_voxels() -> None:
    mask = np.zeros(SHAPE, np.uint8)
    mask[4:9, 5:10, 6:12] = 1
    inside, with_rim = share_inside(volume(np.ones(SHAPE, np.float32)), volume(mask), 1.0)
    faces = 2 * (5 * 5 + 5 * 6 + 5 * 6)  # the voxels 1 mm away from a box of 5 x 5 x 6 share a face with it
    assert inside == pytest.approx(150 / np.prod(SHAPE))
    assert with_rim == pytest.approx((150 + faces) / np.prod(SHAPE))


def test_negative_relevance_does_not_count() -> None:
    mask = single_voxel_mask()
    relevance = np.zeros(SHAPE, np.float32)
    relevance[10, 12, 14], relevance[0, 0, 0], relevance[1:5] = 3, 1, -7
    inside, with_rim = share_inside(volume(relevance), volume(mask), 2.0)
    assert inside == pytest.approx(0.75)
    assert with_rim == pytest.approx(0.75)


@pytest.mark.parametrize(("rim", "expected"), [(0.0, 1), (0.7, 3), (1.4, 5), (2.0, 7), (3.0, 9), (4.0, 11), (90.0, 13)])
def test_the_rim_is_measured_in_mm_along_each_axis(rim: float, expected: int) -> None:
    """One unit of relevance at 1 and 2 voxels from the mask on each side of each axis, on 0.7 x 2 x 3 mm voxels."""
    relevance = single_voxel_mask().astype(np.float32)
    for step in (1, 2):
        for offset in np.eye(3, dtype=int) * step:
            relevance[tuple(np.array([10, 12, 14]) + offset)] = 1
            relevance[tuple(np.array([10, 12, 14]) - offset)] = 1
    spacing = (0.7, 2.0, 3.0)
    inside, with_rim = share_inside(volume(relevance, spacing), volume(single_voxel_mask(), spacing), rim)
    assert inside == pytest.approx(1 / 13)
    assert with_rim == pytest.approx(expected / 13)


def test_the_rim_agrees_with_distances_between_voxel_centres() -> None:
    rng = np.random.default_rng(0)
    relevance = rng.normal(size=SHAPE).astype(np.float32)
    mask = (rng.random(SHAPE) < 0.002).astype(np.uint8)
    spacing = (0.9, 1.3, 2.5)
    points = np.stack(np.mgrid[tuple(map(slice, SHAPE))], axis=-1).reshape(-1, 3) * np.array(spacing[::-1])
    marked = points[mask.ravel() > 0]
    distance = np.linalg.norm(points[:, None] - marked, axis=-1).min(axis=1)
    positive = np.maximum(relevance.ravel(), 0)
    _, with_rim = share_inside(volume(relevance, spacing), volume(mask, spacing), 5.0)
    assert with_rim == pytest.approx(positive[distance <= 5.0].sum() / positive.sum(), rel=1e-5)
    assert 0.1 < with_rim < 0.9


def test_a_mask_at_the_border_of_the_volume() -> None:
    mask = np.zeros(SHAPE, np.uint8)
    mask[0], mask[-1] = 1, 1
    inside, with_rim = share_inside(volume(np.ones(SHAPE, np.float32)), volume(mask), 3.0)
    assert inside == pytest.approx(2 / 20)
    assert with_rim == pytest.approx(8 / 20)


def test_what_cannot_be_answered_is_refused() -> None:
    mask, ones = single_voxel_mask(), np.ones(SHAPE, np.float32)
    with pytest.raises(UserError, match="differ in geometry"):
        share_inside(volume(ones), volume(mask, (1.0, 1.0, 2.0)), 1.0)
    with pytest.raises(UserError, match="mask is empty"):
        share_inside(volume(ones), volume(0 * mask), 1.0)
    with pytest.raises(UserError, match="no positive value"):
        share_inside(volume(-ones), volume(mask), 1.0)
    with pytest.raises(UserError, match="rim"):
        share_inside(volume(ones), volume(mask), -1.0)
