"""Lets the tests of this folder import their helpers and the benchmarks' networks; prints the networks' table."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """These tensors are so small that a second thread only waits for the first."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What test_networks.py measured, network x composite, as shares of the start relevance."""
    reports = [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]
    found = [value for report in reports for name, value in report.user_properties if name == "conservation"]
    if not found:
        return
    composites = list(dict.fromkeys(composite for _, _, composite, _, _ in found))
    cells = {(network, norm): dict.fromkeys(composites, "") for network, norm, *_ in found}
    for network, norm, composite, relevance, absorbed in found:
        cells[network, norm][composite] = f"{relevance:.4f} + {absorbed:.4f}"
    terminalreporter.section("relevance at the input + absorbed, biases at zero (start relevance = 1)")
    terminalreporter.line(f"{'network':30} {'norm':7}" + "".join(f"{name:>20}" for name in composites))
    for (network, norm), row in cells.items():
        terminalreporter.line(f"{network:30} {norm:7}" + "".join(f"{cell:>20}" for cell in row.values()))
