"""Model files made to harm: each is refused in one sentence with exit code 2, and nothing in it runs."""

import functools
import io
import json
import pickle
import re
import shutil
import stat
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from helpers.bundles import CHANNEL_FIRST, LOAD, UNET, config, make_network, metadata, write_bundle
from LRPExplainLib.cli import main
from LRPExplainLib.errors import UserError
from LRPExplainLib.models import load_model, trust_request
from LRPExplainLib.models.architectures import ARCHITECTURES
from safetensors.torch import save_file
from torch import nn

from benchmarks.vision import torchvision

Make = Callable[[Path], Path]
TINY = {"in_channels": 1, "out_channels": 2, "channels": [2, 4]}
SCALE = {"_target_": "ScaleIntensityd", "keys": "image"}


class Trap:
    """Unpickled, it leaves a file named `ran`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.folder / "ran",))


def conv() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv3d(1, 2, 3, padding=1), nn.ReLU()).eval()


def nan(network: nn.Module) -> nn.Module:
    next(network.parameters()).data.view(-1)[0] = float("nan")
    return network


# --- one sound file of each format ---------------------------------------------------------------------------------


def torchscript(folder: Path, network: nn.Module | None = None) -> Path:
    path = folder / "net.ts"
    torch.jit.trace(network or conv(), torch.zeros(1, 1, 4, 4, 4), check_trace=False).save(path)
    return path


def exported(folder: Path, network: nn.Module | None = None) -> Path:
    path = folder / "net.pt2"
    program = torch.export.export(network or conv(), (torch.zeros(1, 1, 32, 32, 32),), strict=False)
    torch.export.save(program, path)
    return path


def onnx(folder: Path, network: nn.Module | None = None) -> Path:
    pytest.importorskip("onnx")
    torchvision()
    path = folder / "net.onnx"
    torch.onnx.export(network or conv(), (torch.zeros(1, 1, 8, 8, 8),), path, dynamo=False, opset_version=17)
    return path


def safetensors(folder: Path, network: nn.Module | None = None, **arguments: Any) -> Path:
    network = network or ARCHITECTURES["UNet3d"](**TINY)
    save_file(network.state_dict(), folder / "net.safetensors")
    card = {
        "schema": 1, "name": "x", "task": "segmentation", "weights": "net.safetensors", "inputs": [{"name": "a"}],
        "network": {"architecture": "UNet3d", "arguments": {**TINY, **arguments}},
    }  # fmt: skip
    (folder / "net.card.json").write_text(json.dumps(card))
    return folder / "net.safetensors"


def bundle(folder: Path, transforms: Any = (LOAD, CHANNEL_FIRST, SCALE), **facts: Any) -> Path:
    """A bundle; facts go into its configuration, `network` takes the place of the weights' network."""
    network = facts.pop("network_module", None) or make_network(config(transforms))
    more = {key: facts.pop(key) for key in ("zipped", "file", "facts") if key in facts}
    return write_bundle(folder, config(transforms, **facts), network=network, **more)


SOUND: dict[str, Callable[..., Path]] = {
    "torchscript": torchscript, "exported": exported, "onnx": onnx, "safetensors": safetensors, "bundle": bundle,
    "zipped bundle": lambda folder: bundle(folder, zipped=True),
}  # fmt: skip


@pytest.fixture(autouse=True)
def nothing_ran(tmp_path):
    yield
    assert not (tmp_path / "ran").exists(), "code from the file was run"


