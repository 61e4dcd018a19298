"""A trained network on a real T1, with known figures."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from LRPExplainLib import lrp
from LRPExplainLib.explain import explain
from LRPExplainLib.models import ExplainableModel, load_model

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
