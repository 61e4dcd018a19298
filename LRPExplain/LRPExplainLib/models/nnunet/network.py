"""The network that plans.json describes, of known classes alone: nothing is imported because the file names it."""

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import UserError
from ..budget import build
from ..states import fill

_PACKAGE = "dynamic_network_architectures"
_HOMES = {
    "PlainConvUNet": "architectures.unet",
    "ResidualEncoderUNet": "architectures.unet",
    "ResidualUNet": "architectures.unet",
    "BasicBlockD": "building_blocks.residual",
    "BottleneckD": "building_blocks.residual",
}
_NETWORKS = ("PlainConvUNet", "ResidualEncoderUNet", "ResidualUNet")
_LAYERS = {
    *(f"{layer}{n}d" for layer in ("Conv", "InstanceNorm", "BatchNorm", "Dropout") for n in (1, 2, 3)),
    *("Dropout", "LeakyReLU", "ReLU", "PReLU", "ELU", "GELU", "SiLU", "Identity"),
}


def make_network(
    architecture: Mapping[str, Any], channels: int, heads: int, state: Mapping[str, Tensor], name: str
) -> nn.Module:
    """The trained network, without deep supervision.

    Args:
        architecture: of plans.json.
        channels, heads: of its input and output.
        state: its weights.
        name: how an error calls the file that they come from.

    Raises:
        UserError: a class that is not on the list, dynamic-network-architectures is not installed, or the weights are
            those of another network.
    """
    given = dict(architecture["arch_kwargs"])
    for key in architecture["_kw_requires_import"]:
        given[key] = None if given.get(key) is None else _class(given[key])
    given["deep_supervision"] = False
    wanted = _class(architecture["network_class_name"])
    if wanted.__name__ not in _NETWORKS:
        raise _refused(architecture["network_class_name"])
    network = build(
        lambda: wanted(input_channels=channels, num_classes=heads, **given), state, "The plans' architecture"
    )
    fill(network, state, name)
    return network


class Ensemble(nn.Module):
    """The mean of several networks' logits."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, x: Tensor) -> Tensor:
        total: Tensor = self.members[0](x)
        for member in self.members[1:]:  # type: ignore[index]
            total = total + member(x)
        return total * (1 / len(self.members))


def transpose(network: nn.Module, order: Sequence[int]) -> None:
    """Let a network that was trained on transposed arrays take and give ours, by hooks; its layers keep their names.

    Args:
        order: nnU-Net's transpose_forward: which axis of [k, j, i] is the network's first, second and third. A network
            of two dimensions takes slices across the first one.
    """
    ranks = {5: list(order), 4: sorted(range(2), key=lambda n: sorted(order[1:]).index(order[1:][n]))}
    if all(rank == sorted(rank) for rank in ranks.values()):
        return

    def forth(_: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        x, *others = arguments
        return x.permute(0, 1, *(2 + axis for axis in ranks[x.dim()])), *others

    def back(_: nn.Module, arguments: Any, output: Tensor) -> Tensor:
        rank = ranks[output.dim()]
        return output.permute(0, 1, *(2 + rank.index(axis) for axis in range(len(rank))))

    network.register_forward_pre_hook(forth, prepend=True)
    network.register_forward_hook(back)


def _class(name: str) -> type[nn.Module]:
    package, _, short = str(name).rpartition(".")
    if (package == "torch.nn" or package.startswith("torch.nn.modules.")) and short in _LAYERS:
        return getattr(torch.nn, short)  # type: ignore[no-any-return]
    if package.split(".")[0] != _PACKAGE or short not in _HOMES:
        raise _refused(name)
    try:
        return getattr(importlib.import_module(f"{_PACKAGE}.{_HOMES[short]}"), short)  # type: ignore[no-any-return]
    except (ImportError, AttributeError):
        raise UserError(
            "The networks of nnU-Net need a package: install it with 'pip install dynamic-network-architectures'."
        ) from None


def _refused(name: str) -> UserError:
    return UserError(
        f"The plans ask for '{name}', which is not one of the networks and layers that are opened"
        f" ({', '.join(_NETWORKS)}): export the model as TorchScript and write a card for it."
    )
