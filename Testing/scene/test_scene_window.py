"""The symmetric window and the place of the strongest relevance."""

import numpy as np
import pytest
import SimpleITK as sitk
from hand_built import oblique
from LRPExplainLib.findings.magnitudes import Magnitudes
from LRPExplainLib.scene.window import WINDOW_SHARE, limit_of, strongest_point


def symmetric_limit(maps: list[np.ndarray], share: float = WINDOW_SHARE) -> float:
    return limit_of(Magnitudes(maps), share)


def test_empty_space_around_the_relevance_does_not_change_the_window() -> None:
    values = np.random.default_rng(0).normal(size=1000)
    padded = np.concatenate([values, np.zeros(1_000_000)])
    assert symmetric_limit([padded]) == symmetric_limit([values]) > 0


def test_a_few_extreme_voxels_do_not_stretch_the_window() -> None:
    values = np.ones(10_000)
    values[:2] = 200
    assert symmetric_limit([values]) == 1.0


def test_the_window_holds_the_stated_share_and_regards_magnitude_only() -> None:
    values = np.random.default_rng(1).exponential(size=5000) * np.random.default_rng(2).choice([-1, 1], 5000)
    limit = symmetric_limit([values], share=0.9)
    within = np.abs(values)[np.abs(values) <= limit].sum() / np.abs(values).sum()
    assert within == pytest.approx(0.9, abs=0.01)
    assert symmetric_limit([-values], share=0.9) == limit


def test_several_maps_share_one_window_and_a_zero_map_has_one_too() -> None:
    weak, strong = np.full(100, 0.01), np.full(100, 5.0)
    assert symmetric_limit([weak, strong]) == 5.0
    assert symmetric_limit([np.zeros(8)]) == 1.0


def test_the_strongest_point_is_a_place_and_not_one_loud_voxel_on_an_oblique_grid() -> None:
    image = sitk.Image(oblique((40, 36, 16), (0.9, 1.1, 2.7))) * 0
    array = sitk.GetArrayFromImage(image)
    array[8:11, 10:16, 20:26] = -1.0
    array[2, 30, 5] = 3.0
    planted = sitk.GetImageFromArray(array)
    planted.CopyInformation(image)
    center = image.TransformContinuousIndexToPhysicalPoint((22.5, 12.5, 9.0))
    assert np.linalg.norm(np.subtract(strongest_point(planted), center)) < 3.0
