"""Maps of channels as parts of the whole map: beside it, in no view until chosen, saved with it, gone with it."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
from hand_built import blob_relevance, build, head, node_ids
from LRPExplainLib.errors import UserError
from LRPExplainLib.explanation import Explanation
from LRPExplainLib.scene import load, overlay, present, presented_of, remove, save
from LRPExplainLib.scene.concepts import facts_of, forget, rows_of, show_in_steps
from LRPExplainLib.scene.hierarchy import folder_of
from LRPExplainLib.scene.nodes import by_role
from LRPExplainLib.scene.parts import whole_of
from slicer.util import arrayFromVolume

PLACES = {7: (24.0, 30.0, 20.0), 2: (-20.0, 10.0, 0.0)}  # of the channels' strongest voxels; the first is the lesion's


def written(folder: Path) -> tuple[Explanation, Path, dict[str, Any]]:
    """A whole explanation, and a folder of its concepts as the worker hands it over."""
    whole = build(folder)
    entries = []
    for rank, (channel, place) in enumerate(PLACES.items(), 1):
        concept = {"layer": "mid", "part": "channel", "channel": channel, "rank": rank, "share": 0.5 / rank}
        part = replace(
            whole, relevance=(blob_relevance(head(), place),), target=whole.target | {"concept": concept}
        )  # fmt: skip
        part.save(folder / "found" / f"concept-{rank}")
        peak = {"input": 0, "ras": list(place), "relevance": 1.0}
        entries.append(
            {"rank": rank, "channel": channel, "share": 0.5 / rank, "peak": peak, "folder": f"concept-{rank}"}
        )
    return whole, folder / "found", {"layer": "mid", "concepts": entries, "relevance_by_channel": [0.0] * 9}


def shown_ids(scene: Any) -> set[str]:
    layer = slicer.vtkMRMLSliceCompositeNode.Layer_Last
    return {composite.GetNthLayerVolumeID(layer) for composite in overlay.composites(scene)}


def finish(steps: Any) -> int:
    return sum(1 for _ in steps)


def test_channels_lie_beside_the_whole_map_and_are_shown_when_they_are_chosen(tmp_path: Path) -> None:
    explanation, folder, facts = written(tmp_path)
    whole = present(explanation)
    first, scene, before = whole.relevance[0], whole.scene, node_ids(whole.scene)
    outline = whole.segmentation.GetDisplayNode()
    assert finish(show_in_steps(whole, folder, facts)) > 10  # small steps
    assert not folder.exists()
    assert shown_ids(scene) == {first.GetID()}
    assert outline.GetVisibility()
    rows = rows_of(first, whole.segmentation)
    assert [(row.channel, row.share, row.segments) for row in rows] == [(7, 0.5, ("lesion",)), (2, 0.25, ())]
    for row, place in zip(rows, PLACES.values(), strict=True):
        assert row.place == pytest.approx(place)
        assert folder_of(row.node) == folder_of(first)
        assert f"channel {row.channel} of mid" in row.node.GetName()
        assert whole_of(row.node) is first
        expected = blob_relevance(head(), place)
        np.testing.assert_array_equal(arrayFromVolume(row.node), arrayFromVolume_of(expected))
    part = presented_of(rows[1].node)
    overlay.show(part)
    assert shown_ids(scene) == {rows[1].node.GetID()}
    assert outline.GetVisibility()  # what the model says stays beside its parts
    assert legends_seen(scene) == [part.legend.GetID()]
    overlay.hide(part)
    assert not outline.GetVisibility()
    overlay.show(whole)
    assert outline.GetVisibility()
    assert legends_seen(scene) == [whole.legend.GetID()]
    forget(whole)
    assert node_ids(scene) == before
    assert facts_of(first) == {}


def arrayFromVolume_of(image: Any) -> np.ndarray:
    import SimpleITK as sitk

    return sitk.GetArrayFromImage(image)


def legends_seen(scene: Any) -> list[str]:
    return [node.GetID() for node in by_role(scene, "legend") if node.GetNthDisplayNode(1).GetVisibility()]


def test_a_saved_scene_has_the_channels_and_removing_the_whole_removes_them(tmp_path: Path) -> None:
    explanation, folder, facts = written(tmp_path)
    whole = present(explanation)
    finish(show_in_steps(whole, folder, facts))
    scene = load(save(whole, tmp_path / "case.mrb")).scene
    (first,) = {whole_of(node) for node in by_role(scene, "relevance")}
    assert [row.channel for row in rows_of(first)] == [7, 2]
    assert legends_seen(scene) == [presented_of(first).legend.GetID()]
    scene.RemoveNode(rows_of(first)[0].node)
    assert [row.channel for row in rows_of(first)] == [2]
    remove(presented_of(first))
    assert by_role(scene, "relevance") == by_role(scene, "prediction") == []


@pytest.mark.parametrize("fault", ["given up", "volume gone", "file missing"])
def test_whatever_goes_wrong_leaves_the_whole_map_alone(tmp_path: Path, fault: str) -> None:
    explanation, folder, facts = written(tmp_path)
    whole = present(explanation)
    before = node_ids(whole.scene)
    steps = show_in_steps(whole, folder, facts)
    for _ in range(9):  # the first channel is there, the second one is not
        next(steps)
    if fault == "given up":
        steps.close()
    elif fault == "volume gone":
        before -= {whole.volumes[0].GetID()}
        whole.scene.RemoveNode(whole.volumes[0])
        with pytest.raises(UserError, match=r"was removed|no longer"):
            finish(steps)
    else:
        shutil.rmtree(folder / "concept-2")
        with pytest.raises(UserError, match="concept-2"):
            finish(steps)
    assert node_ids(whole.scene) <= before | {"vtkMRMLScalarVolumeDisplayNode"}
    assert len(by_role(whole.scene, "relevance")) == 1
    assert not folder.exists()


def test_a_whole_map_that_its_user_deletes_takes_its_parts_along_and_a_part_itself_alone(tmp_path: Path) -> None:
    explanation, folder, facts = written(tmp_path)
    whole = present(explanation)
    first, scene, before = whole.relevance[0], whole.scene, node_ids(whole.scene)
    finish(show_in_steps(whole, folder, facts))
    one, other = (row.node for row in rows_of(first, whole.segmentation))
    scene.RemoveNode(one)
    assert presented_of(other).legend is not None
    assert presented_of(first).legend is not None
    scene.RemoveNode(other)
    assert node_ids(scene) - before == set()
    (tmp_path / "again").mkdir()
    explanation, folder, facts = written(tmp_path / "again")
    finish(show_in_steps(whole, folder, facts))
    scene.RemoveNode(first)
    assert by_role(scene, "relevance") == []
    assert by_role(scene, "legend") == []
    assert whole.segmentation.GetScene() is scene
