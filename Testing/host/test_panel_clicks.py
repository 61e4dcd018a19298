"""What a person does, by clicks alone: from an empty scene to findings, and back after saving."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
import torch
from helpers.networks import save_model
from torch import nn

from host.hands import Person
from host.host import Host

LAYER = 3  # the overlay's layer of a slice composite node


@pytest.fixture
def person(host: Host, widget: Any) -> Person:
    return Person(host, widget)


def composites() -> list[Any]:
    return slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")


def overlay_ids() -> set[str]:
    return {
        node.GetNthLayerVolumeID(LAYER) for node in composites() if node.GetLayoutName() in ("Red", "Green", "Yellow")
    }


def slice_places() -> list[float]:
    nodes = {node.GetLayoutName(): node for node in slicer.util.getNodesByClass("vtkMRMLSliceNode")}
    return [nodes[name].GetSliceToRAS().GetElement(axis, 3) for name, axis in (("Yellow", 0), ("Green", 1), ("Red", 2))]


def test_three_clicks_from_a_loaded_volume_to_a_map(person: Person) -> None:
    volume, _lesion = person.load_sample()
    clicks = person.clicks
    person.explain()
    assert person.clicks - clicks <= 3
    (overlay,) = overlay_ids()
    assert slicer.mrmlScene.GetNodeByID(overlay).IsA("vtkMRMLScalarVolumeNode")
    assert {node.GetBackgroundVolumeID() for node in composites()} == {volume.GetID()}


def test_from_the_demo_model_to_findings_side_by_side_and_back_after_saving(person: Person, tmp_path: Path) -> None:
    ui, host = person.ui, person.host
    volume, _lesion = person.load_sample()
    person.click(ui.demoModelButton)
    person.explain()
    (overlay,) = overlay_ids()
    relevance = slicer.mrmlScene.GetNodeByID(overlay)
    voxels = slicer.util.arrayFromVolume(relevance).copy()

    person.open(ui.displayCollapsibleButton)
    colors = relevance.GetDisplayNode().GetColorNode()
    before = person.opaque_share(colors)
    person.slide(ui.thresholdSlider, 30)  # percent of the relevance that is kept
    host.wait(lambda: person.opaque_share(relevance.GetDisplayNode().GetColorNode()) < before, 1)

    person.open(ui.findingsCollapsibleButton)
    host.wait(lambda: ui.hotSpotsTable.rowCount > 0 and ui.hotSpotsTable.visible, 30)
    person.click_row(ui.hotSpotsTable, 0)
    place = person.first_hot_spot()
    np.testing.assert_allclose(slice_places(), place, atol=max(volume.GetSpacing()))

    layout = slicer.app.layoutManager().layout
    person.click(ui.sideBySideButton)
    assert slicer.app.layoutManager().layout != layout
    person.click(ui.sideBySideButton)
    assert slicer.app.layoutManager().layout == layout

    shown = person.shown()
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    slicer.mrmlScene.Clear(0)
    host.process()
    assert not ui.explainButton.enabled
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    host.wait(lambda: person.shown() == shown, 20)
    (overlay,) = overlay_ids()
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(slicer.mrmlScene.GetNodeByID(overlay)), voxels)
    host.wait(lambda: ui.hotSpotsTable.rowCount > 0, 30)
    host.wait(lambda: ui.predictionTable.visible and ui.plotFrame.visible, 30)
    assert ui.predictionTable.item(0, 0).text() == "lesion"
    assert person.volume_selector().currentNode() is not None


def test_an_x_ray_before_a_network_of_colour_that_ends_in_a_softmax(person: Person, tmp_path: Path) -> None:
    """What the network does itself is told beside the account."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2), nn.Softmax(1)
    )
    entry = {"name": "X-ray", "channels": 3, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    wishes = {"slices": {"axis": "k"}, "resize": {"size": [16, 16], "aspect": "crop"}}
    model = save_model(tmp_path, network, "colour", task="classification", inputs=[entry], preprocessing=wishes)
    slicer.util.addVolumeFromArray(np.random.default_rng(0).random((1, 24, 20)).astype(np.float32), name="chest")
    person.choose_model(model)
    person.host.choose(person.volume_selector(), "chest")
    person.host.wait(lambda: person.ui.explainButton.enabled, 30)
    person.explain()
    person.open(person.ui.findingsCollapsibleButton)
    person.host.wait(lambda: person.ui.ledgerLabel.visible, 30)
    account, note = person.ui.ledgerLabel.text.splitlines()
    assert account.startswith("Target value")
    assert note.startswith("Note: The network ends in softmax itself: explained is the logit before it")


def test_a_box_that_was_drawn_is_asked_about(with_small_model: Person) -> None:
    person = with_small_model
    box = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "box")
    box.SetCenter(8, 8, 8)
    box.SetSize(6, 6, 6)
    person.open(person.ui.questionCollapsibleButton)
    person.host.choose(person.ui.whereComboBox, "In a box (ROI)")
    person.host.choose(person.ui.roiSelector, "box")
    person.explain()
    assert overlay_ids() != {None}


def test_switching_the_overlay_off_restores_everything(person: Person) -> None:
    person.load_sample()
    before = person.views()
    person.explain()
    person.open(person.ui.displayCollapsibleButton)
    person.click(person.ui.overlayCheckBox)
    assert person.views() == before
    person.click(person.ui.overlayCheckBox)
    assert person.views() != before


def test_every_widget_of_the_panel_says_what_it_does_and_fits_at_400_pixels(person: Person) -> None:
    from host import pictures

    person.load_sample()
    person.open_all()
    assert pictures.too_wide(person.widget) == []
    assert person.without_tool_tip() == []


def test_the_panel_can_be_drawn_in_a_light_and_a_dark_palette(person: Person, tmp_path: Path) -> None:
    from host import pictures

    light = pictures.panel_picture(person.widget, tmp_path / "light.png")
    dark = pictures.panel_picture(person.widget, tmp_path / "dark.png", dark=True)
    assert pictures.brightness(light) > 180
    assert pictures.brightness(dark) < 80
