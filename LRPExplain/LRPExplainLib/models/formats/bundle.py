"""MONAI bundles: a folder, a zip file, or the weights under a bundle's models/."""

from contextlib import nullcontext
from pathlib import Path, PurePosixPath

from torch import nn

from ...errors import UserError
from ..card import ModelCard
from ..monai import BundleFiles, bundle_card, bundle_files, bundle_network
from ..monai.bundle import read_config
from ..monai.config import Config
from ..monai.networks import is_allowed, network_component
from ..monai.trust import sentences, trusted
from ..states import fill, read_state
from .base import Format, Loaded
from .torchscript import load_module

# In the order in which they are looked for, after what the configuration itself names.
_SCRIPTED = "models/model.ts"
_WEIGHTS = ("models/model.pt", "models/model.safetensors", "models/model.pth", _SCRIPTED)
# Where configurations name their weights.
_NAMING = ("checkpointloader#load_path", "ckpt_path", "ckpt", "checkpoint")


def _recognises(path: Path) -> bool:
    return bundle_files(path) is not None


def _load(path: Path, card: ModelCard | None, trust: bool) -> Loaded:
    files, wanted = _files(path)
    weights = _weights(files, wanted)
    name = f"{files.name}/{weights}"
    with trusted(files) if trust else nullcontext() as run:
        facts = card or bundle_card(files, path.name, run)
        module: nn.Module
        if weights.endswith(".ts"):
            module = load_module(files.weights(weights), name)
        else:
            state = read_state(files.weights(weights), name)
            module = bundle_network(files, state, run)
            fill(module, state, name)
    return Loaded(module.float().eval(), facts, files.digest(weights))


def _trusted(path: Path) -> tuple[list[str], str]:
    files, wanted = _files(path)
    return sentences(files), files.digest(_weights(files, wanted))


def _files(path: Path) -> tuple[BundleFiles, str | None]:
    found = bundle_files(path)
    if found is None:
        raise UserError(f"'{path}' is no MONAI bundle: it has no configs/metadata.json.")
    return found


def _weights(files: BundleFiles, wanted: str | None) -> str:
    if wanted is not None:
        return wanted
    config = read_config(files)
    present = [name for name in (*_named(config), *_WEIGHTS) if files.has(name)]
    if present:
        scripted = _SCRIPTED in present and (config is None or not _network_is_known(config))
        return _SCRIPTED if scripted else present[0]
    raise UserError(
        f"The bundle '{files.name}' has no weights ({', '.join(_WEIGHTS)}): fetch them as its docs say"
        " (large_files.yml)."
    )


def _named(config: Config | None) -> list[str]:
    """The weights under models/ that the configuration asks for, as far as it says so without being run."""
    found = []
    for key in _NAMING:
        if config is not None and config.has(key.split("#")[0]):
            try:
                name = config.value(key)
            except UserError:
                continue
            if isinstance(name, str):
                found.append(f"models/{PurePosixPath(name).name}")
    return found


def _network_is_known(config: Config) -> bool:
    """Whether the network can be made from its description: without MONAI, and of a foreign class, it cannot."""
    try:
        return is_allowed(network_component(config).target)
    except UserError:
        return False


BUNDLE = Format("MONAI bundle (folder or .zip with configs/metadata.json)", _recognises, _load, _trusted)
