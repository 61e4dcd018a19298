"""Imports point one way: `scene`, `cli` -> `explain` -> `models`, `imaging`, `lrp`. Read from source, run nothing."""

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

MODULE = Path(__file__).resolve().parents[1] / "LRPExplain"
LIBRARY = MODULE / "LRPExplainLib"
FILES = sorted(LIBRARY.rglob("*.py"))
HOST = {"slicer", "vtk", "vtkmodules", "qt", "ctk", "PythonQt"}
OURS = "LRPExplainLib"
STANDARD = set(sys.stdlib_module_names) | {"__future__"}

Source = tuple[str, bool]  # what is imported, and whether at import time


def imports(source: str, package: str) -> Iterator[Source]:
    """Dotted names that a file of this package imports; what is for type checkers alone is none."""

    def visit(node: ast.AST, at_once: bool) -> Iterator[Source]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from ((alias.name, at_once) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                above = package.split(".")[: -child.level + 1 or None] if child.level else []
                base = ".".join([*above, *([child.module] if child.module else [])])
                yield (base, at_once)
                yield from ((f"{base}.{alias.name}", at_once) for alias in child.names)
            elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                yield from visit(ast.Module(child.orelse, []), at_once)
            else:
                function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                yield from visit(child, at_once and not function)

    yield from visit(ast.parse(source), True)


@cache
def imports_of(path: Path) -> tuple[Source, ...]:
    package = ".".join(path.relative_to(MODULE).parent.parts)
    return tuple(imports(path.read_text(encoding="utf-8"), package))


def part_of(path: Path) -> str:
    """The folder or the file directly under the library that a file belongs to."""
    return path.relative_to(LIBRARY).parts[0].removesuffix(".py")


def file_of(name: str) -> Path | None:
    """Our file that a dotted name stands for, if it is one."""
    path = MODULE.joinpath(*name.split("."))
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()), None)


def our_parts(path: Path) -> set[str]:
    """Which parts of the library a file imports, at any time."""
    names = {name for name, _ in imports_of(path) if name.split(".")[0] == OURS and file_of(name)}
    return {part_of(path) for name in names if (path := file_of(name)) and path != LIBRARY / "__init__.py"}


def others(path: Path) -> set[str]:
    """Top-level names of everything else that a file imports, at any time."""
    return {name.split(".")[0] for name, _ in imports_of(path)} - {OURS}


# part -> the parts of ours that it may import; every part is in this table
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "sentences": set(),
    "file_names": set(),
    "loading": set(),
    "seeds": {"errors"},
    "correlation": set(),
    "progress": set(),
    "digests": set(),
    "markdown": set(),
    "schemas": set(),
    "findings": {"findings", "errors", "sentences"},
    "lrp": {"lrp"},
    "imaging": {"imaging", "digests", "errors"},
    "models": {"models", "digests", "errors", "lrp", "schemas"},
    "demo": {"demo", "errors", "imaging", "seeds"},
    "worker": {
        "worker",
        "comparison",
        "concepts",
        "errors",
        "evaluation",
        "explain",
        "explanation",
        "folders",
        "file_names",
        "imaging",
        "loading",
        "memory",
        "lrp",
        "progress",
        "recorded",
    }
    | {"inspection", "methods", "models", "question", "reporting", "sentences", "stages"},
    "folders": {"errors"},
    "explanation": {"errors", "folders", "imaging"},
    "outcome": {"errors", "explanation", "imaging", "models"},
    "activations": set(),
    "question": {"activations", "errors", "imaging", "lrp", "models", "outcome"},
    "memory": {"errors"},
    "inference": {"errors", "imaging", "lrp", "memory", "models", "outcome", "progress"},
    "ledgers": set(),
    "comparison": {"comparison", "correlation", "errors", "explanation", "folders", "imaging", "ledgers", "markdown"},
    "cohort": {"cohort", "errors", "explanation", "folders", "imaging", "markdown", "reporting", "seeds", "progress"},
    "methods": {"activations", "methods", "errors", "imaging", "inference", "lrp", "seeds", "progress"},
    "stages": {"progress"},
    "readying": {
        "cascade",
        "errors",
        "imaging",
        "inference",
        "lrp",
        "memory",
        "methods",
        "models",
        "question",
        "refusals",
        "stages",
        "progress",
    },
    "explain": {"errors", "explanation", "imaging", "ledgers", "lrp", "methods", "models", "outcome", "question"}
    | {"progress", "readying", "running", "stages"},
    "running": {"errors", "memory"},
    "recorded": {"errors", "imaging", "lrp", "methods", "question"},
    "channel_walks": {"errors", "explain", "explanation", "lrp", "question", "readying"},
    "concepts": {"channel_walks", "errors", "explain", "explanation", "folders", "lrp", "question", "progress"},
    "forward": {"imaging", "inference", "lrp", "memory", "models", "outcome"},
    "evaluation": {
        "activations",
        "correlation",
        "errors",
        "evaluation",
        "explanation",
        "folders",
        "forward",
        "imaging",
        "inference",
        "markdown",
        "memory",
        "progress",
    }
    | {
        "lrp",
        "methods",
        "models",
        "outcome",
        "question",
        "readying",
        "recorded",
        "running",
        "schemas",
        "seeds",
        "summaries",
    },
    "reporting": {"errors", "evaluation", "explain", "explanation", "findings", "folders", "imaging"}
    | {"digests", "lrp", "methods", "models", "question", "recorded", "reporting", "running", "schemas"},
    "inspection": {"imaging", "lrp", "models", "outcome", "refusals"},
    "demonstration": {"demo", "errors", "explain", "explanation", "folders", "imaging"},
    "scene": {"scene", "errors", "explanation", "findings", "imaging", "progress", "sentences", "worker"},
    "summaries": {"findings"},
    "cli": {
        "cli",
        "cohort",
        "comparison",
        "concepts",
        "file_names",
        "demonstration",
        "errors",
        "evaluation",
        "explain",
        "explanation",
        "folders",
        "inspection",
        "models",
    }
    | {"imaging", "loading", "lrp", "question", "reporting", "scene", "seeds", "summaries"},
    "__main__": {"cli"},
    "__init__": set(),
    "cascade": {"imaging", "inference", "lrp", "models", "outcome"},
    "refusals": {"errors", "lrp", "models"},
}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(LIBRARY).as_posix())
def test_imports_point_one_way(path: Path) -> None:
    assert part_of(path) in MAY_IMPORT, "a new part of the library needs its row in this table"
    assert our_parts(path) <= MAY_IMPORT[part_of(path)]


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_a_part_may_import_what_it_does_and_no_more(part: str) -> None:
    assert MAY_IMPORT[part] - {part} <= {other for path in FILES if part_of(path) == part for other in our_parts(path)}


