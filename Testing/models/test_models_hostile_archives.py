"""Archives that reach out of their folder, sizes that are only on paper, data beside an ONNX file: each is refused."""

import io
import json
import pickle
import re
import shutil
import stat
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.bundles import UNET, metadata
from hostile_files import (
    Make,
    bundle,
    exported,
    nothing_ran,  # noqa: F401  (around every test)
    onnx,
    refused,
    rezipped,
    safetensors,
    torchscript,
)
from LRPExplainLib.cli import main
from LRPExplainLib.errors import UserError
from LRPExplainLib.models.claims import check_claims
from torch import nn

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


def encrypted(folder: Path) -> Path:
    """As the zip directory says of its first member."""
    path = bundle(folder, zipped=True)
    content = bytearray(path.read_bytes())
    content[content.find(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(bytes(content))
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
    "encrypted": (encrypted, "is encrypted: decrypt it first"),
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
V2 = b"_rebuild_tensor_v2"
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
    "tensor of another make": (
        lambda f: lying_pickle(f, "pt", lambda c: HUGE.join(c.rsplit(LENGTH, 1)).replace(V2, V2.replace(b"_v2", b""))),
        "claims a tensor",
    ),
    "all of a .ts": (lambda f: lying_pickle(f, "ts", lambda c: c.replace(LENGTH, HUGE)), "claims 2000000000 numbers"),
    "tensor in a .ts": (lambda f: lying_pickle(f, "ts", lambda c: HUGE.join(c.rsplit(LENGTH, 1))), "claims a tensor"),
    "onnx": (huge_onnx, "claims a tensor"),
    "exported": (huge_program, "without its numbers"),
    "network of a bundle": (lambda f: bundle(f, network={**UNET, "channels": [100_000, 200_000]}), "far larger"),
    "depth of a bundle": (lambda f: bundle(f, network={"_target_": "SegResNet", "blocks_down": [1_000_000]}),
                          "far larger|cannot be made"),
    "network of a card": (lambda f: safetensors(f, channels=[100_000, 200_000]), "far larger"),
}  # fmt: skip


STORAGE, TENSOR = object(), object()


def claiming(items: int, offset: int, size: tuple[int, ...], stride: tuple[int, ...], held: int) -> zipfile.ZipFile:
    """What torch.save would write of a tensor with these claims, and the numbers that are there."""

    class Claims(pickle.Pickler):
        def persistent_id(self, what: object) -> Any:
            return ("storage", torch.FloatStorage, "0", "cpu", items) if what is STORAGE else None

        def reducer_override(self, what: object) -> Any:
            made = (STORAGE, offset, size, stride, False, OrderedDict())
            return (torch._utils._rebuild_tensor_v2, made) if what is TENSOR else NotImplemented

    content = io.BytesIO()
    Claims(content).dump({"weight": TENSOR})
    archive = zipfile.ZipFile(io.BytesIO(), "w")
    archive.writestr("net/data.pkl", content.getvalue())
    archive.writestr("net/data/0", bytes(4 * held))
    return archive


@pytest.mark.parametrize("items", [-1, 0, 11, 12, 13])
@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [
        (0, (3, 4), (4, 1)), (1, (3, 4), (4, 1)), (0, (12,), (1,)), (0, (13,), (1,)), (11, (1,), (1,)),
        (12, (1,), (1,)), (0, (4,), (4,)), (0, (3,), (5,)), (0, (3, 2), (0, 1)), (10, (), ()), (12, (), ()),
        (0, (0, 3), (3, 1)), (99, (2, 0), (1, 1)), (-1, (3,), (1,)), (3, (2,), (-1,)), (0, (-2,), (1,)),
        (0, (3, 4), (4,)),
    ],
)  # fmt: skip
def test_a_tensor_may_claim_what_is_there(items, offset, size, stride):
    """Twelve numbers are; what PyTorch itself makes of them as a view is the measure."""
    lies = not 0 <= items <= 12
    try:
        torch.zeros(max(items, 0)).as_strided(size, stride, offset)
    except RuntimeError:
        lies = True
    with pytest.raises(UserError, match=r"claims|damaged") if lies else nullcontext():
        check_claims(claiming(items, offset, size, stride, held=12), "net.pt")


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
