"""Concepts on the road: one explanation taken apart by the channels of a layer, its parts adding up on the volume."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from helpers.networks import RANGE, classes, classifier, save_model, segmenter
from helpers.volumes import make_volume
from LRPExplainLib.cli import main
from LRPExplainLib.cohort.collect import find
from LRPExplainLib.concepts import Concepts, concepts, table
from LRPExplainLib.errors import UserError
from LRPExplainLib.evaluation.subject import Subject
from LRPExplainLib.explain import explain, plan
from LRPExplainLib.explanation import Explanation
from LRPExplainLib.imaging import Everywhere
from LRPExplainLib.lrp import LRPError
from LRPExplainLib.reporting import make_record
from torch import Tensor, nn

CARD = {"preprocessing": {"orientation": "RAS", "intensity": RANGE}, "output": classes("background", "grey", "white")}


class Skipping(nn.Module):
    """A small U-Net with norms: what `down` does not see goes around it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv3d(1, 3, 3, padding=1)
        self.norm = nn.InstanceNorm3d(3, affine=True)
        self.down = nn.Conv3d(3, 4, 2, stride=2)
        self.up = nn.ConvTranspose3d(4, 3, 2, 2)
        self.last = nn.Conv3d(6, 5, 1)
        self.head = nn.Conv3d(5, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        y = torch.relu(self.up(torch.relu(self.down(x))))
        return self.head(torch.relu(self.last(torch.cat([x, y], 1))))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("concepts")


@pytest.fixture(scope="module")
def volume(folder) -> Path:
    path = folder / "t1.nrrd"
    sitk.WriteImage(make_volume(), str(path))
    return path


@pytest.fixture(scope="module")
def model(folder) -> Path:
    return save_model(folder, segmenter(), **CARD)


@pytest.fixture(scope="module")
def unet(folder) -> Path:
    torch.manual_seed(3)
    card = CARD | {"preprocessing": CARD["preprocessing"] | {"size_multiple": 2}}
    return save_model(folder, Skipping(), "unet", **card)


def array(explanation: Explanation, n: int = 0) -> np.ndarray:
    return sitk.GetArrayFromImage(explanation.relevance[n]).astype(np.float64)


def together(found: Concepts, n: int = 0) -> np.ndarray:
    rest = [part for part in (found.others, found.elsewhere) if part is not None]
    return sum(array(part, n) for part in (*found.concepts, *rest))


def check_account(found: Concepts) -> None:
    scale = np.abs(array(found.whole)).max()
    np.testing.assert_allclose(together(found), array(found.whole), atol=1e-4 * scale)  # float32; 1e-10 in lrp
    assert found.facts["ledger"]["relative_gap"] < 1e-5
    entries = found.facts["concepts"]
    assert [entry["rank"] for entry in entries] == list(range(1, len(entries) + 1))
    sizes = [abs(entry["relevance"]) for entry in entries]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] >= max([abs(r) for c, r in enumerate(found.facts["relevance_by_channel"])
                             if c not in [entry["channel"] for entry in entries]], default=0)  # fmt: skip
    for entry, part in zip(entries, found.concepts, strict=True):
        assert part.ledger["target_value"] == pytest.approx(entry["relevance"], rel=1e-5)
        assert part.ledger["relative_gap"] < 1e-4
        assert part.target["concept"]["channel"] == entry["channel"]
        assert f"channel {entry['channel']} of {found.facts['layer']}" in part.target["text"]


def test_a_layer_that_everything_passes_through_shares_the_map_among_its_channels(model, volume):
    found = concepts(model, [volume], "white", device="cpu", layer="2", top=2)
    check_account(found)
    assert found.elsewhere is None
    assert found.others is not None
    whole = explain(model, [volume], "white", device="cpu")
    np.testing.assert_array_equal(array(found.whole), array(whole))
    assert found.facts["held"] == pytest.approx(sum(found.facts["relevance_by_channel"]))
    assert found.facts["channels"] == len(found.facts["relevance_by_channel"]) == 6
    peak = found.facts["concepts"][0]["peak"]
    image = found.concepts[0].relevance[0]
    place = image.TransformPhysicalPointToIndex((-peak["ras"][0], -peak["ras"][1], peak["ras"][2]))
    assert image.GetPixel(place) == peak["relevance"]
    assert abs(peak["relevance"]) == np.abs(array(found.concepts[0])).max()


