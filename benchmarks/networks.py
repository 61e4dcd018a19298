"""The networks people use, in small configurations: what the tests prove and the benchmarks compare.

Each is built with the same random weights every time, norms' factors, shifts and running statistics included, so
that none of them is at a default that hides a mistake.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .vision import torchvision

NORMS = nn.modules.batchnorm._NormBase | nn.GroupNorm | nn.LayerNorm
# What is added to a signal and is not called a bias: position embeddings, tokens, relative position biases.
ADDED = ("bias", "running_mean", "pos_embed", "position_embeddings", "pos_embedding", "token", "bias_table")
CLASSES = 2


@dataclass(frozen=True)
class Network:
    """One architecture and the input that it gets.

    Attributes:
        name: family, variant and dimensions.
        make: builds the module; weights are drawn from torch's global generator.
        shape: one sample, [C, D, H, W] or [C, H, W].
        norm: `batch` (running statistics), `none`, or `sample`: instance, group or layer norm, whose statistics are
            the sample's own, so that the mean they subtract may absorb relevance.
        package: what it is from.
    """

    name: str
    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    norm: Literal["batch", "sample", "none"]
    package: str = "monai"

    def missing(self) -> str | None:
        """Why the network cannot be built here, or None."""
        if self.package == "torchvision":
            return None if torchvision() else "torchvision is not installed"
        try:
            importlib.import_module(self.package)
        except ImportError as error:
            return str(error)
        return None

    def build(self, biases: bool = True) -> nn.Module:
        """The network in eval mode with its random weights; without biases relevance must be conserved."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = randomised(self.make().eval())
        return model if biases else without_biases(model)

    def input(self, batch: int = 1) -> Tensor:
        """Standard normal noise, [batch, *shape]."""
        return torch.randn((batch, *self.shape), generator=torch.Generator().manual_seed(1))


def randomised(model: nn.Module) -> nn.Module:
    """Draw what initialisation leaves at zero or one: biases, norms' factors and running statistics. In place."""
    with torch.no_grad():
        for name, value in [*model.named_parameters(), *model.named_buffers()]:
            if name.endswith("running_var"):
                value.uniform_(0.5, 1.5)
            elif name.endswith(ADDED) and value.is_floating_point():
                value.normal_(0.0, 0.1)
        for module in model.modules():
            if isinstance(module, NORMS) and module.weight is not None:
                module.weight.normal_(1.0, 0.3)
    return model


def without_biases(model: nn.Module) -> nn.Module:
    """Zero all that is added to a signal: biases, running means, position embeddings and biases, class tokens.

    Masks of shifted windows stay: they decide which positions see each other. In place; returns the model.
    """
    with torch.no_grad():
        for name, value in [*model.named_parameters(), *model.named_buffers()]:
            if name.endswith(ADDED) and value.is_floating_point():
                value.zero_()
    return model


def first_tensor(output: Any) -> Tensor:
    """The main output of networks that return several."""
    while not isinstance(output, Tensor):
        output = next(iter(output.values())) if isinstance(output, dict) else output[0]
    return output


def start_relevance(output: Tensor) -> Tensor:
    """The last class's outputs without their signs, so that they do not cancel in the sum; other classes zero."""
    start = torch.zeros_like(output)
    start[:, -1] = output[:, -1].abs()
    return start


def _monai(name: str, *arguments: Any, **keywords: Any) -> Callable[[], nn.Module]:
    return lambda: getattr(importlib.import_module("monai.networks.nets"), name)(*arguments, **keywords)


