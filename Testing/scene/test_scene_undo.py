"""Slicer's undo: it holds for nodes that ask for it, which volumes and their display do not unless somebody says so."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
from hand_built import build, every_node
from LRPExplainLib.scene import display, present, presented_of, record, remove
from LRPExplainLib.scene.nodes import by_role
from vtkmodules.vtkCommonMath import vtkMatrix4x4


def ids(scene: Any) -> list[str]:
    return sorted(node.GetID() for node in every_node(scene))


def left_right(node: Any) -> float:
    matrix = vtkMatrix4x4()
    node.GetParentTransformNode().GetMatrixTransformToWorld(matrix)
    return float(matrix.GetElement(0, 3))


def test_undoing_a_moved_transform_takes_the_relevance_along(tmp_path: Path) -> None:
    shown = present(build(tmp_path))
    scene, volume = shown.scene, shown.volumes[0]
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetUndoEnabled(True)
    volume.SetAndObserveTransformNodeID(transform.GetID())
    before = ids(scene)
    scene.SetUndoOn()
    scene.SaveStateForUndo(transform)
    matrix = vtkMatrix4x4()
    matrix.SetElement(0, 3, 12.0)
    transform.SetMatrixTransformToParent(matrix)
    scene.Undo()
    assert (left_right(volume), left_right(shown.relevance[0])) == (0, 0)
    scene.Redo()
    assert (left_right(volume), left_right(shown.relevance[0])) == (12, 12)
    rest = [node for node in every_node(scene) if node.GetID() not in before]
    assert [node for node in rest if not node.IsA("vtkMRMLColorTableNode")] == []


@pytest.mark.parametrize("undoable", [False, True])
def test_undoing_an_explanation_leaves_nothing_half(tmp_path: Path, undoable: bool) -> None:
    """Undone with everything that belongs to it where its nodes ask for it, else not touched; and Redo likewise.

    Undo removes nodes, and MRML then forgets who used their colours: after Redo any volume's are gone, ours are made
    anew.
    """
    explanation = build(tmp_path)
    shown = present(explanation)
    scene, volumes = shown.scene, shown.volumes
    remove(shown)
    scene.SetUndoOn()
    before = ids(scene)
    scene.SaveStateForUndo()
    shown = present(explanation, volumes)
    display.apply(shown, display.Display(hot_spots=True))
    for node in every_node(scene):
        if undoable and node.GetID() not in before:
            node.SetUndoEnabled(True)
    with_it = ids(scene)
    scene.Undo()
    assert ids(scene) == (before if undoable else with_it)
    scene.Redo()
    assert ids(scene) == with_it
    (relevance,) = by_role(scene, "relevance")
    again = presented_of(relevance)
    np.testing.assert_array_equal(
        slicer.util.arrayFromVolume(relevance), slicer.util.arrayFromVolume(shown.relevance[0])
    )
    display.apply(again, display.Display(threshold=50.0))
    remove(again)
    rest = [node for node in every_node(scene) if node.GetID() not in before]
    assert [node for node in rest if not node.IsA("vtkMRMLColorTableNode")] == []


@pytest.mark.parametrize("alone", [False, True])
def test_undoing_a_deleted_map_brings_it_back(tmp_path: Path, alone: bool) -> None:
    shown = present(build(tmp_path))
    scene, relevance = shown.scene, shown.relevance[0]
    for node in [relevance] if alone else every_node(scene):
        node.SetUndoEnabled(True)
    shown_by = relevance.GetDisplayNode()
    voxels = slicer.util.arrayFromVolume(relevance).copy()
    scene.SetUndoOn()
    scene.SaveStateForUndo()
    scene.RemoveNode(relevance)
    if alone:
        scene.RemoveNode(shown_by)
    scene.Undo()
    (back,) = by_role(scene, "relevance")
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(back), voxels)
    again = presented_of(back)
    display.apply(again, display.Display(opacity=0.5))
    assert back.GetDisplayNode().GetColorNode() is record.linked_one(back, "colors")
