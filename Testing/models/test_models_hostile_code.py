"""Model files that hold code: pickles, programs, TorchScript and expressions of bundles, refused and never run."""

import io
import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.bundles import LOAD, UNET, config, make_network
from hostile_files import (
    SCALE,
    Make,
    Trap,
    bundle,
    exported,
    nothing_ran,  # noqa: F401  (around every test)
    refused,
    rezipped,
    torchscript,
)
from LRPExplainLib.cli import main


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
    "pickle in a bundle": (pickled_in_bundle, r"holds more than weights \(it asks for \S+\) and opening it would run"),
    "pickled sample inputs": (
        lambda f: pickle_in_program(f, "data/sample_inputs/model.pt"), "two members of the same name"),
    "pickled weight": (lambda f: pickle_in_program(f, "data/weights/weight_9", use_pickle=True, path_name="weight_9"),
                       "holds the pickled object"),
    "opaque constant": (lambda f: pickle_in_program(f, "data/constants/opaque_obj_0", saved=False, unused=1),
                        "holds the p"),
    "legacy weights": (lambda f: pickle_in_program(f, "data/weights/model.pt"), "pickles are not"),
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
