"""Fixtures that several suites share, the path on which they find `helpers`, and how processes share the suites."""

import os
import sys
from pathlib import Path

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
ONE_BY_ONE = (ROOT / "Testing" / "host", ROOT / "Testing" / "worker")

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


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the groups in a hook of the same name
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tell pytest-xdist (``--dist loadgroup``) what is to run in one process: a file, so that its fixtures are made
    once; the suites of `ONE_BY_ONE` together."""
    if not config.pluginmanager.hasplugin("xdist"):
        return

    def group(item: pytest.Item) -> str:
        return "one by one" if item.path.parent in ONE_BY_ONE else item.location[0]

    items.sort(key=lambda item: group(item) != "one by one")
    for item in items:
        item.add_marker(pytest.mark.xdist_group(group(item)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Here and not beside the suite: the process that prints has read no other conftest when others run the tests."""
    print_conservation(terminalreporter)