def test_the_table_itself_points_one_way() -> None:
    """No part reaches itself through others, so none can be read without reading all."""
    below = {part: may - {part} for part, may in MAY_IMPORT.items()}
    while below:
        free = {part for part, may in below.items() if not may & set(below)}
        assert free, f"these import each other in a circle: {sorted(below)}"
        below = {part: may for part, may in below.items() if part not in free}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(LIBRARY).as_posix())
def test_the_host_is_known_to_the_scene_alone(path: Path) -> None:
    if part_of(path) != "scene":
        assert not others(path) & HOST


def test_what_is_asked_of_slicer_is_in_slicer_itself_too() -> None:
    """slicer-core has classes under `slicer` that Slicer has not there (Slicer_PYTHON_MODULES_CONFIG there)."""
    slicer = pytest.importorskip("slicer")
    elsewhere = {"slicer_core.vtkITK", "slicer_core.vtkTeem"}
    asked = {name for path in FILES for name in re.findall(r"\bslicer\.(vtk\w+)", path.read_text(encoding="utf-8"))}
    assert asked
    assert not {name for name in asked if getattr(slicer, name).__module__ in elsewhere}


@pytest.mark.parametrize("path", sorted((LIBRARY / "lrp").rglob("*.py")), ids=lambda path: path.name)
def test_the_engine_knows_torch_and_nothing_else(path: Path) -> None:
    assert others(path) <= STANDARD | {"torch"}


def loaded_with(start: Path) -> set[str]:
    """Names of all that importing a file imports in its turn, as far as our own files go."""
    found, waiting = set(), [start]
    while waiting:
        for name, at_once in imports_of(waiting.pop()):
            if not at_once or name in found:
                continue
            found.add(name)
            parts = name.split(".")
            packages = [file_of(".".join(parts[:n])) for n in range(1, len(parts) + 1)]
            waiting += [path for path in packages if path]
    return found


@pytest.mark.parametrize("name", ["LRPExplain.py", "LRPExplainLib/cli/__init__.py", "LRPExplainLib/worker/__init__.py"])
def test_torch_is_not_loaded_before_it_is_needed(name: str) -> None:
    """Slicer starts without it, and `lrpexplain --help` answers at once."""
    heavy = {"torch", "monai", "nilearn", "scipy", "sklearn"}
    assert not {name.split(".")[0] for name in loaded_with(MODULE / name)} & heavy


# --- the reading itself --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import torch.nn", {("torch.nn", True)}),
        ("from . import cli", {("LRPExplainLib.lrp", True), ("LRPExplainLib.lrp.cli", True)}),
        ("from .. import cli", {("LRPExplainLib", True), ("LRPExplainLib.cli", True)}),
        ("from ..scene.host import x", {("LRPExplainLib.scene.host", True), ("LRPExplainLib.scene.host.x", True)}),
        ("def f():\n    import slicer", {("slicer", False)}),
        ("class A:\n    import slicer", {("slicer", True)}),
        ("try:\n    import vtk\nexcept ImportError:\n    import qt", {("vtk", True), ("qt", True)}),
        ("if TYPE_CHECKING:\n    import torch\nelse:\n    import vtk", {("vtk", True)}),
    ],
)
def test_imports_are_read_as_python_does(source: str, expected: set[Source]) -> None:
    assert set(imports(source, "LRPExplainLib.lrp")) == expected


def test_the_library_was_found() -> None:
    assert {part_of(path) for path in FILES} == set(MAY_IMPORT)
