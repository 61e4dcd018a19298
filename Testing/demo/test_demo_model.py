"""The bundled weights and card, loaded as a user's model is, on cases that training never drew."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from LRPExplainLib import imaging, lrp, models
from LRPExplainLib.demo import demo_case, mni152_path
from LRPExplainLib.explain import explain

MODEL = Path(__file__).parents[2] / "LRPExplain" / "Resources" / "Models" / "lesion-unet" / "lesion_unet.safetensors"

pytestmark = pytest.mark.skipif(importlib.util.find_spec("nilearn") is None, reason="nilearn carries the brain")


@pytest.fixture(scope="module")
def model() -> models.ExplainableModel:
    return models.load_model(MODEL)


def segment(model: models.ExplainableModel, image: sitk.Image) -> np.ndarray:
    """What the model takes for lesion, as a mask [D, H, W] in the image's own geometry."""
    prepared = imaging.prepare([image], model.card.preprocessing)
    with torch.inference_mode():
        labels = model.module(prepared.tensor).argmax(dim=1)[0]
    return sitk.GetArrayFromImage(prepared.labels_to_source(labels)) > 0


def dice(found: np.ndarray, lesion: np.ndarray) -> float:
    return float(2 * (found & lesion).sum() / (found.sum() + lesion.sum()))


def card() -> dict:
    return json.loads(MODEL.with_name("lesion_unet.card.json").read_text(encoding="utf-8"))


def test_the_weights_are_small_and_the_card_tells_their_figures() -> None:
    assert MODEL.stat().st_size < 2_000_000
    measured = card()["training"]["measured_at_2_mm"]
    assert measured["cases"] == 50
    assert measured["dice_mean"] >= 0.7
    assert measured["dice_median"] >= 0.85
    assert measured["false_positive_ml_median"] < 0.1


def test_a_few_unseen_cases_reach_the_card_s_dice(model: models.ExplainableModel) -> None:
    from synthetic_brains import as_image
    from train_demo_model import unseen_case

    reached = []
    for index in range(4):
        case = unseen_case(index)
        reached.append(dice(segment(model, as_image(case.voxels)), case.lesion > 0))
    assert np.mean(reached) >= card()["training"]["measured_at_2_mm"]["dice_mean"] - 0.1


def test_unseen_cases_can_be_drawn_again() -> None:
    from train_demo_model import unseen_case

    first, again, healthy = unseen_case(7), unseen_case(7), unseen_case(7, lesions=0)
    assert np.array_equal(first.voxels, again.voxels)
    assert np.array_equal(first.lesion, again.lesion)
    assert first.lesion.any()
    assert not healthy.lesion.any()


def test_the_lesion_of_the_demo_is_found_in_the_real_brain(model: models.ExplainableModel) -> None:
    case = demo_case()
    lesion = sitk.GetArrayFromImage(case.mask) > 0
    assert dice(segment(model, case.image), lesion) > 0.5


def test_the_real_brain_without_a_lesion_shows_none(model: models.ExplainableModel) -> None:
    found = segment(model, sitk.ReadImage(str(mni152_path())))
    assert found.sum() / 1000 < 0.3  # ml


@pytest.mark.parametrize("seed", [0, 3], ids=["bright lesion", "dark lesion"])
@pytest.mark.parametrize("composite", sorted(lrp.COMPOSITES))
def test_every_composite_accounts_for_the_target_value_in_the_volume(model, composite, seed):
    ledger = explain(model, [demo_case(seed).image], "lesion", composite, "cpu").ledger
    parts = ledger["in_volume"] + ledger["absorbed"] + ledger["outside"]
    assert parts == pytest.approx(ledger["target_value"], rel=1e-3)
    assert abs(ledger["absorbed"]) < 0.15 * ledger["target_value"]
