"""The panel's sections in the host, one by one; the worker is not needed for these."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import slicer
from LRPExplainLib import lrp
from LRPExplainLib.errors import UserError
from LRPExplainLib.readying import PRECISIONS
from LRPExplainLib.scene.colors import COLOR_MAPS
from PySide6 import QtCore, QtGui, QtWidgets

from host.host import MODULE, Host
from host.pictures import panel_picture, too_wide
from host.pythonqt import unwrap

FACTS: dict[str, Any] = {
    "name": "Net", "task": "segmentation", "inputs": [{"name": "T1", "modality": "MR"}],
    "classes": ["background", "lesion"], "composite": None, "stated": True, "notes": [], "parameters": 12345,
    "sha256": "ab" * 32, "path": "/m.ts", "device": "cpu", "device_name": "CPU", "trusted": False,
}  # fmt: skip


class Asked:
    """A session that answers a description at once and keeps what is asked; nothing is computed."""

    def __init__(self, **facts: Any) -> None:
        self.facts = FACTS | facts
        self.consent: Any = None
        self.explained: list[dict[str, Any]] = []
        self.cancelled = self.described = 0
        self.presenting = False
        self.refused = ""  # why a model cannot be described: a kind of the worker's

    def describe(self, model: Path, on_done: Callable[..., None], on_failed: Callable[..., None]) -> "Asked":
        self.described += 1
        if self.refused:
            QtCore.QTimer.singleShot(0, lambda: on_failed("This is no model."))
        else:
            on_done(self.facts)
        return self

    def explain(self, **arguments: Any) -> "Asked":
        self.explained.append(arguments)
        return self

    def cancel(self) -> None:
        self.cancelled += 1

    def close(self) -> None:
        self.cancel()


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch, host: Host) -> Asked:
    """A session in the place of the application's own."""
    import LRPExplainLib.scene.session as sessions

    asked = Asked()
    monkeypatch.setattr(sessions, "_shared", asked)
    return asked


@pytest.fixture
def opened(host: Host, session: Asked) -> Any:
    return host.open()


def volume(name: str) -> Any:
    import numpy as np

    return slicer.util.addVolumeFromArray(np.ones((4, 5, 6), np.float32), name=name)


def test_one_line_says_what_a_model_is_and_the_details_say_all(opened: Any, host: Host) -> None:
    text = opened.ui.modelSummaryLabel.text
    for word in ("Net", "segmentation", "T1", "background, lesion", "CPU", "no code"):
        assert word in text
    host.click(opened.ui.modelDetailsButton)
    assert "12 345" in opened.ui.modelDetailsBrowser.toPlainText()


def test_a_model_is_chosen_by_dropping_its_file(opened: Any, host: Host, tmp_path: Path) -> None:
    file = tmp_path / "other.ts"
    file.touch()
    data = QtCore.QMimeData()
    data.setUrls([QtCore.QUrl.fromLocalFile(str(file))])
    target = unwrap(opened.ui.modelCollapsibleButton)
    place, buttons, keys = (
        QtCore.QPoint(20, 20),
        QtCore.Qt.MouseButton.LeftButton,
        QtCore.Qt.KeyboardModifier.NoModifier,
    )
    enter = QtGui.QDragEnterEvent(place, QtCore.Qt.DropAction.CopyAction, data, buttons, keys)
    QtWidgets.QApplication.sendEvent(target, enter)
    assert enter.isAccepted()
    drop = QtGui.QDropEvent(QtCore.QPointF(place), QtCore.Qt.DropAction.CopyAction, data, buttons, keys)
    QtWidgets.QApplication.sendEvent(target, drop)
    assert opened.panel.parameters.modelFile == file


def test_a_chosen_model_is_among_the_recent_ones(opened: Any, host: Host, tmp_path: Path) -> None:
    file = tmp_path / "mine.ts"
    file.touch()
    opened.panel.model.choose(str(file))
    combo = unwrap(opened.ui.modelPathLineEdit.comboBox())
    assert str(file) in [combo.itemText(n) for n in range(combo.count())]


