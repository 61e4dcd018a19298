"""Further questions about what a model has answered: each equals an explanation of its own."""

from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from LRPExplainLib.explain import answer, explain
from LRPExplainLib.imaging import Everywhere, Points, Region
from LRPExplainLib.models import ExplainableModel
from LRPExplainLib.models.loading import load_model
from LRPExplainLib.question import Question
from torch import nn

# LPS has R and A turned round: these lie near voxels (4, 4, 4), (27, 20, 14) and on the border
PLACES: tuple[Region, ...] = (
    Points(((-4.0, -4.0, 4.0),)),
    Everywhere(),
    Points(((-27.0, -20.0, 14.0), (-15.0, -23.0, 0.0))),
    Points(((-4.0, -4.0, 4.0),)),
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ExplainableModel:
    torch.manual_seed(1)
    network = nn.Sequential(
        nn.Conv3d(1, 6, 3, padding=1), nn.InstanceNorm3d(6, affine=True), nn.LeakyReLU(0.1),
        nn.Conv3d(6, 6, 3, padding=1), nn.BatchNorm3d(6), nn.ReLU(), nn.Conv3d(6, 3, 1),
    ).eval()  # fmt: skip
    path = tmp_path_factory.mktemp("model") / "network.ts"
    torch.jit.script(network).save(str(path))
    return load_model(path)


@pytest.fixture(scope="module")
def image() -> sitk.Image:
    return sitk.GetImageFromArray(np.random.default_rng(3).random((16, 24, 32)).astype(np.float32))


@pytest.mark.parametrize("composite", ["volume", "epsilon-plus-flat", "epsilon-gamma-box"])
@pytest.mark.parametrize("window", [{}, {"size": [16, 16, 16], "overlap": 0.5}], ids=["whole", "windows"])
def test_each_question_equals_an_explanation_of_its_own(
    model: ExplainableModel, image: sitk.Image, composite: str, window: dict[str, Any]
) -> None:
    kept = answer(model, [image], composite, "cpu", window=window, keep=True)
    for number, place in enumerate(PLACES):
        question = Question(target=1 + number % 2, region=place)
        mine = kept.ask(question)
        fresh = explain(model, [image], question, composite, "cpu", window=window)
        ours, theirs = (sitk.GetArrayFromImage(found.relevance[0]) for found in (mine, fresh))
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6 * np.abs(theirs).max())
        assert mine.ledger["target_value"] == fresh.ledger["target_value"]
        assert mine.ledger["relative_gap"] < 1e-4
        assert mine.prediction == fresh.prediction
        assert mine.target == fresh.target
        assert mine.provenance["run"]["batch"] == fresh.provenance["run"]["batch"]


def test_the_same_question_twice_has_the_same_answer_bit_by_bit(model: ExplainableModel, image: sitk.Image) -> None:
    kept = answer(model, [image], "volume", "cpu", keep=True)
    question = Question(target=1, region=PLACES[0])
    first, second = (sitk.GetArrayFromImage(kept.ask(question).relevance[0]) for _ in range(2))
    np.testing.assert_array_equal(first, second)
