"""The stand-in widgets follow the scene and behave as CTK's and Slicer's do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer

from host import dialogs
from host.host import Host


@pytest.fixture
def ctk(host: Host) -> Any:
    import ctk

    return ctk


@pytest.fixture
def selector(host: Host) -> Any:
    result = slicer.qMRMLNodeComboBox()
    result.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    result.addEnabled = result.removeEnabled = False
    result.setMRMLScene(slicer.mrmlScene)
    return result


def volume(name: str, kind: str = "vtkMRMLScalarVolumeNode") -> Any:
    return slicer.util.addVolumeFromArray(np.zeros((2, 2, 2), np.float32), name=name, nodeClassName=kind)


def test_a_selector_without_none_takes_the_first_node_and_moves_on_when_it_goes(selector: Any) -> None:
    heard: list[Any] = []
    selector.connect("currentNodeChanged(vtkMRMLNode*)", heard.append)
    first, second = volume("a"), volume("b")
    assert selector.currentNode() is first
    assert selector.nodeCount() == 2
    slicer.mrmlScene.RemoveNode(first)
    assert selector.currentNode() is second
    assert selector.currentNodeID == second.GetID()
    slicer.mrmlScene.RemoveNode(second)
    assert selector.currentNode() is None
    assert heard == [first, second, None]


def test_a_selector_with_none_waits_for_a_choice(selector: Any, host: Host) -> None:
    selector.noneEnabled = True
    node = volume("a")
    assert selector.currentNode() is None
    selector.setCurrentNode(node)
    assert selector.currentNode() is node
    slicer.mrmlScene.RemoveNode(node)
    assert selector.currentNode() is None


def test_a_selector_with_actions_waits_for_a_choice_too(selector: Any) -> None:
    selector.addEnabled = True
    volume("a")
    assert selector.currentNode() is None
    made = selector.addNode()
    assert made.GetClassName() == "vtkMRMLScalarVolumeNode"
    assert selector.currentNode() is made


def test_a_selector_filters_by_type_attribute_and_visibility(selector: Any) -> None:
    label, plain, hidden = volume("l", "vtkMRMLLabelMapVolumeNode"), volume("p"), volume("h")
    hidden.SetHideFromEditors(True)
    assert [selector.nodeFromIndex(n) for n in range(selector.nodeCount())] == [label, plain]
    selector.showChildNodeTypes = False
    assert [selector.nodeFromIndex(n) for n in range(selector.nodeCount())] == [plain]
    selector.addAttribute("vtkMRMLScalarVolumeNode", "mine", "1")
    assert selector.nodeCount() == 0
    plain.SetAttribute("mine", "1")
    assert selector.nodeCount() == 1


def test_a_selector_shows_new_names_and_another_scene(selector: Any) -> None:
    node = volume("before")
    node.SetName("after")
    assert selector.children()[1].currentText == "after"
    selector.setMRMLScene(None)
    assert selector.currentNode() is None
    assert not selector.enabled


def test_a_selector_refuses_what_is_no_node_and_what_is_no_slot(selector: Any) -> None:
    with pytest.raises(ValueError, match="vtkMRMLNode"):
        selector.setCurrentNode("a")
    with pytest.raises(AttributeError):
        selector.setNodeTypes(["vtkMRMLModelNode"])


def segmentation(*names: str) -> Any:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    for name in names:
        node.GetSegmentation().AddEmptySegment(name, name)
    return node


def test_a_segment_selector_offers_the_segments_and_follows_them(host: Host) -> None:
    selector = slicer.qMRMLSegmentSelectorWidget()
    heard: list[str] = []
    selector.connect("currentSegmentChanged(QString)", heard.append)
    selector.setMRMLScene(slicer.mrmlScene)
    node = segmentation("one", "two")
    selector.setCurrentNode(node)
    assert selector.currentSegmentID() == "one"
    selector.setCurrentSegmentID("two")
    node.GetSegmentation().RemoveSegment("two")
    assert selector.currentSegmentID() == "one"
    assert heard == ["one", "two", "one"]


def test_a_segment_selector_with_none_starts_with_none(host: Host) -> None:
    selector = slicer.qMRMLSegmentSelectorWidget()
    selector.noneEnabled = True
    selector.setMRMLScene(slicer.mrmlScene)
    selector.setCurrentNode(segmentation("one"))
    assert selector.currentSegmentID() == ""


def test_a_collapsible_button_hides_its_contents_and_keeps_their_wishes(host: Host, ctk: Any) -> None:
    import qt

    top = qt.QWidget()
    layout = qt.QVBoxLayout(top)
    button = ctk.ctkCollapsibleButton()
    layout.addWidget(button)
    form = qt.QFormLayout(button)
    shown, hidden = qt.QLabel("shown"), qt.QLabel("hidden")
    hidden.setVisible(False)
    form.addRow(shown)
    form.addRow(hidden)
    top.show()
    host.click(button)
    assert button.collapsed
    assert not shown.visible
    hidden.setVisible(True)  # a wish for later
    shown.setVisible(False)
    assert not hidden.visible
    host.click(button)
    assert hidden.visible
    assert not shown.visible


def test_a_slider_widget_keeps_slider_spin_box_and_limits_together(host: Host, ctk: Any) -> None:
    slider, heard = ctk.ctkSliderWidget(), []
    slider.connect("valueChanged(double)", heard.append)
    slider.minimum, slider.maximum, slider.value = 0, 10, 20
    assert slider.value == 10
    with pytest.raises(AttributeError):
        slider.setMaximum(5)
    slider.show()
    host.type(slider, "2.5")
    assert slider.value == 2.5
    assert heard[0] == 10
    assert heard[-1] == 2.5


def test_a_path_line_edit_remembers_what_it_was_told_to(host: Host, ctk: Any, tmp_path: Path) -> None:
    edit, heard = ctk.ctkPathLineEdit(), []
    edit.settingKey = "Models"
    edit.connect("currentPathChanged(QString)", heard.append)
    dialogs.dialogs.paths.append(str(tmp_path / "a"))
    edit.browse()
    assert edit.currentPath == str(tmp_path / "a")
    edit.addCurrentPathToHistory()
    edit.currentPath = str(tmp_path / "b")
    edit.addCurrentPathToHistory()
    again = ctk.ctkPathLineEdit()
    again.settingKey = "Models"
    assert again.currentPath == str(tmp_path / "b")
    assert [again.comboBox().itemText(n) for n in range(again.comboBox().count)] == [
        str(tmp_path / "b"),
        str(tmp_path / "a"),
    ]
    assert heard[0] == str(tmp_path / "a")


def test_a_plot_view_knows_the_curves_of_its_chart(host: Host) -> None:
    table = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode")
    slicer.util.updateTableFromArray(table, (np.arange(3.0), np.arange(3.0) ** 2), ["x", "y"])
    series = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLPlotSeriesNode", "squares")
    series.SetAndObserveTableNodeID(table.GetID())
    series.SetXColumnName("x")
    series.SetYColumnName("y")
    chart = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLPlotChartNode")
    chart.AddAndObservePlotSeriesNodeID(series.GetID())
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLPlotViewNode")
    node.SetPlotChartNodeID(chart.GetID())
    view = slicer.qMRMLPlotView()
    view.setMRMLScene(slicer.mrmlScene)
    view.setMRMLPlotViewNode(node)
    ((name, _color, x, y),) = view._object.curves()
    assert (name, x, y) == ("squares", [0.0, 1.0, 2.0], [0.0, 1.0, 4.0])
