"""What plans.json says of one configuration, whichever version of nnU-Net v2 wrote it."""

from collections.abc import Mapping
from typing import Any

from ...errors import UserError

Plans = Mapping[str, Any]
_UNET = "dynamic_network_architectures.architectures.unet"


def configuration(plans: Plans, name: str) -> dict[str, Any]:
    """A configuration with what it inherits, and with the network's architecture.

    Raises:
        UserError: the plans do not have it.
    """
    found = _inherited(plans, name, ())
    return found if "architecture" in found else {**found, "architecture": _architecture(found)}


def _inherited(plans: Plans, name: str, children: tuple[str, ...]) -> dict[str, Any]:
    if name not in plans["configurations"] or name in children:
        known = ", ".join(plans["configurations"])
        raise UserError(f"The plans have no whole configuration '{name}' (they have {known}): correct plans.json.")
    own = dict(plans["configurations"][name])
    parent = own.get("inherits_from")
    return own if parent is None else {**_inherited(plans, parent, (*children, name)), **own}


def _architecture(found: Mapping[str, Any]) -> dict[str, Any]:
    """Of plans before nnU-Net 2.4, which had the U-Net's numbers alone and meant this by them."""
    kernels = found["conv_kernel_sizes"]
    dimensions, stages = len(kernels[0]), len(found["n_conv_per_stage_encoder"])
    residual = found["UNet_class_name"] == "ResidualEncoderUNet"
    return {
        "network_class_name": f"{_UNET}.{found['UNet_class_name']}",
        "arch_kwargs": {
            "n_stages": stages,
            "features_per_stage": [
                min(found["UNet_base_num_features"] * 2**n, found["unet_max_num_features"]) for n in range(stages)
            ],
            "conv_op": f"torch.nn.Conv{dimensions}d",
            "kernel_sizes": kernels,
            "strides": found["pool_op_kernel_sizes"],
            "n_blocks_per_stage" if residual else "n_conv_per_stage": found["n_conv_per_stage_encoder"],
            "n_conv_per_stage_decoder": found["n_conv_per_stage_decoder"],
            "conv_bias": True,
            "norm_op": f"torch.nn.InstanceNorm{dimensions}d",
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }
