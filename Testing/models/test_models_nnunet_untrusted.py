"""Trained models of nnU-Net from strangers, damaged, or of kinds that are not read: one sentence each."""

import json
import zipfile
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from LRPExplainLib.errors import UserError
from LRPExplainLib.models import draft_card, load_model

pytest.importorskip("dynamic_network_architectures")

UNET = "dynamic_network_architectures.architectures.unet"
ARGUMENTS = {
    "n_stages": 2,
    "features_per_stage": [2, 4],
    "conv_op": "torch.nn.modules.conv.Conv3d",
    "kernel_sizes": [[3, 3, 3], [3, 3, 3]],
    "strides": [[1, 1, 1], [2, 2, 2]],
    "n_conv_per_stage": [1, 1],
    "n_conv_per_stage_decoder": [1],
    "conv_bias": True,
    "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
    "norm_op_kwargs": {"eps": 1e-05, "affine": True},
    "dropout_op": None,
    "dropout_op_kwargs": None,
    "nonlin": "torch.nn.LeakyReLU",
    "nonlin_kwargs": {"inplace": True},
}
IMPORTED = ["conv_op", "norm_op", "dropout_op", "nonlin"]
CONFIGURATION = {
    "preprocessor_name": "DefaultPreprocessor",
    "patch_size": [8, 8, 8],
    "spacing": [1.0, 1.0, 1.0],
    "normalization_schemes": ["ZScoreNormalization"],
    "use_mask_for_norm": [False],
    "resampling_fn_data": "resample_data_or_seg_to_shape",
    "resampling_fn_data_kwargs": {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None},
    "architecture": {
        "network_class_name": f"{UNET}.PlainConvUNet",
        "arch_kwargs": ARGUMENTS,
        "_kw_requires_import": IMPORTED,
    },
}
OLD = {
    "UNet_class_name": "PlainConvUNet",
    "UNet_base_num_features": 2,
    "unet_max_num_features": 4,
    "n_conv_per_stage_encoder": [1, 1],
    "n_conv_per_stage_decoder": [1],
    "num_pool_per_axis": [1, 1, 1],
    "pool_op_kernel_sizes": [[1, 1, 1], [2, 2, 2]],
    "conv_kernel_sizes": [[3, 3, 3], [3, 3, 3]],
}


def network(heads: int = 2) -> torch.nn.Module:
    from dynamic_network_architectures.architectures.unet import PlainConvUNet

    classes = {"conv_op": torch.nn.Conv3d, "norm_op": torch.nn.InstanceNorm3d, "nonlin": torch.nn.LeakyReLU}
    torch.manual_seed(0)
    return PlainConvUNet(input_channels=1, num_classes=heads, **{**ARGUMENTS, **classes}).eval()


def write(
    folder: Path,
    plans: dict[str, Any] | None = None,
    dataset: dict[str, Any] | None = None,
    checkpoint: dict[str, Any] | None = None,
    **changes: Any,
) -> Path:
    """A trained model of one fold; `changes` go to its configuration."""
    (folder / "fold_0").mkdir(parents=True, exist_ok=True)
    own = {
        "dataset_name": "Dataset001_X",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "foreground_intensity_properties_per_channel": {"0": {}},
        "configurations": {"3d_fullres": {**CONFIGURATION, **changes}},
    }
    facts = {"channel_names": {"0": "T1"}, "labels": {"background": 0, "lesion": 1}}
    (folder / "plans.json").write_text(json.dumps({**own, **(plans or {})}))
    (folder / "dataset.json").write_text(json.dumps({**facts, **(dataset or {})}))
    saved = {
        "network_weights": network().state_dict(),
        "logging": {"mean_fg_dice": [np.float64(0.5), np.float32(0.25)]},
        "_best_ema": np.float64(0.5),
        "init_args": {"configuration": "3d_fullres"},
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1, 2),
    }
    torch.save({**saved, **(checkpoint or {})}, folder / "fold_0" / "checkpoint_final.pth")
    return folder


def zipped(folder: Path, path: Path, prefix: str = "D/T__P__3d_fullres/") -> Path:
    with zipfile.ZipFile(path, "a") as archive:
        for file in sorted(folder.rglob("*.*")):
            archive.write(file, prefix + file.relative_to(folder).as_posix())
    return path


def test_a_hand_made_model_is_sound(tmp_path):
    """So that what is refused below is refused for its one change."""
    x = torch.rand(1, 1, 8, 8, 8)
    with torch.no_grad():
        expected = network()(x)
        for model in (load_model(write(tmp_path / "m")), load_model(zipped(tmp_path / "m", tmp_path / "m.zip"))):
            torch.testing.assert_close(model.module(x), expected)


def test_a_low_resolution_configuration_is_read_by_its_name(tmp_path):
    plans = {"configurations": {"3d_fullres": CONFIGURATION, "3d_lowres": {**CONFIGURATION, "spacing": [4, 3, 2]}}}
    folder = write(tmp_path / "T__P__3d_lowres", plans, checkpoint={"init_args": {"configuration": "3d_lowres"}})
    card = load_model(folder).card
    assert card.preprocessing.spacing == (2, 3, 4)
    assert card.texts["training"]["configuration"] == "3d_lowres"


