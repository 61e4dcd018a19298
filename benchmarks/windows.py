"""Whole volumes through windows: how long explaining takes beside predicting, and that memory does not grow.

    .venv/bin/python -m benchmarks.windows [--device cpu cuda] [--precision bfloat16]

nnU-Net's architecture with random weights (see `peers.py`), windows with 50 % overlap, through `Inference` as `explain`
uses it: the question is about class 1 everywhere, so that each window is explained, which runs it forward again. The
volume grows, the windows do not.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from LRPExplainLib import lrp
from LRPExplainLib.imaging.windows import Windows
from LRPExplainLib.inference import Inference
from LRPExplainLib.progress import nobody

from .clock import seconds
from .memory import peak_memory
from .peers import SUBJECTS, machine

# Edge of a window; volumes, the last one of the size that the issue names
SIZES = {
    "cpu": (64, ((64, 64, 64), (64, 96, 96), (96, 96, 96), (96, 128, 128))),
    "cuda": (128, ((128, 128, 128), (128, 256, 256), (256, 256, 256), (256, 512, 512))),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", nargs="*", default=["cpu", *(["cuda"] if torch.cuda.is_available() else [])])
    parser.add_argument("--composite", default="epsilon-plus")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    options = parser.parse_args()
    precision = None if options.precision == "float32" else torch.bfloat16
    for device in options.device:
        print(f"\n{machine(device)}; {options.composite}, {options.precision}\n")
        print("| volume | windows | at once | predict | explain | ÷ predict | peak to predict | peak to explain |")
        print("|---|---|---|---|---|---|---|---|")
        edge, shapes = SIZES[device]
        for shape in shapes:
            print(row(shape, edge, device, options.composite, precision), flush=True)


def row(shape: tuple[int, ...], edge: int, device: str, composite: str, precision: torch.dtype | None) -> str:
    torch.manual_seed(0)
    subject = next(subject for subject in SUBJECTS if "DynUNet" in subject.name)
    volume = torch.rand(1, 1, *shape)
    windows = Windows(volume.shape[2:], {"size": [edge] * 3, "overlap": 0.5, "blending": "gaussian"})
    ready = Inference(
        subject.make(device != "cpu").eval(), volume, windows, lrp.composite_named(composite), torch.device(device),
        precision=precision,
    )  # fmt: skip
    asked = torch.zeros_like(ready.predict(nobody))
    asked[:, 1] = 1.0
    ready.attribute(asked, nobody)  # to warm up
    predicting, to_predict = measured(lambda: ready.predict(nobody), device)
    explaining, to_explain = measured(lambda: ready.attribute(asked, nobody), device)
    facts = ready.facts(asked)
    return (
        f"| {' x '.join(map(str, shape))} | {facts['views']} | {facts['batch']} | {predicting:.2f} s |"
        f" {explaining:.2f} s | {explaining / predicting:.2f} | {_mib(to_predict)} | {_mib(to_explain)} |"
    )


def measured(run: Callable[[], Any], device: str) -> tuple[float, int | None]:
    """Seconds, and the peak of memory in a run of its own, as measuring it takes time."""
    took = seconds(run, device)
    with peak_memory(device) as peak:
        run()
    return took, peak.bytes


def _mib(size: int | None) -> str:
    return "" if size is None else f"{size / 2**20:.0f} MiB"


if __name__ == "__main__":
    main()
