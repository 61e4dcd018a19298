"""The shortcut demonstration as a cohort: the model that looks at the marker gives itself away, the honest one not."""

from pathlib import Path

import pytest
from LRPExplainLib.cohort import cohort
from LRPExplainLib.explain import explain
from LRPExplainLib.models import load_model

RESOURCES = Path(__file__).parents[2] / "Resources"
SERIES = 6  # of random numbers: neither those of the training nor of benchmarks/shortcut.py
pytestmark = pytest.mark.slow
MARKED = ("marked 5", "marked 6", "marked 7")


@pytest.fixture(scope="module")
def explained(tmp_path_factory) -> Path:
    """Folders honest and shortcut: five images with a lesion alone, three with a lesion and the marker."""
    pytest.importorskip("nilearn")
    from shortcut_cases import shortcut_case

    folder = tmp_path_factory.mktemp("shortcut")
    models = {name: load_model(RESOURCES / "ShortcutModels" / f"{name}.safetensors") for name in ("honest", "shortcut")}
    for n in range(8):
        image = shortcut_case(SERIES, n, lesion=True, marker=n >= 5).image
        for name, model in models.items():
            made = explain(model, [image], "lesion", "volume", device="cpu")
            made.save(folder / name / f"{'marked' if n >= 5 else 'lesion'} {n}")
    return folder


def test_the_marked_images_are_the_odd_cluster_of_the_shortcut_model(explained):
    odd, rest = cohort([explained / "shortcut"]).facts["clusters"]
    assert odd["members"] == list(MARKED)
    assert odd["odd"]
    assert all(value > 50 for value in odd["strongest_ras_mm"])  # right, anterior, superior
    assert rest["size"] == 5


def test_no_cluster_of_the_honest_model_is_that_of_the_marked_images(explained):
    found = cohort([explained / "honest"])
    assert all(cluster["members"] != list(MARKED) for cluster in found.facts["clusters"])
