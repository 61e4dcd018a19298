"""lrpexplain cohort: planted groups of maps are found, and the odd one is named."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import SimpleITK as sitk
from helpers.networks import RANGE, classes, save_model, segmenter
from helpers.volumes import make_volume
from LRPExplainLib.cli import main
from LRPExplainLib.cohort import Cohort, Space, cohort, group
from LRPExplainLib.cohort import study as studies
from LRPExplainLib.cohort.groups import gap_after, is_odd, normalised, overlap_with_rest
from LRPExplainLib.errors import UserError
from LRPExplainLib.explain import explain
from LRPExplainLib.explanation import Explanation
from LRPExplainLib.models import load_model

SIZE = (12, 10, 8)  # i, j, k
CARD = {"preprocessing": {"intensity": RANGE}, "output": classes("background", "grey", "white")}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Explanation:
    model = load_model(save_model(tmp_path_factory.mktemp("model"), segmenter(), **CARD))
    return explain(model, [make_volume(size=SIZE, spacing=(2, 2, 2))], "white", device="cpu")


def map_at(centre: tuple[int, int, int], rng: np.random.Generator) -> np.ndarray:
    """A bump [k, j, i] that has a random place near the centre, and noise."""
    k, j, i = np.meshgrid(*(np.arange(n) for n in SIZE[::-1]), indexing="ij")
    at = np.array(centre) + rng.uniform(-0.7, 0.7, 3)
    distance = (k - at[0]) ** 2 + (j - at[1]) ** 2 + (i - at[2]) ** 2
    return np.exp(-distance / 4) * rng.uniform(0.5, 5) + rng.normal(0, 0.002, SIZE[::-1])


def written(base: Explanation, values: np.ndarray, place: Path, **changes: object) -> None:
    image = sitk.GetImageFromArray(values.astype(np.float32))
    image.CopyInformation(base.relevance[0])
    replace(base, relevance=(image,), **changes).save(place)


@pytest.fixture(scope="module")
def folder(base: Explanation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eighteen explanations that look at one place, and six at a corner."""
    place, rng = tmp_path_factory.mktemp("cohort"), np.random.default_rng(0)
    for n in range(24):
        odd = n % 4 == 3
        written(base, map_at((6, 8, 10) if odd else (3, 3, 3), rng), place / ("odd" if odd else "usual") / f"{n:02d}")
    return place


@pytest.fixture(scope="module")
def found(folder: Path) -> Cohort:
    return cohort([folder], edge_mm=4)


def test_the_eigengap_finds_both_groups_and_the_smaller_one_is_odd(found: Cohort) -> None:
    usual, odd = found.facts["clusters"]
    assert (usual["size"], odd["size"]) == (18, 6)
    assert (usual["odd"], odd["odd"]) == (False, True)
    assert {m["name"] for m in found.facts["members"] if m["cluster"] == 2} == {
        m["name"] for m in found.facts["members"] if m["name"].startswith("odd/")
    }
    assert odd["overlap_with_rest"] < 0.2
    assert [name.split("/")[0] for name in odd["examples"]] == ["odd"] * 3


def test_the_odd_cluster_is_strongest_where_its_maps_are(found: Cohort, base: Explanation) -> None:
    peak = base.relevance[0].TransformIndexToPhysicalPoint((10, 8, 6))
    strongest = found.facts["clusters"][1]["strongest_ras"]
    np.testing.assert_allclose(strongest, (-peak[0], -peak[1], peak[2]), atol=4)


def test_the_same_seed_gives_the_same_cohort(folder: Path, found: Cohort) -> None:
    again = cohort([folder], edge_mm=4)
    assert {**again.facts, "created": ""} == {**found.facts, "created": ""}


