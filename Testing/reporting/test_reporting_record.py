"""The record: one page, the same facts as JSON, and no names."""

import base64
import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from helpers.networks import RANGE, save_model, segmenter
from helpers.volumes import make_volume, write_series
from jsonschema import Draft202012Validator
from LRPExplainLib.cli import main
from LRPExplainLib.errors import UserError
from LRPExplainLib.evaluation import Evaluation, evaluate
from LRPExplainLib.explain import explain
from LRPExplainLib.explanation import Explanation
from LRPExplainLib.imaging import Box, Everywhere, Points
from LRPExplainLib.question import Question
from LRPExplainLib.reporting import Record, check_place, make_record, verify
from LRPExplainLib.reporting.commands import explain_command
from LRPExplainLib.reporting.curves import curves
from LRPExplainLib.reporting.fingerprint import block_sums, distance, fingerprint
from LRPExplainLib.reporting.record import SCHEMA
from reporting.records import CARD, PATIENT, PICTURES, failed
from torch import nn

# --- the two files --------------------------------------------------------------------------------------------------


def test_the_json_file_is_as_the_published_schema_says(saved):
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    facts = json.loads(saved.with_suffix(".json").read_text(encoding="utf-8"))
    assert [error.message for error in Draft202012Validator(schema).iter_errors(facts)] == []
    facts["model"]["sha256"] = "unknown"
    assert list(Draft202012Validator(schema).iter_errors(facts))


def test_both_files_are_read_back_as_they_were(saved, whole):
    assert Record.load(saved) == whole
    assert Record.load(saved.with_suffix(".json")).facts == whole.facts


def test_the_page_needs_nothing_besides_itself(saved):
    page = saved.read_text(encoding="utf-8")
    assert re.findall(r'(?:src|href)="(?!data:)[^"]*"', page) == []
    assert "url(" not in page
    assert "@import" not in page
    assert "default-src 'none'" in page
    assert re.findall(r"<script(?! type=\"application/json\")", page) == []
    for png in PICTURES.values():
        assert base64.b64encode(png).decode() in page


def test_the_page_holds_what_a_reviewer_asks_for(saved, explanation):
    page = saved.read_text(encoding="utf-8")
    headings = re.findall(r"<h[23]>(.*?)</h", page)
    for heading in ("What was asked", "Prediction", "Ledger", "Hot spots", "Agreement with the expert", "Faithfulness",
                    "Sanity", "Complexity", "Provenance", "Ledger by layer"):  # fmt: skip
        assert heading in headings
    assert page.count("<polyline") >= 2 * 3  # a curve for each baseline and order
    for text in (explanation.model["sha256"], explanation.volumes[0]["sha256"], "of the segment &#x27;core&#x27;",
                 explanation.provenance["versions"]["torch"], f"{explanation.ledger['target_value']:.6g}"):  # fmt: skip
        assert text in page
    for row in explanation.ledger["by_layer"]:
        assert f"<td>{row['layer']}</td>" in page or f'<td class="n">{row["layer"]}</td>' in page


def test_each_picture_has_words_for_those_who_do_not_see_it(saved):
    words = re.findall(r'<img data-view="[^"]*" alt="([^"]*)"', saved.read_text(encoding="utf-8"))
    assert len(words) == len(set(words)) == len(PICTURES)
    assert all("relevance" in text for text in words)


def test_places_are_told_with_their_axes_and_unit(place):
    x, y, z = sitk.ReadImage(str(place / "t1.nrrd")).TransformIndexToPhysicalPoint((9, 8, 7))
    asked = explain(place / "net.ts", [place / "t1.nrrd"], device="cpu", region=Points(((-x, -y, z),)))
    page = make_record(asked, "x.html").html()
    assert f"<dt>points at R, A, S (mm)</dt><dd>{-x:.6g}, {-y:.6g}, {z:.6g}</dd>" in page
    assert "over 1 voxel of the point " in page
    assert "_ras" not in page.split("<script")[0]


def test_what_a_model_is_called_cannot_run_in_the_page(explanation):
    odd = Explanation(**vars(explanation) | {"model": explanation.model | {"name": "</script><b>&"}})
    page = make_record(odd, "x.html").html()
    assert "<b>" not in page
    assert "&lt;/script&gt;&lt;b&gt;&amp;" in page


def test_hot_spots_and_warnings_are_those_of_the_findings(whole, explanation):
    found = whole.facts["findings"]
    values = sitk.GetArrayFromImage(explanation.relevance[0])
    assert found["hot_spots"][0]["rank"] == 1
    x, y, z = found["hot_spots"][0]["place_ras"]
    index = explanation.relevance[0].TransformPhysicalPointToIndex((-x, -y, z))
    assert values[index[::-1]] == pytest.approx(found["hot_spots"][0]["peak"])
    assert found["unseen"] == []


