"""How well do relevance maps tell what a model goes by? Perturbation curves for composites, biases and norms.

    .venv/bin/python -m benchmarks.faithfulness [--normalization DIR | --batch-norm] [--seeds ...] [--composites ...]

Blocks of the volume are replaced in the order of their relevance, most relevant first and least relevant first
(Samek et al. 2017), and the target class's mean probability over the voxels that were predicted as it is followed. The
area between the two curves (ABPC), over 1, 4, 16, 64 and 256 blocks, is one number per map: about 0 for a map that
knows nothing, and the higher the better. Two ways to replace a block, since none is neutral: by the blurred volume, and
by another block of the same head.

With `--normalization DIR` the model is the demo's with instance norm, which this makes in about 20 minutes:

    .venv/bin/python Resources/train_demo_model.py --bfloat16 --norm instance --out DIR
"""

from __future__ import annotations

import argparse
import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import SimpleITK as sitk
import torch
from LRPExplainLib import lrp
from LRPExplainLib.demo import DemoCase, demo_case
from LRPExplainLib.demonstration import BUNDLED_MODEL
from LRPExplainLib.evaluation.curves import abpc
from LRPExplainLib.imaging import prepare
from LRPExplainLib.lrp.affine import FOLDS
from LRPExplainLib.models import load_model
from torch import Tensor, nn

from .composites import SHARED, meshnet

BLOCKS = 4  # voxels: 8 mm in the demo model's space, 4 mm in MeshNet's
COUNTS = (1, 4, 16, 64, 256)
BOX = 64  # voxels a side: what is looked at, around a lesion
MODES = ("fixed", "linear", "identity")
# MeshNet's classes, and the corners of cubes of PLACE voxels in its box of a T1 where they are asked about
PLACES = {"grey matter": (2, (46, 46, 46)), "white matter": (1, (30, 46, 60))}
PLACE = 20


