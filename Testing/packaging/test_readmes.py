"""What the READMEs print runs as it stands: commands are understood, snippets of Python run on small files."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from helpers.networks import RANGE, classes, save_model, segmenter
from helpers.volumes import make_volume
from LRPExplainLib import lrp
from LRPExplainLib.cli import _parser
from LRPExplainLib.explain import explain
from LRPExplainLib.lrp import Attribution

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "LRPExplain" / "LRPExplainLib"
READMES = [ROOT / "README.md", ROOT / "Resources" / "Examples.md", *sorted(LIBRARY.glob("*/README.md"))]


def blocks(path: Path) -> list[str]:
    """What is indented by four, without the indentation."""
    text = path.read_text(encoding="utf-8")
    found = re.findall(r"(?:^ {4}.*\n|^\n(?= {4}))+", text, flags=re.MULTILINE)
    return [re.sub("^ {4}", "", block, flags=re.MULTILINE).strip("\n") for block in found]


COMMANDS = [
    line
    for path in READMES
    for block in blocks(path)
    for line in block.replace("\\\n", " ").splitlines()
    if line.removeprefix(".venv/bin/").startswith("lrpexplain ")
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_understood(command):
    assert callable(_parser().parse_args(shlex.split(command, comments=True)[1:]).run)


def snippet(path: Path, *parts: str) -> str:
    """The block of Python that holds these."""
    (found,) = [block for block in blocks(path) if all(part in block for part in parts)]
    return found


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A model of lesions and a volume, under the names that the snippets use."""
    card = {"preprocessing": {"intensity": RANGE}, "output": classes("background", "other", "lesion")}
    save_model(tmp_path, segmenter(), "model", **card)
    sitk.WriteImage(make_volume(size=(24, 22, 20), spacing=(1.5, 1.5, 1.5)), str(tmp_path / "t1.nii.gz"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(code: str) -> dict[str, object]:
    names: dict[str, object] = {}
    exec(compile(code, "README", "exec"), names)
    return names


def test_the_snippet_that_explains(folder):
    run(snippet(ROOT / "README.md", "import explain", "save"))
    assert (folder / "out" / "relevance.nrrd").is_file()


@pytest.mark.parametrize("path", [ROOT / "README.md", LIBRARY / "lrp" / "README.md"], ids=["README", "lrp"])
def test_the_snippet_of_the_engine(folder, path):
    assert isinstance(run(snippet(path, "lrp.capture(model, x)"))["a"], Attribution)


def test_the_snippet_of_rules_and_layers_of_ones_own(folder):
    path = LIBRARY / "lrp" / "README.md"
    names = run(snippet(path, "lrp.capture(model, x)") + "\n" + snippet(path, "override(", "channels="))
    assert names["a"].at[names["layer"]].shape[1] == lrp.inner_layers(names["graph"])[0].channels  # type: ignore
    assert names["one"].ledger.changed != 0  # type: ignore[attr-defined]


def test_the_snippet_that_evaluates(folder):
    found = run(snippet(LIBRARY / "evaluation" / "README.md", "Perturbed("))["found"]
    assert np.isfinite(found["baselines"]["mean"]["abpc"])  # type: ignore[index]


def test_the_snippet_of_a_cohort(folder):
    pytest.importorskip("sklearn")
    for n in range(4):
        volume = make_volume(size=(24, 22, 20), spacing=(1.5, 1.5, 1.5), seed=n)
        explain("model.ts", [volume], "lesion", device="cpu").save(folder / "explanations" / str(n))
    run(snippet(LIBRARY / "cohort" / "README.md", "cohort("))
    assert (folder / "cohort" / "cohort.html").is_file()