def refused(path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The sentence with which the shell command refuses a model."""
    capsys.readouterr()
    assert main(["inspect", str(path)]) == 2
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    assert len(said.err.strip().splitlines()) == 1
    assert said.err.startswith("lrpexplain: ")
    return said.err


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


# --- code ----------------------------------------------------------------------------------------------------------


def rezipped(path: Path, change: Callable[[str, bytes], bytes | None], more: dict[str, bytes] | None = None) -> Path:
    """The archive with its members changed, left out (None) or added."""
    with zipfile.ZipFile(path) as archive:
        members = [(member, archive.read(member)) for member in archive.infolist()]
        root = members[0][0].filename.split("/")[0]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for member, content in members:
            changed = change(member.filename.partition("/")[2], content)
            if changed is not None:
                archive.writestr(zipfile.ZipInfo(member.filename), changed)
        for name, content in (more or {}).items():
            archive.writestr(f"{root}/{name}", content)
    return path


def trap_bytes(folder: Path, saved: bool) -> bytes:
    if not saved:
        return pickle.dumps(Trap(folder))
    stream = io.BytesIO()
    torch.save(Trap(folder), stream)
    return stream.getvalue()


def pickled(folder: Path, name: str, legacy: bool = False) -> Path:
    torch.save(Trap(folder), folder / name, _use_new_zipfile_serialization=not legacy)
    return folder / name


def pickled_in_bundle(folder: Path, **state: Any) -> Path:
    path = bundle(folder)
    torch.save({"model": make_network(config([])).state_dict(), "extra": Trap(folder)}, path / "models" / "model.pt")
    return path


def pickle_in_program(folder: Path, member: str, saved: bool = True, **entry: Any) -> Path:
    """A pickle where torch.export.load would unpickle it."""
    path = exported(folder)

    def change(name: str, content: bytes) -> bytes:
        if entry and name == "data/weights/model_weights_config.json":
            facts = json.loads(content)
            first = next(iter(facts["config"].values()))
            first |= entry
            return json.dumps(facts).encode()
        if entry and name == "data/constants/model_constants_config.json":
            facts = {"config": {"c": {"path_name": member.rsplit("/", 1)[-1], "is_param": False, "use_pickle": True,
                                      "tensor_meta": None}}}  # fmt: skip
            return json.dumps(facts).encode() if "constants" in member else content
        return content

    return rezipped(path, change, {member: trap_bytes(folder, saved)})


def in_program(folder: Path, change: Callable[[dict[str, Any], str], None]) -> Path:
    """The program's JSON changed by `change(content, code)`; the code would leave a file named `ran`."""
    code = f"__import__('pathlib').Path({str(folder / 'ran')!r}).touch()"

    def rewrite(name: str, content: bytes) -> bytes:
        if name != "models/model.json":
            return content
        facts = json.loads(content)
        change(facts, code)
        return json.dumps(facts).encode()

    return rezipped(exported(folder), rewrite)


def _target(target: str) -> Callable[[dict[str, Any], str], None]:
    def change(facts: dict[str, Any], code: str) -> None:
        facts["graph_module"]["graph"]["nodes"][0]["target"] = target

    return change


def _size(facts: dict[str, Any], code: str) -> None:
    value = next(iter(facts["graph_module"]["graph"]["tensor_values"].values()))
    value["sizes"][0] = {"as_expr": {"expr_str": code, "hint": None}}


def _spec(facts: dict[str, Any], code: str) -> None:
    kind = {"type": "collections.defaultdict", "context": json.dumps({"default_factory_module": "antigravity",
            "default_factory_name": "x", "dict_context": []}), "children_spec": []}  # fmt: skip
    facts["graph_module"]["module_call_graph"][0]["signature"]["in_spec"] = json.dumps([1, kind])


def _name(facts: dict[str, Any], code: str) -> None:
    text = json.dumps(facts).replace('"input"', json.dumps(f"x=[{code}]"))
    facts.clear()
    facts |= json.loads(text)


def script(folder: Path, body: str) -> Path:
    """TorchScript whose source holds a line that its exporter never wrote."""
    path = torchscript(folder)

    def change(name: str, content: bytes) -> bytes:
        if "container" in name and name.endswith(".py"):
            return re.sub(rb"\n    return ", f"\n    {body}\n    return ".encode(), content, count=1)
        return content

    return rezipped(path, change)


def _code(folder: Path) -> str:
    return f"$__import__('pathlib').Path('{(folder / 'ran').as_posix()}').touch()"


CODE: dict[str, tuple[Make, str]] = {
    "pickle .pt": (lambda f: pickled(f, "net.pt"), "not a TorchScript file"),
    "pickle .pth": (lambda f: pickled(f, "net.pth", legacy=True), "not a TorchScript file"),
    "pickle in a bundle": (pickled_in_bundle, r"holds more than weights \(it asks for .*touch|holds more than weights"),
    "pickled sample inputs": (
        lambda f: pickle_in_program(f, "data/sample_inputs/model.pt"), "two members of the same name"),
    "pickled weight": (lambda f: pickle_in_program(f, "data/weights/weight_9", use_pickle=True, path_name="weight_9"),
                       "holds the pickled object"),
    "opaque constant": (lambda f: pickle_in_program(f, "data/constants/opaque_obj_0", saved=False, unused=1),
                        "holds the p"),
    "legacy weights": (lambda f: pickle_in_program(f, "data/weights/model.pt"), "holds the part"),
    "compiled program": (lambda f: rezipped(exported(f), lambda n, c: c, {"data/aotinductor/model/x.so": b"\x7fELF"}),
                         "holds the part"),
    "operator": (lambda f: in_program(f, _target("torch.serialization.os.system")), "holds the operator"),
    "file operator": (lambda f: in_program(f, _target("torch.ops.aten.from_file.default")), "holds the operator"),
    "size": (lambda f: in_program(f, _size), "holds the size"),
    "argument type": (lambda f: in_program(f, _spec), "holds the argument type"),
    "name": (lambda f: in_program(f, _name), "holds the name"),
    "TorchScript that saves": (lambda f: script(f, "_0 = torch.save(input, 'ran')"), "asks for 'torch.save'"),
    "TorchScript that maps": (lambda f: script(f, "_0 = torch.from_file('ran', True, 10)"), "torch.from_file"),
    "TorchScript of a foreign class": (lambda f: script(f, "_0 = __torch__.torch.classes.evil.X()"),
                                       "asks for 'torch.classes.evil'"),
    "TorchScript of a foreign operator": (lambda f: script(f, "_0 = ops.evil.run(input)"), "asks for 'ops.evil'"),
    "expression in a transform": (lambda f: bundle(f, [LOAD, {**SCALE, "minv": _code(f)}]),
                                  r"line \d+, key preprocessing#transforms#1#minv, asks"),
    "expression in the network": (lambda f: bundle(f, network={**UNET, "out_channels": _code(f)}),
                                  r"line \d+, key network_def#out_channels, asks"),
    "expression in the inferer": (lambda f: bundle(f, inferer=_code(f)), r"key inferer, asks for '\$__import__"),
    "expression behind a reference": (lambda f: bundle(f, network={**UNET, "out_channels": "$@n + 1"}, n=_code(f)),
                                      r"key n, asks"),
    "expression in YAML": (lambda f: bundle(f, [LOAD, {**SCALE, "minv": _code(f)}], file="inference.yaml"),
                           r"inference.yaml', line \d+, key"),
    "attribute of data": (lambda f: bundle(f, [LOAD, {**SCALE, "minv": "$().__class__.__base__"}]), "asks for"),
    "foreign network": (lambda f: bundle(f, network={"_target_": "scripts.net.Net"}),
                        r"line \d+, key network_def, asks for 'scripts.net.Net'"),
    "function as network": (lambda f: bundle(f, network={"_target_": "os.system", "command": f"touch {f}/ran"}),
                            "asks for 'os.system'"),
    "function of MONAI": (lambda f: bundle(f, network={"_target_": "monai.bundle.run"}), "asks for 'monai.bundle.run'"),
    "network within the network": (lambda f: bundle(f, network={**UNET, "act": {"_target_": "subprocess.run"}}),
                                   "asks for 'subprocess.run'"),
    "other weights": (lambda f: bundle(f, network={"_target_": "HoVerNet", "pretrained_url": "http://127.0.0.1/x"}),
                      "wants other weights fetched"),
    "foreign transform": (lambda f: bundle(f, [LOAD, {"_target_": "scripts.t.Evil", "keys": "image"}]),
                          "scripts.t.Evil"),
    "lambda transform": (lambda f: bundle(f, [LOAD, {"_target_": "Lambdad", "keys": "image", "func": _code(f)}]),
                         "Lambdad"),
    "circle": (lambda f: bundle(f, network={**UNET, "out_channels": "@a"}, a="@b", b="$@a"), "in a circle"),
    "sum in a circle": (lambda f: bundle(f, network={**UNET, "out_channels": "@a"}, a="$@a + 1"), "in a circle"),
    "huge number": (lambda f: bundle(f, [LOAD, {**SCALE, "minv": "$10 ** (10 ** 10)"}]), "asks for"),
    "huge list": (lambda f: bundle(f, [LOAD, {**SCALE, "minv": "$[0] * 10000000000"}]), "asks for"),
}  # fmt: skip


@pytest.mark.parametrize("case", CODE)
def test_code(tmp_path, case, capsys):
    make, expected = CODE[case]
    assert re.search(expected, refused(make(tmp_path), capsys))


def test_a_yaml_file_that_stands_for_a_billion_items(tmp_path, capsys):
    path = bundle(tmp_path, file="inference.yaml")
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    content = (path / "configs" / "inference.yaml").read_text()
    bomb = content + "\n".join(lines)
    bomb = bomb.replace("spatial_dims: 3", "spatial_dims: 3\n  act: '@a9'")
    (path / "configs" / "inference.yaml").write_text(bomb)
    assert "without end" in refused(path, capsys)


def test_a_yaml_file_that_merges_without_end(tmp_path, capsys):
    path = bundle(tmp_path, file="inference.yaml")
    lines = ["m0: &m0 {a: 1}"] + [f"m{n}: &m{n} {{<<: [*m{n - 1}, *m{n - 1}]}}" for n in range(1, 60)]
    with (path / "configs" / "inference.yaml").open("a") as stream:
        stream.write("\n".join(lines))
    assert "merge keys" in refused(path, capsys)


def test_only_what_is_needed_is_looked_at(tmp_path, capsys):
    """Imports, handlers and postprocessing of a bundle may be code: nobody runs them."""
    path = bundle(
        tmp_path,
        handlers=[{"_target_": "scripts.handlers.Save", "path": _code(tmp_path)}],
        initialize=[_code(tmp_path)],
        post={"_target_": "Compose", "transforms": [
            {"_target_": "Activationsd", "keys": "pred", "softmax": True},
            {"_target_": "Lambdad", "keys": "pred", "func": _code(tmp_path)},
        ]},
    )  # fmt: skip
    assert main(["inspect", str(path)]) == 0
    assert "softmax" in capsys.readouterr().out


# --- archives ------------------------------------------------------------------------------------------------------


def with_member(path: Path, name: str, content: bytes = b"x", mode: int = 0) -> Path:
    with zipfile.ZipFile(path, "a") as archive:
        member = zipfile.ZipInfo(name)
        member.external_attr = mode << 16
        archive.writestr(member, content)
    return path


def zip_bomb(folder: Path) -> Path:
    path = bundle(folder, zipped=True)
    with (
        zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive,
        archive.open("small_bundle/docs/x", "w") as member,
    ):
        for _ in range(100):
            member.write(bytes(1 << 20))
    return path


def compressed_weights(folder: Path) -> Path:
    """A state dict of nothing but zeros, compressed a thousandfold."""
    path = bundle(folder)
    file = path / "models" / "model.pt"
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def lying_directory(folder: Path) -> Path:
    """The zip directory claims that the weights are larger than they are."""
    path = bundle(folder)
    file = path / "models" / "model.pt"
    content = bytearray(file.read_bytes())
    at = content.find(b"PK\x01\x02")
    struct.pack_into("<I", content, at + 24, 1 << 30)
    file.write_bytes(bytes(content))
    return path


ARCHIVES: dict[str, tuple[Make, str]] = {
    "parent folder": (lambda f: with_member(bundle(f, zipped=True), "../../ran"), "outside its folder"),
    "backslashes": (lambda f: with_member(bundle(f, zipped=True), "..\\..\\ran"), "outside its folder"),
    "absolute": (lambda f: with_member(bundle(f, zipped=True), f"{f}/ran"), "outside its folder"),
    "drive": (lambda f: with_member(bundle(f, zipped=True), "C:/ran"), "outside its folder"),
    "link": (lambda f: with_member(bundle(f, zipped=True), "small_bundle/l", b"/etc/passwd", stat.S_IFLNK | 0o777),
             "a link"),
    "twice": (lambda f: with_member(bundle(f, zipped=True), "small_bundle/configs/inference.json"), "same name"),
    "in weights": (lambda f: with_member(torchscript(f), "../ran"), "outside its folder"),
    "zip bomb": (zip_bomb, "claims to hold"),
    "compressed weights": (compressed_weights, "compressed parts"),
    "lying directory": (lying_directory, "damaged|claims|whole zip"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("case", ARCHIVES)
def test_archives(tmp_path, case, capsys):
    make, expected = ARCHIVES[case]
    assert re.search(expected, refused(make(tmp_path), capsys))


# --- sizes ---------------------------------------------------------------------------------------------------------


def header(folder: Path, change: Callable[[dict[str, Any]], None], length: int | None = None) -> Path:
    """safetensors with a changed header."""
    path = safetensors(folder)
    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    facts = json.loads(content[8 : 8 + size])
    change(facts)
    text = json.dumps(facts).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + content[8 + size :])
    return path


def _larger(facts: dict[str, Any]) -> None:
    first = next(key for key in facts if key != "__metadata__")
    facts[first]["shape"] = [1 << 20, 1 << 20, 27]


def lying_pickle(folder: Path, suffix: str, change: Callable[[bytes], bytes]) -> Path:
    """Weights whose pickle claims other sizes than the archive holds."""
    layer = nn.Conv3d(1, 1, 1, bias=False)
    layer.weight.data = torch.ones(300, 1, 1, 1, 1)
    file = folder / f"net.{suffix}"
    if suffix == "ts":
        torch.jit.script(layer).save(file)
    else:
        torch.save(layer.state_dict(), file)
    rezipped(file, lambda name, content: change(content) if name == "data.pkl" else content)
    if suffix == "ts":
        return file
    path = bundle(folder)
    shutil.move(file, path / "models" / "model.pt")
    return path


LENGTH = b"M" + struct.pack("<H", 300)  # BININT2 300: the length of the storage, and the first side of the tensor
HUGE = b"J" + struct.pack("<i", 2_000_000_000)


def huge_onnx(folder: Path) -> Path:
    import onnx as library

    path = onnx(folder)
    model = library.load(path)
    model.graph.initializer[0].dims[0] = 1 << 40
    library.save(model, path)
    return path


def huge_program(folder: Path) -> Path:
    def change(name: str, content: bytes) -> bytes:
        if name == "data/weights/weight_0":
            return b""
        return content.replace(b'"as_int": 3', b'"as_int": 30000') if name.endswith("weights_config.json") else content

    return rezipped(exported(folder), change)


SIZES: dict[str, tuple[Make, str]] = {
    "safetensors shape": (lambda f: header(f, _larger), "not a whole safetensors file"),
    "safetensors header length": (lambda f: header(f, lambda facts: None, 1 << 60), "not a whole safetensors file"),
    "all of a .pt": (lambda f: lying_pickle(f, "pt", lambda c: c.replace(LENGTH, HUGE)), "claims 2000000000 numbers"),
    "tensor in a .pt": (lambda f: lying_pickle(f, "pt", lambda c: HUGE.join(c.rsplit(LENGTH, 1))), "claims a tensor"),
    "all of a .ts": (lambda f: lying_pickle(f, "ts", lambda c: c.replace(LENGTH, HUGE)), "claims 2000000000 numbers"),
    "tensor in a .ts": (lambda f: lying_pickle(f, "ts", lambda c: HUGE.join(c.rsplit(LENGTH, 1))), "claims a tensor"),
    "onnx": (huge_onnx, "claims a tensor"),
    "exported": (huge_program, "without its numbers"),
    "network of a bundle": (lambda f: bundle(f, network={**UNET, "channels": [100_000, 200_000]}), "far larger"),
    "depth of a bundle": (lambda f: bundle(f, network={"_target_": "SegResNet", "blocks_down": [1_000_000]}),
                          "far larger|cannot be made"),
    "network of a card": (lambda f: safetensors(f, channels=[100_000, 200_000]), "far larger"),
}  # fmt: skip


@pytest.mark.parametrize("case", SIZES)
def test_sizes_that_are_only_on_paper(tmp_path, case, capsys):
    make, expected = SIZES[case]
    assert re.search(expected, refused(make(tmp_path), capsys))


# --- data beside an ONNX file --------------------------------------------------------------------------------------


def external(folder: Path, location: str, **facts: int) -> Path:
    """ONNX whose first tensor lies in another file."""
    import onnx as library

    path = onnx(folder)
    model = library.load(path)
    tensor = model.graph.initializer[0]
    (folder / "net.data").write_bytes(tensor.raw_data)
    length = len(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = library.TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": 0, "length": length, **facts}.items():
        tensor.external_data.add(key=key, value=str(value))
    path.write_bytes(model.SerializeToString())
    return path


def _link(folder: Path) -> Path:
    path = external(folder, "link.data")
    (folder / "elsewhere").mkdir()
    shutil.move(folder / "net.data", folder / "elsewhere" / "net.data")
    (folder / "link.data").symlink_to(folder / "elsewhere" / "net.data")
    return path


EXTERNAL: dict[str, tuple[Make, str]] = {
    "parent": (lambda f: external(f, "../net.data"), "outside its folder"),
    "absolute": (lambda f: external(f, str(f / "net.data")), "outside its folder"),
    "link": (_link, "outside its folder"),
    "nothing": (lambda f: external(f, ""), "outside its folder"),
    "missing": (lambda f: external(f, "absent.data"), "not beside it"),
    "too long": (lambda f: external(f, "net.data", length=1 << 40), "claims more data"),
    "negative": (lambda f: external(f, "net.data", offset=-5), "claims more data"),
}


@pytest.mark.parametrize("case", EXTERNAL)
def test_data_beside_onnx(tmp_path, case, capsys):
    make, expected = EXTERNAL[case]
    assert re.search(expected, refused(make(tmp_path), capsys))


def test_data_beside_onnx_are_read(tmp_path, capsys):
    assert main(["inspect", str(external(tmp_path, "net.data")), "--shape", "8", "8", "8"]) == 0


def test_metadata_that_is_no_json(tmp_path, capsys):
    path = bundle(tmp_path, facts=metadata())
    (path / "configs" / "metadata.json").write_text('{"name": ')
    assert "cannot be read" in refused(path, capsys)


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
