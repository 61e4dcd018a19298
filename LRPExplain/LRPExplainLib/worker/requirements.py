"""Which Python packages are still to be installed."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable
from pathlib import Path

from packaging.requirements import Requirement


def missing_requirements(file: Path) -> list[str]:
    """The lines of a requirements file whose package is not installed, or in another version."""
    lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    return missing_of(line for line in lines if line and not line.startswith("#"))


def missing_of(requirements: Iterable[str]) -> list[str]:
    """Those of these requirements whose package is not installed, or in another version."""
    return [requirement for requirement in requirements if not _installed(requirement)]


def _installed(requirement: str) -> bool:
    wanted = Requirement(requirement)
    try:
        return wanted.specifier.contains(importlib.metadata.version(wanted.name), prereleases=True)
    except importlib.metadata.PackageNotFoundError:
        return False
