"""The section "Concepts" by clicks: found, cancelled, chosen, and gone when the whole map is another one."""

from __future__ import annotations

from typing import Any

import slicer

from host.hands import Person
from host.stalls import held

LAYER = 3  # the overlay's layer of a slice composite node


def overlays() -> set[str]:
    nodes = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    return {node.GetNthLayerVolumeID(LAYER) for node in nodes if node.GetLayoutName() in ("Red", "Green", "Yellow")}


def maps() -> list[Any]:
    nodes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    return [node for node in nodes if node.GetAttribute("LRPExplain.Role") == "relevance"]


def test_channels_are_found_chosen_and_forgotten(with_small_model: Person) -> None:
    person = with_small_model
    ui, host, panel = person.ui, person.host, person.widget.panel
    assert not ui.findConceptsButton.enabled
    person.explain()
    (whole,) = maps()
    person.open(ui.conceptsCollapsibleButton)
    host.wait(lambda: ui.layerComboBox.count == 2, 30)
    assert ui.layerComboBox.currentText == "Automatic (0)"
    assert ui.layerComboBox.itemText(1) == "0 (4 channels)"

    person.click(ui.findConceptsButton)
    person.click(ui.cancelConceptsButton)
    host.wait(lambda: ui.findConceptsButton.enabled, 1)
    assert ui.conceptsStatusLabel.text == "Cancelled."

    host.type(ui.conceptsSpinBox, "2")

    def find() -> None:
        person.click(ui.findConceptsButton)
        host.wait(lambda: not panel.concepts.running, 60)

    assert not held(find, 100)
    assert not ui.conceptsStatusLabel.text
    assert ui.conceptsTable.rowCount == 2
    assert "not through this layer" in ui.conceptsLabel.text
    assert overlays() == {whole.GetID()}
    assert len(maps()) == 3

    person.click_row(ui.conceptsTable, 1)
    (shown,) = overlays()
    assert f"channel {ui.conceptsTable.item(1, 1).text()} of 0" in slicer.mrmlScene.GetNodeByID(shown).GetName()
    host.wait(lambda: ui.wholeMapButton.enabled, 5)
    person.click(ui.wholeMapButton)
    assert overlays() == {whole.GetID()}
    assert not ui.wholeMapButton.enabled

    person.click_row(ui.conceptsTable, 0)
    panel.parameters.result = type(panel.parameters.result).UPDATE
    person.explain()
    host.wait(lambda: maps() == [whole], 10)
    assert overlays() == {whole.GetID()}
    assert not ui.conceptsTable.visible
