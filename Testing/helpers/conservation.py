"""The table of what networks conserve, after the tests."""

import pytest


def print_conservation(terminalreporter: pytest.TerminalReporter) -> None:
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
