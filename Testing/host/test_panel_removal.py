"""What is deleted while it is chosen at the panel: nothing else takes its place, and what is left is shown rightly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
from LRPExplainLib.scene import present, save
from LRPExplainLib.scene.overlay import composites
from scene.hand_built import build, head

from host.host import Host
from host.test_panel_trust import composite


@pytest.fixture
def opened(host: Host, temporary: Path) -> Any:
    return host.open()


def volume(name: str) -> Any:
    return slicer.util.addVolumeFromArray(np.random.default_rng(0).random((4, 5, 6)).astype(np.float32), name=name)


def segmentation(name: str) -> Any:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.GetSegmentation().AddEmptySegment(f"{name} segment")
    return node


def several(opened: Any, folder: Path) -> Any:
    """An explanation of four volumes, whose first map is chosen."""
    nodes = present(build(folder, [head(), head(), head(), head()]), scene=slicer.mrmlScene)
    opened.panel.display.on_result(nodes)
    return nodes


def test_the_map_that_is_chosen_is_shown_when_another_was_deleted(opened: Any, host: Host, tmp_path: Path) -> None:
    nodes = several(opened, tmp_path)
    host.process()
    slicer.mrmlScene.RemoveNode(nodes.relevance[1])
    for chosen in (nodes.relevance[2], nodes.relevance[3], nodes.relevance[0]):
        opened.ui.relevanceSelector.setCurrentNode(chosen)
        host.process()
        assert composite("Red") == chosen.GetID()


@pytest.mark.parametrize("deleted", [0, 2])
def test_after_the_shown_map_comes_one_of_the_same_explanation_or_none(
    opened: Any, host: Host, tmp_path: Path, deleted: int
) -> None:
    (tmp_path / "other").mkdir()
    present(build(tmp_path / "other"), scene=slicer.mrmlScene)
    nodes = several(opened, tmp_path)
    opened.ui.relevanceSelector.setCurrentNode(nodes.relevance[deleted])
    slicer.mrmlScene.RemoveNode(nodes.relevance[deleted])
    host.process()
    shown = opened.ui.relevanceSelector.currentNode()
    assert shown is (nodes.relevance[0] if deleted else None)  # the first one had the facts
    assert composite("Red") == (nodes.relevance[0].GetID() if deleted else "None")


def test_of_the_maps_that_are_left_the_strongest_is_shown(opened: Any, host: Host, tmp_path: Path) -> None:
    made = build(tmp_path, [head(), head(), head(), head()])
    shares = {"absolute_share_by_input": [0.1, 0.2, 0.4, 0.3]}
    nodes = present(replace(made, ledger=made.ledger | shares), scene=slicer.mrmlScene)
    opened.panel.display.on_result(nodes)
    for shown in (nodes.relevance[2], nodes.relevance[3], nodes.relevance[1], nodes.relevance[0]):
        host.process()
        assert opened.ui.relevanceSelector.currentNode() is shown
        assert composite("Red") == shown.GetID()
        slicer.mrmlScene.RemoveNode(shown)
    host.process()
    assert opened.ui.relevanceSelector.currentNode() is None


def test_a_deleted_volume_leaves_its_selector_empty(opened: Any, host: Host) -> None:
    host.wait(lambda: opened.panel.model.facts is not None, 60)
    names = ["before", "mine", "after"]
    _before, mine, after = (volume(name) for name in names)
    slicer.app.applicationLogic().GetSelectionNode().SetActiveVolumeID(mine.GetID())
    opened.panel.volumes.selectors[0].setCurrentNode(mine)
    host.process()
    assert opened.panel.volumes.nodes == [mine]
    slicer.mrmlScene.RemoveNode(mine)
    host.process()
    assert opened.panel.volumes.nodes == [None]
    assert opened.panel.volumes.selectors[0].currentNode() is None
    assert "Choose a volume first" in opened.ui.explainButton.toolTip
    slicer.app.applicationLogic().GetSelectionNode().SetActiveVolumeID(after.GetID())
    assert opened.panel.volumes.nodes == [after]


@pytest.mark.parametrize("explained", [True, False])
def test_no_older_map_takes_the_place_of_a_deleted_volume(
    opened: Any, host: Host, tmp_path: Path, explained: bool
) -> None:
    (tmp_path / "other").mkdir()
    present(build(tmp_path / "other"), scene=slicer.mrmlScene)  # Slicer's own selectors would go to its map
    mine = present(build(tmp_path), scene=slicer.mrmlScene).volumes[0] if explained else volume("mine")
    red, yellow, *_rest = composites(slicer.mrmlScene)
    for view in (red, yellow):
        view.SetBackgroundVolumeID(mine.GetID())
    host.process()
    slicer.mrmlScene.RemoveNode(mine)
    host.process()
    assert red.GetBackgroundVolumeID() is None
    assert yellow.GetBackgroundVolumeID() is None


def test_one_of_several_deleted_volumes_leaves_the_others(opened: Any, host: Host) -> None:
    host.wait(lambda: opened.panel.model.facts is not None, 60)
    opened.panel.volumes.show_channels(["T1", "T2", "FLAIR"])
    given = [volume(name) for name in ("T1", "T2", "FLAIR")]
    opened.panel.volumes.fill(["T1", "T2", "FLAIR"])
    for n in (0, 2):
        slicer.mrmlScene.RemoveNode(given[n])
    host.process()
    assert opened.panel.volumes.nodes == [None, given[1], None]
    assert "Choose a volume for every input first" in opened.ui.explainButton.toolTip


def test_a_deleted_reference_is_none_any_more(opened: Any, host: Host) -> None:
    segmentation("before")
    mine = segmentation("mine")
    segmentation("after")
    opened.ui.referenceSelector.setCurrentNode(mine)
    host.process()
    assert opened.panel.volumes.reference.node is mine
    slicer.mrmlScene.RemoveNode(mine)
    host.process()
    assert opened.panel.volumes.reference.node is None
    assert opened.ui.referenceSelector.currentNode() is None


def test_places_and_the_map_beside_are_none_any_more(opened: Any, host: Host, tmp_path: Path) -> None:
    kinds = {"roi": "vtkMRMLMarkupsROINode", "points": "vtkMRMLMarkupsFiducialNode"}
    for name, kind in kinds.items():
        nodes = [slicer.mrmlScene.AddNewNodeByClass(kind) for _ in range(3)]
        selector = getattr(opened.ui, f"{name}Selector")
        selector.setCurrentNode(nodes[1])
        slicer.mrmlScene.RemoveNode(nodes[1])
        host.process()
        assert selector.currentNode() is None
        assert getattr(opened.panel.parameters, name) is None
    maps = several(opened, tmp_path).relevance
    opened.ui.besideSelector.setCurrentNode(maps[2])
    slicer.mrmlScene.RemoveNode(maps[2])
    host.process()
    assert opened.ui.besideSelector.currentNode() is None


def test_a_map_that_has_lost_its_first_one_is_not_put_beside_another(opened: Any, host: Host, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = present(build(tmp_path / "other"), scene=slicer.mrmlScene)
    maps = several(opened, tmp_path).relevance
    slicer.mrmlScene.RemoveNode(maps[0])
    opened.ui.relevanceSelector.setCurrentNode(other.relevance[0])
    opened.ui.displayCollapsibleButton.collapsed = False
    host.process()
    host.click(opened.ui.sideBySideButton)
    opened.ui.besideSelector.setCurrentNode(maps[1])
    host.process()
    assert "was deleted: explain the volumes again" in opened.ui.statusLabel.text
    assert composite("Red") == "None"


def test_a_scene_with_a_map_joins_one_that_has_a_map(opened: Any, host: Host, tmp_path: Path) -> None:
    nodes = several(opened, tmp_path)
    host.process()
    path = save(nodes, tmp_path / "scene.mrb")
    messages = slicer.vtkMRMLMessageCollection()
    slicer.mrmlScene.ReadFromMRB(str(path), False, messages)
    host.process()
    assert opened.ui.relevanceSelector.nodeCount() == 8  # and nothing was printed, see conftest.py


def test_a_map_comes_with_its_own_volume_where_the_one_before_did(opened: Any, host: Host, tmp_path: Path) -> None:
    nodes = several(opened, tmp_path)
    mine = volume("mine")
    red, yellow, *_rest = composites(slicer.mrmlScene)
    yellow.SetBackgroundVolumeID(mine.GetID())
    assert red.GetBackgroundVolumeID() == nodes.volumes[0].GetID()
    opened.ui.relevanceSelector.setCurrentNode(nodes.relevance[2])
    host.process()
    assert red.GetBackgroundVolumeID() == nodes.volumes[2].GetID()
    assert yellow.GetBackgroundVolumeID() == mine.GetID()
    (tmp_path / "other").mkdir()
    other = present(build(tmp_path / "other"), scene=slicer.mrmlScene)
    opened.panel.display.on_result(other)
    assert red.GetBackgroundVolumeID() == other.volumes[0].GetID()


def test_a_map_that_a_script_shows_in_place_of_the_chosen_one_is_told(opened: Any, host: Host, tmp_path: Path) -> None:
    nodes = several(opened, tmp_path)
    assert opened.ui.overlayCheckBox.checked
    (tmp_path / "other").mkdir()
    present(build(tmp_path / "other"), scene=slicer.mrmlScene)
    assert not opened.ui.overlayCheckBox.checked
    opened.ui.overlayCheckBox.checked = True
    assert composite("Red") == nodes.relevance[0].GetID()


def test_a_map_that_was_left_is_found_again_though_another_of_its_explanation_was_deleted(
    opened: Any, host: Host, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    other = present(build(tmp_path / "other"), scene=slicer.mrmlScene)
    nodes = several(opened, tmp_path)
    slicer.mrmlScene.RemoveNode(nodes.relevance[1])
    for chosen in (other.relevance[0], nodes.relevance[2]):
        opened.ui.relevanceSelector.setCurrentNode(chosen)
        host.process()
        assert composite("Red") == chosen.GetID()
    assert opened.ui.thresholdSlider.enabled
    assert opened.panel.display.nodes.inputs == (0, 2, 3)
    assert opened.panel.display.display().input == 1
