"""What the worker does for the section "Concepts", without its process: the shown explanation is taken apart."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from LRPExplainLib.concepts import Concepts
from LRPExplainLib.errors import UserError
from LRPExplainLib.explain import explain
from LRPExplainLib.progress import nobody
from LRPExplainLib.worker.concepts import VERBS
from LRPExplainLib.worker.server import Cancelled
from torch import nn


@pytest.fixture(scope="module")
def message(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A request about an explanation with choices of its own."""
    folder = tmp_path_factory.mktemp("answer")
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv3d(1, 5, 3, padding=1), nn.ReLU(), nn.Conv3d(5, 4, 3), nn.ReLU(), nn.Flatten(2))
    network = nn.Sequential(*network[:4], nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 2)).eval()
    torch.jit.script(network).save(str(folder / "network.ts"))
    image = sitk.GetImageFromArray(np.random.default_rng(0).random((12, 12, 12)).astype(np.float32))
    sitk.WriteImage(image, str(folder / "volume.nrrd"))
    explained = explain(
        folder / "network.ts", [folder / "volume.nrrd"], 1, "epsilon", "cpu", rules={"0": "gamma(0.1)"}, biases="absorb"
    )  # fmt: skip
    explained.save(folder / "explanation")
    return {"explanation": str(folder / "explanation"), "device": "cpu"}


def test_the_layers_of_the_explained_model_are_offered(message: dict[str, Any]) -> None:
    told = VERBS["layers"](message, nobody)
    assert [(layer["name"], layer["channels"]) for layer in told["layers"]] == [("0", 5), ("2", 4)]
    assert told["automatic"] == "2"


def test_the_same_question_and_the_same_rules_are_taken_apart(message: dict[str, Any], tmp_path: Path) -> None:
    told = VERBS["concepts"](message | {"layer": "0", "top": 2, "out": str(tmp_path / "out")}, nobody)
    found = Concepts.load(told["folder"])
    assert found.facts == told["facts"]
    assert len(found.concepts) == 2
    from LRPExplainLib.explanation import Explanation

    shown = Explanation.load(message["explanation"])
    assert found.whole.relevance[0].GetSize() == shown.relevance[0].GetSize()
    whole, before = (sitk.GetArrayFromImage(each.relevance[0]) for each in (found.whole, shown))
    np.testing.assert_array_equal(whole, before)
    assert found.whole.composite == shown.composite
    assert found.whole.target == shown.target


def test_a_map_of_another_method_and_a_wrong_layer_are_refused_and_nothing_is_written(
    message: dict[str, Any], tmp_path: Path
) -> None:
    from LRPExplainLib.lrp import LRPError

    folder = Path(message["explanation"])
    other = explain(folder.parent / "network.ts", [folder.parent / "volume.nrrd"], 1, device="cpu", method="gradient")
    other.save(tmp_path / "gradient")
    out = {"out": str(tmp_path / "out")}
    with pytest.raises(UserError, match="not by gradient"):
        VERBS["concepts"](message | out | {"explanation": str(tmp_path / "gradient")}, nobody)
    with pytest.raises(LRPError, match="no layer 'nowhere'"):
        VERBS["concepts"](message | out | {"layer": "nowhere"}, nobody)
    assert not (tmp_path / "out").exists()


def test_it_can_be_cancelled_while_relevance_walks(message: dict[str, Any], tmp_path: Path) -> None:
    def stop(stage: str, share: float) -> None:
        if stage.startswith("propagating") and share > 0.7:
            raise Cancelled

    with pytest.raises(Cancelled):
        VERBS["concepts"](message | {"out": str(tmp_path / "out")}, stop)
    assert not (tmp_path / "out").exists()
