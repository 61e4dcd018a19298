"""A host for each test, which ends without an error that Slicer would only have printed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("PySide6", reason="the host needs PySide6")

from host import pythonqt
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
