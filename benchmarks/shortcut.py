"""Right for the wrong reason: two classifiers, their accuracy, and where their relevance lies.

    .venv/bin/python -m benchmarks.shortcut [--cases 50] [--keep DIR] [--pictures DIR]

The models are those of `Resources/train_shortcut_models.py`, the cases are brains and lesions that they were not
trained on, each without and with a lesion, without and with a marker. Accuracy is told for what each of the two was
trained on, and where the marker misleads. Relevance is for "lesion", of marked images with a lesion: shares of the
positive relevance on the lesion and its rim, on the marker and its rim, and elsewhere; the median z says how many
standard deviations the relevance mass on them is above that of the same map shifted at random. `--keep` leaves volumes
and explanations (half of them with marker) as a cohort; `--pictures` draws the first case for both models.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import SimpleITK as sitk
import torch
from LRPExplainLib.evaluation.agreement import agreement
from LRPExplainLib.explain import explain
from LRPExplainLib.explanation import Explanation
from LRPExplainLib.findings.caution import warnings_of
from LRPExplainLib.findings.field import Field
from LRPExplainLib.imaging import prepare
from LRPExplainLib.models import ExplainableModel, load_model
from tqdm import tqdm

RESOURCES = Path(__file__).resolve().parents[1] / "Resources"
sys.path.insert(0, str(RESOURCES))
from shortcut_cases import ShortcutCase, shortcut_case  # noqa: E402

TEST = 5  # series of random numbers; see Resources/train_shortcut_models.py
MODELS = ("honest", "shortcut")
RIM_MM = 6.0  # at 4 mm the model cannot tell a border more sharply
AROUND_MM = 20.0  # about a voxel of its last layer
SHIFTS = 50
SETTINGS: dict[str, dict[str, Any]] = {
    "`volume`": {"composite": "volume"},
    "`epsilon-plus`, biases absorb": {"composite": "epsilon-plus", "biases": "absorb"},
}
# which images carry the marker, by the brain's number and whether there is a lesion
DATA: dict[str, Callable[[int, bool], bool]] = {
    "no marker": lambda n, lesion: False,
    "marker on half, lesion or not (the honest one's own data)": lambda n, lesion: (n + lesion) % 2 == 0,
    "marker on lesions (the shortcut's own data)": lambda n, lesion: lesion,
    "marker on the healthy": lambda n, lesion: not lesion,
}


class Where(NamedTuple):
    """Of one map: shares of the positive relevance, z of the mass, what biases took; whether findings warn."""

    lesion: float
    marker: float
    around_lesion: float
    around_marker: float
    z_lesion: float
    z_marker: float
    absorbed: float
    warned: bool


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", type=int, default=50, help="brains; each with and without a lesion (%(default)s)")
    parser.add_argument("--models", type=Path, default=RESOURCES / "ShortcutModels", help="folder (%(default)s)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave volumes and explanations there, as a cohort")
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="draw the first case for both models")
    options = parser.parse_args()
    models = {name: load_model(options.models / f"{name}.safetensors") for name in MODELS}
    if options.keep:
        keep(models, options.keep, options.cases)
    if options.pictures:
        draw(models, options.pictures)
    if not options.keep and not options.pictures:
        measure(models, options.cases)


def measure(models: dict[str, ExplainableModel], cases: int) -> None:
    right: dict[tuple[str, str], list[bool]] = defaultdict(list)
    where: dict[tuple[str, str], list[Where]] = defaultdict(list)
    for n in tqdm(range(cases), desc="Cases"):
        made = {(lesion, marker): case_of(n, lesion, marker) for lesion in (False, True) for marker in (False, True)}
        away = {what: distance(getattr(made[True, True], what)) for what in ("lesion", "marker")}
        for name, model in models.items():
            said = {key: says_lesion(model, case) for key, case in made.items()}
            for data, marked in DATA.items():
                right[name, data] += [said[lesion, marked(n, lesion)] == lesion for lesion in (False, True)]
            for setting in SETTINGS:
                where[name, setting].append(place(model, setting, made[True, True], away))
    print(f"Accuracy over {cases} brains, each with and without a lesion\n")
    print(f"| model | {' | '.join(DATA)} |\n|{'---|' * (len(DATA) + 1)}")
    for name in models:
        print(f"| {name} | {' | '.join(f'{np.mean(right[name, data]):.0%}' for data in DATA)} |")
    print(
        "\nPositive relevance for 'lesion' in marked images with a lesion: mean ± standard error; z, absorbed: median\n"
    )
    heads = ["model", "LRP", *(f"{what} (+ {mm:g} mm)" for mm in (RIM_MM, AROUND_MM) for what in ("lesion", "marker")),
             "z lesion", "z marker", "absorbed", "warned"]  # fmt: skip
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for (name, setting), rows in where.items():
        lesion, marker, around_lesion, around_marker, z_lesion, z_marker, absorbed, warned = zip(*rows, strict=True)
        cells = [told(some) for some in (lesion, marker, around_lesion, around_marker)]
        cells += [f"{np.median(z_lesion):.1f}", f"{np.median(z_marker):.1f}", f"{np.median(absorbed):.0%}"]
        print(f"| {name} | {setting} | {' | '.join(cells)} | {np.mean(warned):.0%} |")


def case_of(n: int, lesion: bool, marker: bool) -> ShortcutCase:
    return shortcut_case(TEST, n, lesion=lesion, marker=marker)


def says_lesion(model: ExplainableModel, case: ShortcutCase) -> bool:
    with torch.inference_mode():
        logits = model.module(prepare([case.image], model.card.preprocessing).tensor)[0]
    return bool(logits[1] > logits[0])


def distance(mask: sitk.Image) -> np.ndarray:
    """Of each voxel from the mask, in mm."""
    return sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(mask, squaredDistance=False, useImageSpacing=True))


def place(model: ExplainableModel, setting: str, case: ShortcutCase, away: dict[str, np.ndarray]) -> Where:
    found = explain(model, [case.image], "lesion", device="cpu", **SETTINGS[setting])
    relevance = sitk.GetArrayFromImage(found.relevance[0])
    absorbed = found.ledger["absorbed"] / found.ledger["target_value"]
    speaking = np.maximum(relevance, 0)
    whole = float(speaking.sum())
    if not whole:  # nothing speaks for the lesion
        return Where(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, absorbed, False)
    shares = [float(speaking[mm_away <= mm].sum()) / whole for mm in (RIM_MM, AROUND_MM) for mm_away in away.values()]
    masks = {what: mm_away <= RIM_MM for what, mm_away in away.items()}
    rows = agreement(relevance, masks, found.relevance[0].GetSpacing()[::-1], shifts=SHIFTS)
    z = {row["segment"]: row["measures"]["relevance_mass_accuracy"]["null"]["z"] for row in rows}
    return Where(*shares, z["lesion"], z["marker"], absorbed, warned(found, case))


def warned(found: Explanation, case: ShortcutCase) -> bool:
    """Whether findings warn of relevance at something bright in air, as the module's panel and the record do."""
    relevance, volume = (
        Field(sitk.GetArrayFromImage(image), np.diag([*image.GetSpacing(), 1.0]))
        for image in (found.relevance[0], case.image)
    )
    sentences = warnings_of([relevance], [volume], ["T1"], found.ledger, found.model["card"])
    return any("something bright in air" in sentence for sentence in sentences)


