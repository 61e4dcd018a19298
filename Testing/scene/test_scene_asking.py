"""Places of a question as Slicer's own nodes give them, asked of the region that the worker makes of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from hand_built import oblique
from LRPExplainLib.errors import UserError
from LRPExplainLib.imaging.grid import Grid
from LRPExplainLib.scene import asking
from LRPExplainLib.scene.host import Application
from LRPExplainLib.scene.nodes import add_segmentation, add_volume
from LRPExplainLib.worker.answers import _region
from vtkmodules.vtkCommonMath import vtkMatrix4x4

SIZE = (14, 12, 9)


@pytest.fixture
def image() -> sitk.Image:
    return oblique(SIZE, (0.9, 1.1, 2.7))


@pytest.fixture
def application() -> Application:
    return Application()


@pytest.fixture
def volume(application: Application, image: sitk.Image) -> Any:
    return add_volume(application.scene, image, "head")


def transform(node: Any, matrix: np.ndarray) -> Any:
    """Put the node under a linear transform."""
    vtk_matrix = vtkMatrix4x4()
    vtk_matrix.DeepCopy(matrix.ravel())
    parent = node.GetScene().AddNewNodeByClass("vtkMRMLLinearTransformNode")
    parent.SetMatrixTransformToParent(vtk_matrix)
    node.SetAndObserveTransformNodeID(parent.GetID())
    return parent


def box_along(volume: Any, first: tuple[int, ...], last: tuple[int, ...], scale: float = 1.0) -> Any:
    """An ROI node that holds the voxel centres from ``first`` to ``last``, drawn ``scale`` times as small."""
    matrix = vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    middle = matrix.MultiplyPoint((*(np.add(first, last) / 2), 1))
    spacing = np.array(volume.GetSpacing())
    axes = vtkMatrix4x4()
    for row in range(3):
        for column in range(3):
            axes.SetElement(row, column, matrix.GetElement(row, column) / spacing[column])
        axes.SetElement(row, 3, middle[row] / scale)
    node = volume.GetScene().AddNewNodeByClass("vtkMRMLMarkupsROINode", "box")
    node.SetAndObserveObjectToNodeMatrix(axes)
    node.SetSize(*(spacing * (np.subtract(last, first) + 0.5) / scale))
    return node


def mask(where: Any, volume: Any, image: sitk.Image, folder: Path) -> np.ndarray:
    grid = Grid.of(image)
    region = _region(asking.place(where, volume, folder / "asked.nrrd"))
    assert region is not None
    return region.mask(grid, np.ones(grid.shape, bool))


def voxels(first: tuple[int, ...], last: tuple[int, ...]) -> np.ndarray:
    expected = np.zeros(SIZE[::-1], bool)
    expected[tuple(slice(a, b + 1) for a, b in zip(first[::-1], last[::-1], strict=True))] = True
    return expected


def test_a_box_is_what_the_roi_node_encloses(volume: Any, image: sitk.Image, tmp_path: Path) -> None:
    box = box_along(volume, (2, 3, 1), (8, 5, 6))
    np.testing.assert_array_equal(mask(box, volume, image, tmp_path), voxels((2, 3, 1), (8, 5, 6)))


def test_a_box_under_a_transform_that_enlarges_it(volume: Any, image: sitk.Image, tmp_path: Path) -> None:
    box = box_along(volume, (2, 3, 1), (8, 5, 6), scale=2)
    transform(box, np.diag([2.0, 2.0, 2.0, 1.0]))
    np.testing.assert_array_equal(mask(box, volume, image, tmp_path), voxels((2, 3, 1), (8, 5, 6)))


def test_a_box_that_moves_with_its_volume(volume: Any, image: sitk.Image, tmp_path: Path) -> None:
    box = box_along(volume, (2, 3, 1), (8, 5, 6))
    parent = transform(volume, np.array([[0, -1, 0, 40], [1, 0, 0, -7], [0, 0, 1, 3], [0, 0, 0, 1.0]]))
    box.SetAndObserveTransformNodeID(parent.GetID())
    np.testing.assert_array_equal(mask(box, volume, image, tmp_path), voxels((2, 3, 1), (8, 5, 6)))


@pytest.fixture
def segmentation(volume: Any, image: sitk.Image) -> Any:
    """Two segments that share a layer."""
    labels = np.where(voxels((2, 3, 1), (8, 5, 6)), 1, 2 * voxels((10, 8, 2), (11, 9, 4))).astype(np.uint8)
    drawn = sitk.GetImageFromArray(labels)
    drawn.CopyInformation(image)
    return add_segmentation(volume.GetScene(), drawn, [{"name": n} for n in ("none", "one", "two")], "drawn")


@pytest.mark.parametrize("name", ["one", "class_1"])
def test_a_segment_alone_is_asked_about_and_the_scene_stays_as_it_was(
    volume: Any, image: sitk.Image, segmentation: Any, tmp_path: Path, name: str
) -> None:
    nodes = volume.GetScene().GetNumberOfNodes()
    np.testing.assert_array_equal(mask((segmentation, name), volume, image, tmp_path), voxels((2, 3, 1), (8, 5, 6)))
    assert volume.GetScene().GetNumberOfNodes() == nodes


def test_a_segment_that_moves_with_its_volume(
    volume: Any, image: sitk.Image, segmentation: Any, tmp_path: Path
) -> None:
    parent = transform(volume, np.array([[0, -1, 0, 40], [1, 0, 0, -7], [0, 0, 1, 3], [0, 0, 0, 1.0]]))
    segmentation.SetAndObserveTransformNodeID(parent.GetID())
    np.testing.assert_array_equal(mask((segmentation, "two"), volume, image, tmp_path), voxels((10, 8, 2), (11, 9, 4)))


@pytest.mark.parametrize("named", ["one", "class_1"])
def test_a_segment_elsewhere_is_refused_by_its_name(volume: Any, segmentation: Any, tmp_path: Path, named: str) -> None:
    transform(segmentation, np.array([[1, 0, 0, 900], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]))
    with pytest.raises(UserError, match="The segment 'one' has no voxel in 'head': choose another"):
        asking.place((segmentation, named), volume, tmp_path / "asked.nrrd")
    assert not list(tmp_path.iterdir())


def test_a_segment_that_is_not_there_is_refused(volume: Any, segmentation: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no segment 'three' in 'drawn'"):
        asking.place((segmentation, "three"), volume, tmp_path / "asked.nrrd")


def test_what_is_no_place_is_refused(volume: Any, image: sitk.Image, tmp_path: Path) -> None:
    drawn = add_segmentation(volume.GetScene(), sitk.Cast(image > 50, sitk.sitkUInt8), [{"name": ""}] * 2, "mine")
    for where in (drawn, (1.0, 2.0, 3.0, 4.0)):
        with pytest.raises(UserError, match="is no place: give a segmentation node with a segment"):
            asking.place(where, volume, tmp_path / "asked.nrrd")
