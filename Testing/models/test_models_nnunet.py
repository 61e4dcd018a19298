"""Trained models made by nnunetv2 itself: same input voxels, same logits, same segmentation."""

import json
import os
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from helpers.nnunet import DATASET, case
from LRPExplainLib.explain import explain
from LRPExplainLib.imaging import prepare
from LRPExplainLib.imaging.windows import Windows
from LRPExplainLib.models import Preprocessing, draft_card, load_model
from LRPExplainLib.models.loading import trust_request
from LRPExplainLib.models.nnunet.card import make_card
from LRPExplainLib.models.nnunet.plans import configuration
from LRPExplainLib.outcome import read_outcome

CONFIGURATIONS = ("3d_fullres", "2d")


def trained(results: Path, configuration: str) -> Path:
    return results / f"nnUNetTrainer__nnUNetPlans__{configuration}"


def transposed(array, order=(2, 0, 1)):
    """From [C, k, j, i] to the axes of the networks that helpers.nnunet trains."""
    return np.asarray(array).transpose(0, *(axis + 1 for axis in order))


def preprocessed(volumes, plans: dict, dataset: dict, name: str, folder: Path) -> np.ndarray:
    """What nnU-Net's own preprocessor makes of the volumes."""
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    files = [str(folder / f"x_{n:04d}.nrrd") for n in range(len(volumes))]
    for volume, file in zip(volumes, files, strict=True):
        sitk.WriteImage(volume, file)
    manager = PlansManager(plans)
    data, _, _ = DefaultPreprocessor(verbose=False).run_case(
        files, None, manager, manager.get_configuration(name), dataset
    )
    return data


def predictor(folder: Path, folds: tuple[int, ...]):
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    made = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    made.initialize_from_trained_model_folder(str(folder), folds)
    return made


VOLUMES = {
    "the model's own voxels": (3.6, 1.0, 1.1),
    "anisotropic": (4.3, 0.9, 1.2),
    "isotropic": (1.3, 1.3, 1.3),
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
@pytest.mark.parametrize("spacing", VOLUMES.values(), ids=VOLUMES)
def test_the_network_sees_the_voxels_that_nnunet_would_show_it(nnunet_results, tmp_path, name, spacing):
    folder = trained(nnunet_results, name)
    volumes, _ = case(spacing, 7)
    plans, dataset = (json.loads((folder / file).read_text()) for file in ("plans.json", "dataset.json"))
    theirs = preprocessed(volumes, plans, dataset, name, tmp_path)
    ours = transposed(prepare(volumes, load_model(folder).card.preprocessing).tensor[0])
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


EDITS = {
    "no anisotropy": {"spacing": [1.7, 1.2, 1.3]},
    "fine": {"spacing": [0.9, 0.8, 0.6]},
    "3d_lowres": {"spacing": [5.1, 2.1, 2.3]},
    "no mask": {"use_mask_for_norm": [False, False]},
    "other schemes": {"normalization_schemes": ["RescaleTo01Normalization", "NoNormalization"]},
    "no resampling": {"resampling_fn_data": "no_resampling_hack", "resampling_fn_data_kwargs": {}},
}
ORDERS = {"as they are": [0, 1, 2], "j first": [1, 0, 2], "reversed": [2, 1, 0]}


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("reader", ["SimpleITKIO", "SimpleITKIOWithReorient"])
def test_other_plans_give_nnunets_voxels_too(nnunet_results, tmp_path, edit, order, reader):
    folder = trained(nnunet_results, "3d_fullres")
    plans, dataset = (json.loads((folder / file).read_text()) for file in ("plans.json", "dataset.json"))
    plans |= {"transpose_forward": ORDERS[order], "image_reader_writer": reader}
    plans["configurations"]["3d_fullres"] |= EDITS[edit]
    if edit == "no resampling":
        plans["configurations"]["3d_fullres"]["resampling_fn_seg"] = "no_resampling_hack"
        plans["configurations"]["3d_fullres"]["resampling_fn_seg_kwargs"] = {}
    volumes, _ = case((3.1, 1.1, 0.9), 3)
    theirs = preprocessed(volumes, plans, dataset, "3d_fullres", tmp_path)
    card = make_card(plans, dataset, configuration(plans, "3d_fullres"), None, "n", "w", {})
    ours = transposed(prepare(volumes, card.preprocessing).tensor[0], ORDERS[order])
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, atol=1e-3 if edit == "other schemes" else 1e-4)