def _segmentation(dims: int, size: tuple[int, ...]) -> Iterator[Network]:
    def net(name: str, norm: Any, make: Callable[[], nn.Module], shape: tuple[int, ...] = size) -> Network:
        return Network(f"{name}-{dims}d", make, (1, *shape), norm)

    widths, strides = (4, 8, 16), (2, 2)
    for norm in ("instance", "batch"):
        kind = "sample" if norm == "instance" else "batch"
        for units, variant in ((0, "plain"), (2, "res")):
            make = _monai("UNet", dims, 1, CLASSES, widths, strides, num_res_units=units, norm=norm)
            yield net(f"unet-{variant}-{norm}", kind, make)
    for residual, variant in ((False, "plain"), (True, "res")):
        make = _monai("DynUNet", dims, 1, CLASSES, [3, 3, 3], [1, 2, 2], [2, 2], filters=widths, res_block=residual)
        yield net(f"dynunet-{variant}", "sample", make)
    yield net("basicunet", "sample", _monai("BasicUNet", dims, 1, CLASSES, (4, 4, 8, 8, 16, 4)))
    yield net("basicunetplusplus", "sample", _monai("BasicUNetPlusPlus", dims, 1, CLASSES, (4, 4, 8, 8, 16, 4)))
    yield net("segresnet", "sample", _monai("SegResNet", dims, 8, 1, CLASSES))
    yield net("segresnetds", "batch", _monai("SegResNetDS", dims, 4, 1, CLASSES, blocks_down=(1, 1, 1), dsdepth=2))
    yield net(
        "segresnetvae", "sample",
        _monai("SegResNetVAE", size, spatial_dims=dims, init_filters=8, in_channels=1, out_channels=CLASSES),
    )  # fmt: skip
    yield net("vnet", "batch", _monai("VNet", dims, 1, CLASSES, dropout_dim=dims))
    yield net("attentionunet", "sample", _monai("AttentionUnet", dims, 1, CLASSES, widths, strides))
    cube = (32,) * dims
    transformer = {"hidden_size": 48, "mlp_dim": 96, "num_heads": 4}
    yield net("unetr", "sample", _monai("UNETR", 1, CLASSES, cube, 4, spatial_dims=dims, **transformer), cube)
    for v2, variant in ((False, "v1"), (True, "v2")):  # at less, norms of its deepest level see one or two voxels
        make = _monai(
            "SwinUNETR", 1, CLASSES, window_size=4, depths=(2, 1, 1, 1), feature_size=12, use_v2=v2, spatial_dims=dims
        )
        yield net(f"swinunetr-{variant}", "sample", make, (64, 64, 32) if dims == 3 else (64, 96))
    yield net("highresnet", "batch", _monai("HighResNet", dims, 1, CLASSES), (16, 16, 16)[:dims])
    make = _monai("FlexibleUNet", 1, CLASSES, "efficientnet-b0", spatial_dims=dims)
    yield net("flexibleunet", "batch", make, cube)
    yield net("mednext", "sample", _monai("MedNeXt", dims, 4, 1, CLASSES, kernel_size=3))


def _classification(dims: int, size: tuple[int, ...]) -> Iterator[Network]:
    def net(name: str, norm: Any, make: Callable[[], nn.Module]) -> Network:
        return Network(f"{name}-{dims}d", make, (1, *size), norm)

    small = {"spatial_dims": dims, "n_input_channels": 1, "num_classes": CLASSES, "widen_factor": 0.25}
    yield net("resnet18", "batch", _monai("resnet18", **small))
    yield net("resnet50", "batch", _monai("resnet50", **small))
    yield net("densenet121", "batch", _monai("DenseNet121", dims, 1, CLASSES, init_features=16, growth_rate=8))
    squeezed = {"spatial_dims": dims, "in_channels": 1, "num_classes": CLASSES}
    yield net("seresnet50", "batch", _monai("SEResNet50", **squeezed))
    yield net("seresnext50", "batch", _monai("SEResNext50", **squeezed))
    yield net("efficientnet-b0", "batch", _monai("EfficientNetBN", "efficientnet-b0", pretrained=False, **squeezed))
    yield net(
        "vit", "sample",
        _monai(
            "ViT", 1, size, (8,) * dims, 48, 96, 3, 4, classification=True, num_classes=CLASSES, spatial_dims=dims
        ),
    )  # fmt: skip
    yield net("regressor", "sample", _monai("Regressor", (1, *size), (1,), (4, 8, 16), (2, 2, 2)))
    yield net("classifier", "sample", _monai("Classifier", (1, *size), CLASSES, (4, 8, 16), (2, 2, 2)))


