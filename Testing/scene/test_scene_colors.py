"""The relevance colour tables."""

import numpy as np
import pytest
from LRPExplainLib.scene.colors import COLOR_MAPS, ENTRIES, ZERO_ROW, relevance_colors, window_for


def lightness(rgb: np.ndarray) -> np.ndarray:
    """CIELAB L* of sRGB in 0..1."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    y = linear @ np.array([0.2126, 0.7152, 0.0722])
    return np.where(y > (6 / 29) ** 3, 116 * np.cbrt(y) - 16, y * (29 / 3) ** 3)


def deuteranope(rgb: np.ndarray) -> np.ndarray:
    """What a reader without green cones sees (Machado et al. 2009, severity 1), in linear RGB."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return linear @ np.array([
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ]).T  # fmt: skip


def arms(color_map: str) -> tuple[np.ndarray, np.ndarray]:
    """RGB of the rows below and above zero, both outwards."""
    table = relevance_colors(1, color_map)[:, :3]
    return table[:ZERO_ROW][::-1], table[ZERO_ROW + 1 : ENTRIES - 1]


def test_the_band_around_zero_is_transparent_and_symmetric_and_all_else_opaque() -> None:
    alpha = relevance_colors(20)[:, 3]
    assert set(alpha) == {0.0, 1.0}
    np.testing.assert_array_equal(alpha[:-1], alpha[:-1][::-1])
    np.testing.assert_array_equal(np.flatnonzero(alpha == 0), np.arange(ZERO_ROW - 19, ZERO_ROW + 20))


@pytest.mark.parametrize(("sign", "shown"), [("positive", (False, True)), ("negative", (True, False))])
def test_one_sign_alone_hides_the_other(sign: str, shown: tuple[bool, bool]) -> None:
    alpha = relevance_colors(5, sign=sign)[:, 3]
    assert (alpha[: ZERO_ROW - 4].all(), alpha[ZERO_ROW + 5 :].all()) == shown
    assert (alpha[: ZERO_ROW - 4].any(), alpha[ZERO_ROW + 5 :].any()) == shown


@pytest.mark.parametrize("color_map", COLOR_MAPS)
def test_lightness_rises_with_magnitude_in_every_map_and_is_alike_on_both_arms(color_map: str) -> None:
    negative, positive = (lightness(arm) for arm in arms(color_map))
    assert (np.diff(positive) > 0).all()
    assert (np.diff(negative) > 0).all()
    assert np.abs(positive - negative).max() < 9
    assert min(positive[-1] - positive[0], negative[-1] - negative[0]) > 50


@pytest.mark.parametrize("color_map", [name for name in COLOR_MAPS if "magnitude" not in name])
def test_signs_stay_apart_to_a_reader_without_green_cones(color_map: str) -> None:
    """Red against green would not; blue, or the blue in purple, makes the difference."""
    negative, positive = (deuteranope(arm) for arm in arms(color_map))
    strong = slice(10, 100)
    blueness = (negative[:, 2] - negative[:, 0]) - (positive[:, 2] - positive[:, 0])
    assert np.abs(blueness[strong]).min() > 0.05


def test_negative_is_blue_and_positive_is_red_unless_another_map_is_chosen() -> None:
    negative, positive = arms("Fire and ice")
    assert (negative[:, 2] > negative[:, 0]).all()
    assert (positive[:, 0] > positive[:, 2]).all()


@pytest.mark.parametrize("color_map", [name for name in COLOR_MAPS if "magnitude" in name])
def test_maps_of_magnitude_have_the_same_colours_for_both_signs(color_map: str) -> None:
    np.testing.assert_array_equal(*arms(color_map))


@pytest.mark.parametrize("level", [0.0, 0.01, 0.1, 0.37, 0.9, 1.0, 2.5, 5.0])
def test_the_window_puts_the_edge_of_the_band_on_the_threshold(level: float) -> None:
    limit, peak = 1.0, 5.0
    window, band = window_for(limit, peak, level)
    edge = window * (2 * band - 1) / 255
    assert edge == pytest.approx(level, rel=1e-4) if level > 0.005 else edge <= 0.005
    assert 0.65 * limit < window <= 1.05 * peak  # a band of few rows leaves little choice
    if 0.05 < level < 0.4:
        assert window == pytest.approx(limit, rel=0.1)


@pytest.mark.parametrize("band", [0, 128])
def test_a_band_wider_than_an_arm_is_refused(band: int) -> None:
    with pytest.raises(ValueError, match="1 to 127"):
        relevance_colors(band)