def test_what_skip_connections_carry_around_a_layer_is_told_apart(unet, volume):
    passing = concepts(unet, [volume], 1, device="cpu", top=1, region=Everywhere(), value="probability")
    assert passing.facts["layer"] == "last"
    assert passing.elsewhere is None
    check_account(passing)
    found = concepts(unet, [volume], 1, device="cpu", layer="down", top=3, region=Everywhere())
    check_account(found)
    assert found.elsewhere is not None
    assert found.facts["ledger"]["not_through"] == pytest.approx(array(found.elsewhere).sum(), rel=1e-5)
    assert found.elsewhere.ledger["relative_gap"] < 1e-4


def test_windows_and_little_memory_tell_the_same_account(model, volume):
    window = {"size": [16, 16, 8], "overlap": 0.5}
    found = concepts(model, [volume], "white", device="cpu", layer="0", top=2, window=window)
    check_account(found)
    least = plan(model, [volume], device="cpu", window=window, memory=1e-6)["memory"] * 1.001 / 2**30
    thrifty = concepts(model, [volume], "white", device="cpu", layer="0", top=2, window=window, memory=least)
    assert [entry["channel"] for entry in thrifty.facts["concepts"]] == [
        entry["channel"] for entry in found.facts["concepts"]
    ]
    scale = np.abs(array(found.whole)).max()
    for one, other in zip(found.concepts, thrifty.concepts, strict=True):
        np.testing.assert_allclose(array(one), array(other), atol=1e-4 * scale)


def test_every_input_has_its_map(folder, volume):
    pair = save_model(folder, segmenter(2), "pair", **(CARD | {"inputs": [{"name": "T1"}, {"name": "FLAIR"}]}))
    found = concepts(pair, [volume, volume], "white", device="cpu", layer="2", top=10)
    assert found.others is None  # every channel with relevance is shown
    for n in range(2):
        np.testing.assert_allclose(
            together(found, n), array(found.whole, n), atol=1e-5 * np.abs(array(found.whole)).max()
        )


def test_the_folder_is_an_explanation_with_one_in_it_for_each_channel(folder, model, volume, capsys):
    out = folder / "out"
    arguments = [
        "--model",
        str(model),
        "--volume",
        str(volume),
        "--target",
        "white",
        "--device",
        "cpu",
        "--out",
        str(out),
    ]
    assert main(["concepts", *arguments, "--layer", "2", "--top", "2"]) == 0
    assert "not through this layer" in capsys.readouterr().out
    found = Concepts.load(out)
    assert Explanation.load(out) == found.whole
    assert Explanation.load(out / "concept-2") == found.concepts[1]
    assert json.loads((out / "concepts.json").read_text())["concepts"][1]["folder"] == "concept-2"
    assert "| 2 |" in (out / "concepts.md").read_text()
    nothing = found.facts["ledger"] | {"outside": 0.0}
    assert "-0 %" not in table(found.facts | {"target_value": -1.0, "ledger": nothing})
    with pytest.raises(UserError, match="part of another one"):
        Subject.of(found.concepts[0])
    with pytest.raises(UserError, match="whole explanation"):
        make_record(found.concepts[0], "case.html")
    assert [each.folder for each in find([folder])] == [out]  # for a cohort its parts are no explanations of their own
    assert main(["explain", *arguments]) == 0  # takes its place
    assert not (out / "concept-1").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"layer": "nowhere"}, "no layer 'nowhere'"),
        ({"top": 0}, "too few"),
        ({"layer": "3"}, "no axis counts channels"),
    ],
)
def test_refusals_are_one_sentence(folder, volume, options, sentence):
    path = save_model(folder, torch.nn.Sequential(
        torch.nn.Conv3d(1, 2, 3), torch.nn.AdaptiveAvgPool3d(2), torch.nn.Flatten(2), torch.nn.Linear(8, 3),
        torch.nn.Flatten(), torch.nn.Linear(6, 2),
    ).eval(), "flat", task="classification", output=classes("a", "b"))  # fmt: skip
    with pytest.raises((UserError, LRPError), match=sentence) as refused:
        concepts(path, [volume], "a", device="cpu", **options)
    assert str(refused.value).count(". ") == 0


def test_a_classifier_s_features_are_concepts_too(folder, volume):
    path = save_model(folder, classifier(), "classifier", task="classification", output=classes("a", "b"))
    found = concepts(path, [volume], "b", device="cpu", top=4)
    assert found.facts["layer"] == "0"
    check_account(found)
