"""What slice views show, pixel by pixel: the slice logic blends the layers without any OpenGL."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
from hand_built import LANDMARK, build, fill, head, oblique
from LRPExplainLib.scene import PresentedNodes, present
from LRPExplainLib.scene.colors import ZERO_ROW, relevance_colors, window_for
from LRPExplainLib.scene.host import SLICE_VIEWS
from LRPExplainLib.scene.overlay import OPACITY
from vtkmodules.util.numpy_support import vtk_to_numpy
from vtkmodules.vtkCommonMath import vtkMatrix4x4

PIXELS = 300
ORIENTATIONS = {orientation: name for name, orientation in SLICE_VIEWS.items()}


class Slice:
    """The blended picture of one slice view through ``focus``; row 0 is the top."""

    def __init__(self, shown: PresentedNodes, orientation: str, focus: tuple[float, float, float]) -> None:
        assert shown.application is not None
        self.logic = shown.application.adopt(slicer.vtkMRMLSliceLogic())
        self.node = shown.scene.GetSingletonNode(ORIENTATIONS[orientation], "vtkMRMLSliceNode")
        self.logic.SetSliceNode(self.node)
        self.node.SetOrientation(orientation)
        self.logic.ResizeSliceNode(PIXELS, PIXELS)
        self.logic.FitSliceToBackground(PIXELS, PIXELS)
        self.node.JumpSliceByOffsetting(*focus)

    def pixels(self) -> np.ndarray:
        """RGB in 0..255, shape [rows, columns, 3]."""
        self.logic.UpdatePipeline()
        algorithm = self.logic.GetImageDataConnection().GetProducer()
        algorithm.Update()
        data = algorithm.GetOutput()
        values = vtk_to_numpy(data.GetPointData().GetScalars()).reshape(PIXELS, PIXELS, -1)
        return values[::-1, :, :3].astype(int)

    def pixel_of(self, ras: tuple[float, float, float]) -> tuple[int, int]:
        """(row, column) of a place."""
        inverse = vtkMatrix4x4()
        vtkMatrix4x4.Invert(self.node.GetXYToRAS(), inverse)
        x, y = inverse.MultiplyPoint((*ras, 1))[:2]
        return PIXELS - 1 - round(y), round(x)


def show_overlay(shown: PresentedNodes, opacity: float) -> None:
    for n in range(shown.scene.GetNumberOfNodesByClass("vtkMRMLSliceCompositeNode")):
        composite = shown.scene.GetNthNodeByClass(n, "vtkMRMLSliceCompositeNode")
        composite.SetNthLayerOpacity(slicer.vtkMRMLSliceCompositeNode.Layer_Last, opacity)


def mirrored(ras: tuple[float, float, float]) -> tuple[float, float, float]:
    return -ras[0], ras[1], ras[2]


@pytest.mark.parametrize(
    ("orientation", "expected"),
    [
        ("Axial", {"left": "R", "right": "L", "top": "A", "bottom": "P"}),
        ("Sagittal", {"left": "A", "right": "P", "top": "S", "bottom": "I"}),
        ("Coronal", {"left": "R", "right": "L", "top": "S", "bottom": "I"}),
    ],
)
@pytest.mark.parametrize("stored", [head(), fill(oblique((64, 50, 40), (2.0, 2.6, 3.1)))], ids=["straight", "oblique"])
def test_the_landmark_appears_where_a_radiologist_expects_it(
    tmp_path: Path, orientation: str, expected: dict[str, str], stored: sitk.Image
) -> None:
    """The bright ball lies right, anterior and superior of the centre, on a straight and on an oblique stored grid."""
    shown = present(build(tmp_path, [stored]))
    show_overlay(shown, 0.0)
    shown.volumes[0].GetDisplayNode().SetAutoWindowLevel(False)
    shown.volumes[0].GetDisplayNode().SetWindowLevelMinMax(0, 200)
    view = Slice(shown, orientation, LANDMARK)
    rows, columns = np.nonzero(view.pixels()[:, :, 0] > 0.75 * 255)
    found = rows.mean(), columns.mean()
    assert np.linalg.norm(np.subtract(found, view.pixel_of(LANDMARK))) < 4
    sides = {"top" if found[0] < PIXELS / 2 else "bottom", "left" if found[1] < PIXELS / 2 else "right"}
    assert {expected[side] for side in sides} <= {"R", "A", "S"}


def test_the_overlay_colours_relevance_and_changes_no_other_pixel(tmp_path: Path) -> None:
    shown = present(build(tmp_path))
    view = Slice(shown, "Axial", LANDMARK)
    with_overlay = view.pixels()
    show_overlay(shown, 0.0)
    anatomy = view.pixels()
    at, opposite_side = view.pixel_of(LANDMARK), view.pixel_of(mirrored(LANDMARK))
    band = window_for(1.0, 1.0, 0.5)[1]  # -0.5 lies on the threshold that keeps 80 % of the relevance
    table = relevance_colors(band)[:, :3] * 255
    for pixel, entry in ((at, 254), (opposite_side, ZERO_ROW - band)):
        expected = OPACITY * table[entry] + (1 - OPACITY) * anatomy[pixel]
        np.testing.assert_allclose(with_overlay[pixel], expected, atol=4)
    changed = (with_overlay != anatomy).any(axis=2)
    rows, columns = np.nonzero(changed)
    millimetres = view.node.GetFieldOfView()[0] / PIXELS
    distance = np.min(
        [np.hypot(rows - place[0], columns - place[1]) * millimetres for place in (at, opposite_side)], axis=0
    )
    assert distance.max() < 8 + 2.5  # the ball and one voxel of interpolation
    assert changed.sum() > 2 * 0.8 * np.pi * (8 / millimetres) ** 2


def test_the_overlay_lets_a_change_of_the_users_window_through(tmp_path: Path) -> None:
    shown = present(build(tmp_path))
    view = Slice(shown, "Coronal", LANDMARK)
    before = view.pixels()
    display = shown.volumes[0].GetDisplayNode()
    display.SetAutoWindowLevel(False)
    display.SetWindowLevel(1000, 500)
    after = view.pixels()
    center = PIXELS // 2
    assert after[center, center, 0] < before[center, center, 0]
    assert (after[view.pixel_of(LANDMARK)] != after[center, center]).any()


def test_relevance_within_the_band_is_invisible(tmp_path: Path) -> None:
    explanation = build(tmp_path)
    faint = explanation.relevance[0] * 1
    voxels = sitk.GetArrayFromImage(faint)
    voxels[voxels == -0.5] = -0.05
    image = sitk.GetImageFromArray(voxels)
    image.CopyInformation(faint)
    shown = present(build(tmp_path, relevance=(image,)))
    view = Slice(shown, "Axial", LANDMARK)
    with_overlay = view.pixels()
    show_overlay(shown, 0.0)
    anatomy = view.pixels()
    hidden = view.pixel_of(mirrored(LANDMARK))
    np.testing.assert_array_equal(with_overlay[hidden], anatomy[hidden])
    assert (with_overlay[view.pixel_of(LANDMARK)] != anatomy[view.pixel_of(LANDMARK)]).any()
