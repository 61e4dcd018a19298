"""explain(): volumes and a model in, relevance on the volumes' own voxels out, every unit accounted for."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from helpers.networks import RANGE, BlobFinder, classes, classifier, save_model, segmenter
from helpers.volumes import make_volume, rotation, write_series
from LRPExplainLib import lrp
from LRPExplainLib.errors import UserError
from LRPExplainLib.explain import explain
from LRPExplainLib.explanation import Explanation
from LRPExplainLib.imaging import Everywhere, Grid, Segment
from LRPExplainLib.ledgers import ledger_facts
from LRPExplainLib.models import load_model
from LRPExplainLib.stages import STAGES
from LRPExplainLib.summaries import summary
from torch import nn

MODEL_SPACE = {"orientation": "RAS", "spacing": [1.0, 1.0, 1.0], "size_multiple": 8, "intensity": RANGE}


def array(image: sitk.Image) -> np.ndarray:
    return sitk.GetArrayFromImage(image)


def assert_closed(explanation, tolerance: float = 1e-3) -> None:
    """The three parts, summed here from what was delivered, make the target value."""
    ledger = explanation.ledger
    in_volume = sum(float(array(image).sum(dtype=np.float64)) for image in explanation.relevance)
    assert ledger["in_volume"] == pytest.approx(in_volume, rel=1e-12)
    absorbed = sum(row["absorbed_bias"] + row["absorbed_stabiliser"] + row["changed"] for row in ledger["by_layer"])
    assert ledger["absorbed"] == pytest.approx(absorbed, abs=1e-9)
    gap = ledger["target_value"] - in_volume - absorbed - ledger["outside"]
    assert abs(gap) <= tolerance * abs(ledger["target_value"])
    assert ledger["relative_gap"] == pytest.approx(abs(gap / ledger["target_value"]), abs=1e-9)


@pytest.fixture
def landmark_volume(oblique_volume) -> tuple[sitk.Image, tuple[int, int, int]]:
    """An oblique, anisotropic volume, dark but for one bright blob at an array index [k, j, i]."""
    voxels = np.zeros(array(oblique_volume).shape, dtype=np.float32)
    landmark = (9, 20, 6)
    voxels[8:11, 18:23, 3:10] = 100
    return Grid.of(oblique_volume).image(voxels), landmark


def test_relevance_overlays_an_oblique_anisotropic_volume_voxel_by_voxel(tmp_path, landmark_volume):
    volume, landmark = landmark_volume
    sitk.WriteImage(volume, str(tmp_path / "t1.nii.gz"))
    source = sitk.ReadImage(str(tmp_path / "t1.nii.gz"))
    model = save_model(tmp_path, BlobFinder(), preprocessing=MODEL_SPACE, output=classes("background", "blob"))
    explanation = explain(model, [tmp_path / "t1.nii.gz"], "blob", composite="epsilon")
    (relevance,) = explanation.relevance
    for image in (relevance, explanation.prediction.segmentation):
        for get in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
            assert getattr(image, get)() == getattr(source, get)()
    assert relevance.GetPixelID() == sitk.sitkFloat32
    values, labels, voxels = array(relevance), array(explanation.prediction.segmentation), array(source)
    blob = voxels > 50
    # all that the network can see of the blob is the blob itself: relevance is nowhere but on it (and its rim's
    # neighbours, through interpolation), centred on the landmark
    assert values[blob].sum() > 0.85 * values.sum()
    axes = [values.sum(axis=tuple({0, 1, 2} - {d})) for d in range(3)]
    centre = [float((axis * np.arange(len(axis))).sum() / axis.sum()) for axis in axes]
    np.testing.assert_allclose(centre, landmark, atol=0.15)
    assert labels[landmark] == 1
    assert 0.8 < labels[blob].mean() <= 1
    assert labels[~blob].mean() < 0.02
    assert_closed(explanation, 1e-5)


@pytest.mark.parametrize("composite", sorted(lrp.COMPOSITES))
@pytest.mark.parametrize("kind", ["segmentation", "classification"])
def test_the_ledger_closes_with_every_composite(tmp_path, oblique_volume, composite, kind):
    network = segmenter() if kind == "segmentation" else classifier()
    model = save_model(tmp_path, network, task=kind, preprocessing={**MODEL_SPACE, "size_multiple": 16})
    explanation = explain(model, [oblique_volume], composite=composite, device="cpu")
    assert_closed(explanation)
    assert explanation.ledger["absorbed"] != 0
    assert explanation.composite["name"] == composite
    assert explanation.composite["rules"]


def test_what_was_cropped_away_has_no_relevance_and_the_ledger_says_so(tmp_path, oblique_volume):
    crop = {"above": 50}
    model = save_model(tmp_path, segmenter(), preprocessing={"crop": crop, "intensity": RANGE})
    explanation = explain(model, [oblique_volume], 1, device="cpu", region=Everywhere())
    voxels, relevance = array(oblique_volume), array(explanation.relevance[0])
    box = np.ones(voxels.shape, dtype=bool)
    box[tuple(slice(hit.min(), hit.max() + 1) for hit in np.nonzero(voxels > 50))] = False
    assert 0 < box.sum() < box.size
    assert not relevance[box].any()
    assert explanation.ledger["unseen_voxels_by_input"] == [int(box.sum())]
    assert explanation.ledger["unseen_relevance"] == 0
    assert f"in {int(box.sum())} unseen voxels" in summary(explanation)
    assert_closed(explanation)


def test_relevance_on_padding_is_reported_as_outside(tmp_path, oblique_volume):
    """A network that draws relevance towards the padding: flat spreads it evenly over what each output voxel sees."""
    torch.manual_seed(3)
    network = nn.Conv3d(1, 2, 7, padding=3, bias=False)
    network.weight.data.abs_()
    wishes = {"size_multiple": 16, "intensity": RANGE}
    model = save_model(tmp_path, network, preprocessing=wishes, output=classes("a", "b"))
    explanation = explain(model, [oblique_volume], composite="epsilon-plus-flat", target=1)
    assert explanation.ledger["outside"] > 0.01 * explanation.ledger["target_value"]
    assert_closed(explanation)


def test_without_padding_nothing_is_outside(tmp_path, oblique_volume):
    model = save_model(tmp_path, segmenter(), preprocessing={"intensity": RANGE})
    assert explain(model, [oblique_volume]).ledger["outside"] == 0


def test_the_answer_agrees_with_the_engine_where_the_way_in_is_the_identity(tmp_path, oblique_volume):
    model = load_model(save_model(tmp_path, segmenter(), preprocessing={"intensity": RANGE}))
    composite = lrp.COMPOSITES["epsilon"].with_biases("share")
    explanation = explain(model, [oblique_volume], 2, "epsilon", "cpu")
    x = (torch.from_numpy(array(oblique_volume)) / 100).clamp(0, 1)[None, None]
    with torch.no_grad():
        labels = model.module(x).argmax(1)[0]
    np.testing.assert_array_equal(array(explanation.prediction.segmentation), labels.numpy())
    engine = lrp.attribute(lrp.capture(model.module, x), x, lrp.Target(2, labels == 2), composite)
    np.testing.assert_allclose(array(explanation.relevance[0]), engine.relevance[0, 0].numpy(), rtol=1e-4, atol=1e-6)
    count = int((labels == 2).sum())
    assert explanation.target == {
        "class": "class 2", "index": 2, "where": "prediction", "voxels": count, "value": "logit", "start": "value",
        "text": f"class 2 over the {count} voxels predicted as it",
    }  # fmt: skip


def test_the_default_target_is_the_largest_foreground_class(tmp_path, oblique_volume):
    explanation = explain(save_model(tmp_path, segmenter()), [oblique_volume])
    counts = np.bincount(array(explanation.prediction.segmentation).ravel(), minlength=3)
    assert explanation.target["index"] == 1 + int(counts[1:].argmax())
    assert explanation.target["voxels"] == counts[explanation.target["index"]]


def test_a_model_without_a_card_is_explained_on_stated_defaults(tmp_path, oblique_volume):
    explanation = explain(save_model(tmp_path, segmenter()), [oblique_volume])
    card = explanation.model["card"]
    assert card["stated"] is False
    assert card["task"] == "segmentation"
    assert [entry["name"] for entry in card["output"]["classes"]] == ["class 0", "class 1", "class 2"]
    assert_closed(explanation)


def test_a_classification_gives_probabilities_and_explains_the_predicted_class(tmp_path, oblique_volume):
    model = save_model(
        tmp_path, classifier(), task="classification", preprocessing={"intensity": RANGE}, output=classes("well", "ill")
    )
    explanation = explain(model, [oblique_volume])
    said = explanation.prediction
    assert said.segmentation is None
    assert list(said.probabilities) == ["well", "ill"]
    assert sum(said.probabilities.values()) == pytest.approx(1)
    likelier = max(said.probabilities, key=said.probabilities.__getitem__)
    assert explanation.target == {
        "class": likelier, "index": int(said.probabilities["ill"] > 0.5), "where": "output", "value": "logit",
        "start": "value", "text": likelier,
    }  # fmt: skip
    assert_closed(explanation)


def test_sigmoid_classes_may_overlap_and_have_the_background_as_label_zero(tmp_path, landmark_volume):
    volume, landmark = landmark_volume
    network = BlobFinder()
    with torch.no_grad():  # two classes that both answer to brightness, the second more strongly
        network.head.weight[:, 0] = torch.tensor([1.0, 2.0]).reshape(2, 1, 1, 1)
        network.head.bias[:] = torch.tensor([-0.5, -0.5])
    output = classes("core", "whole", activation="sigmoid")
    model = save_model(tmp_path, network, preprocessing={"intensity": RANGE}, output=output)
    explanation = explain(model, [volume])
    assert [entry["name"] for entry in explanation.prediction.classes] == ["background", "core", "whole"]
    assert array(explanation.prediction.segmentation)[landmark] == 2
    assert explanation.target["class"] == "whole"
    core = explain(model, [volume], "core")
    assert 0 < core.target["voxels"] < explanation.target["voxels"]
    assert not (array(explanation.prediction.segmentation) == 1).any()  # whole is stronger wherever core is found
    sizes = {row["name"]: row["voxels"] for row in explanation.prediction.sizes()}
    assert sizes == {
        "background": volume.GetNumberOfPixels() - explanation.target["voxels"],
        "core": core.target["voxels"],
        "whole": explanation.target["voxels"],
    }
    explanation.save(tmp_path / "out")
    loaded = Explanation.load(tmp_path / "out").prediction
    assert loaded.sizes() == explanation.prediction.sizes()
    middle = {entry["name"]: entry["centre_ras"] for entry in loaded.classes[1:]}
    shown = Grid.of(volume).point(np.argwhere(array(loaded.segmentation) == 2).mean(axis=0)[::-1])
    np.testing.assert_allclose(middle["whole"], np.multiply(shown, (-1, -1, 1)), atol=1e-6)
    np.testing.assert_allclose(
        middle["core"], middle["whole"], atol=1.5
    )  # nowhere in the label map, but it has a place


def test_each_input_volume_gets_its_own_relevance_on_its_own_grid(tmp_path, oblique_volume):
    centre = Grid.of(oblique_volume).point([14.5, 12.5, 6.5])
    matrix = rotation((0.5, 0.1, 0.2))
    origin = np.array(centre) - matrix @ (np.array([19, 17, 15]) * 0.8)
    other = make_volume((39, 35, 31), (0.8, 0.8, 0.8), (0.5, 0.1, 0.2), tuple(origin.tolist()), seed=5)
    inputs = [{"name": "T1"}, {"name": "FLAIR"}]
    model = save_model(tmp_path, segmenter(channels=2), preprocessing=MODEL_SPACE, inputs=inputs)
    explanation = explain(model, [oblique_volume, other])
    assert [image.GetSize() for image in explanation.relevance] == [(30, 26, 14), (39, 35, 31)]
    assert explanation.relevance[1].GetDirection() == other.GetDirection()
    assert all(array(image).any() for image in explanation.relevance)
    assert len(explanation.ledger["outside_by_input"]) == 2
    assert_closed(explanation)


def test_what_speaks_for_and_against_adds_up_to_what_is_in_the_volume(tmp_path, oblique_volume):
    explanation = explain(save_model(tmp_path, segmenter()), [oblique_volume], target=1, composite="epsilon")
    ledger = explanation.ledger
    assert ledger["in_volume_positive"] > 0 > ledger["in_volume_negative"]
    together = ledger["in_volume_positive"] + ledger["in_volume_negative"]
    assert together == pytest.approx(ledger["in_volume"], rel=1e-9, abs=1e-9)


def test_progress_tells_every_stage_in_order(tmp_path, oblique_volume):
    told = []
    explanation = explain(save_model(tmp_path, segmenter()), [oblique_volume], progress=lambda *step: told.append(step))
    assert list(dict.fromkeys(name for name, _ in told)) == [*STAGES, "done"]
    shares = [share for _, share in told]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert set(explanation.provenance["timings"]) == set(STAGES)


def test_facts_name_model_volume_and_versions(tmp_path, oblique_volume):
    path = tmp_path / "t1.nrrd"
    sitk.WriteImage(oblique_volume, str(path))
    explanation = explain(save_model(tmp_path, segmenter()), [path], device="cpu")
    (volume,) = explanation.volumes
    assert volume["name"] == "t1.nrrd"
    assert volume["path"] == str(path.resolve())
    assert len(volume["sha256"]) == 64
    assert Grid.from_dict(volume["geometry"]) == Grid.of(explanation.relevance[0])
    assert explanation.model["sha256"] == load_model(tmp_path / "net.ts").sha256
    assert explanation.provenance["device"] == "cpu"
    assert {"lrpexplain", "torch", "SimpleITK", "numpy", "python"} <= set(explanation.provenance["versions"])


def test_a_dicom_series_is_explained_on_its_own_grid(tmp_path, oblique_volume):
    volume = sitk.Cast(oblique_volume, sitk.sitkInt16)
    write_series(volume, tmp_path / "series")
    explanation = explain(save_model(tmp_path, segmenter()), [tmp_path / "series"])
    (relevance,) = explanation.relevance
    assert relevance.GetSize() == volume.GetSize()
    np.testing.assert_allclose(relevance.GetDirection(), volume.GetDirection(), atol=1e-6)
    assert explanation.volumes[0]["name"] == "series"
    assert len(explanation.volumes[0]["sha256"]) == 64
    assert_closed(explanation)


@pytest.mark.parametrize(("activation", "threshold"), [("sigmoid", 50), ("none", 75)])
def test_one_channel_alone_speaks_for_its_class(tmp_path, oblique_volume, activation, threshold):
    """With input x in 0..1 the network says 2 x - 1: above 0 under sigmoid, above 0.5 as a probability."""
    network = nn.Conv3d(1, 1, 1)
    network.weight.data[:] = 2
    network.bias.data[:] = -1
    output = classes("lesion", activation=activation)
    explanation = explain(
        save_model(tmp_path, network, preprocessing={"intensity": RANGE}, output=output), [oblique_volume]
    )
    expected = array(oblique_volume) > threshold
    assert 0 < expected.sum() < expected.size
    np.testing.assert_array_equal(array(explanation.prediction.segmentation), expected)
    assert explanation.target["voxels"] == expected.sum()
    assert [entry["name"] for entry in explanation.prediction.classes] == ["background", "lesion"]


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 TB")]
)
def test_a_lack_of_memory_is_said_plainly(tmp_path, oblique_volume, monkeypatch, error):
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(lrp, "evaluate", fail)
    with pytest.raises(UserError, match="not enough memory"):
        explain(save_model(tmp_path, segmenter()), [oblique_volume])


def test_a_mistake_of_ours_is_not_dressed_up(tmp_path, oblique_volume, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(lrp, "evaluate", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        explain(save_model(tmp_path, segmenter()), [oblique_volume])


class TwoOutputs(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, x


class Broken(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, x * float("inf")], dim=1)


def _mute() -> nn.Module:
    """A classifier that says 0 for every class."""
    network = classifier()
    nn.init.zeros_(network[-1].weight)
    nn.init.zeros_(network[-1].bias)
    return network


def _silent() -> nn.Module:
    """Predicts background everywhere."""
    network = segmenter()
    network[-1].bias.data[0] = 1000.0
    return network


@pytest.mark.parametrize(
    ("network", "card", "arguments", "expected"),
    [
        (segmenter(), {}, {"target": "tumour"}, "no class 'tumour': choose one of 0 class 0, 1 class 1"),
        (segmenter(), {}, {"target": 3}, "no class '3'"),
        (segmenter(), {}, {"composite": "magic"}, "no composite 'magic'"),
        (segmenter(), {}, {"device": "abacus"}, "no device 'abacus'"),
        (_silent(), {}, {}, "nothing but background"),
        (_silent(), {}, {"target": 1}, "in no voxel.*predicted: class 0"),
        (segmenter(channels=2), {}, {}, "takes 2 input channels, but 1 volume was given"),
        (
            segmenter(),
            {"inputs": [{"name": "T1"}, {"name": "FLAIR"}]},
            {},
            r"takes 2 volumes \(T1, FLAIR\), but got 1: give one for each",
        ),
        (segmenter(), {"output": classes("a", "b")}, {}, "names 2 classes"),
        (classifier(), {"task": "segmentation"}, {}, "must have the input's size"),
        (TwoOutputs(), {}, {}, "returns a tuple"),
        (Broken(), {}, {}, "output holds NaN"),
        (_mute(), {"task": "classification"}, {}, "exactly 0"),
    ],
)
def test_requests_that_make_no_sense_are_refused_in_one_sentence(
    tmp_path, oblique_volume, network, card, arguments, expected
):
    model = save_model(tmp_path, network, **card)
    with pytest.raises((UserError, lrp.LRPError), match=expected) as caught:
        explain(model, [oblique_volume], **arguments)
    assert "\n" not in str(caught.value)


def test_a_single_volume_outside_a_list_is_a_mistake_of_the_caller(tmp_path, oblique_volume):
    with pytest.raises(TypeError, match="list"):
        explain(save_model(tmp_path, segmenter()), oblique_volume)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"model": segmenter()}, "a model is a file or what load_model returns, not Sequential"),
        ({"volumes": [np.zeros((4, 5, 6))]}, "a volume is a path or a SimpleITK image, not ndarray"),
        ({"region": "lesion.nrrd"}, "a region is a Segment, a Box, Points or Everywhere, not str"),
        ({"region": np.ones((14, 26, 30))}, "Everywhere, not ndarray"),
    ],
)
def test_what_is_given_in_the_wrong_kind_is_a_mistake_of_the_caller(tmp_path, oblique_volume, arguments, said):
    usual = {"model": save_model(tmp_path, segmenter()), "volumes": [oblique_volume], "target": 1}
    with pytest.raises(TypeError, match=said):
        explain(**usual | arguments)


def test_a_segment_is_made_of_an_image():
    with pytest.raises(TypeError, match="a segment is made of a SimpleITK image, not str: read a file with read_segm"):
        Segment("lesion.nrrd", "lesion")


def test_each_figure_of_the_ledger_is_summed_from_its_own_terms():
    first, second = np.full((2, 2, 2), 1.0, np.float32), np.zeros((2, 3, 4), np.float32)
    first[0, 0, 0], second[1, 2, 3], second[0, 0, 0] = -3.0, 2.0, -0.5  # 7 - 3 and 2 - 0.5
    unseen = [np.zeros(first.shape, bool), np.zeros(second.shape, bool)]
    unseen[0][0, 0], unseen[1][0, 0, 0] = True, True
    account = {"absorbed": 2.0, "absorbed_bias": 1.5, "absorbed_stabiliser": 0.25, "changed": 0.25, "by_layer": []}
    images = [sitk.GetImageFromArray(array) for array in (first, second)]
    ledger = ledger_facts(-8.0, images, [0.125, 0.25], account, unseen)
    assert (ledger["in_volume"], ledger["in_volume_by_input"]) == (5.5, [4.0, 1.5])
    assert (ledger["in_volume_positive"], ledger["in_volume_negative"]) == (9.0, -3.5)
    assert (ledger["outside"], ledger["outside_by_input"]) == (0.375, [0.125, 0.25])
    assert ledger["gap"] == -8.0 - 5.5 - 2.0 - 0.375
    assert ledger["relative_gap"] == pytest.approx(15.875 / 8)
    assert ledger["share_by_input"] == pytest.approx([4 / 5.5, 1.5 / 5.5])
    assert ledger["absolute_share_by_input"] == pytest.approx([10 / 12.5, 2.5 / 12.5])
    assert (ledger["unseen_voxels_by_input"], ledger["unseen_relevance"]) == ([2, 1], 4.5)
    assert {key: ledger[key] for key in account} == account
    all_seen = ledger_facts(-8.0, images, [0.125, 0.25], account)
    assert (all_seen["unseen_voxels_by_input"], all_seen["unseen_relevance"]) == ([0, 0], 0.0)