@pytest.mark.parametrize("name", CONFIGURATIONS)
@pytest.mark.parametrize(("path", "folds"), [("fold_1", (1,)), ("fold_0/checkpoint_final.pth", (0,)), ("", (0, 1))])
def test_logits_are_nnunets(nnunet_results, name, path, folds):
    """Of one fold, of one checkpoint, and of all folds' mean; in nnU-Net's axes and in ours."""
    folder = trained(nnunet_results, name)
    model = load_model(folder / path)
    theirs = predictor(folder, folds)
    torch.manual_seed(0)
    x = torch.randn(1, 2, *((16, 12, 8) if name == "3d_fullres" else (16, 12)))  # [k, j, i], of slices [k, j]
    expected = torch.zeros(())
    with torch.no_grad():
        for weights in theirs.list_of_parameters:
            theirs.network.load_state_dict(weights)
            theirs.network.eval()
            if name == "3d_fullres":
                expected = expected + theirs.network(x.permute(0, 1, 4, 2, 3)).permute(0, 1, 3, 4, 2)
            else:
                expected = expected + theirs.network(x)
        ours = model.module(x)
    torch.testing.assert_close(ours, expected / len(folds), atol=1e-5, rtol=1e-5)
    assert not model.module.training


def test_the_card_says_what_the_plans_say(nnunet_results):
    model = load_model(trained(nnunet_results, "3d_fullres"))
    card = model.card
    assert [(entry.name, entry.modality) for entry in card.inputs] == [("T1", None), ("CT", "CT")]
    assert [entry.name for entry in card.output.classes] == ["background", "edge", "core"]
    assert (card.task, card.output.activation, card.stated) == ("segmentation", "softmax", True)
    assert card.preprocessing.spacing == pytest.approx((3.6, 1.0, 1.1))
    window = dict(card.preprocessing.window)
    assert sorted(window.pop("mirror")) == ["i", "j", "k"]
    assert window == {
        "size": [8, 16, 16], "overlap": 0.5, "placement": "nnunet", "blending": "gaussian", "sigma": 0.125
    }  # fmt: skip
    flat = load_model(trained(nnunet_results, "2d")).card.preprocessing
    assert flat.slices == {"axis": "i"}
    assert flat.spacing == (None, pytest.approx(1.0), pytest.approx(1.1))
    assert sorted(flat.window["mirror"]) == ["j", "k"]
    assert len(model.sha256) == 64
    assert card.texts["training"]["folds"] == ["fold_0", "fold_1"]


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_card_drafted_from_the_folder_says_the_same(nnunet_results, tmp_path, name):
    folder = trained(nnunet_results, name)
    content, notes = draft_card(folder)
    assert not notes
    (tmp_path / "mine.json").write_text(json.dumps(content))
    own, drafted = load_model(folder).card, load_model(folder, card=tmp_path / "mine.json").card
    assert (own.inputs, own.preprocessing, own.output) == (drafted.inputs, drafted.preprocessing, drafted.output)


def test_regions_are_painted_one_over_the_other(nnunet_results):
    """As nnU-Net's label manager paints them; a region's label is its number here, and regions_class_order there."""
    from nnunetv2.utilities.label_handling.label_handling import LabelManager

    folder = trained(nnunet_results, "3d_fullres")
    plans = json.loads((folder / "plans.json").read_text())
    labels = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "active": 3}
    dataset = {"channel_names": {"0": "T1", "1": "CT"}, "labels": labels, "regions_class_order": [1, 2, 3]}
    card = make_card(plans, dataset, configuration(plans, "3d_fullres"), None, "n", "w", {})
    volumes, _ = case((3.6, 1.0, 1.1), 2)
    prepared = prepare(volumes, Preprocessing())
    torch.manual_seed(0)
    logits = torch.randn(1, 3, *prepared.grid.shape)
    segmentation = read_outcome(logits, card.completed(logits.shape), prepared).prediction(prepared).segmentation
    expected = LabelManager(labels, [1, 2, 3]).convert_logits_to_segmentation(logits[0])
    np.testing.assert_array_equal(sitk.GetArrayFromImage(segmentation), expected)


