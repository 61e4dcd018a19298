"""The module's logic, byte for byte what Slicer loads, on slicer-core; Qt and Slicer's base classes are stand-ins."""

import ast
import importlib.util
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
import stand_ins
import torch
from LRPExplainLib import lrp, worker
from LRPExplainLib.errors import UserError
from LRPExplainLib.imaging.reading import read_volume
from LRPExplainLib.scene.export import export_volume
from LRPExplainLib.scene.host import Application
from LRPExplainLib.scene.nodes import add_volume, by_role, ijk_to_ras
from slicer.util import arrayFromVolume

FILE = Path(__file__).resolve().parents[2] / "LRPExplain" / "LRPExplain.py"


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    for name, stand_in in stand_ins.modules().items():
        monkeypatch.setitem(sys.modules, name, stand_in)
    specification = importlib.util.spec_from_file_location("LRPExplain", FILE)
    assert specification is not None
    assert specification.loader is not None
    result = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(result)
    monkeypatch.setattr(result.shutil, "which", lambda name: sys.executable if name == "PythonSlicer" else None)
    return result


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made, to see that none is left."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def volume_image() -> sitk.Image:
    image = sitk.GetImageFromArray(np.random.default_rng(0).random((10, 12, 14)).astype(np.float32))
    image.SetSpacing((1.0, 1.5, 2.0))
    image.SetOrigin((-7, 11, 3))
    rotation = sitk.Euler3DTransform()
    rotation.SetRotation(0.2, -0.1, 0.3)
    image.SetDirection(rotation.GetMatrix())
    return image


@pytest.fixture
def volume() -> Iterator[Any]:
    application = Application()  # a node does not keep its scene alive
    yield add_volume(application.scene, volume_image(), "noise")
    application.scene.Clear(True)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv3d(1, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv3d(4, 2, 1)).eval()
    path = tmp_path / "network.ts"
    torch.jit.script(network).save(str(path))
    return path


