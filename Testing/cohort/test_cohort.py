"""lrpexplain cohort: planted groups of maps are found, the odd one is named, and what does not belong is refused."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from jsonschema import Draft202012Validator
from LRPExplainLib.cli import main
from LRPExplainLib.cohort import Cohort, cohort
from LRPExplainLib.cohort.cohort import SCHEMA
from LRPExplainLib.cohort.pictures import png, projections, shrunk
from LRPExplainLib.errors import UserError
from LRPExplainLib.explanation import Explanation
from LRPExplainLib.imaging.grid import Grid
from LRPExplainLib.scene import missing_renderer
from planted import MARKER, SIZE, ball, frame, lesion_place, plant, save


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> tuple[Path, list[str]]:
    """Twenty maps on lesions and ten on a marker, and the names of the latter."""
    folder = tmp_path_factory.mktemp("planted")
    return folder, plant(folder, lesions=20, markers=10)


@pytest.fixture(scope="module")
def found(planted) -> Cohort:
    return cohort([planted[0]])


@pytest.fixture
def few(tmp_path) -> Path:
    """Four maps on lesions."""
    plant(tmp_path / "few", lesions=4, markers=0)
    return tmp_path / "few"


def valid(facts) -> bool:
    Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8"))).validate(facts)
    return True


# --- what is found ----------------------------------------------------------------------------------------------------


def test_the_marker_is_a_cluster_of_its_own_and_comes_first_as_the_odd_one(planted, found):
    odd, lesions = found.facts["clusters"]
    assert odd["members"] == planted[1]
    assert (odd["odd"], odd["main"], odd["number"]) == (True, False, 2)
    assert (lesions["odd"], lesions["main"], lesions["number"], lesions["size"]) == (False, True, 1, 20)
    assert found.facts["clustering"]["number_from"] == "eigengap"
    assert odd["strongest_ras_mm"] == pytest.approx(MARKER, abs=found.facts["space"]["edge_mm"])
    assert odd["elsewhere"] > 0.8
    assert odd["silhouette"] > 0.6
    assert odd["alike"] > 2 * lesions["alike"]
    assert found.odd == [odd]


@pytest.mark.parametrize(("lesions", "markers", "seed"), [(16, 6, 1), (24, 4, 0), (12, 12, 3)])
def test_it_is_found_when_rare_and_when_as_frequent_as_lesions(tmp_path, lesions, markers, seed):
    names = plant(tmp_path, lesions, markers, seed)
    one = cohort([tmp_path])
    assert [row["members"] for row in one.odd] == [names]
    assert len(one.facts["clusters"]) == 2


def test_lesions_alone_are_one_group_and_that_is_said(tmp_path):
    plant(tmp_path, lesions=24, markers=0)
    one = cohort([tmp_path])
    assert [row["size"] for row in one.facts["clusters"]] == [24]
    assert not one.odd
    assert "form one group" in one.facts["notes"][0]
    assert "form one group" in one.table()


def test_mean_maps_are_means_of_maps_of_summed_magnitude_one(tmp_path):
    """Two places, each looked at by four maps alike but for their size and sign: the means are those maps."""
    image = frame()
    places = [(-20.0, 20.0, 10.0), (20.0, -20.0, -10.0)]
    for n in range(8):
        save(tmp_path / f"{n}", image, (n + 1.0) * (1 if n % 2 else -1) * ball(image, places[n % 2], 3))
    one = cohort([tmp_path], clusters=2)
    for row in one.facts["clusters"]:
        (mean,) = one.means[row["number"]]
        values = sitk.GetArrayFromImage(mean)
        assert np.abs(values).sum() == pytest.approx(1, abs=1e-5)
        assert row["for"] - row["against"] == pytest.approx(1, abs=1e-5)
        assert row["against"] == (0 if int(row["members"][0]) % 2 else pytest.approx(-1, abs=1e-5))
        assert row["alike"] == pytest.approx(1, abs=1e-4)
        assert row["strongest_ras_mm"] == pytest.approx(places[int(row["members"][0]) % 2], abs=4)


def test_every_explanation_is_in_one_cluster_and_typical_ones_stand_for_it(found, planted):
    facts = found.facts
    assert valid(facts)
    names = sorted(name for row in facts["clusters"] for name in row["members"])
    assert names == sorted(path.name for path in planted[0].iterdir())
    for row in facts["clusters"]:
        assert set(row["examples"]) <= set(row["members"])
        assert {e["name"] for e in facts["explanations"] if e["cluster"] == row["number"]} == set(row["members"])
    assert set(found.examples) == {name for row in facts["clusters"] for name in row["examples"]}


def test_the_same_folders_give_the_same_cohort(planted, found):
    again = cohort([planted[0]])
    a, b = ({key: value for key, value in one.facts.items() if key != "provenance"} for one in (found, again))
    assert a == b
    other = cohort([planted[0]], seed=1)
    assert other.odd[0]["members"] == planted[1]


def test_all_inputs_count(tmp_path):
    """Maps that differ in their second input alone."""
    image, rng = frame(), np.random.default_rng(0)
    for n in range(12):
        place = MARKER if n < 4 else lesion_place(rng)
        save(tmp_path / f"{n:02d}", image, 0.2 * ball(image, (0, 0, 0), 8), ball(image, place))
    one = cohort([tmp_path])
    odd = one.odd[0]
    assert odd["members"] == ["00", "01", "02", "03"]
    assert (odd["strongest_input"], one.facts["space"]["inputs"]) == (2, 2)
    one.save(tmp_path / "out")
    assert odd["means"] == [f"cluster_{odd['number']}/mean.nrrd", f"cluster_{odd['number']}/mean_2.nrrd"]
    assert all((tmp_path / "out" / name).is_file() for name in odd["means"])
    shown = (tmp_path / "out" / f"cluster_{odd['number']}" / "mean_axial.png").read_bytes()
    assert shown == projections(one.means[odd["number"]][1], one.anatomy)["axial"]  # that which holds what is told
    assert "Mean map of input 2, axial, summed" in (tmp_path / "out" / "cohort.html").read_text(encoding="utf-8")


# --- what is refused or left out --------------------------------------------------------------------------------------


def test_what_cannot_be_used_is_left_out_and_named(few):
    image = frame()
    save(few / "empty", image, np.zeros(SIZE[::-1]))
    save(few / "endless", image, np.full(SIZE[::-1], np.inf))
    broken = save(few / "broken", image, ball(image, MARKER))
    (broken / "relevance.nrrd").write_bytes(b"nothing")
    one = cohort([few])
    why = {row["name"]: row["why"] for row in one.facts["left_out"]}
    assert set(why) == {"empty", "endless", "broken"}
    assert "is empty" in why["empty"]
    assert "NaN" in why["endless"]
    assert "damaged" in why["broken"]
    assert str(few) not in json.dumps(one.facts)
    assert valid(one.facts)
    with pytest.raises(UserError, match="damaged"):
        cohort([few, broken])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"model": {"sha256": "2" * 64, "name": "Another"}}, "another model"),
        ({"target": {"index": 0, "text": "no lesion"}}, "one kind of question"),
        ({"target": {"value": "probability", "text": "lesion, as probability"}}, "one kind of question"),
        ({"composite": {"name": "gradient"}}, "one method"),
        ({"composite": {"parameters": {"steps": 3}}}, "other parameters"),
    ],
)
def test_what_does_not_belong_together_is_refused(few, changes, sentence):
    image = frame()
    save(few / "stranger", image, ball(image, MARKER), **changes)
    with pytest.raises(UserError, match=sentence):
        cohort([few])


def test_as_many_inputs_are_asked_of_all(few):
    image = frame()
    save(few / "two", image, ball(image, MARKER), ball(image, MARKER))
    with pytest.raises(UserError, match="has 2 inputs"):
        cohort([few])


def test_too_few_none_and_nothing_are_refused(few, tmp_path):
    for folder in sorted(few.iterdir())[1:]:
        (folder / "explanation.json").unlink()
    with pytest.raises(UserError, match=r"1 of 1 explanations can be grouped, but a cohort has 4"):
        cohort([few])
    with pytest.raises(UserError, match="There is no folder"):
        cohort([tmp_path / "nowhere"])
    (tmp_path / "hollow").mkdir()
    with pytest.raises(UserError, match="No explanation was found"):
        cohort([tmp_path / "hollow"])


def test_settings_that_are_none_are_refused(few):
    with pytest.raises(UserError, match="choose frame, space, centre, target"):
        cohort([few], align="atlas")
    with pytest.raises(UserError, match="above 0 mm"):
        cohort([few], grid_mm=-1)
    with pytest.raises(UserError, match="from 1 to 4"):
        cohort([few], clusters=9)
    with pytest.raises(UserError, match=r"0 of 4 .* has no place"):
        cohort([few], align="target")


def test_without_scikit_learn_one_sentence_says_what_to_install(few, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(UserError, match="pip install scikit-learn"):
        cohort([few])


def test_volumes_far_apart_are_noted(few):
    image = frame(centre=(0, 900, 0))
    save(few / "far", image, ball(image, (0, 900, 0)))
    assert "lie far apart" in cohort([few], align="space").facts["notes"][0]
    assert not any("far apart" in note for note in cohort([few]).facts["notes"])


def test_other_preprocessing_is_noted(few):
    image = frame()
    assert not any("another way" in note for note in cohort([few]).facts["notes"])
    model = Explanation.load(next(path.parent for path in few.rglob("explanation.json"))).model
    for name, window in (("small", [32, 32, 32]), ("smaller", [16, 16, 16])):
        card = {"preprocessing": {"window": {"size": window}}}
        save(few / name, image, ball(image, MARKER), model={**model, "card": card})
        note = next(note for note in cohort([few]).facts["notes"] if "another way" in note)
        assert "(window): that alone changes a map" in note
        assert ("'small'" if name == "small" else "2 of 6 explanations") in note


# --- what is written --------------------------------------------------------------------------------------------------


def test_the_command_writes_a_folder_that_holds_all(planted, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["cohort", str(planted[0]), "--out", str(out), "--no-views", "--clusters", "auto"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"\| 2 \(odd\) +\| 10 +\| 33% +\|", printed)
    pictures = [f"mean_{view}.png" for view in ("axial", "coronal", "sagittal")]
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()) == [
        *(f"cluster_{n}/{name}" for n in (1, 2) for name in ["mean.nrrd", *pictures]),
        "cohort.html", "cohort.json", "cohort.md",
    ]  # fmt: skip
    facts = json.loads((out / "cohort.json").read_text(encoding="utf-8"))
    assert valid(facts)
    mean = sitk.ReadImage(str(out / "cluster_2" / "mean.nrrd"))
    assert Grid.of(mean) == Grid.from_dict(facts["space"]["geometry"])
    assert (out / "cohort.md").read_text(encoding="utf-8") in printed
    assert main(["cohort", str(planted[0]), "--out", str(out), "--no-views", "--clusters", "3"]) == 0
    again = json.loads((out / "cohort.json").read_text(encoding="utf-8"))
    assert (len(again["clusters"]), again["clustering"]["number_from"]) == (3, "given")
    assert main(["cohort", str(planted[0]), "--out", str(planted[0] / "00")]) == 2
    assert "choose another output folder" in capsys.readouterr().err


def test_the_page_holds_all_it_shows_with_the_odd_cluster_first(found, planted, tmp_path):
    found.save(tmp_path / "out", missing="No slices were drawn: no <renderer>.")
    page = (tmp_path / "out" / "cohort.html").read_text(encoding="utf-8")
    assert "default-src 'none'" in page
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert page.index("Cluster 2 stands apart") < page.index("Cluster 2 (odd)") < page.index("Cluster 1 (largest)")
    assert page.count('src="data:image/png') == 6
    assert "no &lt;renderer&gt;" in page
    assert all(f"<title>{name}, cluster 2</title>" in page for name in planted[1])
    inside = re.search(r'<script type="application/json" id="cohort">(.*?)</script>', page, re.DOTALL)
    assert inside is not None
    assert json.loads(inside[1]) == found.facts


def test_slices_of_the_examples_are_drawn_from_their_volumes(tmp_path, capsys):
    missing = missing_renderer()
    if missing:
        pytest.skip(missing)
    image, rng = frame(size=(20, 24, 18), spacing=(4, 4, 4)), np.random.default_rng(0)
    volume = tmp_path / "t1.nrrd"
    sitk.WriteImage(Grid.of(image).image(100 * ball(image, (0, 0, 0), 30)), str(volume))
    for n in range(4):
        save(
            tmp_path / "in" / f"{n}", image, ball(image, lesion_place(rng)), volume=volume if n < 3 else tmp_path / "x"
        )
    out = tmp_path / "out"
    assert main(["cohort", str(tmp_path / "in"), "--out", str(out), "--clusters", "1"]) == 0
    facts = json.loads((out / "cohort.json").read_text(encoding="utf-8"))
    examples = facts["clusters"][0]["examples"]
    for n, name in enumerate(examples, 1):
        for view in ("axial", "sagittal", "coronal"):
            assert (out / "cluster_1" / f"example_{n}_{view}.png").is_file() == (name != "3")
    page = (out / "cohort.html").read_text(encoding="utf-8")
    drawn = len([name for name in examples if name != "3"])
    assert page.count('src="data:image/png') == 3 + 3 * drawn
    assert ("Slices are missing: " in capsys.readouterr().out) == ("3" in examples)


def test_a_cohort_that_cannot_be_written_leaves_nothing(found, tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError("full")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match=r"could not be written \(full\)"):
        found.save(tmp_path / "out")
    assert not list(tmp_path.iterdir())


# --- pictures of mean maps --------------------------------------------------------------------------------------------


def read(picture: bytes, folder: Path) -> np.ndarray:
    (folder / "picture.png").write_bytes(picture)
    return sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "picture.png"))).astype(int)


def test_mean_maps_are_drawn_as_slicer_orients_its_views(tmp_path):
    """For the target at the patient's right, anterior and superior; against it at the left, posterior and inferior."""
    values = np.zeros((6, 8, 4), np.float32)  # [S, P, L]
    values[5, 0, 0], values[0, 7, 3] = 1, -1
    drawn = {name: read(one, tmp_path) for name, one in projections(sitk.GetImageFromArray(values)).items()}
    for name, shape in {"axial": (8, 4), "sagittal": (6, 8), "coronal": (6, 4)}.items():
        picture = drawn[name]
        assert picture.shape[:2] == tuple(45 * n for n in shape)
        first, last = picture[5, 5], picture[-5, -5]  # upper left and lower right
        assert first[0] > 200 > first[2], name
        assert last[2] > 200 > last[0], name
        assert not picture[5, -5].any(), name


def test_a_mean_map_of_one_slice_has_one_picture():
    values = np.zeros((1, 8, 4), np.float32)
    values[0, 2, 1] = 1
    assert list(projections(sitk.GetImageFromArray(values))) == ["axial"]
    assert list(projections(sitk.GetImageFromArray(values.transpose(1, 0, 2)))) == ["coronal"]


def test_anatomy_shows_where_there_is_no_relevance(tmp_path):
    values, ground = np.zeros((4, 4, 4), np.float32), np.ones((4, 4, 4), np.float32)
    values[0, 0, 0] = 1
    drawn = projections(sitk.GetImageFromArray(values), sitk.GetImageFromArray(ground))["axial"]
    assert set(read(drawn, tmp_path)[-5, -5]) == {140}


def test_a_picture_is_shrunk_by_averaging(tmp_path):
    picture = np.zeros((4, 6, 3), np.uint8)
    picture[0, 0] = 200
    small = read(shrunk(png(picture)), tmp_path)
    assert small.shape == (2, 3, 3)
    assert small[0, 0].tolist() == [50, 50, 50]
    assert small.sum() == 150
