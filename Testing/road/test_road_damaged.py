"""Our own files, changed by somebody else: read, or refused in one sentence, and nothing outside them is touched."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import SimpleITK as sitk
from helpers.damage import damaged
from helpers.networks import RANGE, classes, save_model, segmenter
from helpers.volumes import make_volume
from LRPExplainLib.comparison.faithfulness import faithfulness_of
from LRPExplainLib.concepts import Concepts, concepts
from LRPExplainLib.errors import UserError
from LRPExplainLib.evaluation import Evaluation, Perturbation, Settings, evaluate
from LRPExplainLib.explanation import Explanation
from LRPExplainLib.imaging import Everywhere, read_markups
from LRPExplainLib.models import read_card
from LRPExplainLib.reporting import Record, make_record

ROI = {"type": "ROI", "coordinateSystem": "LPS", "coordinateUnits": "mm", "center": [1, 2, 3], "size": [1, 2, 3],
       "orientation": [1, 0, 0, 0, 1, 0, 0, 0, 1], "insideOut": False}  # fmt: skip
POINTS = {"type": "Fiducial", "coordinateSystem": "LPS", "coordinateUnits": ["mm"],
          "controlPoints": [{"position": [1, 2, 3], "positionStatus": "defined"}]}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one of each of our files."""
    folder = tmp_path_factory.mktemp("ours")
    sitk.WriteImage(make_volume((10, 8, 6)), str(folder / "t1.nrrd"))
    card = {"preprocessing": {"intensity": RANGE}, "output": classes("background", "grey", "white")}
    model = save_model(folder, segmenter(), **card)
    found = concepts(model, [folder / "t1.nrrd"], "white", device="cpu", region=Everywhere(), top=1)
    found.save(folder / "out")
    how = Settings(perturbation=Perturbation(edge_mm=4.0, baselines=("mean",), runs=2))
    evaluation = evaluate(found.whole, checks=["faithfulness", "complexity"], settings=how, device="cpu")
    evaluation.save(folder / "evaluation")
    make_record(found.whole, "case.html", evaluation).save(folder / "case.html")
    (folder / "roi.mrk.json").write_text(json.dumps({"markups": [ROI]}))
    (folder / "points.mrk.json").write_text(json.dumps({"markups": [POINTS]}))
    return folder


READERS: dict[str, Callable[[Path], Any]] = {
    "out/explanation.json": lambda folder: Explanation.load(folder / "out"),
    "out/concepts.json": lambda folder: Concepts.load(folder / "out"),
    "evaluation/evaluation.json": lambda folder: Evaluation.load(folder / "evaluation").table(),
    "case.json": lambda folder: Record.load(folder / "case.json").html(),
    "net.card.json": lambda folder: read_card(folder / "net.card.json"),
    "roi.mrk.json": lambda folder: read_markups(folder / "roi.mrk.json"),
    "points.mrk.json": lambda folder: read_markups(folder / "points.mrk.json"),
}


def _said(name: str, place: Path) -> str:
    """Why a file is refused; "" where it is read."""
    try:
        READERS[name](place)
    except UserError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", READERS)
def test_a_file_with_one_entry_changed_is_read_or_refused(place: Path, name: str) -> None:
    whole = (place / name).read_text(encoding="utf-8")
    refused = 0
    try:
        for facts in damaged(_shortened(json.loads(whole))):
            (place / name).write_text(json.dumps(facts), encoding="utf-8")
            said = _said(name, place)
            assert "\n" not in said
            refused += bool(said)
        for text in ("", "[]", "3", "null", "[" * 100_000):
            (place / name).write_text(text, encoding="utf-8")
            with pytest.raises(UserError):
                READERS[name](place)
    finally:
        (place / name).write_text(whole, encoding="utf-8")
    assert refused > 5
    READERS[name](place)


def test_weights_by_faithfulness_are_not_taken_from_a_damaged_evaluation(place: Path) -> None:
    whole = (place / "evaluation" / "evaluation.json").read_text(encoding="utf-8")
    about = json.loads(whole)["explanation"]
    try:
        for facts in damaged(_shortened(json.loads(whole))):
            (place / "evaluation" / "evaluation.json").write_text(json.dumps(facts), encoding="utf-8")
            try:
                found = faithfulness_of(place / "out", about["composite"], about["created"], [place / "evaluation"])
            except UserError:
                continue
            assert found is None or isinstance(found, float)
    finally:
        (place / "evaluation" / "evaluation.json").write_text(whole, encoding="utf-8")


def test_concepts_do_not_lead_out_of_their_folder(place: Path, tmp_path: Path) -> None:
    facts = json.loads((place / "out" / "concepts.json").read_text(encoding="utf-8"))
    facts["concepts"][0] |= {"rank": "1/../../elsewhere", "folder": "concept-1/../../elsewhere"}
    (tmp_path / "concepts.json").write_text(json.dumps(facts), encoding="utf-8")
    with pytest.raises(UserError, match="is damaged"):
        Concepts.load(tmp_path)


def _shortened(value: Any) -> Any:
    """With the first two entries of long lists, so that it is quick."""
    if isinstance(value, dict):
        return {key: _shortened(entry) for key, entry in value.items()}
    return (
        [_shortened(entry) for entry in (value[:2] if len(value) > 9 else value)] if isinstance(value, list) else value
    )
