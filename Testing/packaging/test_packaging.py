"""What Slicer's extension build and catalogue read: complete, and consistent with each other."""

import json
import re
import shutil
import subprocess
import tomllib
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import jsonschema
import pytest
import SimpleITK as sitk

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "LRPExplain"
REPOSITORY = "https://github.com/LRPExplain/LRPExplain"
# Files under LRPExplain/ that Slicer does not load
NOT_INSTALLED = re.compile(
    r"(^|/)(CMakeLists\.txt|__pycache__/.*|Testing/.*|[^/]*\.egg-info/.*|LRPExplainLib/.*\.md|\.DS_Store)$"
)

# Stands in for Slicer's build system: prints what the module hands over to be installed.
SLICER_CONFIG = """
set(Slicer_USE_FILE ${CMAKE_CURRENT_LIST_DIR}/nothing.cmake)
set(Slicer_EXTENSION_GENERATE_CONFIG ${CMAKE_CURRENT_LIST_DIR}/nothing.cmake)
set(Slicer_EXTENSION_CPACK ${CMAKE_CURRENT_LIST_DIR}/nothing.cmake)
function(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(MY "WITH_GENERIC_TESTS" "NAME" "SCRIPTS;RESOURCES" ${ARGN})
  if(MY_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "unknown: ${MY_UNPARSED_ARGUMENTS}")
  endif()
  message(STATUS "name=${MY_NAME}")
  foreach(file ${MY_SCRIPTS} ${MY_RESOURCES})
    message(STATUS "file=${file}")
  endforeach()
endfunction()
"""

# Of Slicer/Schemas/slicer-extension-catalog-entry-schema-v1.0.2.json: what the entry may and must hold
CATALOG_SCHEMA = {
    "type": "object",
    "required": ["$schema", "category", "scm_url"],
    "additionalProperties": False,
    "properties": {
        **{key: {"type": "string"} for key in ("$schema", "category", "scm_url", "scm_revision", "build_subdirectory")},
        "scm_type": {"enum": ["git", "local"]},
        "build_dependencies": {"type": "array", "items": {"type": "string"}},
        "dicom_support_rule": {"type": "string"},
        "enabled": {"type": "boolean"},
        "tier": {"type": "integer", "minimum": 1, "maximum": 5},
    },
}


def cmake_variables() -> dict[str, str]:
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    found = dict(re.findall(r'set\(EXTENSION_(\w+) "([^"]*)"\)', text))
    found["NAME"] = re.findall(r"project\((\w+)\)", text)[0]
    return found


def s4ext() -> dict[str, str]:
    lines = (ROOT / "LRPExplain.s4ext").read_text(encoding="utf-8").splitlines()
    pairs = (line.partition(" ") for line in lines if line and not line.startswith("#"))
    return {key: value for key, _, value in pairs}


def catalog() -> dict:
    return json.loads((ROOT / "LRPExplain.json").read_text(encoding="utf-8"))


def test_the_catalogue_entry_is_what_version_1_0_2_of_the_schema_asks_for() -> None:
    entry = catalog()
    jsonschema.validate(entry, CATALOG_SCHEMA)
    assert entry["$schema"].endswith("/slicer-extension-catalog-entry-schema-v1.0.2.json#")
    assert b"\r" not in (ROOT / "LRPExplain.json").read_bytes()


def test_name_category_addresses_and_description_agree_everywhere() -> None:
    cmake, description, entry = cmake_variables(), s4ext(), catalog()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert cmake["NAME"] == MODULE.name == "LRPExplain"
    assert project["name"] == "lrpexplain"
    assert cmake["HOMEPAGE"] == description["homepage"] == description["scmurl"] == entry["scm_url"] == REPOSITORY
    assert cmake["CATEGORY"] == description["category"] == entry["category"]
    assert f'"{cmake["CATEGORY"]}"' in (MODULE / "LRPExplain.py").read_text(encoding="utf-8")
    for key in ("CONTRIBUTORS", "DESCRIPTION", "ICONURL", "SCREENSHOTURLS", "DEPENDS"):
        assert cmake[key] == description[key.lower()], key
    assert cmake["DEPENDS"].split() == entry["build_dependencies"]
    assert (description["scmrevision"], int(description["tier"])) == (entry["scm_revision"], entry["tier"])
    assert "Apache-2.0" in cmake["DESCRIPTION"]
    assert project["license"] == "Apache-2.0"
    assert "Version 2.0, January 2004" in (ROOT / "LICENSE.txt").read_text(encoding="utf-8")


