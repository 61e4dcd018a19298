"""The record: one page, the same facts as JSON, no names, and a verification that notices what differs."""

import base64
import json
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from helpers.networks import RANGE, classes, classifier, save_model, segmenter
from helpers.volumes import make_volume, write_series
from jsonschema import Draft202012Validator
from LRPExplainLib import __version__
from LRPExplainLib.cli import main
from LRPExplainLib.comparison import compare
from LRPExplainLib.digests import sha256_of
from LRPExplainLib.errors import UserError
from LRPExplainLib.evaluation import Evaluation, Perturbation, Settings, evaluate
from LRPExplainLib.explain import explain
from LRPExplainLib.explanation import Explanation
from LRPExplainLib.imaging import Box, Everywhere, Points, Segment, read_segment, read_segments
from LRPExplainLib.imaging.reading import volume_digest
from LRPExplainLib.imaging.segmentation import write_segmentation
from LRPExplainLib.methods import METHODS
from LRPExplainLib.models import load_model
from LRPExplainLib.question import Question
from LRPExplainLib.reporting import Places, Record, check_place, make_record, verify
from LRPExplainLib.reporting.commands import explain_command
from LRPExplainLib.reporting.curves import curves
from LRPExplainLib.reporting.findings_again import findings_problem
from LRPExplainLib.reporting.fingerprint import block_sums, distance, fingerprint
from LRPExplainLib.reporting.record import SCHEMA
from torch import nn

