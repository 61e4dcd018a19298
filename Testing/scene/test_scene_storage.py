"""Scenes as .mrb files."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
from hand_built import build
from LRPExplainLib.errors import UserError
from LRPExplainLib.scene import load, present, save
from LRPExplainLib.scene.nodes import by_role
from LRPExplainLib.scene.overlay import OPACITY
from LRPExplainLib.scene.three_d import show_in_3d
from slicer.util import arrayFromVolume
from vtkmodules.vtkCommonMath import vtkMatrix4x4


def saved_nodes(scene: Any) -> list[tuple[str, str]]:
    nodes = [scene.GetNthNode(n) for n in range(scene.GetNumberOfNodes())]
    return sorted((node.GetClassName(), node.GetName()) for node in nodes if node.GetSaveWithScene())


def table_of(node: Any) -> np.ndarray:
    table = node.GetDisplayNode().GetColorNode().GetLookupTable()
    return np.array([table.GetTableValue(n) for n in range(table.GetNumberOfTableValues())])


def geometry_of(node: Any) -> np.ndarray:
    matrix = vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return np.array([matrix.GetElement(row, column) for row in range(4) for column in range(4)])


def test_a_scene_comes_back_with_the_same_nodes_colours_voxels_and_layers(tmp_path: Path) -> None:
    shown = present(build(tmp_path))
    show_in_3d(shown)
    path = save(shown, tmp_path / "out" / "case 1.mrb")
    scene = load(path).scene
    assert saved_nodes(scene) == saved_nodes(shown.scene)
    (relevance,) = by_role(scene, "relevance")
    for old, new in ((shown.relevance[0], relevance), (shown.volumes[0], scene.GetFirstNodeByName("scan1"))):
        np.testing.assert_array_equal(arrayFromVolume(new), arrayFromVolume(old))
        np.testing.assert_allclose(geometry_of(new), geometry_of(old), atol=1e-4)
    np.testing.assert_allclose(table_of(relevance), table_of(shown.relevance[0]), atol=1 / 255)
    np.testing.assert_array_equal(table_of(relevance)[:, 3], table_of(shown.relevance[0])[:, 3])
    display = relevance.GetDisplayNode()
    before = shown.relevance[0].GetDisplayNode()
    assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == pytest.approx(
        (before.GetWindowLevelMin(), before.GetWindowLevelMax()), rel=1e-5
    )
    segmentation = scene.GetFirstNodeByClass("vtkMRMLSegmentationNode")
    segment = segmentation.GetSegmentation().GetSegment("class_1")
    assert (segment.GetName(), segment.GetColor()) == ("lesion", (0.0, 1.0, 0.0))
    assert not segmentation.GetDisplayNode().GetVisibility2DFill()
    assert by_role(scene, "legend")[0].GetNthDisplayNode(1).GetTitleText() == "Relevance for\nlesion"
    layer = slicer.vtkMRMLSliceCompositeNode.Layer_Last
    assert scene.GetNumberOfNodesByClass("vtkMRMLSliceCompositeNode") == 3
    for n in range(3):
        composite = scene.GetNthNodeByClass(n, "vtkMRMLSliceCompositeNode")
        assert composite.GetNthLayerVolumeID(layer) == relevance.GetID()
        assert composite.GetNthLayerOpacity(layer) == OPACITY


def test_an_existing_file_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    explanation = build(tmp_path)
    folder = tmp_path / "out"
    folder.mkdir()
    path = folder / "scene.mrb"
    path.write_bytes(b"old")
    save(present(replace(explanation, target=explanation.target | {"class": "oedema"})), path)
    assert [entry.name for entry in folder.iterdir()] == ["scene.mrb"]
    assert by_role(load(path).scene, "relevance")[0].GetName() == "scan1 relevance for oedema"


def test_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"ends in \.mrb"):
        save(present(build(tmp_path)), tmp_path / "scene.mrml")


def test_what_is_no_scene_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a scene"):
        load(tmp_path / "missing.mrb")
    (tmp_path / "broken.mrb").write_bytes(b"no zip")
    with pytest.raises(UserError, match="not a scene"):
        load(tmp_path / "broken.mrb")
