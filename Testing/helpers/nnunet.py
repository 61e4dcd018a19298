"""An nnU-Net v2 results folder made by nnunetv2 itself: planned, preprocessed and trained for a few short epochs."""

import contextlib
import json
import os
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import SimpleITK as sitk
import torch

DATASET = "Dataset901_Synthetic"
LABELS = {"background": 0, "edge": 1, "core": 2}
# The coarse axis is i, so that nnU-Net transposes; 3.6 times as coarse, so that it resamples that axis by itself.
SPACINGS = [(3.6, 1.0, 1.1), (3.6, 1.0, 1.1), (4.3, 0.9, 1.2)]
EPOCHS = 3
PATCH = {"3d_fullres": [8, 16, 16], "2d": [16, 16]}


def case(spacing: tuple[float, float, float], seed: int) -> tuple[list[sitk.Image], sitk.Image]:
    """A T1 and a CT with a head of noise in a zero background, tilted in patient space, and their labels."""
    rng = np.random.default_rng(seed)
    size = np.array([15, 46, 42]) + rng.integers(0, 3, 3)
    k, j, i = np.meshgrid(*(np.arange(n) for n in reversed(size)), indexing="ij")
    centre = size / 2 + rng.uniform(-1, 1, 3)
    radius = np.sqrt(((i - centre[0]) / 6) ** 2 + ((j - centre[1]) / 18) ** 2 + ((k - centre[2]) / 16) ** 2)
    core, edge, head = radius < 0.35, radius < 0.6, radius < 1
    t1 = np.where(head, 300 + 200 * core + 40 * rng.standard_normal(head.shape), 0)
    ct = np.where(head, 30 + 25 * edge + 15 * rng.standard_normal(head.shape), 0)
    labels = edge.astype(np.uint8) + core
    tilt = sitk.Euler3DTransform()
    tilt.SetRotation(0.1, -0.15, 0.2)
    images = []
    for array in (t1.astype(np.float32), ct.astype(np.float32), labels):
        image = sitk.GetImageFromArray(array)
        image.SetSpacing(spacing)
        image.SetOrigin((-20.0, 11.0, 5.0))
        image.SetDirection(tilt.GetMatrix())
        images.append(image)
    return images[:2], images[2]


