"""Checks of an explanation, from the worker's answer to tables, charts and further maps of the scene."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
from helpers.networks import RANGE, classes, save_model, segmenter
from helpers.volumes import make_volume, write_series
from LRPExplainLib.errors import UserError
from LRPExplainLib.evaluation import Evaluation
from LRPExplainLib.explain import explain
from LRPExplainLib.explanation import Explanation
from LRPExplainLib.imaging import Everywhere
from LRPExplainLib.progress import nobody
from LRPExplainLib.reporting import Record
from LRPExplainLib.scene import PresentedNodes, answers, checks, present, present_in_steps, presented_of, record, remove
from LRPExplainLib.worker.checks import VERBS

CARD = {"preprocessing": {"orientation": "RAS", "intensity": RANGE}, "output": classes("background", "grey", "white")}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("case")
    volume = make_volume()
    sitk.WriteImage(volume, str(folder / "t1.nrrd"))
    model = save_model(folder, segmenter(), **CARD)
    explain(model, [folder / "t1.nrrd"], "white", "epsilon", "cpu", region=Everywhere()).save(folder / "answer")
    segment = sitk.GetImageFromArray((np.indices(volume.GetSize()[::-1])[0] > 5).astype(np.uint8))
    segment.CopyInformation(volume)
    sitk.WriteImage(segment, str(folder / "expert.nrrd"))
    return folder


def ask(place: Path, verb: str, **message: Any) -> dict[str, Any]:
    return VERBS[verb]({"explanation": str(place / "answer"), "device": "cpu", **message}, nobody)


@pytest.fixture(scope="module")
def facts(place: Path) -> dict[str, Any]:
    """Two requests, as two buttons make them."""
    reference = {"file": str(place / "expert.nrrd"), "name": None, "shown": "tumour"}
    out = str(place / "evaluation")
    ask(place, "evaluate", checks=["agreement", "complexity"], references=[reference], out=out)
    return ask(place, "evaluate", checks=["faithfulness", "sanity"], out=out)["facts"]


@pytest.fixture
def presented(place: Path) -> PresentedNodes:
    return present(Explanation.load(place / "answer"))


def column(table: Any, name: str) -> np.ndarray:
    array = table.GetTable().GetColumnByName(name)
    return np.array([array.GetValue(n) for n in range(array.GetNumberOfValues())])


def test_checks_join_those_that_were_made(place: Path, facts: dict[str, Any]) -> None:
    assert sorted(facts["checks"]) == ["agreement", "complexity", "faithfulness", "sanity"]
    assert Evaluation.load(place / "evaluation").facts == facts
    assert facts["checks"]["agreement"][0]["segments"][0]["segment"] == "tumour"


def test_tables_and_charts_show_the_figures(presented: PresentedNodes, facts: dict[str, Any]) -> None:
    checks.write_evaluation(presented, facts)
    checks.write_evaluation(presented, facts)  # again: nothing is doubled
    tables = presented.tables
    assert set(tables) == {
        "agreement", "agreement over thresholds", "complexity", "faithfulness", "perturbation curves", "sanity",
        "randomisation", "stability under noise",
    }  # fmt: skip
    measures = facts["checks"]["agreement"][0]["segments"][0]["measures"]
    found = dict(zip(column(tables["agreement"], "measure"), column(tables["agreement"], "value"), strict=True))
    assert found["relevance mass accuracy"] == pytest.approx(measures["relevance_mass_accuracy"]["value"])
    mean = facts["checks"]["faithfulness"]["baselines"]["mean"]
    assert column(tables["faithfulness"], "ABPC")[0] == pytest.approx(mean["abpc"])
    curve = column(tables["perturbation curves"], "mean: most relevant first")
    assert curve == pytest.approx([point["score"] for point in mean["most_relevant_first"]])
    chart = presented.charts["perturbation curves"]
    assert chart.GetNumberOfPlotSeriesNodes() == 2 * len(facts["checks"]["faithfulness"]["baselines"])
    assert chart.GetNthPlotSeriesNode(0).GetTableNode() is tables["perturbation curves"]
    assert set(presented.charts) == {"agreement over thresholds", "perturbation curves", "randomisation"}


def test_another_method_is_compared_and_all_maps_can_be_shown(
    place: Path, presented: PresentedNodes, facts: dict[str, Any]
) -> None:
    done = ask(place, "compare", method="grad-cam", out=str(place / "compared"), evaluation=str(place / "evaluation"))
    others = [Explanation.load(folder) for folder in done["folders"]]
    assert [other.composite["name"] for other in others] == ["grad-cam", "consensus", "combined"]
    assert {other.target["voxels"] for other in others} == {Explanation.load(place / "answer").target["voxels"]}
    checks.write_comparison(presented, done["facts"])
    row = done["facts"]["agreement"][0]
    assert column(presented.tables["comparison"], "Spearman")[0] == pytest.approx(row["spearman"])
    assert (done["facts"]["weights_from"], len(done["facts"]["agreement"])) == ("equal", 1)


def test_the_record_holds_checks_and_pictures(place: Path, facts: dict[str, Any], tmp_path: Path) -> None:
    picture = tmp_path / "axial.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n picture")
    out = tmp_path / "case.html"
    done = ask(place, "record", out=str(out), pictures={"axial": str(picture)}, evaluation=str(place / "evaluation"))
    assert done["files"] == [str(out), str(tmp_path / "case.json")]
    made = Record.load(out)
    named = json.dumps(made.facts["evaluation"]["checks"]).replace("volume-1.nrrd", "t1.nrrd")
    assert json.loads(named) == facts["checks"]
    assert "t1.nrrd" not in out.read_text(encoding="utf-8") + out.with_suffix(".json").read_text(encoding="utf-8")
    assert [view["name"] for view in made.facts["pictures"]["views"]] == ["axial"]


def test_dicom_refers_to_the_slices_that_the_volume_came_from(place: Path, tmp_path: Path) -> None:
    pydicom = pytest.importorskip("pydicom")
    pytest.importorskip("highdicom")
    write_series(sitk.Cast(make_volume(), sitk.sitkInt16), tmp_path / "raw")
    for file in (tmp_path / "raw").iterdir():
        dataset = pydicom.dcmread(file)
        dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate, dataset.PatientSex = "Doe^Jane", "P1", "", "F"
        dataset.FrameOfReferenceUID, dataset.PositionReferenceIndicator = "1.2.826.0.1.3680043.2.1125.77", ""
        dataset.StudyID, dataset.AccessionNumber, dataset.ReferringPhysicianName = "1", "", ""
        dataset.StudyDate, dataset.StudyTime, dataset.SeriesNumber = "20260101", "120000", 1
        dataset.save_as(file)
    files = [str(file) for file in sorted((tmp_path / "raw").iterdir(), reverse=True)]
    together = tmp_path / "together"
    done = ask(place, "export-dicom", series=[files], together=str(together), out=str(tmp_path / "out"))
    relevance = pydicom.dcmread(next(file for file in done["files"] if "relevance" in file))
    assert relevance.Modality == "OT"
    assert relevance.PatientID == "P1"
    assert not together.exists()
    with pytest.raises(UserError, match="None of the volumes came from"):
        ask(place, "export-dicom", series=[[]], together=str(together), out=str(tmp_path / "none"))


def test_a_map_that_came_with_a_scene_is_to_be_explained_again(presented: PresentedNodes, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not at hand, as of maps that came with a scene"):
        answers.answer_of(presented)
    first, second = tmp_path / "1", tmp_path / "2"
    for folder in (first, answers.evaluation_beside(first), second):
        folder.mkdir()
    answers.keep(presented.relevance[0], first)
    assert answers.answer_of(presented) == first
    assert answers.evaluation_of(presented) == answers.evaluation_beside(first)
    answers.keep(presented.relevance[0], second)  # explained again in its place: the earlier answer and its checks go
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["2"]
    assert answers.evaluation_of(presented) is None
    presented.facts["volumes"][0]["path"] = str(tmp_path / "gone.nrrd")
    with pytest.raises(UserError, match="The volume has changed"):
        answers.answer_of(presented)


def test_a_folder_that_a_scene_file_names_is_not_touched(presented: PresentedNodes, tmp_path: Path) -> None:
    somebodys, answer = tmp_path / "somebodys", tmp_path / "answer"
    for folder in (somebodys, answers.evaluation_beside(somebodys), answer):
        folder.mkdir()
    presented.relevance[0].SetAttribute("LRPExplain.Answer", str(somebodys))
    with pytest.raises(UserError, match="not at hand, as of maps that came with a scene"):
        answers.answer_of(presented)
    answers.keep(presented.relevance[0], answer)
    assert answers.answer_of(presented) == answer
    assert somebodys.is_dir()
    assert answers.evaluation_beside(somebodys).is_dir()


def test_an_answer_is_not_that_of_other_voxels(presented: PresentedNodes, place: Path, tmp_path: Path) -> None:
    first = presented.relevance[0]
    answers.keep(first, tmp_path)
    steps = present_in_steps(Explanation.load(place / "answer"), presented.volumes, update=first)
    next(steps)
    steps.close()  # cancelled when the map has its new voxels already
    with pytest.raises(UserError, match="not at hand"):
        answers.answer_of(presented)


@pytest.mark.parametrize("by_hand", [True, False])
def test_the_answer_goes_with_its_map(presented: PresentedNodes, tmp_path: Path, by_hand: bool) -> None:
    answer = tmp_path / "answer"
    for folder in (answer, answers.evaluation_beside(answer)):
        folder.mkdir()
    answers.keep(presented.relevance[0], answer)
    if by_hand:
        presented.scene.RemoveNode(presented.relevance[0])
    else:
        remove(presented)
    assert not answer.exists()
    assert not answers.evaluation_beside(answer).exists()


def test_an_update_that_is_given_up_is_whole_or_has_changed_nothing(presented: PresentedNodes, place: Path) -> None:
    """Voxels, limit, outlines and what checks found belong together."""
    first, other = presented.relevance[0], Explanation.load(place / "answer")
    stronger = replace(other, relevance=tuple(image * 2 for image in other.relevance))
    told = (record.VERDICT, record.PREDICTION)
    for each in told:
        first.SetAttribute(each, "...")
    before, window = presented_of(first).limit, first.GetDisplayNode().GetWindowLevelMax()
    present_in_steps(stronger, presented.volumes, update=first).close()
    assert [first.GetAttribute(each) for each in told] == ["..."] * 2
    steps = present_in_steps(stronger, presented.volumes, update=first)
    next(steps)
    steps.close()
    assert [first.GetAttribute(each) for each in told] == [None] * 2
    assert presented_of(first).limit == pytest.approx(2 * before)
    assert first.GetDisplayNode().GetWindowLevelMax() == pytest.approx(2 * window)


def test_only_a_volume_whose_slices_the_dicom_database_has_came_from_dicom(
    presented: PresentedNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Database:
        def fileForInstance(self, uid: str) -> str:
            return {"1.2": "/a.dcm", "1.3": "/b.dcm"}.get(uid, "")

    node = presented.volumes[0]
    assert answers.series_of(node) == []
    monkeypatch.setattr(slicer, "dicomDatabase", Database(), raising=False)
    node.SetAttribute("DICOM.instanceUIDs", "1.2 1.3")
    assert answers.series_of(node) == ["/a.dcm", "/b.dcm"]
    node.SetAttribute("DICOM.instanceUIDs", "1.2 1.4")
    assert answers.series_of(node) == []


def test_a_check_that_is_not_wanted_any_more_ends_and_leaves_nothing(place: Path, tmp_path: Path) -> None:
    class Enough(Exception):
        pass

    def stop(stage: str, share: float) -> None:
        assert " " not in stage
        raise Enough

    message = {"explanation": str(place / "answer"), "checks": ["complexity"], "out": str(tmp_path / "out")}
    with pytest.raises(Enough):
        VERBS["evaluate"](message, stop)
    assert not (tmp_path / "out").exists()