def _nnunet(dims: int, size: tuple[int, ...]) -> Iterator[Network]:
    """nnU-Net's own networks: its default, and the residual encoder with the M preset's blocks per stage."""

    def make(name: str, blocks: dict[str, Any], deep: bool) -> nn.Module:
        unets = importlib.import_module("dynamic_network_architectures.architectures.unet")
        return getattr(unets, name)(
            1, 4, (4, 8, 16, 16), getattr(nn, f"Conv{dims}d"), 3, (1, 2, 2, 2), num_classes=CLASSES, conv_bias=True,
            norm_op=getattr(nn, f"InstanceNorm{dims}d"), norm_op_kwargs={"eps": 1e-5, "affine": True},
            nonlin=nn.LeakyReLU, deep_supervision=deep, **blocks,
        )  # fmt: skip

    kinds = {
        "PlainConvUNet": {"n_conv_per_stage": 2, "n_conv_per_stage_decoder": 2},
        "ResidualEncoderUNet": {"n_blocks_per_stage": (1, 3, 4, 6), "n_conv_per_stage_decoder": 1},
    }
    for kind, blocks in kinds.items():
        for deep in (False, True):
            name = f"{kind.lower()}{'-deep' if deep else ''}-{dims}d"
            yield Network(
                name, lambda kind=kind, blocks=blocks, deep=deep: make(kind, blocks, deep), (1, *size), "sample",
                "dynamic_network_architectures",
            )  # fmt: skip


def _vision() -> Iterator[Network]:
    """torchvision's networks, with their own blocks and depths but fewer channels."""

    def part(name: str) -> Any:
        torchvision()
        return importlib.import_module(f"torchvision.models.{name}")

    def vgg() -> nn.Module:
        model = part("vgg").vgg16_bn(weights=None)
        model.classifier = nn.Sequential(nn.Linear(512 * 49, 64), nn.ReLU(), nn.Linear(64, CLASSES))
        return model.eval()

    def resnet() -> nn.Module:
        return part("resnet").resnet50(weights=None, num_classes=CLASSES, width_per_group=16)

    def densenet() -> nn.Module:
        return part("densenet").DenseNet(8, (6, 12, 24, 16), 16, num_classes=CLASSES)

    def convnext() -> nn.Module:
        convnext = part("convnext")
        settings = [(24, 48, 3), (48, 96, 3), (96, 192, 9), (192, None, 3)]
        return convnext.ConvNeXt([convnext.CNBlockConfig(*s) for s in settings], num_classes=CLASSES, layer_scale=0.1)

    def vit() -> nn.Module:
        model = part("vision_transformer").VisionTransformer(64, 16, 6, 4, 64, 128, num_classes=CLASSES)
        nn.init.normal_(model.heads.head.weight)  # starts at zero: nothing to explain
        return model

    def swin() -> nn.Module:
        return part("swin_transformer").SwinTransformer(
            [4, 4], 24, [2, 2, 6, 2], [1, 2, 4, 8], [7, 7], num_classes=CLASSES
        )

    table: list[tuple[str, Callable[[], nn.Module], int, Literal["batch", "sample", "none"]]] = [
        ("vgg16-bn", vgg, 32, "batch"),
        ("resnet50", resnet, 64, "batch"),
        ("densenet121", densenet, 64, "batch"),
        ("convnext-tiny", convnext, 64, "sample"),
        ("vit-b-16", vit, 64, "sample"),
        ("swin-t", swin, 64, "sample"),
    ]
    for name, make, size, norm in table:
        yield Network(f"torchvision-{name}", make, (3, size, size), norm, "torchvision")


def _all() -> Iterator[Network]:
    for dims in (3, 2):
        # the smallest that the deepest level of most networks takes; not a cube, so that swapped axes show
        size = (32, 16, 16) if dims == 3 else (32, 48)
        yield from _segmentation(dims, size)
        yield from _classification(dims, (32,) * dims)
        yield from _nnunet(dims, size)
    yield from _vision()


NETWORKS: dict[str, Network] = {network.name: network for network in _all()}
