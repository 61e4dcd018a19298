"""A cascade of nnU-Net: its second stage takes the first one's segmentation as input, as nnunetv2 gives it."""

import json
import shutil
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from helpers.nnunet import cascade, case
from LRPExplainLib import cli
from LRPExplainLib.errors import UserError
from LRPExplainLib.evaluation import Subject
from LRPExplainLib.explain import explain, plan
from LRPExplainLib.explanation import Explanation
from LRPExplainLib.imaging import Everywhere, Grid, prepare
from LRPExplainLib.imaging.stages import labels_of_logits
from LRPExplainLib.models import default_card, draft_card, load_model
from LRPExplainLib.models.nnunet.card import make_card, painted_values
from LRPExplainLib.models.nnunet.plans import configuration
from LRPExplainLib.outcome import labels_of_scores

NAME = "3d_cascade_fullres"
ORDERS = {"as trained": [2, 0, 1], "as they are": [0, 1, 2], "j first": [1, 0, 2]}
SPACINGS = {"the model's": None, "isotropic": [1.7, 1.2, 1.3], "fine": [0.9, 0.8, 0.6], "coarse": [5.1, 2.1, 2.3]}


@pytest.fixture(scope="module")
def stages(nnunet_results, tmp_path_factory) -> Path:
    return cascade(nnunet_results, tmp_path_factory.mktemp("cascade"))


def stage(stages: Path, name: str) -> Path:
    return stages / f"nnUNetTrainer__nnUNetPlans__{name}"


def theirs(folder: Path, volumes, labels: np.ndarray | None):
    """nnU-Net's segmentation [k, j, i] of these volumes, given the one of the stage before."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    made = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    made.initialize_from_trained_model_folder(str(folder), (0,))
    arrays = np.stack([sitk.GetArrayFromImage(volume) for volume in volumes])
    properties = {"spacing": list(reversed(volumes[0].GetSpacing()))}
    return made.predict_single_npy_array(arrays, properties, None if labels is None else labels[None].astype(np.int16))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("reader", ["SimpleITKIO", "SimpleITKIOWithReorient"])
def test_the_network_sees_the_one_hot_voxels_that_nnunet_would_show_it(stages, tmp_path, order, spacing, reader):
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
    from nnunetv2.utilities.label_handling.label_handling import convert_labelmap_to_one_hot
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    folder = stage(stages, NAME)
    plans, dataset = (json.loads((folder / file).read_text()) for file in ("plans.json", "dataset.json"))
    plans |= {"transpose_forward": ORDERS[order], "image_reader_writer": reader}
    if SPACINGS[spacing] is not None:
        plans["configurations"]["3d_fullres"]["spacing"] = SPACINGS[spacing]
    volumes, labels = case((3.1, 1.1, 0.9), 3)
    files = [str(tmp_path / f"x_{n}.nrrd") for n in range(3)]
    for image, file in zip([*volumes, labels], files, strict=True):
        sitk.WriteImage(image, file)
    manager = PlansManager(plans)
    own = manager.get_configuration(NAME)
    data, seg, _ = DefaultPreprocessor(verbose=False).run_case(files[:2], files[2], manager, own, dataset)
    values = manager.get_label_manager(dataset).foreground_labels
    expected = np.vstack((data, convert_labelmap_to_one_hot(seg[0], values, data.dtype)))
    card = make_card(plans, dataset, configuration(plans, NAME), None, "n", "w", {})
    assert card.inputs[-1].labels == tuple(values)
    on = [entry.labels or None for entry in card.inputs]
    ours = prepare([*volumes, labels], card.preprocessing, labels=on).tensor[0].numpy()
    ours = ours.transpose(0, *(axis + 1 for axis in ORDERS[order]))
    assert ours.shape == expected.shape
    assert expected[2:].any(axis=(1, 2, 3)).all()
    np.testing.assert_array_equal(ours[2:], expected[2:])
    np.testing.assert_allclose(ours[:2], expected[:2], atol=1e-4)


@pytest.mark.parametrize("spacing", [(3.6, 1.0, 1.1), (2.2, 1.4, 1.3)])
def test_the_first_stage_is_run_and_all_of_it_is_nnunets(stages, spacing):
    """The first stage's segmentation, the second one's, and a ledger over all inputs."""
    volumes, _ = case(spacing, 11)
    before = theirs(stage(stages, "3d_lowres"), volumes, None)
    expected = theirs(stage(stages, NAME), volumes, before)
    assert before.any()
    assert expected.any()
    folder = stage(stages, NAME)
    alone = explain(folder, volumes, device="cpu")
    given = sitk.GetImageFromArray(before.astype(np.uint8))
    given.CopyInformation(volumes[0])
    together = explain(folder, [*volumes, given], device="cpu")
    for explanation in (alone, together):
        ledger = explanation.ledger
        assert ledger["relative_gap"] < 1e-3
        assert len(explanation.relevance) == len(ledger["in_volume_by_input"]) == 3
        assert abs(ledger["in_volume_by_input"][2]) > 1e-6 * abs(ledger["target_value"])
        np.testing.assert_allclose(
            ledger["in_volume_by_input"],
            [sitk.GetArrayFromImage(image).sum(dtype=np.float64) for image in explanation.relevance],
        )
    np.testing.assert_allclose(alone.ledger["in_volume_by_input"], together.ledger["in_volume_by_input"], rtol=2e-2)
    if spacing == (3.6, 1.0, 1.1):  # elsewhere labels return to the volume by nearest neighbour
        found = sitk.GetArrayFromImage(together.prediction.segmentation)
        assert (found == expected).mean() > 0.999
    assert (alone.given, together.given) == (2, 3)
    assert alone.volumes[2]["name"] == "segmentation of 3d_lowres"
    assert alone.volumes[2]["made_by"]["path"] == str(stage(stages, "3d_lowres").resolve())


def test_the_first_stages_segmentation_is_nnunets_to_the_voxel(stages):
    from LRPExplainLib.cascade import previous_segmentation

    model = load_model(stage(stages, NAME))
    for spacing in ((3.6, 1.0, 1.1), (2.2, 1.4, 1.3), (4.3, 0.9, 1.2)):
        volumes, _ = case(spacing, 5)
        expected = theirs(stage(stages, "3d_lowres"), volumes, None)
        made, maker = previous_segmentation(
            model.previous, volumes, ["T1", "CT"], torch.device("cpu"), None, lambda share, which: None
        )
        assert (sitk.GetArrayFromImage(made) == expected).mean() > 0.9995
        assert made.GetDirection() == volumes[0].GetDirection()
        assert maker["sha256"] == load_model(stage(stages, "3d_lowres")).sha256


def test_a_segmentation_of_another_geometry_gets_its_relevance_back(stages):
    volumes, labels = case((3.6, 1.0, 1.1), 2)
    coarse = sitk.Resample(labels, [20, 24, 24], sitk.Transform(), sitk.sitkNearestNeighbor, labels.GetOrigin(),
                           [3.0, 2.0, 2.0], labels.GetDirection())  # fmt: skip
    explanation = explain(stage(stages, NAME), [*volumes, coarse], device="cpu")
    assert explanation.relevance[2].GetSize() == (20, 24, 24)
    assert explanation.ledger["relative_gap"] < 1e-3


def test_from_the_shell_with_and_without_the_segmentation(stages, tmp_path, capsys):
    volumes, labels = case((3.6, 1.0, 1.1), 2)
    paths = [tmp_path / f"{n}.nrrd" for n in range(3)]
    for image, path in zip([*volumes, labels], paths, strict=True):
        sitk.WriteImage(image, str(path))
    for count in (2, 3):
        arguments = ["explain", "--model", str(stage(stages, NAME)), "--device", "cpu", "--out", str(tmp_path / "out")]
        assert cli.main([*arguments, "--volume", *map(str, paths[:count])]) == 0
        assert "segmentation of 3d_lowres" in capsys.readouterr().out
        record = tmp_path / f"record_{count}.html"
        assert cli.main(["record", str(tmp_path / "out"), "--out", str(record), "--no-views"]) == 0
        given = ["--model", str(stage(stages, NAME)), "--volume", *map(str, paths[:count])]
        assert cli.main(["verify", str(record), *given, "--device", "cpu"]) == 0
        assert "The record agrees" in capsys.readouterr().out
        assert Subject.of(Explanation.load(tmp_path / "out"), device="cpu").views >= 1  # which checks of it run
    assert cli.main(["inspect", str(stage(stages, NAME))]) == 0
    assert plan(stage(stages, NAME), volumes, device="cpu")["windows"] >= 18


def test_what_is_missing_or_wrong_is_one_sentence(stages, tmp_path):
    volumes, labels = case((3.6, 1.0, 1.1), 2)
    copied = tmp_path / "copied"
    shutil.copytree(stage(stages, NAME), copied)
    with pytest.raises(UserError, match="put the trained model of the previous stage beside it"):
        explain(copied, volumes, device="cpu")
    with pytest.raises(UserError, match="holds the labels 7 and none of 1, 2"):
        explain(copied, [*volumes, sitk.Cast(labels > 0, sitk.sitkUInt8) * 7], device="cpu")
    with pytest.raises(UserError, match="no whole numbers"):
        explain(copied, [*volumes, volumes[0]], device="cpu")
    empty = explain(copied, [*volumes, labels * 0], "core", device="cpu", region=Everywhere())
    assert (empty.given, empty.ledger["relative_gap"] < 1e-3) == (3, True)


def test_its_card_can_be_drafted_and_names_the_label_map(stages, tmp_path):
    content, notes = draft_card(stage(stages, NAME))
    assert not notes
    assert content["inputs"][2] == {"name": "segmentation of 3d_lowres", "modality": "SEG", "labels": (1, 2)}
    (tmp_path / "mine.json").write_text(json.dumps(content))
    model = load_model(stage(stages, NAME), card=tmp_path / "mine.json")
    assert model.card.inputs == load_model(stage(stages, NAME)).card.inputs
    content["inputs"].reverse()
    (tmp_path / "mine.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="behind all images"):
        load_model(stage(stages, NAME), card=tmp_path / "mine.json")


def test_of_many_classes_one_after_the_other_is_brought_back_to_the_volume():
    """Sixty classes of a CT at once would take more memory than all else together."""
    fine, coarse = (Grid.of(sitk.GetImageFromArray(np.zeros(shape, np.float32))) for shape in ((8, 12, 10), (4, 6, 5)))
    coarse = replace(coarse, spacing=(2.0, 2.0, 2.0), origin=(0.5, 0.5, 0.5))
    held: list[weakref.ref[torch.Tensor]] = []

    def decide(scores: Iterator[torch.Tensor]) -> torch.Tensor:
        for score in scores:
            held.append(weakref.ref(score))
            shape = score.shape
            del score
            assert [ref for ref in held if ref() is not None] == []
        return torch.zeros(shape, dtype=torch.int64)

    labels_of_logits(torch.rand(9, 4, 6, 5), coarse, coarse, fine, fine, None, None, decide)
    assert len(held) == 9


def test_a_label_map_has_no_room_for_more_than_255_classes():
    scores = torch.rand(257, 1, 1, 2)
    card = default_card(Path("model.ts")).completed((1, *scores.shape))
    with pytest.raises(UserError, match="257 classes, but a label map holds 255"):
        labels_of_scores(scores, len(scores), card)
    assert torch.equal(labels_of_scores(scores[:256], 256, card), scores[:256].argmax(0))


def test_regions_become_the_labels_that_nnunet_paints_them_with():
    labels = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "active": 3, "ignore": 4}
    assert painted_values({"labels": labels, "regions_class_order": [1, 2, 3]}) == (0, 1, 2, 3)
    assert painted_values({"labels": labels, "regions_class_order": [1, 3, 2]}) == (0, 1, 3, 2)
