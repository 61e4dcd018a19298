"""The relevance colour table."""

import numpy as np
import pytest
from LRPExplainLib.scene.colors import ENTRIES, TRANSPARENT_BAND, relevance_colors


def lightness(rgb: np.ndarray) -> np.ndarray:
    """CIELAB L* of sRGB in 0..1."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    y = linear @ np.array([0.2126, 0.7152, 0.0722])
    return np.where(y > (6 / 29) ** 3, 116 * np.cbrt(y) - 16, y * (29 / 3) ** 3)


def test_the_band_around_zero_is_transparent_and_symmetric_and_all_else_opaque() -> None:
    alpha = relevance_colors()[:, 3]
    assert set(alpha) == {0.0, 1.0}
    np.testing.assert_array_equal(alpha, alpha[::-1])
    transparent = np.flatnonzero(alpha == 0)
    np.testing.assert_array_equal(transparent, np.arange(transparent[0], transparent[-1] + 1))
    assert len(transparent) / ENTRIES == pytest.approx(TRANSPARENT_BAND, abs=1.5 / ENTRIES)


def test_lightness_rises_with_magnitude_and_is_equal_on_both_arms() -> None:
    light = lightness(relevance_colors(band=0)[:, :3])
    negative, positive = light[: ENTRIES // 2][::-1], light[ENTRIES // 2 :]
    assert (np.diff(positive) > 0).all()
    assert (np.diff(negative) > 0).all()
    assert np.abs(positive - negative).max() < 4
    assert positive[-1] - positive[0] > 50


def test_negative_is_blue_and_positive_is_red() -> None:
    table = relevance_colors(band=0)
    assert (table[: ENTRIES // 2, 2] > table[: ENTRIES // 2, 0]).all()
    assert (table[ENTRIES // 2 :, 0] > table[ENTRIES // 2 :, 2]).all()


@pytest.mark.parametrize("band", [-0.1, 1.0])
def test_a_band_that_is_no_share_of_the_window_is_refused(band: float) -> None:
    with pytest.raises(ValueError, match="share of the window"):
        relevance_colors(band)
