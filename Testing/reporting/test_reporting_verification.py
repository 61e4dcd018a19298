"""Records are verified: what was changed does not agree, and what cannot be compared is said."""

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
from helpers.networks import classes, classifier, save_model, segmenter
from helpers.volumes import make_volume, write_series
from LRPExplainLib import __version__
from LRPExplainLib.cli import main
from LRPExplainLib.comparison import compare
from LRPExplainLib.digests import sha256_of
from LRPExplainLib.errors import UserError
from LRPExplainLib.explain import explain
from LRPExplainLib.explanation import Explanation
from LRPExplainLib.imaging import Everywhere, Segment
from LRPExplainLib.imaging.reading import volume_digest
from LRPExplainLib.methods import METHODS
from LRPExplainLib.models import load_model
from LRPExplainLib.reporting import Places, Record, make_record, verify
from LRPExplainLib.reporting.commands import explain_command
from LRPExplainLib.reporting.findings_again import findings_problem
from LRPExplainLib.reporting.fingerprint import fingerprint
from reporting.records import CARD, PATIENT, PICTURES, changed, failed
from torch import nn


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
