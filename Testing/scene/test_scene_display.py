"""Display settings on real MRML: what is visible is exactly what was selected, and the map is never changed."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from hand_built import blob_relevance, build, head, like
from helpers.slowness import slowness
from LRPExplainLib.errors import UserError
from LRPExplainLib.scene import findings_of, present
from LRPExplainLib.scene.display import COLOR_MAPS, Display, apply, read
from LRPExplainLib.scene.overlay import composites, displayed_map, hide, show
from LRPExplainLib.scene.record import linked
from slicer.util import arrayFromVolume
from vtkmodules.util.numpy_support import vtk_to_numpy


def noise(tmp_path: Path, size: tuple[int, int, int] = (40, 48, 36)) -> Any:
    image = head(size)
    values = (np.random.default_rng(5).normal(size=size[::-1]) ** 3).astype(np.float32)
    return present(build(tmp_path, [image], relevance=(like(image, values),)))


def visible(shown: Any) -> np.ndarray:
    """Which voxels Slicer's own display pipeline draws."""
    node = displayed_map(shown.relevance[0])
    port = node.GetDisplayNode().GetOutputImageDataConnection()
    port.GetProducer().Update()
    output = port.GetProducer().GetOutput()
    alpha = vtk_to_numpy(output.GetPointData().GetScalars())[:, 3]
    return alpha.reshape(output.GetDimensions()[::-1]) > 0


def test_of_several_maps_the_one_with_most_relevance_is_shown_first(tmp_path: Path) -> None:
    image, elsewhere = head(), (-20.0, -20.0, -16.0)
    maps = (blob_relevance(image), blob_relevance(image, elsewhere))
    ledger = {"target_value": 12.5, "absolute_share_by_input": [0.2, 0.8]}
    explanation = build(tmp_path, [image, image], relevance=maps, ledger=ledger)
    shown = present(explanation)
    assert read(shown).input == 1
    assert displayed_map(shown.relevance[0]) is shown.relevance[1]
    assert {node.GetBackgroundVolumeID() for node in composites(shown.scene)} == {shown.volumes[1].GetID()}
    np.testing.assert_allclose(shown.focus, elsewhere, atol=2)
    apply(shown, Display(input=0))
    again = present(explanation, shown.volumes, update=shown)  # whoever has chosen another one keeps it
    assert read(again).input == 0


@pytest.mark.parametrize("sign", ["both", "positive", "negative"])
@pytest.mark.parametrize(("kind", "threshold"), [("peak", 5), ("peak", 30), ("peak", 90), ("mass", 50), ("mass", 90)])
def test_exactly_the_selected_voxels_are_drawn(tmp_path: Path, kind: str, threshold: float, sign: str) -> None:
    shown = noise(tmp_path)
    display = Display(threshold_kind=kind, threshold=threshold, sign=sign)
    apply(shown, display)
    values = arrayFromVolume(shown.relevance[0])
    chosen = {"both": np.abs(values), "positive": values, "negative": -values}[sign]
    level = findings_of(shown, display).level
    wanted = chosen >= level
    drawn = visible(shown)
    near = np.abs(np.abs(values) / level - 1) < 1e-4  # what six digits of a window cannot tell
    np.testing.assert_array_equal(drawn[~near], wanted[~near])
    assert wanted.any()
    if kind == "mass":
        kept = chosen[drawn].sum(dtype=np.float64) / chosen.clip(0).sum(dtype=np.float64)
        assert kept == pytest.approx(threshold / 100, abs=0.002)


