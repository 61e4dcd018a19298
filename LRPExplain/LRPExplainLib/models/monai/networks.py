"""A bundle's network, made from its description: MONAI's and PyTorch's own classes, by name, and no others."""

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from ...errors import UserError
from ..budget import build
from .config import Component, Config

# Under which keys bundles describe their network.
KEYS = ("network_def", "network", "net_def", "net", "model")
# Arguments that fetch weights from elsewhere; a bundle's own replace them.
_FETCHING = ("pretrained", "progress")
_FOREIGN = ("pretrained_url", "pretrained_path", "checkpoint", "checkpoint_path", "ckpt_path", "weights", "url")
# Arguments that MONAI has dropped since, without a change to the network.
_RETIRED = {("SwinUNETR", "img_size")}
_RENAMED = {"dimensions": "spatial_dims"}
_NETS = "monai.networks.nets"


def make_network(component: Component, state: Mapping[str, Tensor]) -> nn.Module:
    """The network that a component describes, with memory as its weights justify, not yet filled with them.

    Raises:
        UserError: a class that is not allowed, or arguments that do not suit it.
    """
    if component.config.run is not None and _class(component.target) is None:
        return _run(component)
    make = _constructor(component)
    network = build(make, state, f"{component.config.where(component.key, component.target)} which")
    _as_if_pretrained(network, component)
    return network


def network_component(config: Config) -> Component:
    """Where a configuration describes its network.

    Raises:
        UserError: nowhere, or by an expression that would have to be run.
    """
    for key in KEYS:
        if config.has(key):
            value, place = config.shallow(config.raw(key), key)
            if isinstance(value, Mapping) and "_target_" in value:
                return Component(config, place, value)
    raise UserError(f"'{config.file}' describes no network ({', '.join(KEYS)}): use a bundle with models/model.ts.")


def is_allowed(target: str) -> bool:
    """Whether a `_target_` is a network class of MONAI or PyTorch; false, too, where MONAI is not installed."""
    try:
        return _class(target) is not None
    except UserError:
        return False


def _constructor(component: Component) -> Callable[[], nn.Module]:
    made = _class(component.target)
    if made is None:
        raise component.config.refused(component.key, component.target or component.raw)
    known = inspect.signature(made).parameters
    arguments = {}
    for given in component.arguments:
        name = _RENAMED.get(given, given) if given not in known else given
        if (component.name, name) in _RETIRED and name not in known:
            continue
        value = component.raw[given]
        if name in _FETCHING:
            arguments[name] = False
        elif name in _FOREIGN and component.get(given):
            raise component.complaint(f"wants other weights fetched ('{given}'): leave that argument out.")
        else:
            arguments[name] = _value(component.config, f"{component.key}#{given}", value)
    return lambda: made(**{name: value() if callable(value) else value for name, value in arguments.items()})


def _value(config: Config, key: str, raw: Any) -> Any:
    """An argument; where it describes a part of the network, what makes that part."""
    raw, key = config.shallow(raw, key)
    if isinstance(raw, Mapping) and "_target_" in raw:
        return _constructor(Component(config, key, raw))
    return config.resolved(raw, key)


def _class(target: str) -> Callable[..., nn.Module] | None:
    """The class, or function that makes a network, of this name; None if it is none of those allowed."""
    module, _, name = target.rpartition(".")
    if module == "torch.nn" or module.startswith("torch.nn.modules"):
        found = getattr(nn, name, None)
        return found if isinstance(found, type) and issubclass(found, nn.Module) else None
    if module and module != _NETS and not module.startswith(f"{_NETS}."):
        return None
    try:
        nets = importlib.import_module(_NETS)
    except ImportError:
        raise UserError(
            "The networks of MONAI bundles need MONAI: install it with 'pip install monai', or use a bundle with"
            " models/model.ts."
        ) from None
    found = getattr(nets, name, None)
    if not callable(found) or not str(getattr(found, "__module__", "")).startswith(f"{_NETS}."):
        return None
    if isinstance(found, type):
        return found if issubclass(found, nn.Module) else None
    return found if inspect.signature(found).return_annotation in _MADE else None  # resnet50 and the like


_MADE = ("ResNet", "SEResNext", "DenseNet")


def _as_if_pretrained(network: nn.Module, component: Component) -> None:
    """torchvision's Inception and GoogLeNet change the colours of their input where they were pretrained."""
    if "pretrained" in component.arguments and component.get("pretrained"):
        for part in network.modules():
            if hasattr(part, "transform_input"):
                part.transform_input = True  # type: ignore[assignment]


def _run(component: Component) -> nn.Module:
    assert component.config.run is not None
    network = component.config.run(component.key)
    if not isinstance(network, nn.Module):
        raise component.complaint("makes no network: correct the bundle.")
    return network