def test_the_module_file_never_imports_torch_and_keeps_to_four_thin_classes() -> None:
    tree = ast.parse(FILE.read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not {name for name in imported if name.split(".")[0] == "torch"}
    assert not {name for name in imported if name.startswith(("LRPExplainLib.lrp", "LRPExplainLib.explain."))}
    classes = [node.name for node in tree.body if isinstance(node, ast.ClassDef)]
    assert classes == ["LRPExplain", "LRPExplainParameterNode", "LRPExplainWidget", "LRPExplainLogic", "LRPExplainTest"]
    assert len(FILE.read_text(encoding="utf-8").splitlines()) <= 300


def test_what_slicer_imports_at_start_needs_no_package_that_is_yet_to_be_installed() -> None:
    code = "import sys, LRPExplainLib.worker; print([m for m in ('torch', 'SimpleITK', 'tqdm') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_an_exported_volume_is_read_back_with_the_same_voxels_and_place(volume: Any, tmp_path: Path) -> None:
    image = read_volume(export_volume(volume, tmp_path / "volume.nrrd"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), arrayFromVolume(volume))
    np.testing.assert_allclose(ijk_to_ras(image), ijk_to_ras(volume_image()), atol=1e-5)
    assert volume.GetStorageNode() is None


def test_a_volume_without_voxels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no voxels"):
        export_volume(slicer.vtkMRMLScalarVolumeNode(), tmp_path / "volume.nrrd")


def test_a_volume_is_explained_in_a_child_process_and_shown(
    module: types.ModuleType, volume: Any, model: Path, temporary: Path
) -> None:
    logic, ends = module.LRPExplainLogic(), []
    logic.start(volume, model, "1", "epsilon", ends.append)
    assert ends == [""]
    assert not logic.running
    scene = volume.GetScene()
    (relevance,) = by_role(scene, "relevance")
    assert relevance.GetName().startswith("noise relevance for")
    assert np.abs(arrayFromVolume(relevance)).max() > 0
    composite = scene.GetFirstNodeByClass("vtkMRMLSliceCompositeNode")
    assert composite.GetNthLayerVolumeID(3) == relevance.GetID()
    assert list(temporary.iterdir()) == []


def test_an_error_of_the_child_process_is_passed_on_as_its_one_sentence(
    module: types.ModuleType, volume: Any, model: Path, temporary: Path
) -> None:
    logic, ends = module.LRPExplainLogic(), []
    before = volume.GetScene().GetNumberOfNodes()
    logic.start(volume, model, "kidney", worker.AS_THE_MODEL_SAYS, ends.append)
    assert len(ends) == 1
    assert "kidney" in ends[0]
    assert "Traceback" not in ends[0]
    assert not ends[0].startswith("lrpexplain")
    assert volume.GetScene().GetNumberOfNodes() == before
    assert list(temporary.iterdir()) == []


def test_a_process_that_cannot_start_leaves_the_module_usable(
    module: types.ModuleType, volume: Any, model: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.shutil, "which", lambda name: str(temporary / "no-such-program"))
    logic, ends = module.LRPExplainLogic(), []
    logic.start(volume, model, "", worker.AS_THE_MODEL_SAYS, ends.append)
    assert len(ends) == 1
    assert ends[0]
    assert not logic.running
    assert list(temporary.iterdir()) == []


def test_a_volume_that_cannot_be_exported_leaves_nothing(
    module: types.ModuleType, model: Path, temporary: Path
) -> None:
    logic = module.LRPExplainLogic()
    with pytest.raises(UserError, match="no voxels"):
        logic.start(slicer.vtkMRMLScalarVolumeNode(), model, "", worker.AS_THE_MODEL_SAYS, print)
    assert not logic.running
    assert list(temporary.iterdir()) == []


def test_a_cancelled_computation_ends_without_a_word(
    module: types.ModuleType, volume: Any, model: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logic, ends = module.LRPExplainLogic(), []
    monkeypatch.setattr(stand_ins.QProcess, "start", lambda self, program, arguments: None)
    logic.start(volume, model, "", worker.AS_THE_MODEL_SAYS, ends.append)
    assert logic.running
    assert len(list(temporary.iterdir())) == 1
    logic.cancel()
    assert not logic.running
    assert ends == []
    assert list(temporary.iterdir()) == []


def test_the_composites_offered_are_the_presets_of_the_engine() -> None:
    first, *names = worker.COMPOSITE_CHOICES
    assert first == worker.AS_THE_MODEL_SAYS
    assert sorted(names) == sorted(lrp.COMPOSITES)
    assert names[0] == lrp.DEFAULT_COMPOSITE


def test_arguments_name_target_and_composite_only_where_they_were_chosen() -> None:
    model, file, out = Path("m.ts"), Path("v.nrrd"), Path("o")
    plain = worker.explain_arguments(model, file, "  ", worker.AS_THE_MODEL_SAYS, out)
    assert plain == ["-m", "LRPExplainLib", "explain", "--model", "m.ts", "--volume", "v.nrrd", "--out", "o"]
    assert worker.explain_arguments(model, file, "lesion", "gamma", out) == [
        *plain, "--target", "lesion", "--composite", "gamma"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("noise\nlrpexplain: There is no 'x'.\n", "There is no 'x'."),
        ("Traceback\n  File\nValueError: broken\n", "ValueError: broken"),
        ("", "The computation ended without saying why: it may have run out of memory."),
    ],
)
def test_the_error_sentence_is_found_in_what_the_process_said(said: str, sentence: str) -> None:
    assert worker.error_sentence(said) == sentence


def test_requirements_that_are_not_installed_are_named(tmp_path: Path) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text("# comment\nnumpy>=1\n\nno-such-package[extra]>=2.0\n", encoding="utf-8")
    assert worker.missing_requirements(file) == ["no-such-package[extra]>=2.0"]