def test_small_regions_vanish_from_view_and_stay_in_the_map(tmp_path: Path) -> None:
    shown = present(build(tmp_path))
    first = shown.relevance[0]
    before = arrayFromVolume(first).copy()
    arrayFromVolume(first)[2:4, 2:4, 2:4] = 0.9  # eight voxels of 8 mm3
    first.GetImageData().GetPointData().GetScalars().Modified()
    apply(shown, Display(threshold_kind="peak", threshold=40))
    assert visible(shown)[2:4, 2:4, 2:4].all()
    apply(shown, Display(threshold_kind="peak", threshold=40, minimum_cluster_ml=0.1))
    drawn = visible(shown)
    assert not drawn[2:4, 2:4, 2:4].any()
    np.testing.assert_array_equal(drawn[4:], np.abs(before[4:]) >= 0.4)
    assert (arrayFromVolume(first)[2:4, 2:4, 2:4] == np.float32(0.9)).all()
    assert composites(shown.scene)[0].GetNthLayerVolumeID(3) == displayed_map(first).GetID() != first.GetID()
    apply(shown, Display(threshold_kind="peak", threshold=40))
    assert displayed_map(first) is first
    assert composites(shown.scene)[0].GetNthLayerVolumeID(3) == first.GetID()


@pytest.mark.parametrize("color_map", COLOR_MAPS)
def test_a_colour_map_changes_colours_and_nothing_else(tmp_path: Path, color_map: str) -> None:
    shown = noise(tmp_path)
    before = visible(shown)
    apply(shown, replace(read(shown), color_map=color_map))
    np.testing.assert_array_equal(visible(shown), before)
    table = shown.relevance[0].GetDisplayNode().GetColorNode()
    strongest = [0.0] * 4
    table.GetColor(254, strongest)
    assert [round(value * 255) for value in strongest[:3]] == list(COLOR_MAPS[color_map].positive[-1])


def test_settings_are_read_back_as_they_were_applied(tmp_path: Path) -> None:
    shown = present(build(tmp_path))
    wanted = Display("Viridis (magnitude)", "peak", 33, 0.5, 0.25, "negative", False, False, True)
    apply(shown, wanted)
    assert read(shown) == wanted
    assert composites(shown.scene)[0].GetNthLayerOpacity(3) == 0.25
    assert not shown.legend.GetNthDisplayNode(1).GetVisibility()


@pytest.mark.parametrize(("sign", "low", "high"), [("both", -1, 1), ("positive", 0, 1), ("negative", -1, 0)])
def test_the_legend_shows_the_signs_that_are_shown(tmp_path: Path, sign: str, low: int, high: int) -> None:
    shown = present(build(tmp_path))
    apply(shown, Display(sign=sign))
    window = shown.relevance[0].GetDisplayNode().GetWindowLevelMax()
    assert shown.legend.GetDisplayNode().GetScalarRange() == (low * window, high * window)


def test_volume_rendering_has_the_colours_and_the_threshold_of_the_overlay(tmp_path: Path) -> None:
    shown = present(build(tmp_path))
    apply(shown, Display(threshold_kind="peak", threshold=60, sign="positive", volume_rendering=True))
    (glow,) = linked(shown.relevance[0], "glow")
    assert glow.GetVisibility()
    properties = glow.GetVolumePropertyNode().GetVolumeProperty()
    opacity, color = properties.GetScalarOpacity(), properties.GetRGBTransferFunction()
    assert [opacity.GetValue(value) for value in (-1.0, -0.6, 0.0, 0.59)] == [0, 0, 0, 0]
    assert 0 < opacity.GetValue(0.61) < opacity.GetValue(1.0)
    assert [round(c * 255) for c in color.GetColor(2.0)] == list(COLOR_MAPS["Fire and ice"].positive[-1])
    apply(shown, Display())
    assert not glow.GetVisibility()


def test_hot_spots_are_a_segmentation_with_a_segment_for_each_region(tmp_path: Path) -> None:
    shown = present(build(tmp_path))
    apply(shown, Display(threshold_kind="peak", threshold=40, hot_spots=True))
    segmentation = shown.hot_spots.GetSegmentation()
    names = [segmentation.GetSegment(name).GetName() for name in segmentation.GetSegmentIDs()]
    assert names == ["1: 66.7 %", "2: 33.3 % against"]
    image = segmentation.GetSegmentRepresentation("class_1", "Binary labelmap")
    labels = vtk_to_numpy(image.GetPointData().GetScalars())
    values = arrayFromVolume(shown.relevance[0])
    assert (int((labels == 1).sum()), int((labels == 2).sum())) == (int((values > 0).sum()), int((values < 0).sum()))
    apply(shown, Display(threshold_kind="peak", threshold=60, hot_spots=True))
    assert segmentation.GetNumberOfSegments() == 1
    apply(shown, Display())
    assert not shown.hot_spots.GetDisplayNode().GetVisibility()