def test_the_addresses_of_pictures_point_to_files_of_the_repository() -> None:
    prefix = REPOSITORY.replace("https://github.com", "https://raw.githubusercontent.com") + "/main/"
    cmake = cmake_variables()
    assert all(url.startswith(prefix) for url in (cmake["ICONURL"], *cmake["SCREENSHOTURLS"].split()))
    icon = sitk.ReadImage(str(ROOT / cmake["ICONURL"].removeprefix(prefix)))
    assert icon.GetSize() == (128, 128)
    assert icon.GetNumberOfComponentsPerPixel() == 4
    assert len(set(map(tuple, sitk.GetArrayFromImage(icon).reshape(-1, 4).tolist()))) > 100


def test_every_file_that_slicer_must_load_is_installed(tmp_path: Path) -> None:
    cmake = shutil.which("cmake")
    if cmake is None or shutil.which("cc") is None or shutil.which("c++") is None:
        pytest.skip("needs cmake and a compiler, as Slicer's build does")
    (tmp_path / "SlicerConfig.cmake").write_text(SLICER_CONFIG, encoding="utf-8")
    (tmp_path / "nothing.cmake").write_text("", encoding="utf-8")
    result = subprocess.run(
        [cmake, "-S", str(ROOT), "-B", str(tmp_path / "build"), f"-DSlicer_DIR={tmp_path}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    said = re.findall(r"^-- (name|file)=(.*)$", result.stdout, re.MULTILINE)
    assert [value for key, value in said if key == "name"] == ["LRPExplain"]
    installed = {value for key, value in said if key == "file"}
    present = {path.relative_to(MODULE).as_posix() for path in MODULE.rglob("*") if path.is_file()}
    wanted = {name for name in present if not NOT_INSTALLED.search(name)}
    assert "LRPExplainLib/scene/presenting.py" in wanted
    assert wanted <= installed, f"not installed: {sorted(wanted - installed)}"
    assert installed <= wanted, f"installed in vain: {sorted(installed - wanted)}"


def test_the_panel_is_well_formed_and_has_every_widget_that_the_module_uses() -> None:
    source = (MODULE / "LRPExplain.py").read_text(encoding="utf-8")
    tree = ElementTree.parse(MODULE / "Resources" / "UI" / "LRPExplain.ui")
    widgets = {widget.get("name"): widget.get("class") for widget in tree.iter("widget")}
    used = set(re.findall(r"self\.ui\.(\w+)", source))
    assert used
    assert used <= set(widgets)
    assert widgets["LRPExplain"] == "qMRMLWidget"
    custom = {entry.findtext("class") for entry in tree.iter("customwidget")}
    assert {kind for kind in widgets.values() if not kind.startswith("Q")} == custom
    bound = [prop.findtext("string") for prop in tree.iter("property") if prop.get("name") == "SlicerParameterName"]
    parameters = re.search(r"class LRPExplainParameterNode:.*?\n\n\nclass", source, re.DOTALL)
    assert parameters is not None
    assert sorted(bound) == sorted(re.findall(r"^    (\w+): ", parameters[0], re.MULTILINE))
    receivers = {connection.findtext("receiver") for connection in tree.iter("connection")}
    assert receivers == {name for name, kind in widgets.items() if kind.startswith("qMRML") and name != "LRPExplain"}


def test_the_modules_requirements_are_those_of_the_library() -> None:
    lines = (MODULE / "Resources" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    wanted = {line for line in lines if line and not line.startswith("#")}
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    assert wanted == set(declared) - {"numpy"}  # Slicer brings NumPy
