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
function(slicer_add_python_unittest)
  cmake_parse_arguments(MY "" "SCRIPT" "" ${ARGN})
  if(MY_UNPARSED_ARGUMENTS OR NOT EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/${MY_SCRIPT})
    message(FATAL_ERROR "no test: ${ARGN}")
  endif()
  message(STATUS "test=${MY_SCRIPT}")
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
        [
            cmake,
            "-S",
            str(ROOT),
            "-B",
            str(tmp_path / "build"),
            f"-DSlicer_DIR={tmp_path}",
            "-DBUILD_TESTING=ON",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    said = re.findall(r"^-- (name|file|test)=(.*)$", result.stdout, re.MULTILINE)
    assert [value for key, value in said if key == "name"] == ["LRPExplain"]
    tests = sorted(path.name for path in (MODULE / "Testing" / "Python").glob("*.py"))
    assert sorted(value for key, value in said if key == "test") == ["LRPExplain.py", *tests]
    installed = {value for key, value in said if key == "file"}
    present = {path.relative_to(MODULE).as_posix() for path in MODULE.rglob("*") if path.is_file()}
    wanted = {name for name in present if not NOT_INSTALLED.search(name)}
    assert "LRPExplainLib/scene/presenting.py" in wanted
    assert wanted <= installed, f"not installed: {sorted(wanted - installed)}"
    assert installed <= wanted, f"installed in vain: {sorted(installed - wanted)}"


# Parameters that sections keep in step with their widgets by hand: Slicer has no connector for these
BY_HAND = {
    "inputVolumes",
    "referenceSegmentation",
    "referenceSegment",
    "target",
    "ratherThan",
    "segmentation",
    "segment",
}


def panel() -> ElementTree.ElementTree:
    return ElementTree.parse(MODULE / "Resources" / "UI" / "LRPExplain.ui")


def test_the_panel_is_well_formed_and_has_every_widget_that_the_module_uses() -> None:
    widgets = {widget.get("name"): widget.get("class") for widget in panel().iter("widget")}
    sources = [MODULE / "LRPExplain.py", *(MODULE / "LRPExplainLib" / "scene" / "panel").glob("*.py")]
    used = {name for path in sources for name in re.findall(r"\bui\.(\w+)", path.read_text(encoding="utf-8"))}
    assert "explainButton" in used
    assert used <= set(widgets)
    assert widgets["LRPExplain"] == "qMRMLWidget"
    custom = {entry.findtext("class") for entry in panel().iter("customwidget")}
    assert {kind for kind in widgets.values() if not kind.startswith("Q")} == custom
    receivers = {connection.findtext("receiver") for connection in panel().iter("connection")}
    assert receivers == {name for name, kind in widgets.items() if kind.startswith("qMRML") and name != "LRPExplain"}


def test_every_parameter_has_its_widget() -> None:
    source = (MODULE / "LRPExplain.py").read_text(encoding="utf-8")
    bound = [prop.findtext("string") for prop in panel().iter("property") if prop.get("name") == "SlicerParameterName"]
    parameters = re.search(r"class LRPExplainParameterNode:.*?\n\n\nclass", source, re.DOTALL)
    assert parameters is not None
    assert sorted([*bound, *BY_HAND]) == sorted(re.findall(r"^    (\w+): ", parameters[0], re.MULTILINE))


def test_every_widget_that_the_user_can_use_says_what_it_is_for_and_has_its_place_in_the_keyboard_order() -> None:
    passive = {"QWidget", "QLabel", "QProgressBar", "ctkCollapsibleButton", "qMRMLWidget", "ctkFittedTextBrowser"}
    active = {w.get("name"): w for w in panel().iter("widget") if w.get("class") not in passive}
    mute = [name for name, w in active.items() if not w.findtext("property[@name='toolTip']/string")]
    assert not mute
    stops = [stop.text for stop in panel().iter("tabstop")]
    assert sorted(set(stops) - {"modelDetailsBrowser"}) == sorted(active)
    order = [w.get("name") for w in panel().iter("widget")]
    assert stops == sorted(stops, key=order.index)  # from top to bottom


def test_the_modules_requirements_are_those_of_the_library() -> None:
    lines = (MODULE / "Resources" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    wanted = {line for line in lines if line and not line.startswith("#")}
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    assert wanted == set(declared) - {"numpy", "packaging"}  # which Slicer brings
