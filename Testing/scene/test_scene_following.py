"""What was made for a volume stays on it when a non-linear transform is hardened in its voxels."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hand_built import build, head
from LRPExplainLib.scene import display, findings_of, present
from LRPExplainLib.scene.geometry import matrix_of
from LRPExplainLib.scene.host import slicer, vtk
from LRPExplainLib.scene.nodes import array_of, has_grid_like

SHIFT = np.array([12.0, -6.0, 4.0])


def bent(scene: Any) -> Any:
    """A thin plate spline that moves most of the head by SHIFT, and what is far away on the left by nothing."""
    source, target = vtk.vtkPoints(), vtk.vtkPoints()
    for x in (-90, 10, 40):
        for y in (-60, 60):
            for z in (-50, 50):
                source.InsertNextPoint(x, y, z)
                target.InsertNextPoint(*(np.array([x, y, z]) + SHIFT * (x > 0)))
    spline = vtk.vtkThinPlateSplineTransform()
    spline.SetBasisToR()
    spline.SetSourceLandmarks(source)
    spline.SetTargetLandmarks(target)
    node = scene.AddNewNodeByClass("vtkMRMLTransformNode")
    node.SetAndObserveTransformToParent(spline)
    return node


def centre(node: Any, above: float) -> np.ndarray:
    k, j, i = np.argwhere(array_of(node) > above).mean(axis=0)
    return (matrix_of(node) @ [i, j, k, 1])[:3]


@pytest.mark.parametrize("hardened", [True, False])
def test_a_non_linear_transform_is_hardened_in_what_was_made_for_the_volume(tmp_path: Path, hardened: bool) -> None:
    shown = present(build(tmp_path))
    display.apply(shown, display.Display(hot_spots=True, minimum_cluster_ml=0.1))
    (volume,), (relevance,) = shown.volumes, shown.relevance
    before = centre(relevance, 0.5)
    volume.SetAndObserveTransformNodeID(bent(shown.scene).GetID())
    assert relevance.GetParentTransformNode() is volume.GetParentTransformNode() is not None
    if hardened:
        volume.HardenTransform()
    else:
        volume.SetAndObserveTransformNodeID(None)
    for node in (relevance, shown.segmentation, shown.hot_spots):
        assert node.GetParentTransformNode() is None
    assert has_grid_like(volume, relevance)
    moved = centre(relevance, 0.5) - before
    np.testing.assert_allclose(moved, SHIFT if hardened else 0 * SHIFT, atol=2)
    np.testing.assert_allclose(centre(relevance, 0.5), centre(volume, 150), atol=2)
    assert findings_of(shown).altered == ()
    place = [0.0] * 3
    shown.segmentation.GetSegmentCenterRAS("class_1", place)
    np.testing.assert_allclose(place, centre(volume, 150), atol=2)


def test_a_hot_spot_is_found_under_a_non_linear_transform(tmp_path: Path) -> None:
    shown = present(build(tmp_path, [head()]))
    before = findings_of(shown).hot_spots[0].place
    shown.volumes[0].SetAndObserveTransformNodeID(bent(shown.scene).GetID())
    assert isinstance(shown.volumes[0].GetParentTransformNode(), slicer.vtkMRMLTransformNode)
    found = findings_of(shown)
    np.testing.assert_allclose(np.subtract(found.place_of(found.hot_spots[0]), before), SHIFT, atol=2)
