"""Bundles built as six of MONAI's model zoo are, written by us: the same kinds of transforms, references, expressions
and things around them, over smaller networks of the same classes."""

import json
from pathlib import Path
from typing import Any

DEVICE = "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')"
CT_ORGANS = ("spleen", "right kidney", "left kidney", "gallbladder", "oesophagus", "liver", "stomach", "aorta",
             "vena cava", "portal vein", "pancreas", "right adrenal", "left adrenal")  # fmt: skip
Table = dict[str, Any]


def on(target: str, **arguments: Any) -> Table:
    """A transform of a dictionary's image."""
    return {"_target_": target, "keys": "@image_key", **arguments}


def after(activation: str, *others: Table) -> Table:
    """What follows the network: an activation, and what is written then."""
    first = {"_target_": "Activationsd", "keys": "pred", activation: True}
    invert = {"_target_": "Invertd", "keys": "pred", "transform": "@preprocessing", "orig_keys": "@image_key",
              "nearest_interp": False, "to_tensor": True}  # fmt: skip
    save = {"_target_": "SaveImaged", "keys": "pred", "output_dir": "@output_dir", "output_ext": ".nii.gz"}
    return {"_target_": "Compose", "transforms": [first, invert, *others, save]}


def workflow(network: Table, steps: list[Table], inferer: Table, post: Table, **more: Any) -> Table:
    """A configuration with what real ones have around it."""
    return {
        "imports": ["$import glob", "$import numpy", "$import os"],
        "bundle_root": ".",
        "image_key": "image",
        "output_dir": "$@bundle_root + '/eval'",
        "output_dtype": "$numpy.float32",
        "load_pretrain": True,
        "dataset_dir": "/data/none",
        "datalist": "$list(sorted(glob.glob(@dataset_dir + '/imagesTs/*.nii.gz')))",
        "device": DEVICE,
        "network_def": network,
        "network": "$@network_def.to(@device)",
        "preprocessing": {"_target_": "Compose", "transforms": steps},
        "dataset": {"_target_": "Dataset", "data": "$[{'image': i} for i in @datalist]", "transform": "@preprocessing"},
        "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1, "num_workers": 4},
        "inferer": inferer,
        "postprocessing": post,
        "handlers": [{"_target_": "StatsHandler", "iteration_log": False}],
        "evaluator": {
            "_target_": "SupervisedEvaluator", "device": "@device", "val_data_loader": "@dataloader",
            "network": "@network", "inferer": "@inferer", "postprocessing": "@postprocessing",
            "val_handlers": "@handlers", "amp": True,
        },
        "checkpointloader": {
            "_target_": "CheckpointLoader", "load_path": "$@bundle_root + '/models/model.pt'",
            "load_dict": {"model": "@network"},
        },
        "initialize": [
            "$monai.utils.set_determinism(seed=123)",
            "$@checkpointloader(@evaluator) if @load_pretrain else None",
        ],
        "run": ["$@evaluator.run()"],
        **more,
    }  # fmt: skip


def sliding(roi: list[int], **more: Any) -> Table:
    return {"_target_": "SlidingWindowInferer", "roi_size": roi, "sw_batch_size": 4, "overlap": 0.5, **more}


def ct(low: int, high: int, **reading: Any) -> list[Table]:
    """Abdominal CT on voxels of 1.5 x 1.5 x 2 mm."""
    return [
        on("LoadImaged", **reading),
        on("EnsureChannelFirstd"),
        on("Orientationd", axcodes="RAS"),
        on("Spacingd", pixdim=[1.5, 1.5, 2.0], mode="bilinear"),
        on("ScaleIntensityRanged", a_min=low, a_max=high, b_min=0, b_max=1, clip=True),
        on("EnsureTyped"),
    ]