CARD = {
    "preprocessing": {"orientation": "RAS", "intensity": RANGE},
    "output": classes("background", "grey", "white"),
}
FAST = Settings(shifts=9, perturbation=Perturbation(edge_mm=9.0, baselines=("mean", "noisy-linear"), runs=4))
PATIENT = "DOE_JANE_1951"
PICTURES = {"axial": b"\x89PNG axial", "3d": b"\x89PNG three"}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A patient's folder: a volume, a model, an expert's segment, an explanation."""
    folder = tmp_path_factory.mktemp("case") / PATIENT
    folder.mkdir()
    volume = make_volume()
    sitk.WriteImage(volume, str(folder / "t1.nrrd"))
    labels = np.zeros(sitk.GetArrayFromImage(volume).shape, dtype=np.uint8)
    labels[4:8, 8:16, 8:16] = 1
    image = sitk.GetImageFromArray(labels)
    image.CopyInformation(volume)
    write_segmentation(image, [{"name": n, "color": [0, 0, 0]} for n in ("background", "core")], folder / "expert.nrrd")
    model = save_model(folder, segmenter(), **CARD)
    region = read_segment(folder / "expert.nrrd", "core")
    explain(model, [folder / "t1.nrrd"], "white", "epsilon", "cpu", region=region).save(folder / "explanation")
    return folder


@pytest.fixture(scope="module")
def explanation(place) -> Explanation:
    return Explanation.load(place / "explanation")


@pytest.fixture(scope="module")
def evaluation(place) -> Evaluation:
    return evaluate(place / "explanation", read_segments(place / "expert.nrrd"), settings=FAST, device="cpu")


@pytest.fixture(scope="module")
def whole(explanation, evaluation) -> Record:
    return make_record(explanation, "case.html", evaluation, PICTURES)


@pytest.fixture
def saved(whole, place) -> Path:
    """The record beside the model and the volume."""
    whole.save(place / "case.html")
    return place / "case.html"


def changed(record: Path, change) -> Record:
    """The record after someone has changed its facts."""
    facts = json.loads(record.with_suffix(".json").read_text(encoding="utf-8"))
    change(facts)
    return Record(facts)


def failed(found) -> set[str]:
    return {check.name for check in found.checks if not check.agrees}


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


# --- verification ---------------------------------------------------------------------------------------------------


def test_a_record_agrees_with_what_is_computed_again(saved, capsys):
    assert main(["verify", str(saved), "--device", "cpu"]) == 0
    assert "The record agrees" in capsys.readouterr().out
    assert main(["verify", str(saved.with_suffix(".json")), "--device", "cpu"]) == 0


def test_the_explanation_that_was_made_again_can_be_kept(saved, tmp_path, explanation):
    assert main(["verify", str(saved), "--device", "cpu", "--out", str(tmp_path / "again")]) == 0
    again = Explanation.load(tmp_path / "again")
    assert np.allclose(sitk.GetArrayFromImage(again.relevance[0]), sitk.GetArrayFromImage(explanation.relevance[0]),
                       atol=1e-6)  # fmt: skip


def test_files_are_found_where_the_options_say(saved, place, tmp_path, capsys):
    moved = tmp_path / "alone.html"
    shutil.copy(saved, moved)
    assert main(["verify", str(moved)]) == 2
    assert "--model" in capsys.readouterr().err
    assert main(["verify", str(moved), "--device", "cpu", "--model", str(place / "net.ts"), "--volume",
                 str(place / "t1.nrrd"), "--segment", str(place / "expert.nrrd")]) == 0  # fmt: skip


def test_files_whose_whole_paths_have_gone_are_found_beside_the_record(explanation, place, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(place, moved)
    record = make_record(explanation, "x.html", with_names=True)
    for entry in (record.facts["model"], record.facts["volumes"][0]):
        entry["path"] = entry["path"].replace(PATIENT, "gone")
    record.facts["target"]["region"]["file"] = "/gone/expert.nrrd"
    record.facts["commands"]["explain"] = explain_command(record.facts)
    assert verify(record, Places(near=[moved]), device="cpu").agrees


@pytest.mark.parametrize(
    ("change", "which"),
    [
        (lambda f: f["ledger"].update(target_value=f["ledger"]["target_value"] * 1.01), {"target value"}),
        (
            lambda f: f["ledger"].update(absorbed=f["ledger"]["absorbed"] + 0.1 * f["ledger"]["target_value"]),
            {"ledger"},
        ),
        (lambda f: f["ledger"]["by_layer"][0].update(relevance_in=1e6), {"ledger by layer"}),
        (lambda f: f["prediction"]["classes"][1].update(voxels=0), {"prediction"}),
        (lambda f: f["target"].update(index=1), {"target value", "relevance map of t1.nrrd"}),
        (lambda f: f["target"].update({"class": "grey"}), {"question"}),
        (lambda f: f["target"].update(text="grey, everywhere"), {"question"}),
        (lambda f: f["target"].update(voxels=10 * f["target"]["voxels"]), {"question"}),
        (lambda f: f["target"].update(predicted=10 * f["target"]["voxels"]), {"question"}),
        (lambda f: f["target"]["region"].update(segment="no tumour"), {"question"}),
        (lambda f: f["composite"].update(name="gamma"), {"composite"}),
        (lambda f: f["composite"].update(description="Shows causes."), {"composite"}),
        (lambda f: f["volumes"][0]["geometry"]["origin"].__setitem__(0, 0.0), {"geometry of t1.nrrd"}),
        (lambda f: f["ledger"].update(relative_gap=0.5), {"shares"}),
        (lambda f: f["ledger"].update(share_by_input=[0.5]), {"shares"}),
        (lambda f: f["ledger"].update(absolute_share_by_input=[0.5]), {"shares"}),
        (lambda f: f["ledger"].update(absorbed_bias=f["ledger"]["target_value"]), {"ledger"}),
        (lambda f: f["ledger"].update(unseen_voxels_by_input=[10000]), {"ledger"}),
        (lambda f: f["ledger"]["by_layer"][0].update(rule="alpha-beta"), {"ledger by layer"}),
        (lambda f: f["prediction"]["classes"][1].update(ml=1e6), {"prediction"}),
        (lambda f: f["prediction"]["classes"][1].update(name="healthy"), {"prediction"}),
        (lambda f: f["findings"]["hot_spots"][0].update(place_ras=[0.0, 0.0, 0.0]), {"hot spots and warnings"}),
        (lambda f: f["findings"]["hot_spots"].pop(), {"hot spots and warnings"}),
        (lambda f: f["findings"].update(warnings=["All is well."]), {"hot spots and warnings"}),
        (lambda f: f["model"].update(name="Approved model"), {"model's name"}),
        (lambda f: f["commands"].update(explain="rm -r ~"), {"commands"}),
        (lambda f: f["commands"].update(verify="rm -r ~"), {"commands"}),
        (lambda f: f["commands"].update(verify="lrpexplain verify case.html; rm -r ~"), {"commands"}),
        (lambda f: f["commands"].update(verify="lrpexplain verify 'case.html"), {"commands"}),
        (lambda f: f["prediction"].update(values={"healthy": 0.99}), {"prediction"}),
    ],
    ids=["target value", "ledger", "by layer", "prediction", "class", "class's name", "text", "voxels", "predicted",
         "segment", "composite", "description", "origin", "gap", "shares", "absolute shares", "bias", "unseen", "rule",
         "ml", "prediction's name", "place", "spots", "warnings", "model's name", "command", "verifying",
         "verifying more", "verifying badly", "values"],
)  # fmt: skip
def test_a_changed_record_does_not_agree(saved, place, change, which):
    found = verify(changed(saved, change), Places(near=[place]), device="cpu")
    assert not found.agrees
    assert which <= failed(found)
    assert "DIFFERS" in found.table()


def test_classes_that_are_renamed_throughout_do_not_agree(saved, place):
    """What the card beside the model says cannot be changed in the record."""
    facts = json.loads(saved.with_suffix(".json").read_text(encoding="utf-8").replace('"white"', '"healthy"'))
    facts["target"]["text"] = facts["target"]["text"].replace("white", "healthy")
    facts["commands"]["explain"] = explain_command(facts)
    found = verify(Record(facts), Places(near=[place]), device="cpu")
    assert failed(found) == {"class names"}
    assert "healthy, but the model's card says background, grey, white" in found.table()


def test_without_a_card_classes_are_numbered_or_not_compared(place, tmp_path):
    shutil.copy(place / "net.ts", tmp_path / "bare.ts")
    near = [tmp_path, place]
    bare = explain(tmp_path / "bare.ts", [place / "t1.nrrd"], 1, "epsilon", "cpu", region=Everywhere())
    record = make_record(bare, "x.html")
    assert verify(record, Places(near=near), device="cpu").agrees
    facts = json.loads(json.dumps(record.facts).replace("class 1", "tumour"))
    found = verify(Record(facts), Places(near=near), device="cpu")
    assert "class names" in failed(found)
    carded = load_model(tmp_path / "bare.ts", place / "net.card.json")
    made = explain(carded, [place / "t1.nrrd"], "white", "epsilon", "cpu", region=Everywhere())
    del made.model["card_file"]  # as an earlier version recorded it
    found = verify(make_record(made, "x.html"), Places(near=near), device="cpu")
    assert found.agrees
    assert "with the names of classes, for there is none with the model" in found.table()


def test_a_card_that_was_given_by_itself_is_found_or_said_to_be_missing(place, tmp_path, capsys):
    """The card beside the model is another one: it is not what the explanation was made with."""
    weights, other = tmp_path / "bare.ts", tmp_path / "cards"
    other.mkdir()
    shutil.copy(place / "net.ts", weights)
    card = json.loads((place / "net.card.json").read_text(encoding="utf-8")) | {"weights": weights.name}
    (other / "mine.json").write_text(json.dumps(card), encoding="utf-8")
    renamed = card | {"output": classes("a", "b", "c")}
    (tmp_path / "bare.card.json").write_text(json.dumps(renamed), encoding="utf-8")
    shutil.copy(place / "t1.nrrd", tmp_path)
    assert main(["explain", "--model", str(weights), "--card", str(other / "mine.json"), "--volume",
                 str(tmp_path / "t1.nrrd"), "--target", "white", "--everywhere", "--device", "cpu", "--out",
                 str(tmp_path / "out")]) == 0  # fmt: skip
    made = Explanation.load(tmp_path / "out")
    assert made.model["card_file"] == str(other / "mine.json")
    record = make_record(made, "x.html")
    assert record.facts["model"]["card_file"] == "mine.json"
    assert shlex.split(record.facts["commands"]["explain"])[4:6] == ["--card", "mine.json"]
    found = verify(record, Places(near=[tmp_path]), device="cpu")
    assert found.agrees, found.table()
    assert "with the names of classes, for 'mine.json' is not here (--card)" in found.table()
    for places in (Places(near=[tmp_path, other]), Places(near=[tmp_path], card=other / "mine.json")):
        found = verify(record, places, device="cpu")
        assert found.agrees, found.table()
        assert "class names" in {check.name for check in found.checks}
    capsys.readouterr()
    record.save(tmp_path / "x.html")
    assert main(["verify", str(tmp_path / "x.html"), "--device", "cpu", "--card", str(other / "mine.json")]) == 0
    assert "class names" in capsys.readouterr().out


def test_the_command_for_a_card_by_itself_makes_the_same_explanation(place, tmp_path):
    card = json.loads((place / "net.card.json").read_text(encoding="utf-8"))
    (tmp_path / "mine.json").write_text(json.dumps(card), encoding="utf-8")
    shutil.copy(place / "net.ts", tmp_path)
    made = explain(load_model(tmp_path / "net.ts", tmp_path / "mine.json"), [place / "t1.nrrd"], "white", "epsilon",
                   "cpu", region=Everywhere())  # fmt: skip
    command = shlex.split(make_record(made, "x.html", with_names=True).facts["commands"]["explain"])
    assert main([*command[1:-1], str(tmp_path / "again")]) == 0
    again = Explanation.load(tmp_path / "again")
    assert again.target == made.target
    np.testing.assert_array_equal(*(sitk.GetArrayFromImage(each.relevance[0]) for each in (again, made)))


def test_what_nothing_was_compared_with_is_said(saved, place):
    said = verify(Record.load(saved), Places(near=[place]), device="cpu").table().splitlines()
    assert said[-1] == "The record agrees with what was computed again."
    assert said[-2] == ("Not compared: dates, versions, times, device and run, what volumes and files are called,"
                        " what the card says besides the names of classes, the evaluation, what the pictures show."
                        )  # fmt: skip


def test_what_another_version_worded_is_not_compared(saved, place):
    def older(facts):
        facts["made_with"]["lrpexplain"] = "0.0.9"
        facts["target"]["text"], facts["findings"]["warnings"] = "in other words", ["Also so."]
        del facts["ledger"]["unseen_relevance"]

    found = verify(changed(saved, older), Places(near=[place]), device="cpu")
    assert found.agrees, found.table()
    assert "another version" in found.table()


def test_findings_of_a_map_with_other_rounding_are_the_same(whole, explanation):
    """As another device makes it: voxels pass the threshold, small regions come and go."""
    noise = np.random.default_rng(3).normal(size=sitk.GetArrayFromImage(explanation.relevance[0]).shape)

    def noisy(level):
        image = explanation.relevance[0] * 1.0
        values = sitk.GetArrayFromImage(image)
        made = sitk.GetImageFromArray((values + level * np.abs(values).max() * noise).astype(np.float32))
        made.CopyInformation(image)
        return replace(explanation, relevance=(made,))

    assert findings_problem(whole.facts, noisy(1e-6), exactly=False) is None
    assert findings_problem(whole.facts, noisy(1e-6), exactly=True) is not None
    moved = json.loads(json.dumps(whole.facts))
    moved["findings"]["hot_spots"][0]["place_ras"][0] += 20
    assert "told and not found" in findings_problem(moved, noisy(1e-6), exactly=False)
    fewer = json.loads(json.dumps(whole.facts))
    del fewer["findings"]["hot_spots"][0]
    assert "not told" in findings_problem(fewer, noisy(1e-6), exactly=False)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: f["relevance"][0].update(positive="no base64!"), None),
        (lambda f: f["relevance"][0].update(blocks=[5, 5, 5]), None),
        (lambda f: f["relevance"].append(f["relevance"][0]), None),
        (lambda f: f["ledger"].update(in_volume_by_input=[1.0, 2.0]), None),
        (lambda f: f["target"].pop("region"), "The record is incomplete"),
        (lambda f: f["target"]["region"].pop("sha256"), "The record is incomplete"),
        (lambda f: f["composite"].update(method="grad-cam"), "The record is incomplete"),
        (lambda f: f["model"].update(card={}), "recorded model card is damaged"),
        (lambda f: f["model"]["card"]["output"].update(classes=3), "recorded model card is damaged"),
        (lambda f: f["model"]["card"]["output"].update(activation="hidden"), "recorded model card is wrong"),
        (lambda f: f["model"]["card"]["inputs"][0].update(channels="one"), "recorded model card is wrong"),
        (lambda f: f["model"]["card"].update(task="guessing"), "recorded model card is wrong"),
        (lambda f: f["model"]["card"].update(explanation={"rules": [1]}), "recorded model card is wrong"),
        (lambda f: f["model"]["card"]["preprocessing"].update(size_multiple=0), "recorded model card is wrong"),
        (lambda f: f["model"]["card"]["preprocessing"].update(smooth=2), "recorded model card is damaged"),
    ],
)
def test_a_damaged_record_is_refused_in_a_sentence(saved, place, change, said):
    record = changed(saved, change)
    if said is not None:
        with pytest.raises(UserError, match=said) as caught:
            verify(record, Places(near=[place]), device="cpu")
        assert "\n" not in str(caught.value)
        return
    found = verify(record, Places(near=[place]), device="cpu")
    assert failed(found) == {"the record itself"}
    assert "it is damaged, so nothing was computed again" in found.table()


def test_a_series_whose_files_are_renamed_is_the_same(place, tmp_path):
    """So is one that an earlier version recorded, which hashed the files in the order of their names."""
    write_series(sitk.Cast(make_volume(), sitk.sitkInt16), tmp_path / "series")
    made = explain(place / "net.ts", [tmp_path / "series"], "white", "epsilon", "cpu", region=Everywhere())
    record = make_record(made, "x.html")
    for n, file in enumerate(sorted((tmp_path / "series").iterdir())):
        file.rename(file.with_name(f"{(5 * n) % 14:02d}.dcm"))
    places = Places(volumes=[tmp_path / "series"], near=[place])
    assert verify(record, places, device="cpu").agrees
    named = sha256_of(*sorted((tmp_path / "series").iterdir()))
    assert named != volume_digest(tmp_path / "series") == volume_digest(tmp_path / "series", "0" * 64)
    record.facts["volumes"][0]["sha256"] = named
    assert verify(record, places, device="cpu").agrees
    first = next((tmp_path / "series").iterdir())
    first.write_bytes(first.read_bytes()[:-2] + b"xx")
    assert "volume series 1" in failed(verify(record, places, device="cpu"))


def test_a_record_with_what_is_no_number_is_refused(saved):
    text = saved.with_suffix(".json").read_text(encoding="utf-8")
    saved.with_suffix(".json").write_text(re.sub(r'"absorbed": [-0-9.e]+', '"absorbed": NaN', text), encoding="utf-8")
    with pytest.raises(UserError, match=r"damaged .*NaN"):
        Record.load(saved.with_suffix(".json"))


def test_the_model_may_be_given_as_its_card(saved, place, capsys):
    assert main(["verify", str(saved), "--device", "cpu", "--model", str(place / "net.card.json")]) == 0


def test_what_was_given_from_memory_is_verified_with_a_file(place, tmp_path, capsys):
    volume = sitk.ReadImage(str(place / "t1.nrrd"))
    labels = sitk.ReadImage(str(place / "expert.nrrd"))
    made = explain(place / "net.ts", [volume], "white", "epsilon", "cpu", region=Segment(labels, "core"))
    made.save(tmp_path / "made")
    assert main(["record", str(tmp_path / "made"), "--out", str(tmp_path / "x.html"), "--no-views"]) == 0
    assert "Note: 'T1' was given from memory" in capsys.readouterr().out
    options = ["--device", "cpu", "--model", str(place / "net.ts"), "--segment", str(place / "expert.nrrd")]
    assert main(["verify", str(tmp_path / "x.html"), *options, "--volume", str(place / "t1.nrrd")]) == 0
    said = capsys.readouterr().out
    assert "the SHA-256 of what was given from memory" in said.splitlines()[-2]
    assert "volume T1" not in said
    sitk.WriteImage(make_volume(seed=5), str(tmp_path / "other.nrrd"))
    assert main(["verify", str(tmp_path / "x.html"), *options, "--volume", str(tmp_path / "other.nrrd")]) == 1


def test_what_cannot_be_compared_with_another_versions_record_is_not_said_to_agree(saved, place):
    text = saved.read_text(encoding="utf-8")
    assert f'"lrpexplain": "{__version__}"' in text
    saved.write_text(text.replace(f'"lrpexplain": "{__version__}"', '"lrpexplain": "0.0.1"'), encoding="utf-8")
    found = verify(Record.load(saved), Places(near=[place]), device="cpu")
    assert found.agrees
    assert not {"page", "hot spots"} & {check.name for check in found.checks}
    assert "what the page shows, hot spots, warnings and wording" in found.table().splitlines()[-2]


def test_a_map_that_was_moved_does_not_agree(saved, place, explanation):
    values = np.roll(sitk.GetArrayFromImage(explanation.relevance[0]), 4, axis=2)
    found = verify(
        changed(saved, lambda f: f.update(relevance=[fingerprint(values)])), Places(near=[place]), device="cpu"
    )
    assert failed(found) == {"relevance map of t1.nrrd"}


def test_a_picture_that_was_exchanged_is_noticed(saved, place):
    saved.write_text(
        saved.read_text(encoding="utf-8").replace(base64.b64encode(PICTURES["3d"]).decode(), "AAAA"), encoding="utf-8"
    )
    assert failed(verify(Record.load(saved), Places(near=[place]), device="cpu")) == {"pictures"}


def test_a_figure_that_was_changed_in_the_page_alone_is_noticed(saved, place, explanation):
    shown = f'<td class="n">{explanation.ledger["target_value"]:.6g}</td>'
    page = saved.read_text(encoding="utf-8")
    assert shown in page
    saved.write_text(page.replace(shown, '<td class="n">1234</td>'), encoding="utf-8")
    assert failed(verify(Record.load(saved), Places(near=[place]), device="cpu")) == {"page"}


def test_other_files_do_not_agree_and_are_not_computed_with(saved, place, tmp_path, capsys):
    other = make_volume(seed=5)
    sitk.WriteImage(other, str(tmp_path / "other.nrrd"))
    assert main(["verify", str(saved), "--volume", str(tmp_path / "other.nrrd")]) == 1
    assert "other files" in capsys.readouterr().out
    model = save_model(tmp_path, classifier())
    found = verify(Record.load(saved), Places(model=model, near=[place]), device="cpu")
    assert failed(found) == {"model net"}
    assert found.explanation is None


def test_a_record_of_one_answer_for_the_whole_volume(place, tmp_path):
    output = {"activation": "softmax", "classes": [{"name": "ill"}, {"name": "well"}]}
    model = save_model(tmp_path, classifier(), task="classification", output=output)
    made = explain(model, [place / "t1.nrrd"], "ill", "epsilon", "cpu", value="probability")
    record = make_record(made, "x.html")
    assert record.facts["prediction"] == {"classes": [], "values": made.prediction.probabilities}
    assert f'<td>ill</td><td class="n">{made.prediction.probabilities["ill"]:.4g}</td>' in record.html()
    near = [place, tmp_path]
    assert verify(record, Places(near=near), device="cpu").agrees
    record.facts["prediction"]["values"]["ill"] += 0.1
    assert failed(verify(record, Places(near=near), device="cpu")) == {"prediction"}
    record.facts["prediction"]["values"]["ill"] -= 0.1
    record.facts["prediction"]["classes"] = [{"name": "ill", "voxels": 5, "ml": 1.0}]
    assert failed(verify(record, Places(near=near), device="cpu")) == {"prediction"}


class Spots(nn.Module):
    """Of two classes the second is where the volume is brightest."""

    def forward(self, x):
        return torch.cat([0 * x + 0.97, x], 1)


def test_how_large_a_small_class_is_cannot_be_changed(tmp_path):
    """A lesion is a few of a volume's voxels, of which a tenth of a per cent may be ten times as many."""
    sitk.WriteImage(make_volume(size=(40, 40, 40)), str(tmp_path / "ct.nrrd"))
    card = CARD | {"output": classes("background", "lesion")}
    model = save_model(tmp_path, Spots(), **card)
    record = make_record(explain(model, [tmp_path / "ct.nrrd"], "lesion", "epsilon", "cpu"), "x.html")
    background, lesion = record.facts["prediction"]["classes"]
    unit = lesion["ml"] / lesion["voxels"]

    def told(moved: int) -> set[str]:
        facts = json.loads(json.dumps(record.facts))
        for row, more in zip(facts["prediction"]["classes"], (-moved, moved), strict=True):
            row.update(voxels=row["voxels"] + more, ml=(row["voxels"] + more) * unit)
        target, asked = facts["target"], record.facts["target"]["voxels"]
        target["voxels"] = asked + moved
        target["text"] = target["text"].replace(f" {asked} voxels", f" {asked + moved} voxels")
        return failed(verify(Record(facts), Places(near=[tmp_path]), device="cpu"))

    assert 0 < lesion["voxels"] < 1000 < background["voxels"]
    assert told(0) == told(3) == set()
    assert told(20) == {"prediction", "question"}


