"""Benchmarks and the scripts under Resources, which no other test runs, import what is there."""

import ast
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted([*(ROOT / "benchmarks").glob("*.py"), *(ROOT / "Resources").glob("*.py")])


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_what_a_script_takes_from_the_library_is_there(path: Path) -> None:
    taken = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.ImportFrom)]
    missing = [
        f"{node.module}.{alias.name}"
        for node in taken
        if node.module and node.module.split(".")[0] == "LRPExplainLib"
        for alias in node.names
        if not hasattr(import_module(node.module), alias.name) and find_spec(f"{node.module}.{alias.name}") is None
    ]
    assert missing == []


def test_the_scripts_were_found() -> None:
    assert {"peers", "faithfulness", "train_demo_model"} <= {path.stem for path in SCRIPTS}