@pytest.mark.parametrize("place", ["", "fold_0", "fold_0/checkpoint_latest.pth", "zip"])
def test_a_training_that_was_stopped_leaves_its_latest_checkpoint(tmp_path, place):
    folder = write(tmp_path / "T__P__3d_fullres")
    expected = load_model(folder).module
    final = folder / "fold_0" / "checkpoint_final.pth"
    final.rename(final.with_name("checkpoint_latest.pth"))
    path = zipped(folder, tmp_path / "export.zip") if place == "zip" else folder / place
    x = torch.rand(1, 1, 8, 8, 8)
    with torch.no_grad():
        assert torch.equal(load_model(path).module(x), expected(x))


def test_a_fold_that_is_not_ready_is_left_out_and_said(tmp_path):
    folder = write(tmp_path / "model")
    for fold, kind in ((1, "final"), (2, "latest"), (3, "best")):
        place = folder / f"fold_{fold}" / f"checkpoint_{kind}.pth"
        place.parent.mkdir()
        place.write_bytes((folder / "fold_0" / "checkpoint_final.pth").read_bytes())
    card = load_model(folder).card
    assert card.texts["training"]["folds"] == ["fold_0", "fold_1"]
    assert card.notes[-1:] == (
        "Left out, without the checkpoint_final.pth that is read of the other folds: fold_2, fold_3.",
    )
    for one in (folder / "fold_2", write(tmp_path / "whole")):
        assert not any("Left out" in note for note in load_model(one).card.notes)


@pytest.mark.parametrize("missing", ["plans.json", "dataset.json"])
def test_what_a_trained_model_is_missing_is_said(tmp_path, missing):
    folder = write(tmp_path / "model")
    (folder / missing).unlink()
    with pytest.raises(UserError, match=f"has no {missing}: give a whole trained model"):
        load_model(folder)


def test_a_better_checkpoint_comes_before_the_latest(tmp_path):
    folder = write(tmp_path / "T__P__3d_fullres", checkpoint={"network_weights": NAN})
    final = folder / "fold_0" / "checkpoint_final.pth"
    final.rename(final.with_name("checkpoint_latest.pth"))
    write(folder)
    final.rename(final.with_name("checkpoint_best.pth"))
    assert load_model(folder).card.task == "segmentation"  # the other's weights would be refused


