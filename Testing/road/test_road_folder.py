"""The explanation folder: written whole or not at all, and read back as an equal value."""

import json
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from helpers.networks import classifier, save_model, segmenter
from helpers.volumes import make_volume
from LRPExplainLib import __version__
from LRPExplainLib.errors import UserError
from LRPExplainLib.explain import explain
from LRPExplainLib.explanation import Explanation, Prediction


@pytest.fixture(scope="module", params=["segmentation", "classification", "two inputs"])
def explanation(request, tmp_path_factory) -> Explanation:
    folder = tmp_path_factory.mktemp("model")
    two = request.param == "two inputs"
    network = classifier() if request.param == "classification" else segmenter(channels=1 + two)
    volumes = [make_volume(), make_volume(seed=4)] if two else [make_volume()]
    return explain(save_model(folder, network), volumes, device="cpu")


def test_reading_a_folder_back_gives_an_equal_value(tmp_path, explanation):
    explanation.save(tmp_path / "out")
    back = Explanation.load(tmp_path / "out")
    assert back == explanation
    assert back is not explanation


def test_values_that_differ_are_not_equal(explanation):
    other = sitk.Image(explanation.relevance[0])
    other[1, 2, 3] = other[1, 2, 3] + 1
    moved = sitk.Image(explanation.relevance[0])
    moved.SetOrigin((0.0, 0.0, 0.0))
    rest = explanation.relevance[1:]
    assert explanation != replace(explanation, relevance=(other, *rest))
    assert explanation != replace(explanation, relevance=(moved, *rest))
    assert explanation != replace(explanation, target={"class": "another"})
    assert explanation != replace(explanation, prediction=Prediction(None, {"x": 1.0}, []))
    assert explanation != "an explanation"
    assert explanation == replace(explanation)


def test_the_files_are_as_documented(tmp_path, explanation):
    folder = tmp_path / "deep" / "out"
    explanation.save(folder)
    segmentation = explanation.prediction.segmentation is not None
    expected = {"explanation.json", "relevance.nrrd", "prediction.seg.nrrd" if segmentation else "prediction.json"}
    if len(explanation.relevance) == 2:
        expected.add("relevance_2.nrrd")
    assert {entry.name for entry in folder.iterdir()} == expected
    assert [entry.name for entry in folder.parent.iterdir()] == ["out"]
    facts = json.loads((folder / "explanation.json").read_text(encoding="utf-8"))
    assert {"target", "composite", "ledger", "model", "volumes", "provenance"} <= set(facts)
    assert {"target_value", "in_volume", "absorbed", "outside", "by_layer"} <= set(facts["ledger"])
    image = sitk.ReadImage(str(folder / "relevance.nrrd"))
    assert image.GetPixelID() == sitk.sitkFloat32
    np.testing.assert_allclose(image.GetOrigin(), explanation.relevance[0].GetOrigin(), atol=1e-9)
    np.testing.assert_allclose(image.GetDirection(), explanation.relevance[0].GetDirection(), atol=1e-9)


def test_the_prediction_is_a_segmentation_that_slicer_reads(tmp_path, explanation):
    if explanation.prediction.segmentation is None:
        assert set(explanation.prediction.probabilities) == {"class 0", "class 1"}
        return
    slicer = pytest.importorskip("slicer")
    explanation.save(tmp_path / "out")
    scene = slicer.vtkMRMLScene()
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    storage = scene.AddNewNodeByClass("vtkMRMLSegmentationStorageNode")
    storage.SetFileName(str(tmp_path / "out" / "prediction.seg.nrrd"))
    assert storage.ReadData(node) == 1
    segments = [node.GetSegmentation().GetNthSegment(n) for n in range(node.GetSegmentation().GetNumberOfSegments())]
    classes = explanation.prediction.classes
    assert [segment.GetName() for segment in segments] == [entry["name"] for entry in classes[1:]]
    assert [segment.GetLabelValue() for segment in segments] == [1, 2]
    for segment, entry in zip(segments, classes[1:], strict=True):
        np.testing.assert_allclose(segment.GetColor(), np.array(entry["color"]) / 255, atol=1e-5)


def test_an_empty_folder_and_an_earlier_explanation_are_replaced(tmp_path, explanation):
    out = tmp_path / "out"
    out.mkdir()
    explanation.save(out)
    (out / "relevance_7.nrrd").write_text("left over")
    replace(explanation, target={"class": "another"}).save(out)
    assert Explanation.load(out).target == {"class": "another"}
    assert not (out / "relevance_7.nrrd").exists()
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("content", ["thesis.txt", "thesis.txt and an explanation", "relevance.nrrd"])
def test_a_folder_with_other_things_is_left_alone(tmp_path, explanation, content):
    out = tmp_path / "out"
    out.mkdir()
    if "explanation" in content:
        explanation.save(out)
    name = content.split()[0]
    (out / name).write_text("years of work")
    before = {entry.name for entry in out.iterdir()}
    with pytest.raises(UserError, match="choose another output folder"):
        explanation.save(out)
    assert (out / name).read_text() == "years of work"
    assert {entry.name for entry in out.iterdir()} == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("folder", ["views", "concept-1", "other-channels"])