def test_the_folder_holds_facts_by_the_schema_a_page_and_the_mean_maps(
    found: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    png = b"\x89PNG picture"
    found.save(tmp_path / "out", {found.facts["clusters"][1]["examples"][0]: {"axial": png}})
    facts = json.loads((tmp_path / "out" / "cohort.json").read_text(encoding="utf-8"))
    schema = Path(studies.__file__).with_name("cohort.schema.json").read_text(encoding="utf-8")
    jsonschema.validate(facts, json.loads(schema))
    page = (tmp_path / "out" / "cohort.html").read_text(encoding="utf-8")
    assert page.count("<circle") == 24 + 2
    assert "iVBOR" in page  # base64 of the picture's first bytes
    assert page.index("Cluster 2 (odd") < page.index("<h2>Cluster 1")
    mean = sitk.ReadImage(str(tmp_path / "out" / "cluster_2.nrrd"))
    np.testing.assert_allclose(sitk.GetArrayFromImage(mean), found.means[1][0], rtol=1e-6)
    assert np.allclose(mean.GetSpacing(), found.space.edge)
    monkeypatch.setattr(studies, "write_json", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        found.save(tmp_path / "other")
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_no_relevance_is_lost_on_the_common_grid() -> None:
    rng = np.random.default_rng(3)
    image = sitk.GetImageFromArray(rng.standard_normal((7, 9, 11)))
    image.SetSpacing((1.0, 2.0, 3.0))
    image.SetDirection((0, 1, 0, -1, 0, 0, 0, 0, -1))
    values = sitk.GetArrayFromImage(image)
    for edge in (1.0, 4.0, 5.0, 100.0):
        sums = Space.over(image, edge, "field").sums(image)
        assert sums.sum() == pytest.approx(values.sum())
        assert Space.over(image, edge, "mm").sums(image) == pytest.approx(sums)


def test_by_field_places_are_shares_of_the_way_and_by_mm_points() -> None:
    small, large = (sitk.Image(n, n, n, sitk.sitkFloat64) for n in (4, 8))
    small[3, 0, 0] = large[7, 0, 0] = 1.0
    field = Space.over(small, 2, "field")
    assert np.array_equal(field.sums(small), field.sums(large))
    mm = Space.over(small, 2, "mm")
    assert (mm.sums(small).sum(), mm.sums(large).sum()) == (1, 0)  # 7 mm is beyond the small one's field of view


def test_overlap_has_a_closed_form() -> None:
    maps = normalised(np.array([[4.0, 0, 0], [4, 0, 0], [0, 2, 0], [1, 1, 0]]))
    assert overlap_with_rest(maps, np.array([False, False, True, False])) == pytest.approx(0.5 / 3)
    assert overlap_with_rest(maps, np.array([True, True, False, False])) == pytest.approx(0.25)
    assert overlap_with_rest(maps, np.ones(4, dtype=bool)) == 1
    assert (is_odd(0.2, 0.3), is_odd(0.2, 0.7), is_odd(0.8, 0.3)) == (True, False, False)


def test_the_gap_is_behind_as_many_eigenvalues_as_there_are_groups() -> None:
    assert gap_after(np.array([0, 0, 0, 0.7, 0.8])) == 3
    rng = np.random.default_rng(0)
    centres = np.eye(4)[:3] * 10
    maps = np.abs(np.concatenate([centre + rng.normal(0, 0.3, (15, 4)) for centre in centres]))
    assert group(maps).count == 3
    assert group(maps, clusters=2).count == 2


def test_a_map_of_nothing_and_a_broken_folder_are_left_out_and_named(
    base: Explanation, folder: Path, tmp_path: Path
) -> None:
    written(base, np.zeros(SIZE[::-1]), tmp_path / "empty")
    written(base, np.ones(SIZE[::-1]), tmp_path / "broken")
    (tmp_path / "broken" / "relevance.nrrd").unlink()
    facts = cohort([folder, tmp_path], edge_mm=4).facts
    reasons = {Path(entry["folder"]).name: entry["reason"] for entry in facts["left_out"]}
    assert reasons["empty"] == "The map is empty."
    assert "missing or damaged" in reasons["broken"]
    assert len(facts["members"]) == 24


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"model": {"name": "other", "sha256": "0" * 64}}, "a cohort is of one model"),
        ({"target": {"class": "grey", "index": 1, "text": "grey"}}, "a cohort is of one class"),
    ],
)
def test_unlike_explanations_are_refused(
    base: Explanation, folder: Path, tmp_path: Path, changes: dict[str, object], sentence: str
) -> None:
    whole = {name: getattr(base, name) | value for name, value in changes.items()}  # type: ignore[operator]
    written(base, np.ones(SIZE[::-1]), tmp_path / "other", **whole)
    with pytest.raises(UserError, match=sentence):
        cohort([folder, tmp_path])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"clusters": 24}, "cannot be put into 24 clusters"),
        ({"align": "brain"}, "no alignment 'brain'"),
        ({"edge_mm": 0}, "longer than 0 mm"),
    ],
)
def test_what_cannot_be_done_is_said(folder: Path, arguments: dict, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        cohort([folder], **arguments)


def test_too_few_and_a_missing_package_are_said(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cohort", str(folder / "odd" / "03"), "--out", str(tmp_path / "out")]) == 2
    assert "1 explanations are too few" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    with pytest.raises(UserError, match="pip install scikit-learn"):
        cohort([folder])


def test_the_shell_command_writes_the_folder(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["cohort", str(folder), "--out", str(tmp_path / "out"), "--cell", "4", "--no-views"]
    assert main(arguments) == 0
    assert "One of them with 25% of the explanations looks somewhere else" in capsys.readouterr().out
    assert {entry.name for entry in (tmp_path / "out").iterdir()} == {
        "cohort.json", "cohort.md", "cohort.html", "cluster_1.nrrd", "cluster_2.nrrd",
    }  # fmt: skip
    assert main(arguments) == 0  # an earlier cohort is replaced