def test_without_pytorch_the_panel_opens_and_says_what_to_do(
    host: Host, session: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    from LRPExplainLib.scene.panel import packages

    monkeypatch.setattr("LRPExplainLib.worker.missing_requirements", lambda file: ["torch>=2.4"])
    monkeypatch.setattr(packages, "missing_requirements", lambda file: ["torch>=2.4"])
    monkeypatch.setattr(packages, "_install", lambda missing: None)  # declined
    widget = host.open()
    assert "not installed yet" in widget.ui.modelSummaryLabel.text
    widget.panel.parameters.inputVolumes = [volume("brain")]
    host.click(widget.ui.explainButton)
    assert "torch>=2.4" in widget.ui.statusLabel.text
    assert session.explained == []
    assert widget.ui.explainButton.enabled


def test_each_input_of_the_model_has_a_selector_that_is_filled_by_name(opened: Any, host: Host, session: Asked) -> None:
    flair, t1 = volume("patient FLAIR"), volume("patient T1w")
    session.facts = session.facts | {"inputs": [{"name": "T1", "modality": "MR"}, {"name": "FLAIR", "modality": "MR"}]}
    opened.panel.model.describe()
    assert opened.panel.volumes.nodes == [t1, flair]
    layout = unwrap(opened.ui.volumesCollapsibleButton).layout()
    labels = [layout.itemAt(n, QtWidgets.QFormLayout.ItemRole.LabelRole).widget().text() for n in (0, 1)]
    assert labels == ["T1:", "FLAIR:"]


def test_tab_goes_from_the_volumes_on_to_the_reference(opened: Any, host: Host) -> None:
    opened.panel.volumes.show_channels(["T1", "T2"])
    inner = [unwrap(selector).findChild(QtWidgets.QComboBox) for selector in opened.panel.volumes.selectors]
    reference = unwrap(opened.ui.referenceSelector).findChildren(QtWidgets.QComboBox)
    order, widget = [], unwrap(opened.ui.volumesCollapsibleButton)
    while reference[0] not in order:
        widget = widget.nextInFocusChain()
        order.append(widget)
        assert widget is not unwrap(opened.ui.volumesCollapsibleButton), "once around without the reference"
    assert [each for each in order if each in inner] == inner
    assert unwrap(opened.ui.targetComboBox) not in order


def test_large_volumes_are_listed_without_powers_of_ten(host: Host) -> None:
    from LRPExplainLib.scene.panel.run import predictions

    rows = predictions({"volumes_ml": {"liver": 1930.4, "tumour": 4.78}})
    assert rows == [("liver", "1930 ml"), ("tumour", "4.78 ml")]


def test_a_cascade_takes_a_label_map_or_computes_it(opened: Any, host: Host, session: Asked) -> None:
    brain = volume("brain")
    stage = {"name": "previous stage", "modality": None, "labels": True}
    session.facts = session.facts | {"inputs": [*session.facts["inputs"], stage]}
    opened.panel.model.describe()
    assert opened.panel.volumes.nodes == [brain, None]
    host.click(opened.ui.explainButton)
    assert session.explained[-1]["volume_nodes"] == [brain]
    labels = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "organs")
    opened.panel.parameters.inputVolumes = [brain, labels]
    host.click(opened.ui.cancelButton)
    host.click(opened.ui.explainButton)
    assert session.explained[-1]["volume_nodes"] == [brain, labels]


def test_the_active_volume_is_chosen_and_a_relevance_map_never(opened: Any, host: Host) -> None:
    first, second = volume("first"), volume("second")
    second.SetAttribute("LRPExplain.Role", "relevance")
    opened.panel.volumes.fill()
    assert opened.panel.volumes.nodes == [first]


def test_what_is_chosen_is_asked(opened: Any, host: Host, session: Asked) -> None:
    brain = volume("brain")
    opened.panel.volumes.fill()
    host.choose(opened.ui.targetComboBox, "lesion")
    host.choose(opened.ui.ratherThanComboBox, "background")
    host.choose(opened.ui.whereComboBox, "Everywhere (whole output)")
    opened.panel.parameters.rules = "input=flat; encoder.*=gamma(0.1)"
    for name in ("method", "advanced"):
        getattr(opened.ui, f"{name}CollapsibleButton").collapsed = False
    host.choose(opened.ui.precisionComboBox, "Half (bfloat16)")
    host.click(opened.ui.explainButton)
    (asked,) = session.explained
    assert asked["precision"] == "bfloat16"
    assert asked["volume_nodes"] == [brain]
    assert (asked["target"], asked["rather_than"], asked["where"]) == ("lesion", "background", "everywhere")
    assert asked["rules"] == {"input": "flat", "encoder.*": "gamma(0.1)"}
    assert asked["composite"] is None
    assert not opened.ui.explainButton.enabled
    host.click(opened.ui.cancelButton)
    assert session.cancelled == 1
    assert opened.ui.explainButton.enabled
    assert opened.ui.statusLabel.text == "Cancelled."


@pytest.mark.parametrize(
    ("where", "sentence"), [("In a segment", "segment"), ("In a box (ROI)", "box"), ("At points", "point")]
)
def test_a_place_that_is_not_chosen_yet_is_asked_for(
    opened: Any, host: Host, session: Asked, where: str, sentence: str
) -> None:
    volume("brain")
    opened.panel.volumes.fill()
    host.choose(opened.ui.whereComboBox, where)
    host.click(opened.ui.explainButton)
    assert sentence in opened.ui.statusLabel.text
    assert session.explained == []


