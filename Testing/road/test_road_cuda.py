"""explain() on CUDA: the same road, the same map. Skipped where there is no CUDA."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from helpers.cases import model_of, write_case
from LRPExplainLib.explain import answer, explain, plan
from LRPExplainLib.explanation import Explanation
from LRPExplainLib.question import Question

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
DEVICE = "cuda"


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return write_case(tmp_path_factory.mktemp("case"))


def case(place: Path) -> tuple[Path, list[Path]]:
    return model_of(place), [place / "t1.nrrd"]


def relevance(found: Explanation) -> np.ndarray:
    return sitk.GetArrayFromImage(found.relevance[0])


@pytest.mark.parametrize("composite", ["epsilon-plus", "volume", "gamma"])
@pytest.mark.parametrize("window", [None, {"size": [16, 16, 8]}], ids=["whole", "windows"])
def test_the_map_and_the_account_are_those_of_the_cpu(place, window, composite):
    expected, found = (explain(*case(place), "white", composite, device, window=window) for device in ("cpu", DEVICE))
    assert found.provenance["device"] != "cpu"
    scale = np.abs(relevance(expected)).max()
    assert np.abs(relevance(found) - relevance(expected)).max() < 1e-3 * scale
    assert found.ledger["target_value"] == pytest.approx(expected.ledger["target_value"], rel=1e-4)
    assert abs(found.ledger["relative_gap"]) < 1e-4


def test_where_there_is_cuda_it_is_chosen(place):
    assert explain(*case(place), "white").provenance["device"] == torch.cuda.get_device_name()


def test_with_little_memory_the_map_is_the_same(place):
    plenty = explain(*case(place), "white", device=DEVICE)
    least = plan(*case(place), device=DEVICE, memory=1e-6)["memory"] * 1.001
    memory = max(least, plenty.provenance["run"]["memory"] / 2) / 2**30
    little = explain(*case(place), "white", device=DEVICE, memory=memory)
    scale = np.abs(relevance(plenty)).max()
    assert np.abs(relevance(little) - relevance(plenty)).max() < 1e-3 * scale


def test_further_questions_are_answered_there(place):
    answered = answer(*case(place), device=DEVICE, keep=True)
    for name in ("grey", "white"):
        alone = explain(*case(place), name, device=DEVICE)
        found = answered.ask(Question(name))
        assert np.allclose(relevance(found), relevance(alone), atol=1e-3 * np.abs(relevance(alone)).max())


def test_other_methods_run_there(place):
    for method in ("gradient", "integrated-gradients", "grad-cam"):
        expected, found = (explain(*case(place), "white", device=device, method=method) for device in ("cpu", DEVICE))
        scale = np.abs(relevance(expected)).max()
        assert np.abs(relevance(found) - relevance(expected)).max() < 1e-2 * scale, method