@pytest.mark.parametrize("name", ["ResidualEncoderUNet", "ResidualUNet"])
def test_residual_networks_are_read(tmp_path, name):
    """As nnU-Net's ResEnc presets plan them; older plans name another module for the same class."""
    from dynamic_network_architectures.architectures import unet

    arguments = {**ARGUMENTS, "n_blocks_per_stage": [1, 1]}
    del arguments["n_conv_per_stage"]
    classes = {"conv_op": torch.nn.Conv3d, "norm_op": torch.nn.InstanceNorm3d, "nonlin": torch.nn.LeakyReLU}
    torch.manual_seed(0)
    expected = getattr(unet, name)(input_channels=1, num_classes=2, **{**arguments, **classes}).eval()
    home = "residual_unet" if name == "ResidualEncoderUNet" else "unet"
    described = _architecture(
        network_class_name=f"dynamic_network_architectures.architectures.{home}.{name}",
        arch_kwargs={**arguments, "block": "dynamic_network_architectures.building_blocks.residual.BasicBlockD"},
        _kw_requires_import=[*IMPORTED, "block"],
    )
    model = load_model(write(tmp_path, checkpoint={"network_weights": expected.state_dict()}, **described))
    x = torch.rand(1, 1, 8, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(model.module(x), expected(x))


def test_older_plans_and_module_prefixes_are_read(tmp_path):
    old = {**CONFIGURATION, **OLD}
    del old["architecture"]
    plans = {"configurations": {"3d_fullres": {"inherits_from": "base"}, "base": old}}
    weights = {f"module.{key}": value for key, value in network().state_dict().items()}
    model = load_model(write(tmp_path, plans, {"modality": {"0": "CT"}}, {"network_weights": weights}))
    x = torch.rand(1, 1, 8, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(model.module(x), network()(x))


def test_regions_are_classes_by_themselves(tmp_path):
    labels = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "active": 3, "ignore": 4}
    dataset = {"labels": labels, "regions_class_order": [1, 2, 3]}
    folder = write(tmp_path, None, dataset, {"network_weights": network(3).state_dict()})
    model = load_model(folder)
    assert [entry.name for entry in model.card.output.classes] == ["whole", "core", "active"]
    assert (model.card.output.activation, model.card.output.overlap) == ("sigmoid", "last")
    assert draft_card(folder)[0]["output"]["overlap"] == "last"


def test_a_card_beside_the_folder_comes_first(tmp_path):
    folder = write(tmp_path / "m")
    card = {"schema": 1, "name": "Mine", "task": "segmentation", "weights": "m", "inputs": [{"name": "T2"}]}
    (tmp_path / "my.json").write_text(json.dumps(card))
    assert load_model(folder, card=tmp_path / "my.json").card.name == "Mine"


class Trap:
    """Makes a file where its pickle is run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def _architecture(**changes: Any) -> dict[str, Any]:
    return {"architecture": {**CONFIGURATION["architecture"], **changes}}


def _arguments(**changes: Any) -> dict[str, Any]:
    return _architecture(arch_kwargs={**ARGUMENTS, **changes})


def _text(folder: Path, file: str, text: str) -> Path:
    (folder / file).write_text(text)
    return folder


def _cut(folder: Path) -> Path:
    file = folder / "fold_0" / "checkpoint_final.pth"
    file.write_bytes(file.read_bytes()[:-2000])
    return folder


def _empty_fold(folder: Path) -> Path:
    (folder / "fold_0" / "checkpoint_final.pth").unlink()
    return folder


def _escaping(folder: Path) -> Path:
    path = zipped(folder, folder.parent / "m.zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../../evil.txt", "x")
    return path


def _bomb(folder: Path) -> Path:
    path = folder.parent / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("plans.json", b"0" * (256 << 20))
    return path


def _two(folder: Path) -> Path:
    path = zipped(folder, folder.parent / "m.zip")
    return zipped(folder, path, "D/T__P__2d/")


NAN = {key: value.fill_(float("nan")) for key, value in network().state_dict().items()}

BAD = {
    "pickled code": (lambda f: write(f, checkpoint={"logging": Trap(f / "ran")}), "would run code"),
    "foreign network": (
        lambda f: write(f, **_architecture(network_class_name="os.system")),
        "'os.system', which is not one of",
    ),
    "foreign network of a known name": (
        lambda f: write(f, **_architecture(network_class_name="evil.PlainConvUNet")),
        r"'evil\.PlainConvUNet'",
    ),
    "a layer as network": (lambda f: write(f, **_architecture(network_class_name="torch.nn.ReLU")), "torch.nn.ReLU"),
    "foreign layer": (lambda f: write(f, **_arguments(nonlin="builtins.eval")), r"'builtins\.eval'"),
    "unlisted layer": (lambda f: write(f, **_arguments(nonlin="torch.nn.Module")), r"'torch\.nn\.Module'"),
    "arguments that do not suit": (lambda f: write(f, **_arguments(wings=2)), "cannot be made"),
    "a network far larger than its weights": (
        lambda f: write(f, **_arguments(features_per_stage=[1 << 16, 1 << 16])),
        "far larger than its weights",
    ),
    "other weights": (lambda f: write(f, checkpoint={"network_weights": network(3).state_dict()}), "do not fit"),
    "NaN weights": (lambda f: write(f, checkpoint={"network_weights": NAN}), "NaN"),
    "no weights": (lambda f: write(f, checkpoint={"network_weights": None}), "not as nnU-Net v2 writes it"),
    "truncated": (lambda f: _cut(write(f)), "fetch or save it again|damaged"),
    "no checkpoint": (lambda f: _empty_fold(write(f)), "has no fold with checkpoint_final"),
    "plans that are no JSON": (lambda f: _text(write(f), "plans.json", "{"), "not readable JSON"),
    "deep JSON": (lambda f: _text(write(f), "dataset.json", "[" * 100_000), "not readable JSON"),
    "plans without configurations": (lambda f: _text(write(f), "plans.json", "{}"), "not as nnU-Net v2 writes it"),
    "another configuration": (
        lambda f: write(f, checkpoint={"init_args": {"configuration": "5d"}}),
        "no whole configuration '5d'",
    ),
    "a circle of configurations": (lambda f: write(f, inherits_from="3d_fullres"), "no whole configuration"),
    "cascade with the weights of another stage": (lambda f: write(f, previous_stage="3d_lowres"), "do not fit"),
    "own preprocessor": (lambda f: write(f, preprocessor_name="Mine"), "the preprocessor 'Mine'"),
    "own scheme": (lambda f: write(f, normalization_schemes=["Mine"]), "the normalisation 'Mine'"),
    "own resampling": (lambda f: write(f, resampling_fn_data="mine"), "the resampling 'mine'"),
    "another order": (lambda f: write(f, resampling_fn_data_kwargs={"order": 1}), "only nnU-Net's default"),
    "own reader": (lambda f: write(f, {"image_reader_writer": "Mine"}), "the reader 'Mine'"),
    "path escape": (lambda f: _escaping(write(f)), "outside its folder"),
    "zip bomb": (lambda f: _bomb(write(f)), "claims to hold"),
    "several models": (lambda f: _two(write(f)), r"several trained models \(T__P__2d, T__P__3d_fullres\)"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_models_are_refused_in_one_sentence(tmp_path, case):
    make, expected = BAD[case]
    path = make(tmp_path / "T__P__3d_fullres")
    with pytest.raises(UserError, match=expected) as caught:
        load_model(path)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("ran"))
    assert not (tmp_path.parent / "evil.txt").exists()


def test_the_package_of_the_networks_is_asked_for(tmp_path):
    folder = write(tmp_path)
    with (
        mock.patch("importlib.import_module", side_effect=ImportError),
        pytest.raises(UserError, match="pip install dynamic-network-architectures"),
    ):
        load_model(folder)