def test_live_a_moved_crosshair_and_a_placed_point_are_explained(opened: Any, host: Host, session: Asked) -> None:
    volume("brain")
    opened.panel.volumes.fill()
    host.click(opened.ui.crosshairCheckBox)
    crosshair = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    crosshair.SetCrosshairRAS(1, 2, 3)
    points = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode")
    points.AddControlPointWorld(4.0, 5.0, 6.0)
    assert [asked["where"] for asked in session.explained] == [(1, 2, 3), (4, 5, 6)]
    points.AddNControlPoints(2, "wanted", [0.0, 0.0, 0.0])
    points.UnsetAllControlPoints()  # a list of points that wait for their places
    points.SetNthControlPointPositionWorld(1, 6.0, 5.0, 4.0)
    assert session.explained[-1]["where"] == (6, 5, 4)
    with slicer.util.NodeModify(points):
        points.AddControlPointWorld(3.0, 2.0, 1.0)
    assert session.explained[-1]["where"] == (3, 2, 1)
    assert {asked["lane"] for asked in session.explained} == {"crosshair"}
    assert opened.ui.statusLabel.text == "Explaining at the crosshair …"
    for asked in session.explained[:-1]:
        asked["on_failed"]("There is nothing here.")
    assert opened.ui.statusLabel.text == "Explaining at the crosshair …"  # the newer place still waits
    session.explained[-1]["on_failed"]("There is nothing here either.")
    assert opened.ui.statusLabel.text == "There is nothing here either."
    asked_before = len(session.explained)
    host.click(opened.ui.crosshairCheckBox)
    crosshair.SetCrosshairRAS(7, 8, 9)
    assert len(session.explained) == asked_before


def test_live_another_request_takes_the_place_of_the_question_at_the_crosshair(
    opened: Any, host: Host, session: Asked
) -> None:
    volume("brain")
    opened.panel.volumes.fill()
    host.click(opened.ui.crosshairCheckBox)
    slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode").SetCrosshairRAS(1, 2, 3)
    opened.panel.begin(opened.panel.trust)
    assert session.cancelled == 1
    assert opened.ui.statusLabel.text == ""


def test_progress_names_the_stage_and_the_time_left(opened: Any, host: Host, session: Asked) -> None:
    volume("brain")
    opened.panel.volumes.fill()
    host.click(opened.ui.explainButton)
    session.explained[0]["on_progress"]("propagating", 0.5, 42.0)
    assert opened.ui.progressBar.value == 50
    assert opened.ui.progressBar.format == "Carrying relevance back · about 40 s left"
    session.explained[0]["on_prediction"]({"probabilities": {"benign": 0.25, "malignant": 0.75}})
    assert opened.ui.predictionTable.item(0, 0).text() == "malignant"
    session.explained[0]["on_failed"]("It went wrong: do something.")
    assert opened.ui.statusLabel.text == "It went wrong: do something."
    assert unwrap(opened.ui.progressBar).isHidden()


def test_closing_the_scene_cancels_and_the_panel_can_be_used_again(opened: Any, host: Host, session: Asked) -> None:
    volume("brain")
    opened.panel.volumes.fill()
    host.click(opened.ui.explainButton)
    slicer.mrmlScene.Clear(False)
    assert session.cancelled >= 1
    assert not opened.panel.run.running
    assert opened.panel.volumes.nodes == [None]
    volume("another")
    opened.panel.volumes.fill()
    host.click(opened.ui.explainButton)
    assert len(session.explained) == 2


def test_closing_the_scene_asks_nothing_about_the_model_that_goes(opened: Any, session: Asked) -> None:
    assert opened.panel.model.facts
    before = session.described
    slicer.mrmlScene.Clear(False)
    assert session.described == before + 1  # about the model of the new scene


def test_another_model_is_asked_about_once(opened: Any, session: Asked, tmp_path: Path) -> None:
    assert opened.panel.model.facts
    before = session.described
    (tmp_path / "model.ts").write_text("another")
    opened.panel.model.choose(str(tmp_path / "model.ts"))
    assert session.described == before + 1


@pytest.mark.parametrize(("refused", "enabled"), [("user", False), ("trust", True), ("crash", True), ("bug", True)])
def test_a_model_that_cannot_be_read_cannot_be_explained(
    host: Host, opened: Any, session: Asked, tmp_path: Path, refused: str, enabled: bool
) -> None:
    """For trust Explain asks, and a process that ended is started anew; files stay wrong until they are mended."""
    ui, panel = opened.ui, opened.panel
    volume("brain")
    panel.volumes.fill()
    assert ui.explainButton.enabled
    session.refused = refused
    (tmp_path / "model.ts").write_text("nothing")
    panel.model.choose(str(tmp_path / "model.ts"))
    host.wait(lambda: ui.modelSummaryLabel.text == "This is no model.", 5)
    assert ui.explainButton.enabled is enabled
    assert ("This is no model." in ui.explainButton.toolTip) is not enabled
    session.refused = ""
    opened.exit()
    opened.enter()
    assert ui.explainButton.enabled
    panel.model.choose(str(tmp_path / "gone.ts"))
    assert not ui.explainButton.enabled


