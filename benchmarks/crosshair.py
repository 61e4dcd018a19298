"""How fast "why this voxel?" is: the first question, and further ones on the kept answer, as the Slicer module asks.

    .venv/bin/python -m benchmarks.crosshair [--points 10] [--device auto]

Requests go to the worker's own `Answers`, without the pipes: a point in, an Explanation folder out. Beside them, in the
same process, PyTorch's forward pass and input gradient of the same network on the same input. Then a worker in its own
process, as Slicer starts it: from its start to the first map; and, where it has told of another model before, from the
request to the first map.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from LRPExplainLib.demo import demo_case
from LRPExplainLib.demonstration import BUNDLED_MODEL
from LRPExplainLib.models import load_model
from LRPExplainLib.worker.answers import Answers

from .clock import seconds
from .networks import first_tensor
from .peers import SUBJECTS, machine

EDGE = 64  # voxels of the second case
OTHER_MODEL = Path(__file__).parents[1] / "Resources" / "ShortcutModels" / "honest.safetensors"
# Seconds in which somebody who has chosen a model presses Explain; the worker gets ready meanwhile.
_UNTIL_PRESSED = 3.0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--points", type=int, default=10, help="further questions (default: %(default)s)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    options = parser.parse_args()
    print(f"{machine('cuda' if torch.cuda.is_available() and options.device != 'cpu' else 'cpu')}\n")
    print("| network | forward + input gradient | first question | further ones, median (most) |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name, prepare in (("demo U-Net, MNI152 at 2 mm", demo), (f"DynUNet, 1x{EDGE}^3", dynunet)):
            model, volume = prepare(Path(folder))
            print(row(name, model, volume, Path(folder) / "out", options.points, options.device), flush=True)
        model, volume = demo(Path(folder))
        cold, warm = first_maps(model, volume, Path(folder), options.device)
        print(f"\nWorker, demo U-Net: from its start to the first map {cold:.2f} s, from a warm start {warm:.2f} s")


def demo(folder: Path) -> tuple[Path, Path]:
    sitk.WriteImage(demo_case(0).image, str(folder / "demo.nrrd"))
    return BUNDLED_MODEL, folder / "demo.nrrd"


def dynunet(folder: Path) -> tuple[Path, Path]:
    """nnU-Net's architecture with random weights, as TorchScript."""
    subject = next(subject for subject in SUBJECTS if "DynUNet" in subject.name)
    torch.manual_seed(0)
    x = torch.rand(1, 1, EDGE, EDGE, EDGE)
    torch.jit.trace(subject.make(False).eval(), x, check_trace=False).save(str(folder / "dynunet.ts"))
    sitk.WriteImage(sitk.GetImageFromArray(x[0, 0].numpy()), str(folder / "random.nrrd"))
    return folder / "dynunet.ts", folder / "random.nrrd"


def row(name: str, model: Path, volume: Path, out: Path, points: int, device: str) -> str:
    image = sitk.ReadImage(str(volume))
    answers, rng = Answers(), np.random.default_rng(0)

    def ask() -> None:
        index = [int(rng.integers(size // 4, size - size // 4)) for size in image.GetSize()]
        left, posterior, superior = image.TransformIndexToPhysicalPoint(index)
        where = {"kind": "points", "points": [[-left, -posterior, superior]]}
        message: dict[str, Any] = {"model": str(model), "volumes": [str(volume)], "where": where, "target": 1,
                                   "device": device, "out": str(out)}  # fmt: skip
        answers.explain(message, lambda stage, share: None, lambda said: None)

    first = seconds(ask)
    further = [seconds(ask) for _ in range(points)]
    assert answers._answered is not None
    x = answers._answered[1]._ready.inference.volume
    module = load_model(model).module
    for parameter in module.parameters():  # TorchScript modules know no requires_grad_
        parameter.requires_grad_(False)

    def forward_and_gradient() -> None:
        leaf = x.clone().requires_grad_()
        torch.autograd.grad(first_tensor(module(leaf)).sum(), leaf)

    gradient = min(seconds(forward_and_gradient) for _ in range(3))
    return f"| {name} | {gradient:.2f} s | {first:.2f} s | {statistics.median(further):.2f} ({max(further):.2f}) s |"


def first_maps(model: Path, volume: Path, folder: Path, device: str) -> tuple[float, float]:
    """Seconds of a worker to its first map: from its start, and from the request when it has started some time ago."""
    found = []
    for warm in (False, True):
        work = folder / f"worker-{warm}"
        work.mkdir()
        command = [sys.executable, "-m", "LRPExplainLib.worker", "--folder", str(work)]
        begin = time.perf_counter()
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as worker:
            if warm:  # what Slicer asks as soon as the module is opened
                _request(worker, {"id": 1, "verb": "describe", "model": str(OTHER_MODEL)})
                time.sleep(_UNTIL_PRESSED)
                begin = time.perf_counter()
            message = {"model": str(model), "volumes": [str(volume)], "device": device, "out": str(work / "map")}
            _request(worker, {"id": 2, "verb": "explain", **message})
            found.append(time.perf_counter() - begin)
            assert worker.stdin is not None
            worker.stdin.close()
    return found[0], found[1]


def _request(worker: subprocess.Popen[str], message: dict[str, Any]) -> None:
    """Send a request and wait for its end."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write(json.dumps(message) + "\n")
    worker.stdin.flush()
    for line in worker.stdout:
        event = json.loads(line)
        if event["event"] == "failed":
            raise RuntimeError(event["sentence"])
        if event["event"] == "done":
            return
    raise RuntimeError("the worker ended")


if __name__ == "__main__":
    main()
