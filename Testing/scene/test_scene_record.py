"""Explanations in the life of a scene: updated, renamed, deleted, moved, undone, saved and loaded."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
from hand_built import LANDMARK, build, head, like
from LRPExplainLib.errors import UserError
from LRPExplainLib.explanation import Prediction
from LRPExplainLib.scene import (
    findings_of,
    load,
    present,
    present_in_steps,
    presented_in,
    presented_of,
    remove,
    restore,
    save,
)
from LRPExplainLib.scene.answers import volumes_of
from LRPExplainLib.scene.display import Display, apply, read
from LRPExplainLib.scene.host import Application
from LRPExplainLib.scene.nodes import add_volume
from LRPExplainLib.scene.overlay import composites, displayed_map, hide, show, shown
from LRPExplainLib.scene.record import every_node
from LRPExplainLib.scene.tables import write, write_table
from slicer.util import arrayFromVolume
from vtkmodules.vtkCommonMath import vtkMatrix4x4


def hierarchy_of(scene: Any) -> Any:
    return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)


def names_in_folder(scene: Any, node: Any) -> tuple[str, list[str]]:
    hierarchy = hierarchy_of(scene)
    folder = hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node))
    found: list[int] = []
    hierarchy.GetItemChildren(folder, found)
    return hierarchy.GetItemName(folder), sorted(hierarchy.GetItemName(item) for item in found)


def shifted(by: float) -> Any:
    matrix = vtkMatrix4x4()
    matrix.SetElement(0, 3, by)
    return matrix


def state(scene: Any) -> dict[str, Any]:
    """What a user has set in the views and for a volume or segmentation."""
    views = {
        node.GetLayoutName(): (
            node.GetBackgroundVolumeID(), node.GetForegroundVolumeID(), node.GetForegroundOpacity(),
            node.GetLabelVolumeID(), node.GetLinkedControl(),
            [node.GetNthLayerVolumeID(3 + n) for n in range(node.GetNumberOfAdditionalLayers())
             if node.GetNthLayerVolumeID(3 + n)],
        )
        for node in composites(scene)
    }  # fmt: skip
    return views


# --- in the subject hierarchy ----------------------------------------------------------------------------------------


def test_results_lie_in_a_folder_of_their_own_with_their_provenance(tmp_path: Path) -> None:
    nodes = present(build(tmp_path))
    apply(nodes, Display(hot_spots=True))
    write(nodes, findings_of(nodes))
    folder, names = names_in_folder(nodes.scene, nodes.relevance[0])
    assert folder == "scan1 relevance for lesion"
    assert {"scan1 relevance for lesion", "scan1 prediction", "scan1 relevance for lesion hot spot regions"} <= set(
        names
    )
    assert "scan1 relevance for lesion slices axial" in names
    assert "scan1" not in names
    first = nodes.relevance[0]
    assert first.GetAttribute("LRPExplain.Model") == "test model"
    assert first.GetAttribute("LRPExplain.ModelSHA256") == "1" * 64
    assert first.GetAttribute("LRPExplain.Class") == "lesion"
    assert first.GetAttribute("LRPExplain.Composite") == "epsilon-plus-flat"
    assert nodes.facts["ledger"]["target_value"] == 12.5


def test_two_explanations_have_two_folders(tmp_path: Path) -> None:
    one = present(build(tmp_path))
    two = present(build(tmp_path), one.volumes)
    assert names_in_folder(one.scene, one.relevance[0])[0] != names_in_folder(one.scene, two.relevance[0])[0]
    assert [nodes.relevance for nodes in presented_in(one.scene)] == [one.relevance, two.relevance]


# --- again -----------------------------------------------------------------------------------------------------------


def test_an_update_fills_the_same_nodes_and_keeps_settings_and_the_users_names(tmp_path: Path) -> None:
    first = present(build(tmp_path))
    apply(first, Display("Purple and orange", "peak", 20, opacity=0.7))
    first.segmentation.SetName("mine")
    count = first.scene.GetNumberOfNodes()
    explanation = build(tmp_path)
    doubled = like(head(), np.asarray(arrayFromVolume(first.relevance[0])) * 2)
    second = present(
        replace(explanation, relevance=(doubled,), target=explanation.target | {"class": "oedema"}),
        first.volumes,
        update=first,
    )
    assert second.scene.GetNumberOfNodes() == count
    assert second.relevance == first.relevance
    assert second.limit == 2.0
    assert arrayFromVolume(second.relevance[0]).max() == 2.0
    assert second.relevance[0].GetName() == "scan1 relevance for oedema"
    assert names_in_folder(second.scene, second.relevance[0])[0] == "scan1 relevance for oedema"
    assert second.segmentation.GetName() == "mine"
    assert read(second) == Display("Purple and orange", "peak", 20, opacity=0.7)
    assert second.target == "oedema"
    assert second.relevance[0].GetDisplayNode().GetWindowLevelMax() == pytest.approx(2, rel=0.05)
    assert second.legend.GetNthDisplayNode(1).GetTitleText() == "Relevance for\noedema"


def test_what_is_named_after_a_map_is_renamed_with_it_and_checks_of_the_earlier_one_go(tmp_path: Path) -> None:
    explanation = build(tmp_path)
    first = present(replace(explanation, target=explanation.target | {"class": "lesion core"}))
    apply(first, Display(hot_spots=True))
    write(first, findings_of(first))
    check = write_table(first, "complexity", {"value": np.array([1.0])})
    first.tables["ledger"].SetName("my ledger")
    axial = first.charts["axial"]
    axial.GetNthPlotSeriesNode(1).SetName("my curve")
    second = present(explanation, first.volumes, update=first)
    write(second, findings_of(second))
    assert second.relevance[0].GetName() == "scan1 relevance for lesion"
    assert second.tables["hot spots"].GetName() == "scan1 relevance for lesion hot spots"
    assert second.hot_spots.GetName() == "scan1 relevance for lesion hot spot regions"
    assert second.tables["ledger"].GetName() == "my ledger"
    assert second.charts["axial"] is axial
    assert axial.GetName() == "scan1 relevance for lesion axial"
    assert [axial.GetNthPlotSeriesNode(n).GetName() for n in range(2)] == ["for lesion", "my curve"]
    assert check.GetScene() is None
    assert not [node.GetName() for node in every_node(second.relevance[0]) if "core" in (node.GetName() or "")]


def test_a_name_that_the_user_gave_survives_an_update(tmp_path: Path) -> None:
    first = present(build(tmp_path))
    first.relevance[0].SetName("why lesion")
    explanation = build(tmp_path)
    second = present(
        replace(explanation, target=explanation.target | {"class": "oedema"}), first.volumes, update=first.relevance[0]
    )
    assert second.relevance[0].GetName() == "why lesion"


def test_an_update_leaves_nodes_where_their_user_has_put_them(tmp_path: Path) -> None:
    explanation = build(tmp_path)
    shown = present(explanation)
    hierarchy = hierarchy_of(shown.scene)
    mine = hierarchy.CreateFolderItem(hierarchy.GetSceneItemID(), "mine")
    moved = [hierarchy.GetItemByDataNode(node) for node in (shown.relevance[0], shown.segmentation)]
    for item in moved:
        hierarchy.SetItemParent(item, mine)
    present(explanation, shown.volumes, update=shown)
    assert [hierarchy.GetItemParent(item) for item in moved] == [mine, mine]


def test_an_update_of_what_has_gone_makes_new_nodes(tmp_path: Path) -> None:
    first = present(build(tmp_path))
    gone = first.relevance[0]
    first.scene.RemoveNode(gone)
    second = present(build(tmp_path), first.volumes, update=gone)
    assert second.relevance[0] is not gone
    assert second.relevance[0].GetScene() is first.scene
    two_inputs = build(tmp_path, [head(), head()])
    third = present(two_inputs, scene=first.scene, update=second)
    assert len(third.relevance) == 2
    assert third.relevance[0] is not second.relevance[0]


def test_an_update_to_a_classification_takes_the_segmentation_away(tmp_path: Path) -> None:
    first = present(build(tmp_path))
    said = Prediction(None, {"ill": 0.9}, [{"name": "well"}, {"name": "ill"}])
    second = present(build(tmp_path, prediction=said), first.volumes, update=first)
    assert second.segmentation is None
    assert second.scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0


# --- on and off ------------------------------------------------------------------------------------------------------


def test_switching_the_overlay_off_restores_the_views(tmp_path: Path) -> None:
    application = Application()
    mine, other = (add_volume(application.scene, head(), name) for name in ("mine", "other"))
    own = application.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "manual")
    own.CreateDefaultDisplayNodes()
    for composite in composites(application.scene)[:2]:
        composite.SetBackgroundVolumeID(other.GetID())
        composite.SetForegroundVolumeID(mine.GetID())
        composite.SetForegroundOpacity(0.4)
        composite.SetNthLayerVolumeID(3, other.GetID())
    before = state(application.scene)
    nodes = present(build(tmp_path), [mine])
    apply(nodes, Display(volume_rendering=True, hot_spots=True, minimum_cluster_ml=0.01))
    assert state(application.scene) != before
    assert own.GetDisplayNode().GetVisibility()
    hide(nodes)
    assert state(application.scene) == before
    assert not shown(nodes)
    for node in (nodes.segmentation, nodes.legend, nodes.hot_spots):
        assert not any(node.GetNthDisplayNode(n).GetVisibility() for n in range(node.GetNumberOfDisplayNodes()))
    show(nodes)
    assert shown(nodes)
    assert nodes.segmentation.GetDisplayNode().GetVisibility()
    assert own.GetDisplayNode().GetVisibility()


def test_what_the_user_had_hidden_stays_hidden_when_the_overlay_comes_back(tmp_path: Path) -> None:
    nodes = present(build(tmp_path))
    nodes.segmentation.GetDisplayNode().SetVisibility(False)
    hide(nodes)
    show(nodes)
    assert not nodes.segmentation.GetDisplayNode().GetVisibility()
    assert nodes.legend.GetNthDisplayNode(1).GetVisibility()


def test_showing_an_earlier_explanation_again_hides_the_later_one(tmp_path: Path) -> None:
    one = present(build(tmp_path))
    two = present(build(tmp_path), one.volumes)
    assert (shown(one), shown(two)) == (False, True)
    show(one)
    assert (shown(one), shown(two)) == (True, False)
    assert composites(one.scene)[0].GetNthLayerVolumeID(3) == one.relevance[0].GetID()
    assert not two.segmentation.GetDisplayNode().GetVisibility()


# --- nodes go --------------------------------------------------------------------------------------------------------


def test_removing_an_explanation_leaves_the_scene_as_it_was(tmp_path: Path) -> None:
    application = Application()
    mine = add_volume(application.scene, head(), "mine")
    hierarchy_of(application.scene)
    before = sorted(application.scene.GetNthNode(n).GetID() for n in range(application.scene.GetNumberOfNodes()))
    nodes = present(build(tmp_path), [mine])
    apply(nodes, Display(volume_rendering=True, hot_spots=True, minimum_cluster_ml=0.01))
    write(nodes, findings_of(nodes, reference=nodes.segmentation))
    remove(nodes)
    after = sorted(application.scene.GetNthNode(n).GetID() for n in range(application.scene.GetNumberOfNodes()))
    assert after == before
    assert presented_in(application.scene) == []
    hierarchy = hierarchy_of(application.scene)
    assert not hierarchy.GetItemByName("mine relevance for lesion")


@pytest.mark.parametrize("role", ["volume", "prediction", "legend", "colors"])
def test_a_deleted_companion_stops_nothing(tmp_path: Path, role: str) -> None:
    nodes = present(build(tmp_path))
    doomed = {
        "volume": nodes.volumes[0],
        "prediction": nodes.segmentation,
        "legend": nodes.legend,
        "colors": nodes.relevance[0].GetDisplayNode().GetColorNode(),
    }[role]
    nodes.scene.RemoveNode(doomed)
    again = presented_of(nodes.relevance[0])
    apply(again, Display(threshold=50, hot_spots=True, volume_rendering=True, minimum_cluster_ml=0.01))
    found = findings_of(again)
    assert len(found.hot_spots) == 1
    assert isinstance(found.warnings, tuple)
    hide(again)
    show(again)


def test_what_is_no_whole_explanation_is_refused(tmp_path: Path) -> None:
    nodes = present(build(tmp_path, [head(), head()]))
    with pytest.raises(UserError, match="no relevance map"):
        presented_of(nodes.volumes[0])
    nodes.scene.RemoveNode(nodes.volumes[0])
    assert presented_of(nodes.relevance[1]).volumes == (None, nodes.volumes[1])
    nodes.scene.RemoveNode(nodes.relevance[0])  # which had the facts
    with pytest.raises(UserError, match="was deleted"):
        presented_of(nodes.relevance[1])
    assert presented_in(nodes.scene) == []


def test_of_an_explanation_with_a_deleted_map_what_is_left_is_shown_under_its_own_name(tmp_path: Path) -> None:
    explanation = build(tmp_path, [head(), head(), head()])
    explanation.ledger["in_volume_by_input"] = [6, 4, 2]
    nodes = present(explanation)
    for node, name in zip(nodes.volumes, ("T1", "T2", "FLAIR"), strict=True):
        node.SetName(name)
    nodes.scene.RemoveNode(nodes.relevance[1])
    (again,) = presented_in(nodes.scene)
    assert (again.relevance, again.inputs) == ((nodes.relevance[0], nodes.relevance[2]), (0, 2))
    apply(again, Display(input=1))
    assert read(again).input == 1
    found = findings_of(again)
    assert (found.node, found.field) == (nodes.relevance[2], found.maps[2])
    assert found.maps[1] is None
    assert found.volume is not None
    assert [name for name, _relevance, _share in found.inputs] == ["T1", again.facts["volumes"][1]["name"], "FLAIR"]
    assert isinstance(found.warnings, tuple)
    with pytest.raises(UserError, match="or its map was deleted"):
        volumes_of(again)
    nodes.scene.RemoveNode(nodes.relevance[2])
    (last,) = presented_in(nodes.scene)
    assert read(last).input == 0


def test_what_a_model_made_for_itself_has_a_share_and_no_map(tmp_path: Path) -> None:
    explanation = build(tmp_path, [head(), head()])
    explanation.volumes[1]["made_by"] = {"name": "first stage"}
    explanation.ledger["in_volume_by_input"] = [9, 3]
    nodes = present(explanation)
    assert (len(nodes.relevance), nodes.inputs) == (1, (0,))
    assert volumes_of(nodes) == list(nodes.volumes)
    assert len(findings_of(nodes).inputs) == 2


def test_a_closed_scene_is_ready_for_the_next_one(tmp_path: Path) -> None:
    nodes = present(build(tmp_path))
    scene, application = nodes.scene, nodes.application
    scene.Clear(False)
    assert presented_in(scene) == []
    again = present(build(tmp_path), scene=scene)
    assert application is not None
    assert len(presented_in(scene)) == 1
    assert composites(scene)[0].GetNthLayerVolumeID(3) == again.relevance[0].GetID()


def test_undo_takes_the_explanation_back_and_redo_brings_it(tmp_path: Path) -> None:
    application = Application()
    scene = application.scene
    volume = add_volume(scene, head(), "mine")
    scene.SetUndoOn()
    scene.SaveStateForUndo()
    nodes = present(build(tmp_path), [volume])
    scene.Undo()
    for found in presented_in(scene):
        apply(found, Display(threshold=40))
    scene.Redo()
    again = present(build(tmp_path), [volume], update=nodes)
    assert again.relevance[0].GetScene() is scene
    assert findings_of(again).hot_spots[0].rank == 1


def test_presenting_in_steps_can_be_given_up_between_any_two(tmp_path: Path) -> None:
    application = Application()
    volume = add_volume(application.scene, head(), "mine")
    hierarchy_of(application.scene)
    explanation = build(tmp_path)

    def ids() -> list[str]:
        return sorted(application.scene.GetNthNode(n).GetID() for n in range(application.scene.GetNumberOfNodes()))

    before, count = ids(), sum(1 for _ in present_in_steps(explanation, [volume], None, None))
    remove(presented_in(application.scene)[0])
    for given_up_after in range(1, count + 1):
        steps = present_in_steps(explanation, [volume], None, None)
        for _ in range(given_up_after):
            next(steps)
        steps.close()
        assert ids() == before
    assert count >= 4


def test_nothing_that_follows_or_remembers_keeps_a_scene_alive(tmp_path: Path) -> None:
    import gc

    gone: list[str] = []
    nodes = present(build(tmp_path))
    apply(nodes, Display(hot_spots=True, minimum_cluster_ml=0.01))
    nodes.scene.AddObserver("DeleteEvent", lambda *_event: gone.append("scene"))
    nodes.volumes[0].AddObserver("DeleteEvent", lambda *_event: gone.append("volume"))
    del nodes
    gc.collect()
    assert set(gone) == {"scene", "volume"}


# --- moved -----------------------------------------------------------------------------------------------------------


def test_relevance_follows_a_volume_that_is_moved_later(tmp_path: Path) -> None:
    nodes = present(build(tmp_path))
    apply(nodes, Display(threshold_kind="peak", threshold=40, hot_spots=True, minimum_cluster_ml=0.01))
    transform = nodes.scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    nodes.volumes[0].SetAndObserveTransformNodeID(transform.GetID())
    for node in (nodes.relevance[0], nodes.segmentation, nodes.hot_spots, displayed_map(nodes.relevance[0])):
        assert node.GetTransformNodeID() == transform.GetID()
    transform.SetMatrixTransformToParent(shifted(30))
    assert findings_of(nodes).hot_spots[0].place[0] == pytest.approx(LANDMARK[0] + 30, abs=8)
    assert presented_of(nodes.relevance[0]).focus[0] == pytest.approx(LANDMARK[0] + 30, abs=2)
    lesion = findings_of(nodes, reference=nodes.segmentation).shares[0]
    assert lesion.positive > 100
    nodes.volumes[0].HardenTransform()
    assert nodes.relevance[0].GetTransformNodeID() is None
    assert findings_of(nodes).hot_spots[0].place[0] == pytest.approx(LANDMARK[0] + 30, abs=8)
    assert findings_of(nodes).volumes[0] is not None
    assert findings_of(nodes, reference=nodes.segmentation).shares[0] == lesion
    assert findings_of(nodes, reference=nodes.hot_spots).shares[0].name == "1: 66.7 %"
    assert findings_of(nodes, reference=nodes.hot_spots).shares[0].share == pytest.approx(2 / 3)


# --- saved and loaded ------------------------------------------------------------------------------------------------


def everything(nodes: Any) -> dict[str, Any]:
    found = findings_of(nodes, reference=nodes.segmentation)
    return {
        "display": read(nodes),
        "shown": shown(nodes),
        "facts": nodes.facts,
        "focus": np.round(nodes.focus, 3).tolist(),
        "limit": nodes.limit,
        "target": nodes.target,
        "caption": nodes.caption,
        "hot spots": [(s.rank, round(s.share, 5), np.round(s.place, 2).tolist(), s.segment) for s in found.hot_spots],
        "segments": nodes.hot_spots.GetSegmentation().GetNumberOfSegments(),
        "tables": {name: (t.GetNumberOfRows(), t.GetNumberOfColumns()) for name, t in sorted(nodes.tables.items())},
        "charts": {name: chart.GetNumberOfPlotSeriesNodes() for name, chart in sorted(nodes.charts.items())},
        "folder": names_in_folder(nodes.scene, nodes.relevance[0]),
        "visible": [n.GetVisibility() for n in every_node(nodes.relevance[0]) if hasattr(n, "GetVisibility")],
        "layers": [
            (c.GetLayoutName(), c.GetNthLayerVolume(3).GetName(), round(c.GetNthLayerOpacity(3), 6))
            for c in composites(nodes.scene)
        ],
    }


@pytest.fixture
def rich(tmp_path: Path) -> Any:
    nodes = present(build(tmp_path))
    apply(nodes, Display("Green and magenta", "peak", 30, 0.05, 0.35, "both", True, True, True))
    write(nodes, findings_of(nodes, reference=nodes.segmentation))
    return nodes


def test_a_bundle_comes_back_complete(rich: Any, tmp_path: Path) -> None:
    before = everything(rich)
    application = load(save(rich, tmp_path / "scene.mrb"))
    (again,) = presented_in(application.scene)
    assert everything(again) == before
    apply(again, Display(threshold=50))
    assert read(again).threshold == 50


def test_a_scene_file_comes_back_complete(rich: Any, tmp_path: Path) -> None:
    before = everything(rich)
    scene = rich.scene
    scene.SetRootDirectory(str(tmp_path))
    for n in range(scene.GetNumberOfNodes()):
        node = scene.GetNthNode(n)
        if node.IsA("vtkMRMLStorableNode") and node.GetSaveWithScene() and node.GetModifiedSinceRead():
            storage = node.GetStorageNode() or (node.AddDefaultStorageNode() and None) or node.GetStorageNode()
            if storage is not None:
                ending = storage.GetDefaultWriteFileExtension()
                storage.SetFileName(str(tmp_path / f"{node.GetID()}.{ending}"))
                storage.WriteData(node)
    scene.Commit(str(tmp_path / "scene.mrml"))
    application = Application()
    application.scene.SetURL(str(tmp_path / "scene.mrml"))
    application.scene.Import()
    restore(application.scene)
    (again,) = presented_in(application.scene)
    assert everything(again) == before


def test_two_scenes_merged_keep_their_explanations_apart(tmp_path: Path) -> None:
    nodes = present(build(tmp_path))
    path = save(nodes, tmp_path / "scene.mrb")
    application = load(path)
    messages = slicer.vtkMRMLMessageCollection()
    assert application.scene.ReadFromMRB(str(path), False, messages)
    restore(application.scene)
    one, two = presented_in(application.scene)
    assert one.relevance[0] is not two.relevance[0]
    assert one.volumes[0] is not two.volumes[0]
    assert one.segmentation is not two.segmentation
    apply(two, Display(color_map="Purple and orange"))
    assert read(one) == Display()


def test_an_overlay_that_was_off_comes_back_off(tmp_path: Path) -> None:
    nodes = present(build(tmp_path))
    hide(nodes)
    application = load(save(nodes, tmp_path / "scene.mrb"))
    (again,) = presented_in(application.scene)
    assert not shown(again)
    assert not again.segmentation.GetDisplayNode().GetVisibility()
    show(again)
    assert again.segmentation.GetDisplayNode().GetVisibility()
    assert composites(application.scene)[0].GetNthLayerOpacity(3) == 0.5