def told(values: Sequence[float]) -> str:
    error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
    return f"{np.mean(values):.1%} ± {error:.1%}"


def keep(models: dict[str, ExplainableModel], folder: Path, cases: int) -> None:
    """DIR/volumes/NNN.nrrd and DIR/MODEL/NNN: lesions, those of even number with the marker."""
    (folder / "volumes").mkdir(parents=True, exist_ok=True)
    for n in range(cases):
        volume = folder / "volumes" / f"{n:03d}.nrrd"
        sitk.WriteImage(case_of(n, True, n % 2 == 0).image, str(volume), useCompression=True)
        for name, model in models.items():
            explain(model, [volume], "lesion", "volume", device="cpu").save(folder / name / f"{n:03d}")


def draw(models: dict[str, ExplainableModel], folder: Path) -> None:
    """DIR/shortcut-MODEL.png: the first marked case cut through its lesion and its marker."""
    from LRPExplainLib import scene
    from LRPExplainLib.scene.host import Application
    from LRPExplainLib.scene.views import SliceView

    case = case_of(0, True, True)
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as own:
        volume = Path(own) / "case.nrrd"
        sitk.WriteImage(case.image, str(volume))
        for name, model in models.items():
            presented = scene.present(explain(model, [volume], "lesion", "volume", device="cpu"))
            application = presented.application or Application(presented.scene)
            parts = []
            for place, caption in ((centre_of(case.lesion), presented.caption), (centre_of(case.marker), ())):
                view = SliceView(application, "Red")
                view.show("Axial", place)
                view.annotate(caption, view.place())  # the marker is where the caption would be
                view.mark_directions()
                parts.append(sitk.ReadImage(str(view.write(Path(own) / "view.png"))))
                view.close()
            sitk.WriteImage(sitk.Tile(parts, (2, 1)), str(folder / f"shortcut-{name}.png"), useCompression=True)


def centre_of(mask: sitk.Image) -> list[float]:
    """RAS in mm."""
    indices = np.argwhere(sitk.GetArrayViewFromImage(mask) > 0).mean(axis=0)
    x, y, z = mask.TransformContinuousIndexToPhysicalPoint(indices[::-1].tolist())
    return [-x, -y, z]


if __name__ == "__main__":
    main()
