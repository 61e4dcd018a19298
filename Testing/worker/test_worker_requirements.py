"""Which packages are missing: those that are not installed, and those of another version."""

from pathlib import Path

import pytest
from LRPExplainLib.worker import missing_of, missing_requirements

INSTALLED = {"torch": "2.13.0+cpu", "scipy": "1.9.0rc1"}


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import metadata

    def version(name: str) -> str:
        if name not in INSTALLED:
            raise metadata.PackageNotFoundError(name)
        return INSTALLED[name]

    monkeypatch.setattr(metadata, "version", version)


@pytest.mark.parametrize(
    ("requirement", "missing"),
    [("torch", False), ("torch>=2.4", False), ("torch>=2.14", True), ("torch>=2.4,<2.13", True), ("scipy>=1.8", False),
     ("captum>=0.8", True), ("captum", True)],
)  # fmt: skip
def test_an_installed_package_counts_in_the_versions_that_are_wanted(requirement: str, missing: bool) -> None:
    assert missing_of([requirement]) == [requirement] * missing


def test_comments_of_a_requirements_file_are_no_requirements(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("# what is needed\ntorch>=3\n\nscipy\n", encoding="utf-8")
    assert missing_requirements(tmp_path / "requirements.txt") == ["torch>=3"]