def test_what_warns_against_a_map_stands_first_in_the_page(explanation):
    opened = Explanation(**vars(explanation) | {"ledger": explanation.ledger | {"relative_gap": 0.25}})
    record = make_record(opened, "x.html")
    assert "The ledger is open: 25.00%" in record.facts["findings"]["warnings"][0]
    page = record.html()
    assert 0 < page.index("The ledger is open") < page.index("<h2>")


def test_predicted_classes_are_told_in_ml(whole, explanation):
    labels = sitk.GetArrayFromImage(explanation.prediction.segmentation)
    for index, row in enumerate(whole.facts["prediction"]["classes"]):
        assert row["voxels"] == (labels == index).sum()
        assert row["ml"] == pytest.approx(row["voxels"] * 0.9 * 1.1 * 2.7 / 1000)


def test_what_the_network_is_given_and_does_itself_is_told(tmp_path):
    network = nn.Sequential(nn.Conv3d(2, 3, 3), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Softmax(1))
    entry = {"name": "CT", "channels": 2, "mean": [0.5, 0.25], "std": [0.125, 2]}
    model = save_model(tmp_path, network, task="classification", inputs=[entry], preprocessing={"intensity": RANGE})
    page = make_record(explain(model, [make_volume()]), "case.html").html()
    assert "<dt>input CT</dt><dd>repeated over 2 channels; mean 0.5, 0.25; std 0.125, 2</dd>" in page
    assert "<p>The network ends in softmax itself: explained is the logit before it" in page


def test_a_page_tells_apart_whose_voxels_are_counted_and_lists_the_classes_that_were_found(whole):
    facts = json.loads(json.dumps(whole.facts))
    facts["prediction"]["classes"] += [{"name": f"organ <{n}>", "voxels": 0, "ml": 0.0} for n in (7, 8)]
    page = Record(facts).html().split("<script")[0]
    assert f"<dt>Voxels</dt><dd>{facts['target']['voxels']}, of the model&#x27;s grid</dd>" in page
    assert "<th>voxels of the volume</th>" in re.sub(r' class="n"', "", page)
    assert "<p>In no voxel: organ &lt;7&gt;, organ &lt;8&gt;.</p>" in page
    assert page.count("organ") == 2


def test_an_evaluation_of_another_explanation_is_refused(explanation, evaluation):
    facts = json.loads(json.dumps(evaluation.facts))
    facts["explanation"]["target"]["class"] = "grey"
    with pytest.raises(UserError, match="another explanation"):
        make_record(explanation, "x.html", Evaluation(facts))


def test_nothing_that_is_no_record_is_replaced(whole, tmp_path):
    (tmp_path / "letter.json").write_text("{}")
    with pytest.raises(UserError, match="no record"):
        whole.save(tmp_path / "letter.html")
    assert not (tmp_path / "letter.html").exists()
    with pytest.raises(UserError, match="ends in"):
        whole.save(tmp_path / "letter.pdf")
    for place in (tmp_path / "letter.json" / "case.html", tmp_path / ("long" * 99 + ".html")):
        with pytest.raises(UserError, match="Nothing can be written"):
            check_place(place)  # before the pictures are drawn
    (tmp_path / "page.html").write_text("<html></html>")
    with pytest.raises(UserError, match="no record of LRPExplain"):
        Record.load(tmp_path / "page.html")


def test_what_else_is_given_as_a_record_is_refused_with_what_to_give(explanation, tmp_path):
    explanation.save(tmp_path / "out")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    (tmp_path / "list.json").write_text("[]")
    for wrong in ("out", "out/explanation.json", "picture.png", "list.json"):
        with pytest.raises(UserError, match=r"is no record of LRPExplain: give the .html or .json that 'lrpexplain r"):
            Record.load(tmp_path / wrong)
    with pytest.raises(UserError, match=r"^There is no record '.*nowhere.html': check the path\.$"):
        Record.load(tmp_path / "nowhere.html")


def test_a_link_to_a_record_is_kept(whole, tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "case.html").symlink_to(tmp_path / "kept" / "real.html")
    whole.save(tmp_path / "case.html")
    assert (tmp_path / "case.html").is_symlink()
    assert Record.load(tmp_path / "kept" / "real.html") == whole
    assert sorted(entry.name for entry in tmp_path.rglob("*")) == ["case.html", "case.json", "kept", "real.html"]