def facts(form: str, modality: str, channels: list[str], classes: list[str], shape: list[Any], **inputs: Any) -> Table:
    """metadata.json"""
    entry = {"type": "image", "dtype": "float32", "is_patch_data": form == "segmentation"}
    answer = {"spatial_shape": shape if form == "segmentation" else [1, len(classes)], "format": form}
    return {
        "version": "0.1.0",
        "task": "a task",
        "network_data_format": {
            "inputs": {"image": {**entry, "format": "magnitude", "modality": modality, "num_channels": len(channels),
                                 "spatial_shape": shape, "channel_def": dict(enumerate(channels)), **inputs}},
            "outputs": {"pred": {**entry, **answer, "num_channels": len(classes),
                                 "channel_def": dict(enumerate(classes))}},
        },
    }  # fmt: skip


SEGRESNET = {"_target_": "SegResNet", "blocks_down": [1, 2, 2, 4], "blocks_up": [1, 1, 1], "dropout_prob": 0.2}
BRATS = workflow(
    {**SEGRESNET, "init_filters": 8, "in_channels": 4, "out_channels": 3},
    [on("LoadImaged", image_only=False), on("NormalizeIntensityd", nonzero=True, channel_wise=True)],
    sliding([240, 240, 160], sw_batch_size=1),
    after(
        "sigmoid",
        {"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.5},
        {"_target_": "Lambdad", "keys": "pred", "func": "$lambda x: torch.where(x[[2]] > 0, 4, x[[0]])"},
    ),
)
SPLEEN = workflow(
    {"_target_": "UNet", "spatial_dims": 3, "in_channels": 1, "out_channels": 2, "channels": [4, 8, 16, 16, 16],
     "strides": [2, 2, 2, 2], "num_res_units": 2, "norm": "batch"},
    ct(-57, 164), sliding([96, 96, 96]), after("softmax", {"_target_": "AsDiscreted", "keys": "pred", "argmax": True}),
)  # fmt: skip
SWIN = workflow(
    {"_target_": "SwinUNETR", "spatial_dims": 3, "img_size": 96, "in_channels": 1, "out_channels": 14,
     "feature_size": 12, "use_checkpoint": False},
    ct(-175, 250, reader="ITKReader"), sliding([96, 96, 96]), after("softmax"),
    checkpoint="$@bundle_root + '/models/model.pt'",
    checkpointloader={"_target_": "CheckpointLoader", "load_path": "$@checkpoint", "load_dict": {"model": "@network"}},
)  # fmt: skip
WHOLE_BODY = workflow(
    {**SEGRESNET, "spatial_dims": 3, "init_filters": 8, "in_channels": 1, "out_channels": 105},
    [
        on("LoadImaged"),
        on("EnsureTyped"),
        on("EnsureChannelFirstd"),
        on("Orientationd", axcodes="RAS"),
        on("Spacingd", pixdim="@pixdim", mode="bilinear"),
        on("NormalizeIntensityd", nonzero=True),
        on("ScaleIntensityd", minv=-1.0, maxv=1.0),
    ],
    sliding([96, 96, 96], sw_batch_size="@displayable_configs#sw_batch_size", device=DEVICE, mode="gaussian",
            overlap="@displayable_configs#sw_overlap", padding_mode="replicate"),
    after("softmax"),
    displayable_configs={"highres": True, "sw_overlap": 0.25, "sw_batch_size": 1},
    pixdim="$[1.5, 1.5, 1.5] if @displayable_configs#highres else [3.0, 3.0, 3.0]",
    modelname="$'model.pt' if @displayable_configs#highres else 'model_lowres.pt'",
    checkpointloader={"_target_": "CheckpointLoader", "load_path": "$@bundle_root + '/models/' + @modelname",
                      "load_dict": {"model": "@network"}},
)  # fmt: skip
BREAST = workflow(
    {"_target_": "TorchVisionFCModel", "model_name": "inception_v3", "num_classes": 4, "pool": None, "use_conv": False,
     "bias": True, "pretrained": True},
    [
        {"_target_": "LoadImaged", "keys": "image"},
        {"_target_": "EnsureChannelFirstd", "keys": "image", "channel_dim": 2},
        {"_target_": "ScaleIntensityd", "keys": "image", "minv": 0.0, "maxv": 1.0},
        {"_target_": "Resized", "keys": "image", "spatial_size": [299, 299]},
    ],
    {"_target_": "SimpleInferer"},
    {"_target_": "Compose", "transforms": [{"_target_": "Activationsd", "keys": "pred", "sigmoid": True}]},
    # code of the bundle's own that makes the list of files, which is none of the network's business
    data={"_target_": "scripts.files.List", "filename": "./configs/files.json"},
    images="$@data.create_dataset('Test')[0]",
)  # fmt: skip
TEMPLATE = workflow(
    {"_target_": "DenseNet121", "spatial_dims": 2, "in_channels": 1, "out_channels": "@num_classes"},
    [],
    {"_target_": "SimpleInferer"},
    {"_target_": "Compose", "transforms": [
        {"_target_": "Activationsd", "keys": "@pred", "softmax": True},
        {"_target_": "AsDiscreted", "keys": ["@pred", "@label"], "argmax": [True, False], "to_onehot": "@num_classes"},
    ]},
    image="$monai.utils.CommonKeys.IMAGE",
    label="$monai.utils.CommonKeys.LABEL",
    pred="$monai.utils.CommonKeys.PRED",
    num_classes=4,
    files="$json.load(open(@bundle_root + '/data/files.json', 'r', encoding='utf8'))",
    transforms=[{"_target_": name, "keys": "@image"} for name in ("LoadImaged", "EnsureChannelFirstd",
                                                                 "ScaleIntensityd")],
    preprocessing={"_target_": "Compose", "transforms": "$@transforms"},
    handlers=[{"_target_": "CheckpointLoader", "_disabled_": "$not os.path.exists(@bundle_root)",
               "load_path": "$@bundle_root + '/models/model.pt'", "load_dict": {"model": "@network"}}],
)  # fmt: skip
del TEMPLATE["checkpointloader"], TEMPLATE["initialize"], TEMPLATE["image_key"]

_FREE = ["8*n", "8*n", "8*n"]
_PATCH = [96, 96, 96]
# name -> (configuration, metadata, file)
BUNDLES: dict[str, tuple[Table, Table, str]] = {
    "brats_mri_segmentation": (BRATS, facts("segmentation", "MR", ["T1c", "T1", "T2", "FLAIR"],
                               ["core", "whole", "enhancing"], _FREE), "inference.json"),
    "spleen_ct_segmentation": (SPLEEN, facts("segmentation", "CT", ["image"], ["background", "spleen"], _PATCH),
                               "inference.json"),
    "swin_unetr_btcv_segmentation": (SWIN, facts("segmentation", "CT", ["image"], ["background", *CT_ORGANS], _PATCH),
                                     "inference.json"),
    "wholeBody_ct_segmentation": (WHOLE_BODY, facts("segmentation", "CT", ["image"],
                                  ["background", *(f"structure {n}" for n in range(1, 105))], _PATCH),
                                  "inference.json"),
    "breast_density_classification": (BREAST, facts("labels", "Mammogram", ["image"], list("ABCD"), [299, 299],
                                      num_channels=3), "inference.json"),
    "classification_template": (TEMPLATE, facts("classes", "none", ["image"], ["none", "a", "b", "c"], [128, 128]),
                                "inference.yaml"),
}  # fmt: skip


def write(name: str, folder: Path) -> Path:
    """The bundle of this name without weights; its path."""
    import yaml

    content, about, file = BUNDLES[name]
    root = folder / name
    (root / "configs").mkdir(parents=True)
    (root / "configs" / "metadata.json").write_text(json.dumps(about, indent=4))
    text = yaml.safe_dump(content, sort_keys=False) if file.endswith(".yaml") else json.dumps(content, indent=4)
    (root / "configs" / file).write_text(text)
    return root