def test_a_record_of_several_volumes(place, tmp_path):
    sitk.WriteImage(make_volume(seed=3), str(tmp_path / "t2.nrrd"))
    inputs = [{"name": "T1"}, {"name": "T2"}]
    model = save_model(tmp_path, segmenter(2), "two", **CARD, inputs=inputs)
    made = explain(model, [place / "t1.nrrd", tmp_path / "t2.nrrd"], "white", "epsilon", "cpu", region=Everywhere())
    record = make_record(made, "x.html")
    assert len(record.facts["relevance"]) == 2
    assert {spot["volume"] for spot in record.facts["findings"]["hot_spots"]} == {"t1.nrrd", "t2.nrrd"}
    assert verify(record, Places(near=[place, tmp_path]), device="cpu").agrees
    with pytest.raises(UserError, match="2 volumes, but got 1: give each"):
        verify(record, Places(volumes=[place / "t1.nrrd"], near=[tmp_path]), device="cpu")


@pytest.fixture(scope="module")
def others(place, tmp_path_factory) -> Path:
    """Explanations by other methods, and what is made of them."""
    folder = tmp_path_factory.mktemp("others")
    for method in METHODS:
        few = {key: 4 for key in ("samples", "steps", "masks") if key in METHODS[method].__dataclass_fields__}
        made = explain(place / "net.ts", [place / "t1.nrrd"], "white", device="cpu", method=method, parameters=few)
        made.save(folder / method)
    compare([folder / "gradient-x-input", folder / "grad-cam"]).save(folder / "compared")
    return folder