@dataclass(frozen=True)
class Case:
    """A volume in a model's space, [1, 1, D, H, W], and the class that is asked about where it is predicted."""

    name: str
    family: str
    module: nn.Module
    x: Tensor
    index: int
    where: Tensor

    def score(self, x: Tensor) -> float:
        """Mean probability of the class over the voxels where it was predicted at first."""
        with torch.inference_mode():
            return float(self.module(x).softmax(1)[0, self.index][self.where].mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--normalization", type=Path, help="folder of the demo model with instance norm")
    parser.add_argument("--seeds", type=int, nargs="*", default=list(range(10, 20)), help="lesions of the demo")
    parser.add_argument("--batch-norm", action="store_true", help="compare folding batch norms with the identity rule")
    parser.add_argument("--no-brains", action="store_true", help="leave MeshNet out")
    parser.add_argument("--composites", nargs="+", default=list(lrp.COMPOSITES))
    options = parser.parse_args()
    folder = options.normalization or BUNDLED_MODEL.parent
    cases = list(lesions(folder, options.seeds))
    if not (options.normalization or options.no_brains) and SHARED.is_dir():
        cases += brains()
    methods = {
        label: composite
        for name in options.composites
        for label, composite in variants(lrp.COMPOSITES[name], bool(options.normalization))
    }
    results: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for case in cases:
        random = torch.randn(case.x.shape, generator=torch.Generator().manual_seed(0))
        measure(case, "random", random, results)
        graphs = {"": lrp.capture(case.module, case.x)}
        if options.batch_norm:
            graphs = {", folded": graphs[""], ", identity": unfolded(case)}
        for label, composite in methods.items():
            for way, graph in graphs.items():
                relevance = lrp.attribute(graph, case.x, lrp.Target(case.index, case.where), composite).relevance
                assert isinstance(relevance, Tensor)
                measure(case, label + way, relevance, results)
    show(results)


def unfolded(case: Case) -> lrp.Graph:
    """The network with its batch norms left standing, where every composite passes relevance through unchanged."""
    folds = dict(FOLDS)
    FOLDS.clear()
    try:
        return lrp.capture(case.module, case.x)
    finally:
        FOLDS.update(folds)


def variants(composite: lrp.Composite, norms: bool) -> Iterator[tuple[str, lrp.Composite]]:
    """What is compared: what becomes of biases, and how norms are seen."""
    for biases in get_args(lrp.Biases):
        for mode in MODES if norms else (composite.normalization,):
            label = f"{composite.name}, {biases}" + (f", {mode}" if norms else "")
            yield label, dataclasses.replace(composite.with_biases(biases), normalization=mode)


def lesions(folder: Path, seeds: Sequence[int]) -> Iterator[Case]:
    """The demo's unseen lesions that the model finds, the bright and the dark ones apart."""
    model = load_model(next(folder.glob("*.card.json")))
    for seed in seeds:
        case = demo_case(seed)
        prepared = prepare([case.image], model.card.preprocessing)
        with torch.inference_mode():
            where = model.module(prepared.tensor).argmax(1)[0] == 1
        if int(where.sum()) < 20:
            print(f"lesion {seed}: missed by the model, left out", flush=True)
            continue
        x = around(where, prepared.tensor)
        with torch.inference_mode():
            where = model.module(x).argmax(1)[0] == 1
        yield Case(f"lesion {seed}", family(case), model.module, x, 1, where)


def family(case: DemoCase) -> str:
    """Whether a lesion is brighter than what is around it."""
    voxels, lesion = (sitk.GetArrayViewFromImage(image) for image in (case.image, case.mask))
    rim = sitk.GetArrayViewFromImage(sitk.BinaryDilate(case.mask, (4, 4, 4))) > 0
    bright = voxels[lesion > 0].mean() > voxels[rim & (lesion == 0)].mean()
    return "bright lesions" if bright else "dark lesions"


def brains() -> Iterator[Case]:
    """MeshNet's tissues at places in a real T1: why grey matter here?"""
    model, volumes = meshnet()
    x = prepare(volumes, model.card.preprocessing).tensor
    with torch.inference_mode():
        labels = model.module(x).argmax(1)[0]
    for tissue, (index, corner) in PLACES.items():
        here = torch.zeros_like(labels, dtype=torch.bool)
        here[tuple(slice(start, start + PLACE) for start in corner)] = True
        yield Case(tissue, "MeshNet", model.module, x, index, here & (labels == index))


def around(where: Tensor, x: Tensor, box: int = BOX) -> Tensor:
    """The box of x [1, 1, D, H, W] around what is true in `where` [D, H, W]."""
    centre = where.nonzero().double().mean(0).round().long().tolist()
    starts = [min(max(0, c - box // 2), max(0, n - box)) for c, n in zip(centre, where.shape, strict=True)]
    return x[(..., *(slice(start, start + box) for start in starts))].contiguous()


def measure(case: Case, label: str, relevance: Tensor, results: dict[str, dict[str, list[float]]]) -> None:
    """Add the map's area between the curves for each way to replace a block, and print it."""
    per_block = torch.nn.functional.avg_pool3d(relevance, BLOCKS, ceil_mode=True)[0, 0].flatten()
    known = torch.nn.functional.avg_pool3d((case.x != 0).float(), BLOCKS, ceil_mode=True)[0, 0].flatten() > 0
    order = torch.argsort(per_block.masked_fill(~known, -torch.inf), descending=True)[: int(known.sum())]
    figures = []
    for name, replacement in REPLACEMENTS.items():
        other = replacement(case.x, known)
        most, least = (
            [case.score(replaced(case.x, other, blocks[:n])) for n in COUNTS] for blocks in (order, order.flip(0))
        )
        figures.append(abpc(most, least))
        results[label][f"{case.family}, {name}"].append(figures[-1])
    print(f"{case.name}: {label}: {', '.join(f'{f:.3f}' for f in figures)}", flush=True)


def replaced(x: Tensor, other: Tensor, blocks: Tensor) -> Tensor:
    """x with these blocks taken from `other`."""
    shape = [-(-n // BLOCKS) for n in x.shape[2:]]
    mask = torch.zeros(int(np.prod(shape)))
    mask[blocks] = 1
    wide = mask.reshape(shape)
    for axis in range(3):
        wide = wide.repeat_interleave(BLOCKS, axis)
    d, h, w = x.shape[2:]
    return torch.where(wide[:d, :h, :w] > 0, other, x)


def blurred(x: Tensor, known: Tensor) -> Tensor:
    """The volume without detail of a block's size."""
    image = sitk.GetImageFromArray(x[0, 0].numpy())
    smooth = sitk.SmoothingRecursiveGaussian(image, float(BLOCKS))
    return torch.from_numpy(sitk.GetArrayFromImage(smooth))[None, None]


def other_tissue(x: Tensor, known: Tensor) -> Tensor:
    """Each block from elsewhere in the head, at random, the same for every map."""
    d, h, w = (-(-n // BLOCKS) for n in x.shape[2:])
    padded = torch.zeros(d * BLOCKS, h * BLOCKS, w * BLOCKS)
    padded[: x.shape[2], : x.shape[3], : x.shape[4]] = x[0, 0]
    blocks = padded.reshape(d, BLOCKS, h, BLOCKS, w, BLOCKS).permute(0, 2, 4, 1, 3, 5).reshape(-1, BLOCKS**3)
    inside = known.nonzero().flatten()
    chosen = inside[torch.randint(len(inside), (len(blocks),), generator=torch.Generator().manual_seed(0))]
    moved = blocks[chosen].reshape(d, h, w, BLOCKS, BLOCKS, BLOCKS).permute(0, 3, 1, 4, 2, 5)
    return moved.reshape(padded.shape)[None, None, : x.shape[2], : x.shape[3], : x.shape[4]]


REPLACEMENTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"blurred": blurred, "other tissue": other_tissue}


def show(results: dict[str, dict[str, list[float]]]) -> None:
    """Means as a table."""
    columns = list(next(iter(results.values())))
    print(f"\n| map | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}")
    for label, row in results.items():
        print(f"| {label} | {' | '.join(f'{np.mean(row[column]):.3f}' for column in columns)} |")


if __name__ == "__main__":
    main()
