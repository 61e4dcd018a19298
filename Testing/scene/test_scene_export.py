"""Volumes as files that have the names of their nodes."""

from types import SimpleNamespace

import pytest
from LRPExplainLib.scene.export import file_name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("P1_t1ce", "P1_t1ce.nrrd"),
        ("3: T1/T2 <sag>?", "3_ T1_T2 _sag__.nrrd"),
        ("Müller, Änne", "Müller, Änne.nrrd"),
        ("NUL", "_NUL.nrrd"),
        ("com1.scan", "_com1.scan.nrrd"),
        (" ...", "volume.nrrd"),
        (None, "volume.nrrd"),
        ("x" * 300, "x" * 60 + ".nrrd"),
    ],
)
def test_every_name_becomes_one_that_every_file_system_takes(name: str | None, expected: str) -> None:
    assert file_name(SimpleNamespace(GetName=lambda: name)) == expected
