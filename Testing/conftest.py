"""Fixtures that several suites share, the path on which they find `helpers`, and how processes share the suites."""

import gc
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# pytest-xdist's processes share the cores: each, and what it starts, keeps to its own. Read at the first import.
PROCESSES = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if PROCESSES > 1:
    for name in ("OMP_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"):
        os.environ.setdefault(name, str(max(1, (os.cpu_count() or 1) // PROCESSES)))

import pytest  # noqa: E402
import SimpleITK as sitk  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "Testing"))
# Suites that start processes and wait for them: never two at once, and first, since they take longest.
ONE_BY_ONE = "one by one"
# What else than a suite runs in one process: those, and what asks for the same trained network.
TOGETHER = {
    "Testing/host/": ONE_BY_ONE,
    "Testing/worker/": ONE_BY_ONE,
    "Testing/models/test_models_nnunet": "nnU-Net",
}

from helpers.conservation import print_conservation  # noqa: E402  (only now are they found)
from helpers.volumes import make_volume  # noqa: E402


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real volumes and a trained network beside the checkout; tests that ask for it skip where it is absent."""
    for folder in (ROOT / "shared" / "data", ROOT.parent / "shared" / "data"):
        if folder.is_dir():
            return folder
    pytest.skip("needs shared/data, which is not beside this checkout")


@pytest.fixture
def oblique_volume() -> sitk.Image:
    """An oblique, anisotropic volume with an odd origin."""
    return make_volume()


@pytest.fixture
def disk() -> Iterator[Callable[[int], None]]:
    """Sets how large a file can grow, in bytes, for this process and those it starts; -1: as large as before."""
    resource = pytest.importorskip("resource")  # of Unix
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before[0] if size < 0 else size, before[1]))

    yield limit
    limit(-1)


def _suite(nodeid: str) -> str:
    """What runs in one process with this test: its file, so that fixtures are made once, or what `TOGETHER` says."""
    return next((name for start, name in TOGETHER.items() if nodeid.startswith(start)), nodeid.split("::")[0])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: _suite(item.nodeid) != ONE_BY_ONE)


def pytest_collection_finish() -> None:
    """What thousands of tests and all libraries are made of stays to the end: looking through it for garbage again and
    again took a tenth of all tests' time."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Share whole suites; not by xdist_group, whose marks have had no effect since pytest 9.2 (xdist 3.8)."""
    from xdist.scheduler import LoadScopeScheduling

    class Suites(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _suite(nodeid)

    return Suites(config, log)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Here and not beside the suite: the process that prints has read no other conftest when others run the tests."""
    print_conservation(terminalreporter)