@pytest.mark.parametrize("there", [False, True], ids=["new", "replaced"])
def test_a_record_is_written_whole_or_not_at_all(whole, tmp_path, monkeypatch, there):
    """As where somebody has the second file open on Windows."""
    if there:
        Record(whole.facts | {"created": "earlier"}).save(tmp_path / "case.html")
    before = {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()}
    replace_file = Path.replace

    def replaced(self, target):
        if Path(target).suffix == ".json" and ".partial" in self.name:
            raise PermissionError(13, "in use", str(target))
        return replace_file(self, target)

    monkeypatch.setattr(Path, "replace", replaced)
    with pytest.raises(UserError, match="cannot be written"):
        whole.save(tmp_path / "case.html")
    assert {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()} == before


# --- names ----------------------------------------------------------------------------------------------------------


def test_no_folder_that_bears_a_name_is_in_the_files(saved, place):
    for file in (saved, saved.with_suffix(".json")):
        text = file.read_text(encoding="utf-8")
        assert PATIENT not in text
        assert str(place.parent) not in text


def test_names_are_there_if_asked_for(explanation, place):
    facts = make_record(explanation, "x.html", with_names=True).facts
    assert facts["with_names"]
    assert facts["volumes"][0]["path"] == str(place / "t1.nrrd")
    assert PATIENT in facts["commands"]["explain"]


def test_a_series_is_not_called_by_its_folder_and_its_patient_only_if_asked(tmp_path):
    pydicom = pytest.importorskip("pydicom")
    series = tmp_path / PATIENT
    write_series(sitk.Cast(make_volume(), sitk.sitkInt16), series)
    for n, file in enumerate(sorted(series.iterdir())):
        dataset = pydicom.dcmread(file)
        dataset.PatientName, dataset.PatientID, dataset.InstanceNumber = "Doe^Jane", "P1951", n + 1
        dataset.save_as(file)
    model = save_model(tmp_path, segmenter(), **CARD)
    made = explain(model, [series], "white", "epsilon", "cpu", region=Everywhere())
    record = make_record(made, "x.html", evaluate(made, checks=["complexity"]))
    text = record.html()
    assert record.facts["volumes"][0]["name"] == "series 1"
    for name in (PATIENT, "Doe^Jane", "P1951"):
        assert name not in text
    named = make_record(made, "x.html", with_names=True)
    assert named.facts["volumes"][0]["patient"]["name"] == "Doe^Jane"
    assert "Doe^Jane" in named.html()
    assert verify(named, device="cpu").agrees
    named.facts["volumes"][0]["patient"]["name"] = "Roe^Richard"
    assert failed(verify(named, device="cpu")) == {f"patient of {PATIENT}"}
    del named.facts["volumes"][0]["patient"]  # as of a volume that had gone when the record was made
    assert verify(named, device="cpu").agrees