def test_an_exported_zip_is_the_same_model(nnunet_results, tmp_path):
    from nnunetv2.model_sharing.model_export import export_pretrained_model

    folder = trained(nnunet_results, "3d_fullres")
    for fold in ("fold_0", "fold_1"):
        (folder / fold / "validation").mkdir(exist_ok=True)
        (folder / fold / "validation" / "summary.json").write_text("{}")  # what a whole training leaves there
    places = {
        "nnUNet_results": str(nnunet_results.parent),
        "nnUNet_raw": str(nnunet_results.parents[1] / "nnUNet_raw"),
        "nnUNet_preprocessed": str(nnunet_results.parents[1] / "nnUNet_preprocessed"),
    }
    with mock.patch.dict(os.environ, places):
        export_pretrained_model(DATASET, str(tmp_path / "e.zip"), ("3d_fullres",), folds=(0, 1))
    exported, original = load_model(tmp_path / "e.zip"), load_model(folder)
    x = torch.randn(1, 2, 8, 8, 8)
    with torch.no_grad():
        assert torch.equal(exported.module(x), original.module(x))
    assert exported.card.preprocessing == original.card.preprocessing
    for path, model in ((tmp_path / "e.zip", exported), (folder, original)):
        request = trust_request(path)
        assert (request.sentences, request.sha256) == ((), model.sha256)


@contextmanager
def summing_in_float32():
    """nnU-Net adds windows up in float16, which alone costs 1e-3 of the logits."""
    import nnunetv2.inference.predict_from_raw_data as predicting

    exact = SimpleNamespace(**{key: getattr(torch, key) for key in dir(torch)})
    exact.half = torch.float32
    with mock.patch.object(predicting, "torch", exact):
        yield


@pytest.mark.parametrize("name", CONFIGURATIONS)
@pytest.mark.parametrize("spacing", [(3.6, 1.0, 1.1), (4.3, 0.9, 1.2)])
def test_logits_of_a_whole_volume_are_nnunets(nnunet_results, tmp_path, name, spacing):
    """Cropped, scaled, resampled, windowed, mirrored and averaged over two folds."""
    folder = trained(nnunet_results, name)
    volumes, _ = case(spacing, 5)
    plans, dataset = (json.loads((folder / file).read_text()) for file in ("plans.json", "dataset.json"))
    with summing_in_float32():
        data = torch.from_numpy(preprocessed(volumes, plans, dataset, name, tmp_path))
        theirs = predictor(folder, (0, 1)).predict_logits_from_preprocessed_data(data)
    model = load_model(folder)
    wishes = model.card.preprocessing
    x = prepare(volumes, wishes).tensor
    windows = Windows(x.shape[2:], wishes.window, wishes.slices)
    ours = torch.zeros(1, 3, *x.shape[2:])
    with torch.no_grad():
        for view in windows.views:
            windows.blend(model.module(windows.cut(x, view)), view, ours)
    assert len(windows.views) >= 18
    np.testing.assert_allclose(transposed(ours[0]), theirs, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_explain_gives_nnunets_segmentation_and_a_closed_ledger(nnunet_results, name):
    """On a volume of 3 x 3 x 2 windows and more with the model's own voxels."""
    folder = trained(nnunet_results, name)
    volumes, _ = case((3.6, 1.0, 1.1), 11)
    arrays = np.stack([sitk.GetArrayFromImage(volume) for volume in volumes])
    with summing_in_float32():
        expected = predictor(folder, (0, 1)).predict_single_npy_array(arrays, {"spacing": [1.1, 1.0, 3.6]})
    model = load_model(folder)
    i, j, k = prepare(volumes, model.card.preprocessing).grid.size
    assert i > 8
    assert min(j, k) >= 32
    explanation = explain(model, volumes, device="cpu")
    found = sitk.GetArrayFromImage(explanation.prediction.segmentation)
    assert expected.any()
    assert (found == expected).mean() > 0.9999
    assert explanation.ledger["relative_gap"] < 1e-3
    assert explanation.ledger["outside"] == 0
