"""Model files made to harm: each is refused in one sentence with exit code 2, and nothing in it runs."""

import functools
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from random import Random
from typing import Any

import pytest
from helpers.bundles import CHANNEL_FIRST, LOAD, config, make_network, metadata, write_bundle
from hostile_files import (
    TINY,
    Make,
    bundle,
    conv,
    exported,
    nothing_ran,  # noqa: F401  (around every test)
    onnx,
    refused,
    safetensors,
    torchscript,
)
from LRPExplainLib.cli import main
from LRPExplainLib.errors import UserError
from LRPExplainLib.models import load_model, trust_request
from LRPExplainLib.models.architectures import ARCHITECTURES
from torch import nn


def nan(network: nn.Module) -> nn.Module:
    next(network.parameters()).data.view(-1)[0] = float("nan")
    return network


# --- one sound file of each format ---------------------------------------------------------------------------------

SOUND: dict[str, Callable[..., Path]] = {
    "torchscript": torchscript, "exported": exported, "onnx": onnx, "safetensors": safetensors, "bundle": bundle,
    "zipped bundle": lambda folder: bundle(folder, zipped=True),
}  # fmt: skip


@pytest.mark.parametrize("name", SOUND)
def test_the_sound_file_is_taken(tmp_path, name, capsys):
    """Otherwise the refusals below would say nothing."""
    path = SOUND[name](tmp_path)
    assert main(["inspect", str(path), *(["--shape", "8", "8", "8"] if name == "onnx" else [])]) == 0
    assert "aten.convolution" in capsys.readouterr().out


@pytest.mark.parametrize("share", [0.02, 0.5, 0.97])
@pytest.mark.parametrize("name", SOUND)
def test_truncated_weights(tmp_path, name, share, capsys):
    path = SOUND[name](tmp_path)
    file = path / "models" / "model.pt" if path.is_dir() else path
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])
    refused(path, capsys)


NAN: dict[str, Make] = {
    "torchscript": lambda f: torchscript(f, nan(conv())),
    "exported": lambda f: exported(f, nan(conv())),
    "onnx": lambda f: onnx(f, nan(conv())),
    "safetensors": lambda f: safetensors(f, nan(ARCHITECTURES["UNet3d"](**TINY))),
    "bundle": lambda f: bundle(f, network_module=nan(make_network(config([])))),
}


@pytest.mark.parametrize("name", NAN)
def test_nan_weights(tmp_path, name, capsys):
    assert "NaN or infinite weights" in refused(NAN[name](tmp_path), capsys)


# --- anything ------------------------------------------------------------------------------------------------------

ODD: list[Any] = [
    None, -1, 0, 1e308, "x", "", [], {}, True, [None], 10**30, ["a", 1], {"a": {"b": [1]}}, "$", "$@", "@", "%", "@x",
    "$@x", "%x", "@nowhere", "$1/0", "$[1,2]", "$'a'*3", {"_target_": "os.system"}, {"_target_": 5}, "@network_def",
    "@preprocessing", "@preprocessing#transforms#99", "$@##x", "@#######a",
]  # fmt: skip
STEPS = [
    LOAD, CHANNEL_FIRST, {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
    {"_target_": "Spacingd", "keys": ["image"], "pixdim": [1.5, 1.5, 2.0], "mode": ["bilinear"]},
    {"_target_": "NormalizeIntensityd", "keys": "image", "subtrahend": [1.0], "divisor": [2.0], "nonzero": True},
    {"_target_": "ScaleIntensityRangePercentilesd", "keys": "image", "lower": 1, "upper": 99, "b_min": 0, "b_max": 1},
    {"_target_": "CropForegroundd", "keys": "image", "source_key": "image", "margin": 2},
    {"_target_": "SpatialPadd", "keys": "image", "spatial_size": [32, 32, 32]},
    {"_target_": "DivisiblePadd", "keys": "image", "k": 4},
]  # fmt: skip
SLIDING = {"_target_": "SlidingWindowInferer", "roi_size": [16, 16, 16], "overlap": 0.25, "sigma_scale": 0.1}


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something stands in nested lists and dictionaries."""
    yield from [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def test_odd_values_anywhere_in_a_configuration(tmp_path):
    """Taken or refused in one sentence, whatever stands where."""
    random = Random(0)
    content, facts = config(STEPS, inferer=SLIDING, x="@y", y=[1, 2]), metadata()
    path = write_bundle(tmp_path, content, facts)
    outcomes = set()
    for _ in range(150):
        files = {"inference": deepcopy(content), "metadata": deepcopy(facts)}
        for _ in range(2):
            changed = files[random.choice(["inference", "inference", "metadata"])]
            *above, last = random.choice([place for place in places(changed) if place[0] not in ("imports", "run")])
            with suppress(KeyError, IndexError, TypeError):  # what the first change took away
                functools.reduce(lambda value, key: value[key], above, changed)[last] = random.choice(ODD)
        for name, changed in files.items():
            (path / "configs" / f"{name}.json").write_text(json.dumps(changed))
        trust_request(path)
        try:
            load_model(path)
            outcomes.add(0)
        except UserError as error:
            outcomes.add(len(str(error).splitlines()))
    assert outcomes == {0, 1}  # taken, or refused in one line


@pytest.mark.parametrize("name", SOUND)
def test_wrong_bytes_anywhere_in_a_file(tmp_path, name):
    random = Random(0)
    path = SOUND[name](tmp_path)
    file = path / "models" / "model.pt" if path.is_dir() else path
    content = file.read_bytes()
    said = []
    for _ in range(40):
        damaged = bytearray(content)
        for _ in range(random.choice([1, 4])):
            damaged[random.randrange(len(damaged))] = random.randrange(256)
        file.write_bytes(bytes(damaged))
        try:
            load_model(path)
        except UserError as error:
            said.append(str(error))
    assert all(len(sentence.splitlines()) == 1 for sentence in said)  # nothing but a UserError ever comes out