def train(
    folder: Path, configurations: tuple[str, ...] = ("3d_fullres", "2d"), folds: tuple[int, ...] = (0, 1)
) -> Path:
    """Plan, preprocess and train. Returns the folder of the dataset's results."""
    places = {name: str(folder / name) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
    settings = {**places, "nnUNet_n_proc_DA": "1", "nnUNet_compile": "0"}
    with mock.patch.dict(os.environ, settings), _in_this_process(), contextlib.redirect_stdout(None):
        raw = folder / "nnUNet_raw" / DATASET
        _write(raw)
        from nnunetv2.experiment_planning import plan_and_preprocess_api as api
        from nnunetv2.run.run_training import get_trainer_from_args

        api.extract_fingerprint_dataset(901, num_processes=1, show_progress_bar=False)
        _, identifier = api.plan_experiment_dataset(901)
        prepared = folder / "nnUNet_preprocessed" / DATASET
        _shrink(prepared / f"{identifier}.json")
        api.preprocess_dataset(901, identifier, configurations, (1,) * len(configurations), show_progress_bar=False)
        names = [f"case_{n}" for n in range(len(SPACINGS))]
        splits = [{"train": names[:2], "val": names[2:]}, {"train": names[1:], "val": names[:1]}]
        (prepared / "splits_final.json").write_text(json.dumps(splits))
        for configuration in configurations:
            for fold in folds:
                torch.manual_seed(fold)
                trainer = get_trainer_from_args(DATASET, configuration, fold, device=torch.device("cpu"))
                trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch = 10, 1
                trainer.num_epochs = EPOCHS
                with mock.patch.dict(os.environ, {"nnUNet_n_proc_DA": "0"}):  # the planner would not accept it
                    trainer.run_training()
    return folder / "nnUNet_results" / DATASET


def _write(raw: Path) -> None:
    for name in ("imagesTr", "labelsTr"):
        (raw / name).mkdir(parents=True)
    for n, spacing in enumerate(SPACINGS):
        images, labels = case(spacing, n)
        for channel, image in enumerate(images):
            sitk.WriteImage(image, str(raw / "imagesTr" / f"case_{n}_{channel:04d}.nrrd"))
        sitk.WriteImage(labels, str(raw / "labelsTr" / f"case_{n}.nrrd"))
    facts = {
        "channel_names": {"0": "T1", "1": "CT"},
        "labels": LABELS,
        "numTraining": len(SPACINGS),
        "file_ending": ".nrrd",
        "overwrite_image_reader_writer": "SimpleITKIO",
    }
    (raw / "dataset.json").write_text(json.dumps(facts))


def _shrink(path: Path) -> None:
    """The plans with patches and networks that train on one core in seconds."""
    plans = json.loads(path.read_text())
    for name, patch in PATCH.items():
        configuration = plans["configurations"][name]
        arguments = configuration["architecture"]["arch_kwargs"]
        dimensions = len(patch)
        strides = [[1] * dimensions, [1, 2, 2][-dimensions:], [2] * dimensions]
        arguments |= {
            "n_stages": 3,
            "features_per_stage": [4, 8, 8],
            "kernel_sizes": [[3] * dimensions] * 3,
            "strides": strides,
            "n_conv_per_stage": [1, 1, 1],
            "n_conv_per_stage_decoder": [1, 1],
        }
        configuration |= {"patch_size": patch, "batch_size": 2}
    path.write_text(json.dumps(plans))


@contextlib.contextmanager
def _in_this_process() -> Any:
    """nnU-Net starts processes for every step, each of which imports PyTorch anew; threads do for a tiny dataset."""
    with mock.patch("multiprocessing.get_context", return_value=SimpleNamespace(Pool=ThreadPool)):
        yield


def cascade(results: Path, folder: Path) -> Path:
    """A cascade in nnU-Net's layout: the trained 3d_fullres as its 3d_lowres, and a second stage that has just begun.

    Returns:
        The folder that holds both trained models.
    """
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
    from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    prefix = "nnUNetTrainer__nnUNetPlans__"
    before = results / f"{prefix}3d_fullres"
    plans, dataset = (json.loads((before / file).read_text()) for file in ("plans.json", "dataset.json"))
    stages = plans["configurations"]
    coarse = [1.5 * step for step in stages["3d_fullres"]["spacing"]]
    stages["3d_lowres"] = {**stages["3d_fullres"], "spacing": coarse, "next_stage": "3d_cascade_fullres"}
    stages["3d_cascade_fullres"] = {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"}
    checkpoint = torch.load(before / "fold_0" / "checkpoint_final.pth", map_location="cpu", weights_only=False)
    manager = PlansManager(plans)
    own = manager.get_configuration("3d_cascade_fullres")
    torch.manual_seed(3)
    network = get_network_from_plans(
        own.network_arch_class_name,
        own.network_arch_init_kwargs,
        own.network_arch_init_kwargs_req_import,
        determine_num_input_channels(manager, own, dataset),
        manager.get_label_manager(dataset).num_segmentation_heads,
        deep_supervision=False,
    )
    for name in ("3d_lowres", "3d_cascade_fullres"):
        place = folder / f"{prefix}{name}"
        (place / "fold_0").mkdir(parents=True)
        for file, content in (("plans.json", plans), ("dataset.json", dataset)):
            (place / file).write_text(json.dumps(content))
        weights = checkpoint["network_weights"] if name == "3d_lowres" else network.state_dict()
        facts = {"init_args": {**checkpoint["init_args"], "configuration": name}, "network_weights": weights}
        torch.save({**checkpoint, **facts}, place / "fold_0" / "checkpoint_final.pth")
    return folder
