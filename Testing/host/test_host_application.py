"""The application around a module: scene, layout, files, dialogs, sample data; and the process is left as it was."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer

from host import dialogs
from host.host import Host


def volume() -> Any:
    node = slicer.util.addVolumeFromArray(np.random.default_rng(0).random((4, 5, 6)).astype(np.float32), name="noise")
    node.SetSpacing(1, 2, 3)
    return node


def test_the_layout_decides_which_views_are_mapped(host: Host) -> None:
    manager = slicer.app.layoutManager()
    assert set(manager.sliceViewNames()) == {"Red", "Green", "Yellow"}
    manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView)
    mapped = {name for name in manager.sliceViewNames() if manager.sliceWidget(name).mrmlSliceNode().IsMappedInLayout()}
    assert mapped == {"Red"}
    assert manager.layout == slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView


def test_a_custom_layout_gets_new_views_with_logics(host: Host) -> None:
    manager = slicer.app.layoutManager()
    description = (
        '<layout type="horizontal"><item><view class="vtkMRMLSliceNode" singletontag="Mine">'
        '<property name="orientation" action="default">Axial</property></view></item></layout>'
    )
    node = manager.layoutLogic().GetLayoutNode()
    node.AddLayoutDescription(567, description)
    manager.setLayout(567)
    assert "Mine" in manager.sliceViewNames()
    widget = manager.sliceWidget("Mine")
    assert widget.sliceLogic().GetSliceNode().GetOrientation() == "Axial"
    assert widget.mrmlSliceCompositeNode().GetLayoutName() == "Mine"


def test_a_loaded_volume_is_shown_in_the_slice_views(host: Host, tmp_path: Path) -> None:
    node = volume()
    assert slicer.util.saveNode(node, str(tmp_path / "a.nrrd"))
    slicer.mrmlScene.Clear(0)
    loaded = slicer.util.loadVolume(str(tmp_path / "a.nrrd"))
    assert loaded.GetName() == "a"
    assert slicer.app.applicationLogic().GetSelectionNode().GetActiveVolumeID() == loaded.GetID()
    composite = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()
    assert composite.GetBackgroundVolumeID() == loaded.GetID()
    with pytest.raises(RuntimeError, match="Failed to load"):
        slicer.util.loadVolume(str(tmp_path / "missing.nrrd"))


@pytest.mark.parametrize("ending", ["mrb", "mrml"])
def test_a_scene_is_saved_and_read_again(host: Host, tmp_path: Path, ending: str) -> None:
    node = volume()
    slicer.util.saveNode(node, str(tmp_path / "noise.nrrd"))
    before = slicer.util.arrayFromVolume(node).copy()
    assert slicer.util.saveScene(str(tmp_path / f"scene.{ending}"))
    slicer.mrmlScene.Clear(0)
    slicer.util.loadScene(str(tmp_path / f"scene.{ending}"))
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(slicer.util.getNode("noise")), before)


def test_message_boxes_are_recorded_and_answered(host: Host) -> None:
    assert slicer.util.confirmOkCancelDisplay("Really?")
    dialogs.dialogs.refuse = True
    assert not slicer.util.confirmYesNoDisplay("Sure?")
    slicer.util.errorDisplay("Bad.")
    assert dialogs.dialogs.shown == ["Really?", "Sure?", "Bad."]
    with pytest.raises(ValueError, match="broken"), slicer.util.tryWithErrorDisplay("It failed."):
        raise ValueError("broken")
    assert dialogs.dialogs.shown[-1] == "It failed.\n\nbroken"


def test_sample_data_are_copied_from_files_and_checked(host: Host, tmp_path: Path) -> None:
    import SampleData

    slicer.util.saveNode(volume(), str(tmp_path / "a.nrrd"))
    register = SampleData.SampleDataLogic.registerCustomSampleDataSource
    given = {"category": "X", "fileNames": "a.nrrd", "loadFileType": "VolumeFile", "nodeNames": "sample"}
    register(sampleName="good", uris=(tmp_path / "a.nrrd").as_uri(), **given)
    register(sampleName="bad", uris=(tmp_path / "a.nrrd").as_uri(), checksums="SHA256:00", **given)
    register(sampleName="far", uris="https://example.org/a.nrrd", **given)
    assert SampleData.downloadSample("good").GetName() == "sample"
    with pytest.raises(ValueError, match="checksum"):
        SampleData.downloadSample("bad")
    with pytest.raises(RuntimeError, match="no network"):
        SampleData.downloadSample("far")


def test_after_the_host_slicer_is_its_core_again() -> None:
    with Host():
        assert slicer.app.applicationName == "Slicer"
        import qt

        assert qt.QWidget
    assert not hasattr(slicer, "app")
    assert not hasattr(slicer, "mrmlScene")
    assert not {"qt", "ctk", "SampleData", "LRPExplain"} & set(sys.modules)


def test_two_hosts_one_after_the_other_have_scenes_of_their_own() -> None:
    with Host():
        volume()
    with Host():
        assert slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") == []