def test_an_overlay_of_a_loaded_scene_is_brought_back_once(
    host: Host, opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from LRPExplainLib import scene

    restored: list[Any] = []
    monkeypatch.setattr(scene, "restore", restored.append)
    volume("a map").SetAttribute("LRPExplain.Role", "relevance")
    slicer.mrmlScene.StartState(slicer.mrmlScene.ImportState)
    slicer.mrmlScene.EndState(slicer.mrmlScene.ImportState)
    assert restored == [slicer.mrmlScene]


def test_a_model_that_runs_code_is_asked_about_once(host: Host, opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from LRPExplainLib.scene.panel.trust import consent

    questions: list[str] = []
    monkeypatch.setattr(
        slicer.util, "confirmOkCancelDisplay", lambda text, *rest, **more: questions.append(text) or True
    )
    what = {"sentences": ["monai.networks.nets.UNet"], "sha256": "cd" * 32}
    assert not consent(what, False)
    assert consent(what, True)
    assert consent(what, True)
    assert consent(what, False)
    assert len(questions) == 1
    assert "monai.networks.nets.UNet" in questions[0]


def test_the_composites_and_colours_offered_are_those_there_are(opened: Any) -> None:
    from LRPExplainLib.scene.display import Display
    from LRPExplainLib.scene.panel import display, method
    from LRPExplainLib.scene.panel.parameters import Composite, Precision

    described = {each.value: text for each, text in method.descriptions().items() if each.value}
    assert described == {name: each.description for name, each in lrp.COMPOSITES.items()}
    assert set(method.descriptions()) == set(Composite)
    assert {each.value for each in Precision} == set(PRECISIONS)
    assert list(display.color_maps()) == list(COLOR_MAPS)
    assert display._USUAL[Display().threshold_kind] == Display().threshold


def test_a_rule_that_is_none_is_refused(opened: Any) -> None:
    from LRPExplainLib.scene.panel.method import rules

    assert rules(" ; ") == {}
    with pytest.raises(UserError, match="LAYER=RULE"):
        rules("input=flat; =gamma")


@pytest.mark.parametrize("dark", [False, True])
def test_the_whole_panel_fits_into_slicers_side_panel(opened: Any, host: Host, tmp_path: Path, dark: bool) -> None:
    for name in ("method", "advanced", "display", "findings", "trust"):
        getattr(opened.ui, f"{name}CollapsibleButton").collapsed = False
    assert too_wide(opened) == []
    picture = QtGui.QImage(str(panel_picture(opened, tmp_path / "panel.png", dark=dark)))
    assert picture.width() <= 400
    assert (QtGui.QColor(picture.pixel(5, 5)).lightness() < 128) is dark


def test_long_names_leave_the_panel_as_narrow_as_it_is(host: Host, session: Asked) -> None:
    long = "T1 MPRAGE sagittal 1 mm after contrast, 3 T, follow-up after 12 months, registered to the first examination"
    relevance = volume(f"{long} relevance for lesion")
    relevance.SetAttribute("LRPExplain.Role", "relevance")
    volume(long)
    for kind in ("vtkMRMLSegmentationNode", "vtkMRMLMarkupsROINode", "vtkMRMLMarkupsFiducialNode"):
        node = slicer.mrmlScene.AddNewNodeByClass(kind, long)
        if kind == "vtkMRMLSegmentationNode":
            node.GetSegmentation().AddEmptySegment("", long)
    opened = host.open()
    opened.panel.volumes.fill()
    opened.ui.referenceSelector.setCurrentNode(slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSegmentationNode"))
    opened.ui.relevanceSelector.setCurrentNode(relevance)
    for where in range(opened.ui.whereComboBox.count):
        opened.ui.whereComboBox.currentIndex = where
        host.process()
        assert unwrap(opened.ui.volumesCollapsibleButton).parentWidget().minimumSizeHint().width() <= 400, where


def test_every_text_of_the_panel_can_be_translated() -> None:
    """A literal that a widget, a plot or a legend shows stands in tr(): `text = "..."` and its like do not occur."""
    shown = re.compile(
        r"\.(text|toolTip|format|noneDisplay)\s*=\s*f?\"[^\"]*[A-Za-z]{3,}|\bsay\(f?\"[A-Za-z]|Title(Text)?\(f?\"[A-Za-z{]"
    )
    for path in [MODULE, *(MODULE.parent / "LRPExplainLib" / "scene").rglob("*.py")]:
        assert not shown.findall(path.read_text(encoding="utf-8")), path.name
