"""DICOM: relevance and hot spots as objects that refer to the series they are of, read back by others."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from helpers.dicom import enhanced
from helpers.networks import RANGE, classes, save_model, segmenter
from helpers.volumes import make_volume, write_series
from LRPExplainLib.cli import main
from LRPExplainLib.errors import UserError
from LRPExplainLib.explain import explain
from LRPExplainLib.explanation import Explanation
from LRPExplainLib.imaging import Everywhere
from LRPExplainLib.imaging.reading import volume_files
from LRPExplainLib.reporting import export_dicom
from LRPExplainLib.reporting.findings import findings_of

highdicom = pytest.importorskip("highdicom", minversion="0.28")
pydicom = pytest.importorskip("pydicom")

FRAME = "1.2.826.0.1.3680043.2.1125.77"


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """An oblique series of one patient, whose files are named against the order of its slices, and its explanation."""
    folder = tmp_path_factory.mktemp("dicom")
    write_series(sitk.Cast(make_volume(), sitk.sitkInt16), folder / "raw")
    (folder / "series").mkdir()
    for n, file in enumerate(sorted((folder / "raw").iterdir())):
        dataset = pydicom.dcmread(file)
        dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate, dataset.PatientSex = "Doe^Jane", "P1", "", "F"
        dataset.FrameOfReferenceUID, dataset.PositionReferenceIndicator = FRAME, ""
        dataset.StudyID, dataset.AccessionNumber, dataset.ReferringPhysicianName = "1", "", ""
        dataset.StudyDate, dataset.StudyTime, dataset.SeriesNumber = "20260101", "120000", 1
        dataset.save_as(folder / "series" / f"{99 - n}.dcm")
    card = {"preprocessing": {"orientation": "RAS", "intensity": RANGE}, "output": classes("a", "grey", "white")}
    model = save_model(folder, segmenter(), **card)
    made = explain(model, [folder / "series"], "white", "epsilon", "cpu", region=Everywhere())
    made.save(folder / "explanation")
    return folder


@pytest.fixture(scope="module")
def exported(place) -> Path:
    assert main(["export-dicom", str(place / "explanation"), "--out", str(place / "out")]) == 0
    return place / "out"


def test_an_older_highdicom_is_told_so_before_anything_is_made(explanation, tmp_path, monkeypatch):
    monkeypatch.setattr(highdicom, "__version__", "0.22.0")
    with pytest.raises(UserError, match=r"need highdicom 0\.28 or newer, and this is 0\.22\.0: pip install --upgrade"):
        export_dicom(explanation, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def placed(volume, image: sitk.Image) -> np.ndarray:
    """Voxels of a highdicom volume on the grid of an image, by where each of them lies in the patient."""
    index = np.indices(volume.spatial_shape).reshape(3, -1)
    points = volume.affine[:3, :3] @ index + volume.affine[:3, 3:]
    direction = np.reshape(image.GetDirection(), (3, 3)) * np.asarray(image.GetSpacing())
    found = np.rint(np.linalg.solve(direction, points - np.asarray(image.GetOrigin())[:, None])).astype(int)
    values = np.full(image.GetSize()[::-1], np.nan)
    values[found[2], found[1], found[0]] = np.asarray(volume.array).ravel()
    return values


def test_relevance_is_read_back_voxel_by_voxel_where_it_lies(exported, explanation):
    found = highdicom.imread(exported / "relevance.dcm")
    relevance = explanation.relevance[0]
    values = placed(found.get_volume(), relevance)
    assert np.allclose(values, sitk.GetArrayFromImage(relevance), rtol=1e-6, atol=0)


def test_hot_spots_are_read_back_as_segments(exported, explanation):
    found = highdicom.seg.segread(exported / "hot_spots.dcm")
    (findings,) = findings_of(explanation, ["series"])
    assert found.number_of_segments == len(findings.hot_spots) > 0
    labels = placed(found.get_volume(combine_segments=True), explanation.relevance[0])
    mine = np.zeros(labels.shape)
    mine[findings.clusters.box] = findings.clusters.labels
    assert np.array_equal(labels, np.where(mine <= len(findings.hot_spots), mine, 0))
    first = found.get_segment_description(1)
    assert first.segment_label.startswith("1: ")
    assert first.segmented_property_type.meaning == "Hot spot of relevance"


@pytest.mark.parametrize("name", ["relevance.dcm", "hot_spots.dcm"])
def test_each_object_refers_to_the_series_and_its_patient(exported, place, name):
    found = pydicom.dcmread(exported / name)
    source = [pydicom.dcmread(file) for file in sorted((place / "series").iterdir())]
    assert found.PatientID == "P1"
    assert found.StudyInstanceUID == source[0].StudyInstanceUID
    assert found.FrameOfReferenceUID == FRAME
    (series,) = found.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == source[0].SeriesInstanceUID
    told = {entry.ReferencedSOPInstanceUID for entry in series.ReferencedInstanceSequence}
    assert told == {each.SOPInstanceUID for each in source}


def test_the_map_says_what_its_values_are(exported, explanation):
    found = pydicom.dcmread(exported / "relevance.dcm")
    shared = found.SharedFunctionalGroupsSequence[0]
    mapping = shared.RealWorldValueMappingSequence[0]
    assert (mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept) == (1.0, 0.0)
    values = sitk.GetArrayFromImage(explanation.relevance[0])
    assert mapping.DoubleFloatRealWorldValueLastValueMapped == pytest.approx(float(values.max()))
    assert found.SeriesInstanceUID != pydicom.dcmread(exported / "hot_spots.dcm").SeriesInstanceUID


@pytest.mark.parametrize("name", ["relevance.dcm", "hot_spots.dcm"])
def test_each_object_is_valid(exported, name):
    validator = shutil.which("dciodvfy")
    if validator is None:
        pytest.skip("needs dciodvfy (Debian: dicom3tools)")
    told = subprocess.run([validator, str(exported / name)], capture_output=True, text=True, check=False)
    assert [line for line in (told.stdout + told.stderr).splitlines() if line.startswith("Error")] == []


def test_a_volume_from_another_file_has_no_series_to_refer_to(place, tmp_path):
    sitk.WriteImage(make_volume(), str(tmp_path / "t1.nrrd"))
    made = explain(place / "net.ts", [tmp_path / "t1.nrrd"], "white", "epsilon", "cpu", region=Everywhere())
    with pytest.raises(UserError, match="no series"):
        export_dicom(made, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_slices_that_shift_a_little_are_referred_to_as_well(place, tmp_path):
    """By less than is a sheared stack, but by more than rounding."""
    shutil.copytree(place / "series", tmp_path / "series")
    for n, file in enumerate(sorted((tmp_path / "series").iterdir())):
        dataset = pydicom.dcmread(file)
        columns = np.asarray(dataset.ImageOrientationPatient[3:], dtype=float)
        moved = np.asarray(dataset.ImagePositionPatient, dtype=float) + 0.03 * (14 - n) * columns
        dataset.ImagePositionPatient = [f"{value:.6f}" for value in moved]
        dataset.save_as(file)
    made = explain(place / "net.ts", [tmp_path / "series"], "white", "epsilon", "cpu", region=Everywhere())
    found = highdicom.imread(export_dicom(made, tmp_path / "out")[-1])
    mine = sitk.GetArrayFromImage(made.relevance[0])
    places = [pydicom.dcmread(file).ImagePositionPatient for file in volume_files(tmp_path / "series")]
    assert len(found.PerFrameFunctionalGroupsSequence) == len(mine) == len(places)
    for n, group in enumerate(found.PerFrameFunctionalGroupsSequence):
        place = group.PlanePositionSequence[0].ImagePositionPatient
        k = [bool(np.allclose(each, place, atol=1e-3)) for each in places].index(True)
        np.testing.assert_allclose(found.pixel_array[n], mine[k], rtol=1e-6)


def test_a_file_of_frames_cannot_be_referred_to(place, tmp_path):
    (tmp_path / "series").mkdir()
    enhanced(sitk.Cast(make_volume(), sitk.sitkInt16)).save_as(tmp_path / "series" / "many.dcm")
    made = explain(place / "net.ts", [tmp_path / "series"], "white", "epsilon", "cpu", region=Everywhere())
    with pytest.raises(UserError, match="only series of single slices"):
        export_dicom(made, tmp_path / "out")


def test_a_series_that_has_changed_is_refused(explanation, tmp_path):
    (entry,) = explanation.volumes
    other = Explanation(**vars(explanation) | {"volumes": [entry | {"sha256": "0" * 64}]})
    with pytest.raises(UserError, match="has changed"):
        export_dicom(other, tmp_path / "out")


def test_names_in_any_letters_are_kept(tmp_path, place):
    """The patient's are in the series' own character set; a class may be called in others, or hold a backslash."""
    shutil.copytree(place / "series", tmp_path / "series")
    for file in (tmp_path / "series").iterdir():
        dataset = pydicom.dcmread(file)
        dataset.SpecificCharacterSet, dataset.PatientName = "ISO_IR 100", "Müller^Jörg"
        dataset.save_as(file)
    card = {"preprocessing": {"intensity": RANGE}, "output": classes("a", "grey", "Läsion\\腫瘍")}
    made = explain(save_model(tmp_path, segmenter(), **card), [tmp_path / "series"], 2, "epsilon", "cpu",
                   region=Everywhere())  # fmt: skip
    for file in export_dicom(made, tmp_path / "out"):
        dataset = pydicom.dcmread(file)
        assert str(dataset.PatientName) == "Müller^Jörg"
        assert dataset.ContentDescription.startswith("Läsion/腫瘍 over")
