"""The record that the worker writes for Slicer: as the shell's, but that volumes are called by their numbers."""

import json
from pathlib import Path

import pytest
import SimpleITK as sitk
from helpers.networks import RANGE, classes, save_model, segmenter
from helpers.volumes import make_volume
from LRPExplainLib.explain import explain
from LRPExplainLib.explanation import Explanation
from LRPExplainLib.imaging import Everywhere
from LRPExplainLib.progress import nobody
from LRPExplainLib.reporting import make_record
from LRPExplainLib.worker.checks import VERBS


@pytest.fixture(scope="module")
def explained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an explanation of a volume that is called after its patient, with much relevance in air."""
    folder = tmp_path_factory.mktemp("answer")
    sitk.WriteImage(make_volume(), str(folder / "Doe^Jane.nrrd"))
    card = {"preprocessing": {"intensity": RANGE}, "output": classes("background", "grey", "white")}
    model = save_model(folder, segmenter(), **card)
    explain(model, [folder / "Doe^Jane.nrrd"], "white", device="cpu", region=Everywhere()).save(folder / "explanation")
    return folder / "explanation"


def test_the_voxels_of_the_volumes_are_looked_at_though_their_names_are_hidden(explained: Path, tmp_path: Path) -> None:
    VERBS["record"]({"explanation": str(explained), "out": str(tmp_path / "case.html"), "pictures": {}}, nobody)
    facts = json.loads((tmp_path / "case.json").read_text(encoding="utf-8"))
    by_shell = make_record(Explanation.load(explained), "case.html").facts
    assert facts["findings"]["unseen"] == []
    assert facts["findings"]["warnings"] == by_shell["findings"]["warnings"]
    assert any("outside the body, in air" in warning for warning in facts["findings"]["warnings"])
    assert [(entry["name"], entry["path"]) for entry in facts["volumes"]] == [("volume-1.nrrd", "volume-1.nrrd")]
    for file in tmp_path.iterdir():
        assert "Doe" not in file.read_text(encoding="utf-8")
