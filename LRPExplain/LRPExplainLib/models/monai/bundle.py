"""A MONAI bundle as a card and a way to its network."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from ...errors import UserError
from ..card import DEFAULT_INTENSITY, CardInput, ModelCard, Preprocessing, preprocessing_problem
from .config import Component, Config, Evaluator, Untranslated, parse
from .files import METADATA, BundleFiles
from .inferers import read_inferer
from .metadata import Metadata, read_metadata
from .networks import make_network, network_component
from .steps import Step, arrange
from .transforms import Channels, read_transform

INFERENCE = tuple(f"configs/inference.{suffix}" for suffix in ("json", "yaml", "yml"))
TRANSFORMS_KEYS = ("preprocessing", "preprocessing_transforms", "pre_transforms", "transforms", "inference_transforms")
_POST = ("postprocessing", "post_transforms", "postprocessing_transforms")
INFERERS_KEYS = ("inferer", "sliding_window_inferer")
_NO_PREPROCESSING = "The bundle says nothing about intensities: the 1st and 99.8th percentile are taken to 0..1."


def read_config(files: BundleFiles, run: Evaluator | None = None) -> Config | None:
    """The inference configuration, if the bundle has one."""
    file = next((name for name in INFERENCE if files.has(name)), None)
    if file is None:
        return None
    text = files.text(file)
    return Config(parse(text, file), f"{files.name}/{file}", text, run)


def bundle_card(files: BundleFiles, weights: str, run: Evaluator | None = None, translate: bool = True) -> ModelCard:
    """What a bundle's configs say, as a card; complete but for what only the network's output can tell.

    Args:
        weights: file name for the card.
        run: for a trusted bundle, what evaluates expressions that are code.
        translate: read the preprocessing and the inferer, too; otherwise metadata.json alone.

    Raises:
        UserError: damaged configs, or what must be run; `Untranslated`: what a card cannot say.
    """
    content = parse(files.text(METADATA), METADATA) if files.has(METADATA) else {}
    metadata = read_metadata(content, re.split(r"[/\\]", files.name)[-1])
    with _without_end(files):
        card = _card(metadata, read_config(files, run) if translate else None, weights)
    problem = preprocessing_problem(card.preprocessing)
    if problem is not None:
        raise Untranslated(f"The bundle '{files.name}' asks for a senseless preprocessing ({problem}): correct it.")
    return card


def bundle_network(files: BundleFiles, state: Mapping[str, Tensor], run: Evaluator | None = None) -> nn.Module:
    """The network that the configuration describes, for these weights but not yet filled with them.

    Raises:
        UserError: no description of a network, or one that is not allowed.
    """
    config = read_config(files, run)
    if config is None:
        raise UserError(f"'{files.name}' has no configs/inference.json, so that its network is unknown.")
    with _without_end(files):
        return make_network(network_component(config), state)


@contextmanager
def _without_end(files: BundleFiles) -> Iterator[None]:
    try:
        yield
    except RecursionError as error:
        raise UserError(f"The configuration of '{files.name}' refers to itself in a circle: correct it.") from error


def _card(metadata: Metadata, config: Config | None, weights: str) -> ModelCard:
    inputs, notes = metadata.inputs, list[str]()
    activation: str | None = None
    fields: dict[str, Any] = {"intensity": DEFAULT_INTENSITY}
    if config is None:
        notes.append(_NO_PREPROCESSING)
        if metadata.dimensions == 2:
            fields["slices"] = {"axis": "k"}
    else:
        inferer = _component(config, INFERERS_KEYS)
        dimensions = _dimensions(config, inferer) or metadata.dimensions or 3
        fields, inputs, more = _preprocessing(config, metadata, inferer, dimensions)
        notes += more
        try:
            activation = _activation(config)
        except UserError as error:  # it may be anything; the output's own shape then suggests one
            activation = None
            notes.append(f"What the bundle does after the network could not be read: {error}")
        notes += _other_threshold(config)
    if not fields.get("window") and "size_multiple" not in fields:
        fields["size_multiple"] = metadata.size_multiple
    return ModelCard(
        name=metadata.name,
        weights=weights,
        task=metadata.task,
        inputs=inputs,
        preprocessing=Preprocessing(axes="ijk", **fields),
        output=metadata.output(activation),
        texts=metadata.texts,
        notes=tuple(notes),
    )


def _preprocessing(
    config: Config, metadata: Metadata, inferer: Component | None, dimensions: int
) -> tuple[dict[str, Any], tuple[CardInput, ...], list[str]]:
    windows = read_inferer(inferer, dimensions)
    size = windows.get("window", {}).get("size")
    key = next((name for name in TRANSFORMS_KEYS if config.has(name)), None)
    if key is None:
        return {"intensity": DEFAULT_INTENSITY, **windows}, metadata.inputs, [_NO_PREPROCESSING]
    inputs = metadata.inputs
    channels = Channels()
    first: list[str] = []
    steps: list[Step] = []
    for component in config.components(key, config.raw(key)):
        steps += read_transform(component, channels, len(inputs))
        first = first or list(channels.keys)
    if channels.joined and len(first) == len(inputs) > 1:  # the keys that were joined are better names than numbers
        named = [entry.name.startswith("channel ") for entry in inputs]
        inputs = tuple(
            replace(entry, name=name) if new else entry for entry, name, new in zip(inputs, first, named, strict=True)
        )
    if channels.repeats > 1:
        inputs = tuple(replace(entry, channels=channels.repeats) for entry in inputs[:1])
    if channels.std:
        if len(channels.std) != inputs[0].channels:
            raise UserError(
                f"The bundle standardises {len(channels.std)} channels of a volume that has"
                f" {inputs[0].channels}: correct it, or write a card for this model."
            )
        inputs = tuple(replace(entry, mean=channels.mean, std=channels.std) for entry in inputs)
    fields = arrange(steps, dimensions, None if size is None else size[:dimensions])
    return {**fields, **windows}, inputs, []


def _activation(config: Config) -> str | None:
    """From the postprocessing, of which nothing else matters for logits."""
    found = None
    for name, component in _postprocessing(config):
        if name == "Activations":
            softmax, sigmoid = component.get("softmax", False), component.get("sigmoid", False)
            return "softmax" if _any(softmax) else "sigmoid" if _any(sigmoid) else found
        if name == "AsDiscrete" and found is None:
            found = "softmax" if _any(component.get("argmax", False)) else "none"
    return found


def _other_threshold(config: Config) -> list[str]:
    """What to say where the bundle calls a voxel of a class from another probability on than a card does."""
    try:
        given = [component.get("threshold") for name, component in _postprocessing(config) if name == "AsDiscrete"]
    except UserError:  # which is no hindrance
        return []
    found = next((value for value in given if isinstance(value, (int, float)) and not isinstance(value, bool)), 0.5)
    if found == 0.5:
        return []
    return [
        f"The bundle calls a voxel of a class from {found:g} on, but here 0.5 is the bound: a question without a region"
        " is about other voxels than the bundle's own segmentation has."
    ]


def _postprocessing(config: Config) -> Iterator[tuple[str, Component]]:
    """Its transforms by name, be they of arrays or of dictionaries."""
    key = next((name for name in _POST if config.has(name)), None)
    for component in config.components(key, config.raw(key)) if key is not None else ():
        yield component.name.removesuffix("Dict").removesuffix("d").removesuffix("D"), component


def _any(value: Any) -> bool:
    return any(value) if isinstance(value, list) else bool(value)


def _component(config: Config, keys: tuple[str, ...]) -> Component | None:
    for key in keys:
        if config.has(key):
            value, place = config.shallow(config.raw(key), key)
            if isinstance(value, Mapping) and "_target_" in value:
                return Component(config, place, value)
            if value is not None:
                raise config.refused(key, config.raw(key))
    return None


def _dimensions(config: Config, inferer: Component | None) -> int | None:
    """Of the network: what it says itself, else what its windows have."""
    try:
        network = network_component(config)
    except UserError:
        network = None
    if network is not None:
        for argument in ("spatial_dims", "dimensions", "spatial_dim", "dim"):
            if argument in network.raw and isinstance(found := network.get(argument), int):
                return found
    size = inferer.get("roi_size") if inferer is not None else None
    return len(size) if isinstance(size, list) and len(size) in (2, 3) else None
