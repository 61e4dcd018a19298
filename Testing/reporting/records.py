"""What the suites of records share."""

from __future__ import annotations

import json
from pathlib import Path

from helpers.networks import RANGE, classes
from LRPExplainLib.evaluation import Perturbation, Settings
from LRPExplainLib.reporting import Record

CARD = {
    "preprocessing": {"orientation": "RAS", "intensity": RANGE},
    "output": classes("background", "grey", "white"),
}
FAST = Settings(shifts=9, perturbation=Perturbation(edge_mm=9.0, baselines=("mean", "noisy-linear"), runs=4))
PATIENT = "DOE_JANE_1951"
PICTURES = {"axial": b"\x89PNG axial", "3d": b"\x89PNG three"}


def changed(record: Path, change) -> Record:
    """The record after someone has changed its facts."""
    facts = json.loads(record.with_suffix(".json").read_text(encoding="utf-8"))
    change(facts)
    return Record(facts)


def failed(found) -> set[str]:
    return {check.name for check in found.checks if not check.agrees}
