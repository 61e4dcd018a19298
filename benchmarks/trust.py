"""How far can each method be trusted? Faithfulness, agreement, sparseness and time over unseen cases of the demo.

    .venv/bin/python -m benchmarks.trust [--seeds 10 11 12] [--methods volume gradient-x-input] [--out FILE.json]

Every method explains the same target (the lesion's logit over the voxels that the model calls lesion) on the same
volumes; the volume is perturbed in the same pieces, by the same baselines, and the same random sets. What is looked at
is a box around the lesion, for time (`--box 0`: the whole brain), with intensities as in the whole brain. A case that
the model misses has nothing to explain and is counted apart; a map in which nothing speaks for the lesion finds
nothing. Figures are means over the cases, with the standard error. Times are shares of PyTorch's forward pass and input
gradient in the same process; they include setting a method up.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from LRPExplainLib import lrp, methods
from LRPExplainLib.demo import DemoCase, demo_case
from LRPExplainLib.demonstration import BUNDLED_MODEL
from LRPExplainLib.errors import UserError
from LRPExplainLib.evaluation import (
    BASELINES,
    Method,
    Perturbation,
    Perturbed,
    Request,
    Subject,
    attribution_method,
    faithfulness,
    lrp_method,
)
from LRPExplainLib.evaluation.agreement import agreement
from LRPExplainLib.evaluation.complexity import sparseness
from LRPExplainLib.imaging import prepare
from LRPExplainLib.models import ExplainableModel, load_model
from LRPExplainLib.outcome import require_tensor
from LRPExplainLib.question import Question
from LRPExplainLib.running import running
from torch import Tensor

from .methods import input_gradient, unshared, zennit

# Seeds below 10 were looked at while the demo's model was trained.
SEEDS = tuple(range(10, 60))
EDGE_MM = 8.0
FAITHFULNESS = {
    "abpc": "ABPC", "insertion_auc": "insertion AUC", "deletion_auc": "deletion AUC",
    "faithfulness_correlation": "correlation",
}  # fmt: skip
AGREEMENT = {
    "relevance_mass_accuracy": "mass accuracy", "relevance_rank_accuracy": "rank accuracy", "pointing_game": "pointing",
    "auc": "AUC",
}  # fmt: skip
# of a map in which nothing speaks for the lesion
NOTHING = {key: {"value": 0.5 if key == "auc" else 0.0, "null": {"z": None}} for key in AGREEMENT}


def zennit_method(composite: str) -> Method:
    """Zennit's composite on the same windows, from the same start relevance; modules are unshared, for its hooks."""

    def explain(request: Request) -> Tensor:
        windows, x = request.windows, request.tensor
        module = unshared(request.module).to(request.device)
        answers = []
        output: Tensor | None = None
        for view in windows.views:
            with torch.no_grad():
                answers.append(require_tensor(module(windows.cut(x, view).to(request.device))))
            output = windows.blank(answers[-1].cpu()) if output is None else output
            windows.blend(answers[-1].cpu(), view, output)
        assert output is not None
        coefficients = request.ask(output).coefficients
        relevance = torch.zeros_like(x)
        for view, answer in zip(windows.views, answers, strict=True):
            share = windows.unblend(coefficients, view).reshape(answer.shape).to(answer)
            cut = windows.cut(x, view).to(request.device)
            windows.give_back(zennit(composite)(module, cut, share * answer)().cpu(), view, relevance)
        return relevance

    return explain


METHODS: dict[str, Method] = {
    **{name: lrp_method(name) for name in lrp.COMPOSITES},
    **{name: attribution_method(kind()) for name, kind in methods.METHODS.items()},
    "grad-cam relu_13": attribution_method(methods.GradCam(layer="relu_13")),  # the last rectifier of the demo's U-Net
    "Zennit EpsilonPlusFlat": zennit_method("EpsilonPlusFlat"),
    "random": lambda request: torch.randn(request.tensor.shape, generator=torch.Generator().manual_seed(0)),
}
USUAL = (
    lrp.DEFAULT_COMPOSITE, "epsilon-plus", "Zennit EpsilonPlusFlat", "gradient-x-input", "integrated-gradients",
    "grad-cam", "grad-cam relu_13", "occlusion", "random",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS), help="lesions of the demo")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(USUAL), metavar="METHOD")
    parser.add_argument("--baselines", nargs="+", choices=list(BASELINES), default=list(BASELINES))
    parser.add_argument("--box", type=float, default=128.0, metavar="MM", help="edge of what is looked at, or 0: all")
    parser.add_argument("--sets", type=int, default=20, help="random sets of pieces for the correlation")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--out", type=Path, help="every figure of every case, as JSON; cases it has are not run again")
    options = parser.parse_args()
    how = Perturbation(edge_mm=EDGE_MM, baselines=tuple(options.baselines), runs=options.sets)
    found: list[dict[str, Any]] = []
    missed: list[int] = []
    if options.out and options.out.exists():
        earlier = json.loads(options.out.read_text(encoding="utf-8"))
        found, missed = earlier["figures"], earlier["missed"]
    done = {*missed, *(row["seed"] for row in found)}
    for seed in (seed for seed in options.seeds if seed not in done):
        try:
            found += one_case(seed, {name: METHODS[name] for name in options.methods}, how, options.device, options.box)
        except UserError as error:
            print(f"lesion {seed}: left out: {error}", flush=True)
            missed.append(seed)
        if options.out and found:
            options.out.write_text(json.dumps({"missed": missed, "figures": found}, indent=1) + "\n", encoding="utf-8")
    show(found, missed, options.baselines)