@pytest.mark.parametrize("method", METHODS)
def test_a_record_of_another_method_is_verified_as_well(others, place, tmp_path, method, monkeypatch):
    made = Explanation.load(others / method)
    record = make_record(made, "case.html")
    record.save(tmp_path / "case.html")
    again = Record.load(tmp_path / "case.html")
    assert again == record
    page = again.html()
    assert "Every unit of relevance is accounted for" not in page
    assert ("layer-wise relevance propagation" in page) == (method == "lrp")
    assert "None" not in re.sub(r"<(script|style).*?</\1>", "", page, flags=re.DOTALL)
    found = verify(again, Places(near=[place]), device="cpu")
    assert found.agrees, found.table()
    monkeypatch.chdir(place)
    words = shlex.split(record.facts["commands"]["explain"])
    assert main([*words[1:-1], str(tmp_path / "again")]) == 0
    assert Explanation.load(tmp_path / "again").composite == made.composite


@pytest.mark.parametrize("made_of_others", ["consensus", "combined"])
def test_a_record_of_a_map_made_of_others_says_that_it_is_not_computed_again(others, tmp_path, made_of_others, capsys):
    out = tmp_path / "case.html"
    assert main(["record", str(others / "compared" / made_of_others), "--out", str(out), "--no-views"]) == 0
    assert Record.load(out).facts["commands"]["explain"] is None
    capsys.readouterr()
    assert main(["verify", str(out)]) == 2
    said = capsys.readouterr().err
    assert f"A {made_of_others} map is made of others and cannot be computed again" in said
    assert len(said.splitlines()) == 1


def test_what_is_not_as_the_schema_says_is_not_saved(explanation, tmp_path):
    record = make_record(replace(explanation, composite=explanation.composite | {"biases": "hidden"}), "case.html")
    with pytest.raises(UserError, match=r"no record \(at composite/biases"):
        record.save(tmp_path / "case.html")
    assert not list(tmp_path.iterdir())


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
