"""One case of which records are made."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from helpers.networks import save_model, segmenter
from helpers.volumes import make_volume
from LRPExplainLib.evaluation import Evaluation, evaluate
from LRPExplainLib.explain import explain
from LRPExplainLib.explanation import Explanation
from LRPExplainLib.imaging import read_segment, read_segments
from LRPExplainLib.imaging.segmentation import write_segmentation
from LRPExplainLib.reporting import Record, make_record
from reporting.records import CARD, FAST, PATIENT, PICTURES


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