def boxed(case: DemoCase, model: ExplainableModel, edge_mm: float) -> tuple[sitk.Image, sitk.Image, ExplainableModel]:
    """The box around the lesion, in the image and in the mask, and the model with the whole brain's percentiles."""
    if not edge_mm:
        return case.image, case.mask, model
    wishes = model.card.preprocessing
    (step,) = wishes.intensity
    raw = prepare([case.image], dataclasses.replace(wishes, intensity=()))
    low, high = np.percentile(raw.tensor[0, 0][raw.inside].numpy(), (step["lower"], step["upper"]))
    scaling = {"type": "range", "lower": float(low), "upper": float(high), "clip": step["clip"]}
    fixed = dataclasses.replace(model.card, preprocessing=dataclasses.replace(wishes, intensity=(scaling,)))
    centre = np.argwhere(sitk.GetArrayViewFromImage(case.mask))[:, ::-1].mean(axis=0)
    cut = []
    for middle, step_mm, n in zip(centre, case.image.GetSpacing(), case.image.GetSize(), strict=True):
        size = min(n, round(edge_mm / step_mm))
        start = min(max(0, round(middle - size / 2)), n - size)
        cut.append(slice(start, start + size))
    return case.image[tuple(cut)], case.mask[tuple(cut)], dataclasses.replace(model, card=fixed)


def one_case(
    seed: int, methods: dict[str, Method], how: Perturbation, device: str, edge_mm: float
) -> list[dict[str, Any]]:
    """Every figure of every method on one lesion.

    Raises:
        UserError: the model finds no lesion.
    """
    image, outline, model = boxed(demo_case(seed), load_model(BUNDLED_MODEL), edge_mm)
    rows, mask, spacing = [], sitk.GetArrayFromImage(outline) > 0, image.GetSpacing()[::-1]
    with running():
        subject = Subject(model, [image], Question("lesion"), device=device)
        perturbed = Perturbed(subject, how)
        unit = of_a_gradient(subject)
        for name, method in methods.items():
            subject.method = method
            begin = time.perf_counter()
            maps = subject.on_volumes(subject.relevance())
            seconds = time.perf_counter() - begin
            tested = faithfulness(perturbed, maps)["baselines"]
            measures = NOTHING
            if (maps[0] > 0).any():
                (agreed,) = agreement(maps[0], {"lesion": mask}, spacing)
                measures = {key: agreed["measures"][key] for key in AGREEMENT}
            rows.append({
                "seed": seed,
                "method": name,
                "seconds": seconds,
                "gradients": seconds / unit,
                "sparseness": sparseness(maps[0]) if maps[0].any() else None,
                "faithfulness": {b: {key: tested[b][key] for key in FAITHFULNESS} for b in how.baselines},
                "agreement": {key: m["value"] for key, m in measures.items()},
                "z": {key: m["null"]["z"] for key, m in measures.items()},
            })  # fmt: skip
            brief = ", ".join(f"{b} {tested[b]['abpc']:.3f}" for b in how.baselines)
            print(f"lesion {seed}: {name}: ABPC {brief}; {seconds:.1f} s", flush=True)
    return rows


def of_a_gradient(subject: Subject) -> float:
    """Seconds of PyTorch's forward pass and input gradient on this input (best of three)."""
    x, module = subject.prepared.tensor, subject.model.module
    run, best = input_gradient(module, x, torch.ones_like(subject.output)), float("inf")
    for _ in range(3):
        begin = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - begin)
    return best


def show(found: list[dict[str, Any]], missed: list[int], baselines: list[str]) -> None:
    """Means and standard errors as tables."""
    names = list(dict.fromkeys(row["method"] for row in found))
    cases = len({row["seed"] for row in found})
    print(f"\n{cases} cases; missed by the model and left out: {', '.join(map(str, missed)) or 'none'}")
    for baseline in baselines:
        columns: dict[str, Callable[[dict[str, Any]], float | None]] = {
            label: lambda row, key=key, b=baseline: row["faithfulness"][b][key]  # type: ignore[misc]
            for key, label in FAITHFULNESS.items()
        }
        print(f"\nFaithfulness, pieces replaced by: {baseline}\n")
        table(names, found, columns)
    print("\nAgreement with the planted lesion, sparseness, time\n")
    columns = {label: lambda row, key=key: row["agreement"][key] for key, label in AGREEMENT.items()}  # type: ignore[misc]
    columns |= {"sparseness": lambda row: row["sparseness"], "time": lambda row: row["gradients"]}
    table(names, found, columns)


def table(
    names: list[str], found: list[dict[str, Any]], columns: dict[str, Callable[[dict[str, Any]], float | None]]
) -> None:
    print(f"| method | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}")
    for name in names:
        rows = [row for row in found if row["method"] == name]
        cells = [mean_and_error([column(row) for row in rows]) for column in columns.values()]
        print(f"| {name} | {' | '.join(cells)} |")


def mean_and_error(values: list[float | None]) -> str:
    known = np.array([value for value in values if value is not None], dtype=float)
    if not len(known):
        return "–"
    error = f" ± {known.std(ddof=1) / np.sqrt(len(known)):.2g}" if len(known) > 1 else ""
    return f"{known.mean():.3g}{error}"


if __name__ == "__main__":
    main()
