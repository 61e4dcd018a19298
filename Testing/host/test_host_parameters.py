"""Parameters are stored under Slicer's names, follow the node, and are shown by the widgets that Slicer allows."""

import enum
import sys
from pathlib import Path
from typing import Annotated, Any

import pytest
import slicer

from host.host import Host


class Rule(enum.Enum):
    FIRST = 1
    SECOND = 2

    def label(self) -> str:
        return f"the {self.name.lower()}"


@pytest.fixture
def node(host: Host) -> Any:
    return slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode")


@pytest.fixture
def wrapped(node: Any) -> Any:
    wrapping = sys.modules["slicer.parameterNodeWrapper"]

    @wrapping.parameterPack
    class Look:
        opacity: Annotated[float, wrapping.WithinRange(0, 1)] = 0.5
        name: str = "warm"

    @wrapping.parameterNodeWrapper
    class Parameters:
        volume: slicer.vtkMRMLScalarVolumeNode
        several: list[slicer.vtkMRMLScalarVolumeNode]
        model: Path = Path("a") / "b"
        count: Annotated[int, wrapping.Minimum(1)] = 3
        shown: bool = True
        rule: Rule = Rule.SECOND
        choice: Annotated[str, wrapping.Choice(["x", "y"])] = "y"
        maybe: float | None = None
        look: Look

    return Parameters(node)


def test_values_are_stored_as_slicer_stores_them(wrapped: Any, node: Any) -> None:
    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    wrapped.volume = volume
    wrapped.several = [volume, volume]
    wrapped.look.opacity = 0.25
    stored = {name: node.GetParameter(name) for name in node.GetParameterNames()}
    assert stored == {
        "volume": "", "several.len": "2", "several.0": "", "several.1": "", "model": str(Path("a") / "b"), "count": "3",
        "shown": "True", "rule": "SECOND", "choice": "y", "maybe.1": "True", "look.opacity": "0.25",
        "look.name": "warm",
    }  # fmt: skip
    assert node.GetNodeReferenceID("volume") == volume.GetID()
    assert node.GetNodeReferenceID("several.1") == volume.GetID()


def test_values_that_are_not_valid_are_refused_and_change_nothing(wrapped: Any) -> None:
    for name, value in [("count", 0), ("count", 1.5), ("choice", "z"), ("shown", None), ("volume", "a"), ("rule", 1)]:
        with pytest.raises((ValueError, TypeError)):
            setattr(wrapped, name, value)
    with pytest.raises(ValueError, match="within range"):
        wrapped.look.opacity = 2.0
    assert (wrapped.count, wrapped.choice, wrapped.look.opacity) == (3, "y", 0.5)


def test_two_wrappers_of_one_node_see_each_other(wrapped: Any, node: Any) -> None:
    other = type(wrapped)(node)
    wrapped.count = 7
    wrapped.maybe = 2.5
    assert other.count == 7
    assert other.maybe == 2.5
    other.several.append(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode"))
    assert len(wrapped.several) == 1


def test_widgets_and_parameters_follow_each_other_until_disconnected(wrapped: Any, host: Host) -> None:
    import qt

    gui = qt.QWidget()
    check, combo, spin = qt.QCheckBox(gui), qt.QComboBox(gui), qt.QDoubleSpinBox(gui)
    for widget, name in ((check, "shown"), (combo, "rule"), (spin, "look.opacity")):
        widget.setProperty("SlicerParameterName", name)
    tag = wrapped.connectGui(gui)
    assert check.checked
    assert combo.currentText == "the second"
    assert spin.value == 0.5
    check.checked = False
    combo.currentIndex = 0
    spin.value = 0.75
    assert (wrapped.shown, wrapped.rule, wrapped.look.opacity) == (False, Rule.FIRST, 0.75)
    wrapped.shown = True
    assert check.checked
    wrapped.disconnectGui(tag)
    check.checked = False
    assert wrapped.shown


def test_a_widget_that_slicer_would_not_connect_is_refused(wrapped: Any, host: Host) -> None:
    import ctk
    import qt

    with pytest.raises(RuntimeError, match="Unable to create GUI connector"):
        wrapped.connectParametersToGui({"shown": qt.QLineEdit()})
    with pytest.raises(RuntimeError, match="bounds"):
        wrapped.connectParametersToGui({"count": ctk.ctkSliderWidget()})
    with pytest.raises(ValueError, match="Cannot find a param"):
        wrapped.connectParametersToGui({"nothing": qt.QLineEdit()})
