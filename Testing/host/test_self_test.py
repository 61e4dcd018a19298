"""The module's own self test, as "Reload and Test" runs it in Slicer, in the host."""

import sys
import unittest
from collections.abc import Iterator
from typing import Any

import pytest
import slicer

from host.host import Host

SCENARIOS = (
    "test_model",
    "test_volumes",
    "test_question",
    "test_method",
    "test_explain_and_cancel",
    "test_display",
    "test_findings",
    "test_concepts",
    "test_side_by_side",
    "test_trust",
)


@pytest.fixture(scope="module")
def slicer_with_module() -> Iterator[Host]:
    """One application for all scenarios, as in Slicer; its worker keeps the model."""
    with Host() as host:
        host.open()
        yield host


def self_test() -> Any:
    return sys.modules["LRPExplain"].LRPExplainTest()


def test_every_scenario_is_known_to_slicers_self_test(slicer_with_module: Host) -> None:
    assert sorted(self_test().moduleTestNames) == sorted(SCENARIOS)
    assert callable(slicer.selfTests["LRPExplain"])


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_of_the_self_test_passes(slicer_with_module: Host, name: str) -> None:
    case: unittest.TestCase = self_test()
    case.setUp()
    getattr(case, name)()
    case.tearDown()
    assert slicer_with_module.errors == []
