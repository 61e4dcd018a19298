"""A trained network on a real T1, with known figures."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from LRPExplainLib import lrp
from LRPExplainLib.explain import explain
from LRPExplainLib.imaging import Points, read_segment
from LRPExplainLib.models import ExplainableModel, load_model
from LRPExplainLib.question import Question

# shared/data/README.md: volumes in ml of the trained network's answer, with intensities scaled as in the card below
WHITE_ML, GREY_ML = 572, 709


def meshnet(shared_data: Path, folder: Path, size: list[int] | None) -> ExplainableModel:
    """The trained MeshNet with the preprocessing that its figures were seen with, on a box around the centre."""
    card = {
        "schema": 1,
        "name": "MeshNet grey and white matter",
        "task": "segmentation",
        "weights": "meshnet_gwm.ts",
        "inputs": [{"name": "T1", "modality": "MR"}],
        "preprocessing": {
            "orientation": "LPS",
            "spacing": [1, 1, 1],
            "size": size,
            "intensity": [{"type": "percentile", "lower": 1, "upper": 99.8, "clip": True}],
        },
        "output": {
            "activation": "softmax",
            "classes": [{"name": "background"}, {"name": "white matter"}, {"name": "grey matter"}],
        },
    }
    path = folder / "meshnet.card.json"
    path.write_text(json.dumps(card))
    return load_model(shared_data / "meshnet-gwm" / "meshnet_gwm.ts", path)


@pytest.fixture(scope="module")
def head(shared_data) -> Path:
    return shared_data / "brain-t1" / "t1.nii.gz"


def test_the_segmentation_has_the_known_volumes_and_the_relevance_the_volumes_grid(tmp_path, shared_data, head):
    explanation = explain(meshnet(shared_data, tmp_path, [176, 208, 192]), [head], "grey matter", device="cpu")
    labels = sitk.GetArrayViewFromImage(explanation.prediction.segmentation)
    _, white, grey = np.bincount(labels.ravel(), minlength=3) / 1000  # voxels of 1 mm
    assert white == pytest.approx(WHITE_ML, rel=0.01)
    assert grey == pytest.approx(GREY_ML, rel=0.01)
    ledger = explanation.ledger
    parts = ledger["in_volume"] + ledger["absorbed"] + ledger["outside"]
    assert parts == pytest.approx(ledger["target_value"], rel=1e-3)
    source = sitk.ReadImage(str(head))
    (relevance,) = explanation.relevance
    for get in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(relevance, get)() == getattr(source, get)()
    # relevance for grey matter lies in the head, not in the air around it
    values, voxels = sitk.GetArrayViewFromImage(relevance), sitk.GetArrayViewFromImage(source)
    positive = np.maximum(values, 0)
    assert positive[voxels > 20].sum() > 0.9 * positive.sum()


@pytest.mark.parametrize("composite", sorted(lrp.COMPOSITES))
def test_the_ledger_closes_with_every_composite_on_a_box_in_the_brain(tmp_path, shared_data, head, composite):
    box = sitk.RegionOfInterest(sitk.ReadImage(str(head)), [40, 40, 32], [100, 90, 110])
    explanation = explain(meshnet(shared_data, tmp_path, None), [box], "grey matter", composite, "cpu")
    ledger = explanation.ledger
    parts = ledger["in_volume"] + ledger["absorbed"] + ledger["outside"]
    assert parts == pytest.approx(ledger["target_value"], rel=1e-3)
    assert abs(ledger["absorbed"]) < 0.5 * ledger["target_value"]  # epsilon's stabiliser takes a third, others 1 %
    assert ledger["outside"] == 0


def tumour(shared_data: Path, folder: Path) -> tuple[ExplainableModel, Path, Path]:
    """MeshNet, and 80 x 90 x 46 mm of the brain with a tumour and the expert's outline, cut to files."""
    model = meshnet(shared_data, folder, None)
    card = json.loads((folder / "meshnet.card.json").read_text())
    # what the percentiles of the whole volume are: the cut has no scalp, which is the brightest
    card["preprocessing"]["intensity"] = [{"type": "range", "lower": 0, "upper": 1954, "clip": True}]
    (folder / "meshnet.card.json").write_text(json.dumps(card))
    files = []
    for name in ("image", "label"):
        whole = sitk.ReadImage(str(shared_data / "brain-tumor" / f"brain1_{name}.nrrd"))
        files.append(folder / f"{name}.nrrd")
        sitk.WriteImage(sitk.RegionOfInterest(whole, [104, 116, 9], [126, 60, 10]), str(files[-1]))
    return load_model(model.path, folder / "meshnet.card.json"), *files


@pytest.mark.parametrize("value", ["logit", "probability"])
def test_the_experts_outline_of_a_tumour_is_the_region_asked_about(tmp_path, shared_data, value):
    model, image, label = tumour(shared_data, tmp_path)
    question = Question("white matter", "grey matter", read_segment(label), value)
    explanation = explain(model, [image], question, device="cpu")
    ledger = explanation.ledger
    parts = ledger["in_volume"] + ledger["absorbed"] + ledger["outside"]
    assert parts == pytest.approx(ledger["target_value"], rel=1e-3)
    outline = sitk.ReadImage(str(label))
    # voxels of 0.78 x 0.78 x 6.5 mm asked about at 1 mm
    asked = explanation.target["voxels"] / 1000
    assert asked == pytest.approx(sitk.GetArrayViewFromImage(outline).sum() * 0.78125**2 * 6.5 / 1000, rel=0.03)
    values = np.maximum(sitk.GetArrayViewFromImage(explanation.relevance[0]), 0)
    distance = sitk.SignedMaurerDistanceMap(outline > 0, insideIsPositive=False, squaredDistance=False,
                                            useImageSpacing=True)  # fmt: skip
    near = sitk.GetArrayViewFromImage(distance) <= 5
    assert values[near].sum() / values.sum() > 3 * near.mean()  # thrice what chance would give
    assert near.mean() < 0.15


def test_a_point_in_the_tumour_is_explained_by_what_is_around_it(tmp_path, shared_data):
    model, image, label = tumour(shared_data, tmp_path)
    outline = sitk.ReadImage(str(label))
    k, j, i = np.argwhere(sitk.GetArrayViewFromImage(outline))[2000].tolist()
    x, y, z = outline.TransformIndexToPhysicalPoint((i, j, k))
    explanation = explain(model, [image], region=Points(((-x, -y, z),)), device="cpu")
    assert explanation.target["voxels"] == 1
    relevance = explanation.relevance[0]
    values = np.abs(sitk.GetArrayViewFromImage(relevance))
    at = [relevance.TransformIndexToPhysicalPoint(tuple(index[::-1].tolist())) for index in np.argwhere(values > 0)]
    distance = np.linalg.norm(np.subtract(at, (x, y, z)), axis=1)
    weight = values[values > 0]
    assert (weight * distance).sum() / weight.sum() < 30  # of a receptive field of 75 mm
