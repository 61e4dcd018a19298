"""Every composite on the bundled model and MeshNet: what is absorbed, does the ledger close, where does relevance lie.

    .venv/bin/python benchmarks/composites.py [--seeds 0 3]

The demo's lesions 0 and 3 are a bright and a dark one. MeshNet needs ../shared/data and is left out where that is
absent; it sees a box of 112 mm around the centre of a real T1 and is asked about its grey matter.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from LRPExplainLib import lrp
from LRPExplainLib.demo import demo_case, share_inside
from LRPExplainLib.demonstration import BUNDLED_MODEL
from LRPExplainLib.explain import explain
from LRPExplainLib.explanation import Explanation
from LRPExplainLib.models import ExplainableModel, load_model
from LRPExplainLib.models.card import Preprocessing

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
RIM_MM = 5.0
BOX = 112


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 3], help="lesions of the demo")
    options = parser.parse_args()
    model = load_model(BUNDLED_MODEL)
    print("| composite | case | for | against | absorbed | gap | positive relevance in the target | with 5 mm rim |")
    print("|---|---|---|---|---|---|---|---|")
    for name in lrp.COMPOSITES:
        for seed in options.seeds:
            case = demo_case(seed)
            show(name, f"lesion {seed}", explain(model, [case.image], "lesion", name), case.mask)
        if SHARED.is_dir():
            found = explain(*meshnet(), "2", name)
            assert found.prediction.segmentation is not None
            show(name, "MeshNet", found, found.prediction.segmentation == 2)


def meshnet() -> tuple[ExplainableModel, list[sitk.Image]]:
    """The trained MeshNet on a box, scaled by the whole volume's percentiles as it was trained."""
    volume = sitk.ReadImage(str(SHARED / "brain-t1" / "t1.nii.gz"))
    low, high = np.percentile(sitk.GetArrayViewFromImage(volume), (1, 99.8))
    model = load_model(SHARED / "meshnet-gwm" / "meshnet_gwm.ts")
    scaling = {"type": "range", "lower": float(low), "upper": float(high), "clip": True}
    wishes = Preprocessing(orientation="LPS", spacing=(1, 1, 1), size=(BOX, BOX, BOX), intensity=(scaling,))
    return dataclasses.replace(model, card=dataclasses.replace(model.card, preprocessing=wishes)), [volume]


def show(composite: str, case: str, explanation: Explanation, mask: sitk.Image) -> None:
    ledger = explanation.ledger
    whole = ledger["target_value"]
    inside, rim = share_inside(explanation.relevance[0], mask, RIM_MM)
    keys = ("in_volume_positive", "in_volume_negative", "absorbed")
    shares = " | ".join([*(f"{ledger[key] / whole:.1%}" for key in keys), f"{ledger['relative_gap']:.0e}"])
    print(f"| {composite} | {case} | {shares} | {inside:.1%} | {rim:.1%} |", flush=True)


if __name__ == "__main__":
    main()
