"""A host for each test, which ends without an error that Slicer would only have printed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("PySide6", reason="the host needs PySide6")

import slicer

from host import pythonqt
from host.hands import Person
from host.host import Host


@pytest.fixture
def host() -> Iterator[Host]:
    """The application with an empty scene; nothing may have gone wrong behind its back."""
    with Host() as result:
        yield result
        result.process()
    assert result.errors == [], "\n".join(result.errors)
    assert pythonqt.complaints == []


@pytest.fixture
def widget(host: Host) -> Any:
    """The module's panel, as its Python widget."""
    return host.open()


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made, to see that none is left."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


@pytest.fixture
def person(temporary: Path, host: Host) -> Person:
    """Somebody at the panel."""
    return Person(host, host.open())


@pytest.fixture
def with_small_model(person: Person, tmp_path: Path) -> Person:
    """At the panel with a small model and a small volume, ready to explain."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv3d(4, 2, 1)).eval()
    with torch.no_grad():
        network[2].bias[1] = 5.0  # the second class everywhere
    torch.jit.script(network).save(str(tmp_path / "small.ts"))
    slicer.util.addVolumeFromArray(np.random.default_rng(0).random((16, 16, 16)).astype(np.float32), name="small")
    person.choose_model(tmp_path / "small.ts")
    person.host.wait(lambda: person.ui.explainButton.enabled, 30)
    return person