def test_settings_made_while_the_overlay_is_off_count_when_it_comes_back(tmp_path: Path) -> None:
    shown = present(build(tmp_path))
    hide(shown)
    apply(shown, Display(opacity=0.8, hot_spots=True, legend=False))
    assert not shown.hot_spots.GetDisplayNode().GetVisibility()
    assert composites(shown.scene)[0].GetNthLayerVolumeID(3) is None
    show(shown)
    assert shown.hot_spots.GetDisplayNode().GetVisibility()
    assert not shown.legend.GetNthDisplayNode(1).GetVisibility()
    assert composites(shown.scene)[0].GetNthLayerOpacity(3) == 0.8


def test_another_inputs_map_can_be_shown(tmp_path: Path) -> None:
    shown = present(build(tmp_path, [head(), head()]))
    apply(shown, Display(input=1))
    assert composites(shown.scene)[0].GetNthLayerVolumeID(3) == shown.relevance[1].GetID()
    with pytest.raises(UserError, match="2 inputs"):
        apply(shown, Display(input=2))


@pytest.mark.parametrize(
    "wrong", [{"color_map": "jet"}, {"opacity": 2}, {"threshold": 200}, {"sign": "plus"}, {"input": -1}]
)
def test_settings_out_of_range_are_refused(wrong: dict) -> None:
    with pytest.raises(UserError):
        Display(**wrong)


def test_damaged_settings_give_the_defaults(tmp_path: Path) -> None:
    shown = present(build(tmp_path))
    for damaged in ("{", '{"opacity": 7}', "[]", '{"color_map": 3}'):
        shown.relevance[0].SetAttribute("LRPExplain.Display", damaged)
        assert read(shown) == Display()


def test_a_map_of_zeros_shows_nothing(tmp_path: Path) -> None:
    shown = present(build(tmp_path, relevance=(head() * 0,)))
    for display in (Display(), Display(threshold_kind="peak"), Display(hot_spots=True, minimum_cluster_ml=1)):
        apply(shown, display)
        assert not visible(shown).any()


def test_a_slider_at_128_cubed_takes_milliseconds(tmp_path: Path) -> None:
    image = head((128, 128, 128), 1.0)
    values = sitk.GetArrayFromImage(sitk.SmoothingRecursiveGaussian(like(image, np.random.default_rng(0).normal(
        size=(128, 128, 128)).astype(np.float32)), 2.0))  # fmt: skip
    shown = present(build(tmp_path, [image], relevance=(like(image, values.astype(np.float32)),)))
    taken = []
    for n in range(9):
        begin = time.perf_counter()
        apply(shown, Display(threshold=50 + 5 * n, opacity=0.1 * n, color_map=list(COLOR_MAPS)[n % 5]))
        taken.append(time.perf_counter() - begin)
    assert np.median(taken) < 0.2 * slowness()  # 0.01 to 0.03 s; other processes share the machine


@pytest.mark.parametrize(
    ("sign", "expected"), [("both", (-0.5, 1.5)), ("positive", (0.5, 1.5)), ("negative", (-0.5, 0.5))]
)
def test_the_legend_follows_a_window_that_was_set_elsewhere(
    tmp_path: Path, sign: str, expected: tuple[float, float]
) -> None:
    shown = noise(tmp_path)
    apply(shown, Display(sign=sign))
    shown.relevance[0].GetDisplayNode().SetWindowLevelMinMax(-0.5, 1.5)
    assert shown.legend.GetDisplayNode().GetScalarRange() == expected
    apply(shown, Display(sign=sign))
    assert shown.legend.GetDisplayNode().GetScalarRange() != expected
