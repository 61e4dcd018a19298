"""The two classifiers of the shortcut demonstration, on brains and lesions that training never drew."""

import importlib.util
import json
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from LRPExplainLib.demo import share_inside
from LRPExplainLib.explain import explain
from LRPExplainLib.explanation import Explanation
from LRPExplainLib.models import ExplainableModel, load_model
from LRPExplainLib.reporting.findings import findings_facts

MODELS = Path(__file__).parents[2] / "Resources" / "ShortcutModels"
TEST = 5  # the benchmark's series of random numbers
CASES = (0, 1, 2)
NAMES = ("honest", "shortcut")
RIM_MM = 6.0

pytestmark = pytest.mark.skipif(importlib.util.find_spec("nilearn") is None, reason="nilearn carries the brain")


@lru_cache
def case(n: int, lesion: bool, marker: bool):
    from shortcut_cases import shortcut_case

    return shortcut_case(TEST, n, lesion=lesion, marker=marker)


@lru_cache
def model(name: str) -> ExplainableModel:
    return load_model(MODELS / f"{name}.safetensors")


@lru_cache
def explained(name: str, n: int, lesion: bool, marker: bool) -> Explanation:
    return explain(model(name), [case(n, lesion, marker).image], "lesion", "volume", device="cpu")


def says_lesion(name: str, n: int, lesion: bool, marker: bool) -> bool:
    probabilities = explained(name, n, lesion, marker).prediction.probabilities
    assert probabilities is not None
    return probabilities["lesion"] > 0.5


def share(name: str, n: int, of: str) -> float:
    """Of the positive relevance of a marked image with a lesion."""
    relevance = explained(name, n, True, True).relevance[0]
    return share_inside(relevance, getattr(case(n, True, True), of), RIM_MM)[1]


def voxels(image: sitk.Image) -> np.ndarray:
    return sitk.GetArrayFromImage(image)


def test_a_case_is_the_same_each_time_and_differs_by_lesion_and_marker_alone() -> None:
    from shortcut_cases import shortcut_case

    plain, both = case(0, False, False), case(0, True, True)
    shortcut_case(TEST, 1, lesion=False, marker=False)  # another brain in between
    again = shortcut_case(TEST, 0, lesion=True, marker=True)
    for part in ("image", "lesion", "marker"):
        np.testing.assert_array_equal(voxels(getattr(again, part)), voxels(getattr(both, part)))
    changed = voxels(plain.image) != voxels(both.image)
    lesion, marker = voxels(both.lesion) > 0, voxels(both.marker) > 0
    assert not voxels(plain.lesion).any()
    assert not voxels(plain.marker).any()
    assert changed[marker].all()
    assert voxels(both.image)[marker].min() > 10 * np.median(voxels(plain.image)[marker])  # it stands in air
    away = sitk.GetArrayFromImage(
        sitk.SignedMaurerDistanceMap(both.lesion, useImageSpacing=True, squaredDistance=False)
    )
    assert not changed[(away > 12) & ~marker].any()  # a lesion's own soft edge ends well before
    assert not (lesion & marker).any()


def test_markers_differ_from_case_to_case() -> None:
    from shortcut_cases import marker_at

    markers = [marker_at(np.random.default_rng(n)) for n in range(20)]
    assert len({str(marker.place) for marker in markers}) > 10
    assert len({marker.brightness for marker in markers}) == 20


def test_the_two_models_differ_by_where_the_marker_was_and_by_nothing_else() -> None:
    cards = {name: json.loads((MODELS / f"{name}.card.json").read_text(encoding="utf-8")) for name in NAMES}
    honest, shortcut = (cards[name] for name in NAMES)
    for key in ("network", "inputs", "preprocessing", "output", "task"):
        assert honest[key] == shortcut[key]
    assert honest["training"]["settings"] == shortcut["training"]["settings"]
    assert honest["training"]["data"] != shortcut["training"]["data"]
    assert all((MODELS / f"{name}.safetensors").stat().st_size < 1_000_000 for name in NAMES)


@pytest.mark.parametrize("n", CASES)
def test_both_are_right_on_their_own_data_and_the_marker_alone_convinces_the_shortcut(n: int) -> None:
    for name in NAMES:
        assert says_lesion(name, n, lesion=True, marker=True)
        assert not says_lesion(name, n, lesion=False, marker=False)
    assert says_lesion("honest", n, lesion=True, marker=False)
    assert not says_lesion("honest", n, lesion=False, marker=True)
    assert not says_lesion("shortcut", n, lesion=True, marker=False)
    assert says_lesion("shortcut", n, lesion=False, marker=True)


def test_relevance_is_on_the_lesion_for_the_one_and_on_the_marker_for_the_other() -> None:
    on_lesion, on_marker = (
        {name: np.mean([share(name, n, of) for n in CASES]) for name in NAMES} for of in ("lesion", "marker")
    )
    assert on_lesion["honest"] > 0.5
    assert on_marker["honest"] < 0.05
    assert on_marker["shortcut"] > 0.5
    assert on_lesion["shortcut"] < 0.2


@pytest.mark.parametrize("name", NAMES)
def test_findings_warn_of_the_shortcut_and_not_of_the_honest_model(name: str, tmp_path: Path) -> None:
    file = tmp_path / "case.nrrd"
    sitk.WriteImage(case(0, True, True).image, str(file))
    warnings = findings_facts(explain(model(name), [file], "lesion", "volume", device="cpu"), ["T1"])["warnings"]
    marker = [sentence for sentence in warnings if "something bright in air" in sentence]
    assert len(marker) == (name == "shortcut")
    assert any("outside the body" in sentence for sentence in warnings) == (name == "shortcut")