def test_other_things_in_the_folders_of_an_explanation_are_left_alone_too(tmp_path, explanation, folder):
    out = tmp_path / "out"
    explanation.save(out)
    (out / folder).mkdir()
    for own in ("views/axial.png", "concept-1/relevance.nrrd", "other-channels/explanation.json", "views/.DS_Store"):
        if own.startswith(folder):
            (out / own).write_text("ours")
    explanation.save(out)
    assert not (out / folder).exists()
    (out / folder / "deep").mkdir(parents=True)
    for name in ("thesis.txt", "deep/relevance.nrrd"):
        (out / folder / name).write_text("years of work")
        with pytest.raises(UserError, match=f"holds other files \\({folder}/{name}\\)"):
            explanation.save(out)
        assert (out / folder / name).read_text() == "years of work"
        (out / folder / name).unlink()


def test_a_disk_that_is_somebody_s_is_refused_without_a_walk_through_it(tmp_path, explanation, monkeypatch):
    (tmp_path / "thesis").mkdir()
    monkeypatch.setattr(Path, "rglob", lambda *_: pytest.fail("all that is in it is looked at"))
    with pytest.raises(UserError, match="holds other files"):
        explanation.save(tmp_path)


def test_a_file_in_the_way_is_left_alone(tmp_path, explanation):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(UserError, match="is a file"):
        explanation.save(tmp_path / "out")
    with pytest.raises(UserError, match="Nothing can be written"):
        explanation.save(tmp_path / "out" / "below")
    assert (tmp_path / "out").read_text() == "a file"


def test_nothing_is_left_when_writing_fails(tmp_path, explanation):
    explanation.save(tmp_path / "out")
    broken = replace(explanation, ledger={"target_value": float("nan")})
    with pytest.raises(ValueError, match="not JSON compliant"):
        broken.save(tmp_path / "out")
    with pytest.raises(ValueError, match="not JSON compliant"):
        broken.save(tmp_path / "new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]
    assert Explanation.load(tmp_path / "out") == explanation


def test_a_disk_that_is_full_is_said_and_the_earlier_result_stays(tmp_path, explanation, disk):
    explanation.save(tmp_path / "out")
    disk(4096)
    with pytest.raises(UserError, match=r"could not be written .*: make room"):
        explanation.save(tmp_path / "out")
    disk(-1)
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]
    assert Explanation.load(tmp_path / "out") == explanation


@pytest.mark.parametrize("there", ["an earlier explanation", "an empty folder", "nothing"])
def test_a_link_is_kept_and_what_it_leads_to_is_written(tmp_path, explanation, there):
    (tmp_path / "disk").mkdir()
    target, link = tmp_path / "disk" / "real", tmp_path / "out"
    if there == "an empty folder":
        target.mkdir()
    if there == "an earlier explanation":
        explanation.save(target)
    link.symlink_to(target)
    explanation.save(link)
    assert link.is_symlink()
    assert Explanation.load(target) == explanation
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["disk", "out"]
    assert [entry.name for entry in target.parent.iterdir()] == ["real"]


def _without(name):
    return lambda folder: (folder / name).unlink()


def _facts(**changes):
    def change(folder):
        facts = json.loads((folder / "explanation.json").read_text())
        (folder / "explanation.json").write_text(json.dumps({**facts, **changes}))

    return change


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (_without("explanation.json"), "There is no"),
        (_without("relevance.nrrd"), "missing or damaged"),
        (lambda folder: (folder / "explanation.json").write_text("{"), "not readable JSON"),
        (_facts(format="other"), "not an explanation folder"),
        (_facts(version=99), "version 99: update LRPExplain"),
        (_facts(volumes=[{"name": "x"}]), "incomplete"),
        (lambda folder: sitk.WriteImage(sitk.Image(2, 2, 2, sitk.sitkFloat32), str(folder / "relevance.nrrd")), "size"),
    ],
)
def test_a_damaged_folder_is_refused_in_one_sentence(tmp_path, explanation, damage, expected):
    explanation.save(tmp_path / "out")
    damage(tmp_path / "out")
    with pytest.raises(UserError, match=expected) as caught:
        Explanation.load(tmp_path / "out")
    assert "\n" not in str(caught.value)


def test_a_file_in_place_of_the_folder_is_no_damaged_folder(tmp_path):
    (tmp_path / "relevance.nrrd").write_text("")
    with pytest.raises(UserError, match=r"There is no .*: give an explanation folder that LRPExplain wrote"):
        Explanation.load(tmp_path / "relevance.nrrd")


def test_the_version_is_the_packages(root):
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project.get("version", __version__) == __version__
