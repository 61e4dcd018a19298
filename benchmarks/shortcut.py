"""Right for the wrong reason: two classifiers, their accuracy, and where their relevance lies.

    .venv/bin/python -m benchmarks.shortcut [--cases 50] [--keep DIR] [--pictures DIR]

The models are those of `Resources/train_shortcut_models.py`, the cases are brains and lesions that they were not
trained on, each once without and once with a lesion. Accuracy is told without any marker, with the marker where the
shortcut model learned it (on the lesions), and where it misleads (on the brains without a lesion). Relevance is for
"lesion", of marked images with a lesion: shares of the positive relevance on the lesion and its rim, on the marker and
its rim, and elsewhere. `--keep` leaves volumes and explanations (half of them with marker) as a cohort; `--pictures`
draws the first case for both models.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import SimpleITK as sitk
from LRPExplainLib.demo import share_inside
from LRPExplainLib.errors import UserError
from LRPExplainLib.explain import explain
from LRPExplainLib.findings.caution import warnings_of
from LRPExplainLib.findings.field import Field
from LRPExplainLib.models import ExplainableModel, load_model

RESOURCES = Path(__file__).resolve().parents[1] / "Resources"
sys.path.insert(0, str(RESOURCES))
from shortcut_cases import ShortcutCase, shortcut_case  # noqa: E402

TEST = 5  # series of random numbers; see Resources/train_shortcut_models.py
MODELS = ("honest", "shortcut")
RIM_MM = 6.0  # at 4 mm the model cannot tell a border more sharply
# which images carry the marker: with a lesion or without
DATA: dict[str, Callable[[bool], bool]] = {
    "no marker": lambda lesion: False,
    "marker on lesions": lambda lesion: lesion,
    "marker on healthy": lambda lesion: not lesion,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", type=int, default=50, help="brains; each with and without a lesion (%(default)s)")
    parser.add_argument("--composites", nargs="+", default=["volume", "epsilon-plus"])
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave volumes and explanations there, as a cohort")
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="draw the first case for both models")
    options = parser.parse_args()
    models = {name: load_model(RESOURCES / "ShortcutModels" / f"{name}.safetensors") for name in MODELS}
    print(f"Accuracy over {options.cases} brains, each with and without a lesion\n")
    print(f"| model | {' | '.join(DATA)} |\n|{'---|' * (len(DATA) + 1)}")
    for name, model in models.items():
        print(
            f"| {name} | {' | '.join(f'{accuracy(model, m, options.cases):.0%}' for m in DATA.values())} |", flush=True
        )
    print("\nPositive relevance for 'lesion' in marked images with a lesion, mean ± standard error\n")
    print("| model | composite | lesion | marker | elsewhere | warned of air |\n|---|---|---|---|---|---|")
    for name, model in models.items():
        for composite in options.composites:
            rows = [relevance(model, composite, n) for n in range(options.cases)]
            cells = [told([row[k] for row in rows]) for k in range(3)]
            print(
                f"| {name} | {composite} | {' | '.join(cells)} | {np.mean([row[3] for row in rows]):.0%} |", flush=True
            )
    if options.keep:
        keep(models, options.keep, options.cases)
    if options.pictures:
        draw(models, options.pictures)


def case_of(n: int, lesion: bool, marker: bool) -> ShortcutCase:
    return shortcut_case(TEST, n, lesion=lesion, marker=marker)


def accuracy(model: ExplainableModel, marked: Callable[[bool], bool], cases: int) -> float:
    """The share of images whose more probable class is the right one."""
    right = []
    for n in range(cases):
        for lesion in (False, True):
            said = explain(model, [case_of(n, lesion, marked(lesion)).image], "lesion", device="cpu")
            probabilities = said.prediction.probabilities
            assert probabilities is not None
            right.append((probabilities["lesion"] > 0.5) == lesion)
    return float(np.mean(right))


def relevance(model: ExplainableModel, composite: str, n: int) -> tuple[float, float, float, bool]:
    """Shares on the lesion, on the marker and elsewhere, and whether findings warn of relevance in air."""
    case = case_of(n, True, True)
    found = explain(model, [case.image], "lesion", composite, device="cpu")
    try:
        lesion, marker = (share_inside(found.relevance[0], mask, RIM_MM)[1] for mask in (case.lesion, case.marker))
    except UserError:  # nothing speaks for the lesion
        return 0.0, 0.0, 0.0, False
    fields = [Field(sitk.GetArrayFromImage(image), np.eye(4) * (*image.GetSpacing(), 1)) for image in
              (found.relevance[0], case.image)]  # fmt: skip
    warned = warnings_of(fields[:1], fields[1:], ["T1"], found.ledger, found.model["card"])
    return lesion, marker, 1 - lesion - marker, any("outside the body" in sentence for sentence in warned)


def told(values: list[float]) -> str:
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
    """DIR/shortcut-MODEL.png: the first marked case cut through its lesion and its marker, and in 3D."""
    from LRPExplainLib import scene
    from LRPExplainLib.scene.host import THREE_D_VIEW, Application
    from LRPExplainLib.scene.three_d import show_in_3d
    from LRPExplainLib.scene.views import SliceView, ThreeDView

    case = case_of(0, True, True)
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as own:
        volume = Path(own) / "case.nrrd"
        sitk.WriteImage(case.image, str(volume))
        for name, model in models.items():
            presented = scene.present(explain(model, [volume], "lesion", "volume", device="cpu"))
            application = presented.application or Application(presented.scene)
            show_in_3d(presented)
            parts = []
            for place, caption in ((centre_of(case.lesion), presented.caption), (centre_of(case.marker), ())):
                view = SliceView(application, "Red")
                view.show("Axial", place)
                view.annotate(caption, view.place())  # the marker is where the caption would be
                view.mark_directions()
                parts.append(sitk.ReadImage(str(view.write(Path(own) / "view.png"))))
                view.close()
            whole = ThreeDView(application, THREE_D_VIEW)
            whole.show(centre_of(case.marker))
            parts.append(sitk.ReadImage(str(whole.write(Path(own) / "view.png"))))
            whole.close()
            sitk.WriteImage(sitk.Tile(parts, (3, 1)), str(folder / f"shortcut-{name}.png"), useCompression=True)


def centre_of(mask: sitk.Image) -> list[float]:
    """RAS in mm."""
    indices = np.argwhere(sitk.GetArrayViewFromImage(mask) > 0).mean(axis=0)
    x, y, z = mask.TransformContinuousIndexToPhysicalPoint(indices[::-1].tolist())
    return [-x, -y, z]


if __name__ == "__main__":
    main()