@pytest.mark.parametrize(
    ("characters", "name"),
    [
        ("ISO_IR 100", "Müller^Jörg"),
        ("ISO_IR 192", "Müller^山田"),
        ("ISO_IR 144", "Люкceмбypг"),
        ("ISO 2022 IR 100", "Müller^Jörg"),
        (["ISO 2022 IR 6", "ISO 2022 IR 144"], "Люкceмбypг"),
        (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎"),
    ],
    ids=["Latin", "UTF-8", "Cyrillic", "Latin by extension", "Cyrillic by extension", "Korean", "Japanese"],
)
def test_a_patients_name_is_written_as_it_is_whatever_its_letters(tmp_path, characters, name):
    pydicom = pytest.importorskip("pydicom")
    write_series(sitk.Cast(make_volume(), sitk.sitkInt16), tmp_path / "series")
    for file in (tmp_path / "series").iterdir():
        dataset = pydicom.dcmread(file)
        dataset.SpecificCharacterSet, dataset.PatientName = characters, name
        dataset.save_as(file)
    made = explain(save_model(tmp_path, segmenter(), **CARD), [tmp_path / "series"], "white", "epsilon", "cpu",
                   region=Everywhere())  # fmt: skip
    make_record(made, "x.html", with_names=True).save(tmp_path / "x.html")
    assert Record.load(tmp_path / "x.json").facts["volumes"][0]["patient"]["name"] == name


# --- its parts ------------------------------------------------------------------------------------------------------


def test_the_sums_of_a_fingerprint_are_those_of_the_blocks():
    values = np.random.default_rng(1).normal(size=(5, 24, 25)).astype(np.float32)
    sums = block_sums(fingerprint(values))
    assert sums.shape == (2, 5, 12, 12)
    block = values[3, 4:6, 25 * 4 // 12 : 25 * 5 // 12]
    assert sums[:, 3, 2, 4] == pytest.approx([block[block > 0].sum(), block[block < 0].sum()], rel=1e-6)
    assert sums.sum() == pytest.approx(values.sum(dtype=float), rel=1e-5)


def test_the_distance_of_fingerprints_is_a_share_of_the_relevance():
    values = np.zeros((12, 12, 12), np.float32)
    values[2, 2, 2], values[5, 5, 5] = 3, -1
    other = values.copy()
    other[5, 5, 5] = 1
    assert distance(fingerprint(values), fingerprint(values)) == 0
    assert distance(fingerprint(values), fingerprint(other)) == pytest.approx(2 / 4)
    assert distance(fingerprint(values), fingerprint(values[1:])) == float("inf")


@pytest.mark.parametrize(
    ("first", "last", "ticks", "heights"),
    [
        (1.0, 0.0, "0 0.5 1", "22.0 83.0 144.0"),
        (3.0, -1.0, "-1 0 1 2 3", "22.0 83.0 144.0"),
        (0.5, 0.5, "0 0.5 1", "83.0 83.0 83.0"),
    ],
)
def test_a_curve_stands_where_its_scores_are(first, last, ticks, heights):
    """Pieces on a scale of square roots from left to right, scores from bottom to top, 0 and 1 always within."""
    scores = (first, (first + last) / 2, last)
    points = [{"pieces": n, "score": score} for n, score in zip((0, 1, 4), scores, strict=True)]
    drawn = curves("a < b", dict.fromkeys(("most_relevant_first", "least_relevant_first", "insertion"), points))
    places = " ".join(f"{x},{y}" for x, y in zip(("34.0", "173.0", "312.0"), heights.split(), strict=True))
    assert drawn.count(f'points="{places}"') == 3
    assert re.findall(r'text-anchor="end">(-?[\d.]+)</text>', drawn) == ticks.split()
    assert "Replaced by a &lt; b" in drawn
    assert "4 pieces" in drawn


def test_the_command_makes_the_same_explanation(place, explanation, tmp_path, monkeypatch):
    record = make_record(explanation, "x.html")
    words = shlex.split(record.facts["commands"]["explain"])
    monkeypatch.chdir(place)
    assert main([*words[1:-1], str(tmp_path / "again")]) == 0
    again = Explanation.load(tmp_path / "again")
    assert again.target == explanation.target | {"region": again.target["region"]}
    assert again.ledger["target_value"] == pytest.approx(explanation.ledger["target_value"], rel=1e-6)
    assert again.composite == explanation.composite


def test_a_command_is_not_told_where_the_command_line_has_no_words(place):
    turned = Box((0, 0, 40), (200, 200, 200), (0.6, -0.8, 0, 0.8, 0.6, 0, 0, 0, 1))
    question = Question("white", region=turned)
    rules = {"conv": "gamma(0.1)"}
    made = explain(place / "net.ts", [place / "t1.nrrd"], question, "epsilon", "cpu", rules=rules)
    facts = make_record(made, "x.html").facts
    assert facts["commands"]["explain"] is None
    upright = facts | {"target": facts["target"] | {"where": "everywhere"}}
    assert "--everywhere" in explain_command(upright)
    assert "--rule 'conv=gamma(0.1)'" in explain_command(upright)


def test_the_shell_command_writes_both_files(place, tmp_path):
    out = tmp_path / "record.html"
    assert main(["record", str(place / "explanation"), "--out", str(out), "--no-views"]) == 0
    assert out.exists()
    assert out.with_suffix(".json").exists()
    assert "No pictures were asked for." in out.read_text(encoding="utf-8")
    assert main(["record", str(place / "explanation"), "--out", str(tmp_path / "record.txt")]) == 2


def test_the_pictures_are_those_of_the_views(place, tmp_path):
    pytest.importorskip("slicer")
    from LRPExplainLib.scene import missing_renderer

    if missing_renderer():
        pytest.skip("needs an OpenGL renderer")
    assert main(["record", str(place / "explanation"), "--out", str(tmp_path / "record.html")]) == 0
    pictures = Record.load(tmp_path / "record.html").pictures
    assert list(pictures) == ["axial", "sagittal", "coronal", "3d"]
    for n, png in enumerate(pictures.values()):
        (tmp_path / f"{n}.png").write_bytes(png)
        assert np.ptp(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / f"{n}.png")))) > 100


def test_a_volume_that_has_changed_is_said(place, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(place, moved)
    sitk.WriteImage(make_volume(seed=7), str(moved / "t1.nrrd"))
    facts = json.loads((moved / "explanation" / "explanation.json").read_text(encoding="utf-8"))
    facts["volumes"][0]["path"] = str(moved / "t1.nrrd")
    (moved / "explanation" / "explanation.json").write_text(json.dumps(facts))
    record = make_record(Explanation.load(moved / "explanation"), "x.html")
    assert record.facts["findings"]["unseen"] == ["t1.nrrd"]
    assert "were not at hand" in record.html()
