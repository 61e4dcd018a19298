"""A map that its user deletes takes along what only served to show it; results stay."""

from pathlib import Path
from typing import Any

import pytest
import slicer
from hand_built import build, every_node, head, node_ids
from LRPExplainLib.explanation import Prediction
from LRPExplainLib.scene import (
    PresentedNodes,
    display,
    findings_of,
    load,
    overlay,
    present,
    presented_in,
    remove,
    save,
    tables,
)
from LRPExplainLib.scene.host import vtk
from LRPExplainLib.scene.nodes import ROLE_ATTRIBUTE


def roles(scene: Any) -> list[str]:
    return sorted(filter(None, (node.GetAttribute(ROLE_ATTRIBUTE) for node in every_node(scene))))


def fully_shown(explanation: Any, **where: Any) -> PresentedNodes:
    shown = present(explanation, **where)
    display.apply(shown, display.Display(volume_rendering=True, minimum_cluster_ml=0.5))
    return shown


def test_legend_colours_and_what_the_views_draw_go_with_the_map(tmp_path: Path) -> None:
    explanation = build(tmp_path)
    scene = present(explanation).scene
    before = node_ids(scene)
    (tmp_path / "second").mkdir()
    shown = fully_shown(build(tmp_path / "second"), scene=scene)
    volume, prediction = shown.volumes[0], shown.segmentation
    scene.RemoveNode(shown.relevance[0])
    served_by_itself = {volume, prediction}
    ours = {*served_by_itself, *(node.GetDisplayNode() for node in served_by_itself)}
    assert node_ids(scene) - before == {node.GetID() for node in ours}
    assert len(presented_in(scene)) == 1


def test_results_stay(tmp_path: Path) -> None:
    shown = fully_shown(build(tmp_path))
    display.apply(shown, display.Display(hot_spots=True))
    tables.write(shown, findings_of(shown))
    charts = list(shown.charts.values())
    kept = [shown.segmentation, shown.hot_spots, *shown.tables.values(), *charts]
    curves = [chart.GetNumberOfPlotSeriesNodes() for chart in shown.charts.values()]
    shown.scene.RemoveNode(shown.relevance[0])
    assert all(node.GetScene() is shown.scene for node in kept)
    assert [chart.GetNumberOfPlotSeriesNodes() for chart in charts] == curves
    assert set(curves) == {2}
    assert "legend" not in roles(shown.scene)


@pytest.mark.parametrize("how", ["by its user", "by us"])
def test_colours_go_after_what_is_shown_in_them(tmp_path: Path, how: str) -> None:
    shown = fully_shown(build(tmp_path))
    gone: list[str] = []

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def note(_scene: Any, _event: str, node: Any) -> None:
        gone.append(node.GetClassName())

    shown.scene.AddObserver(shown.scene.NodeRemovedEvent, note)
    if how == "by us":
        remove(shown)
    else:
        shown.scene.RemoveNode(shown.relevance[0])
    first_table = gone.index("vtkMRMLColorTableNode")
    assert "vtkMRMLColorLegendDisplayNode" in gone[:first_table]
    assert not [name for name in gone[first_table:] if name.endswith("DisplayNode")]


def test_of_several_inputs_the_maps_that_are_left_keep_their_colours(tmp_path: Path) -> None:
    shown = present(build(tmp_path, [head(), head()]))
    first, second = shown.relevance
    shown.scene.RemoveNode(first)
    colors = second.GetDisplayNode().GetColorNode()
    assert colors is not None
    assert colors.GetScene() is shown.scene


@pytest.mark.parametrize("loaded", [False, True])
def test_the_folder_goes_when_nothing_is_left_in_it(tmp_path: Path, loaded: bool) -> None:
    explanation = build(tmp_path, prediction=Prediction(None, {"benign": 0.9}, []))
    shown = present(explanation)
    scene = shown.scene
    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    remove(shown)
    items = tree.GetNumberOfItems()
    shown = present(explanation, shown.volumes)
    assert tree.GetNumberOfItems() > items
    if loaded:
        application = load(save(shown, tmp_path / "scene.mrb"))
        scene = application.scene
        tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
        (shown,) = presented_in(scene)
    scene.RemoveNode(shown.relevance[0])
    assert roles(scene) == []
    assert tree.GetNumberOfItems() == items


def test_what_fails_while_it_is_shown_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = present(build(tmp_path))
    before = node_ids(shown.scene)

    def fail(_presented: Any) -> None:
        raise RuntimeError("no view")

    monkeypatch.setattr(overlay, "show", fail)
    with pytest.raises(RuntimeError, match="no view"):
        present(build(tmp_path), shown.volumes)
    assert node_ids(shown.scene) == before
