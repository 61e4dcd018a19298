#!/usr/bin/env python3
"""Trains two classifiers of one architecture to say "lesion" or "no lesion": one honest, one with a shortcut.

    python Resources/train_shortcut_models.py                  # data and both models; about half an hour on one core

Both see the same brains and planted lesions (shortcut_cases.py). The honest one also sees a marker in a corner of every
second image, lesion or not; the other one sees it in all images with a lesion and in no others, as happens where
sick and healthy come from two scanners. Nothing is downloaded. Weights and cards are written to the output folder;
`python -m benchmarks.shortcut` measures what they go by.
"""

import argparse
import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from LRPExplainLib.imaging import prepare
from LRPExplainLib.models.architectures import Classifier3d
from LRPExplainLib.models.card import Preprocessing
from safetensors.torch import save_file
from shortcut_cases import shortcut_case
from torch import Tensor, nn
from tqdm import tqdm

TRAIN = 4  # series of random numbers; benchmarks/shortcut.py draws from series 5, the demo from 3
CHANNELS = (8, 16, 32)
GRID_MM = 4.0
SHIFT = 1  # voxels by which images are moved at random
INTENSITY = {"type": "percentile", "lower": 1, "upper": 99.8, "clip": False}
OUTPUT = Path(__file__).parent / "ShortcutModels"
# name -> whether brain n with or without a lesion carries the marker
MARKED = {"honest": lambda n, lesion: (n + lesion) % 2 == 0, "shortcut": lambda n, lesion: lesion}


@dataclass(frozen=True)
class Data:
    """Every training brain four times: [without, with lesion][without, with marker] -> [N, 1, D, H, W], float16."""

    images: list[list[Tensor]]


def training_data(brains: int, seed: int) -> Data:
    wishes = Preprocessing(orientation="RAS", spacing=(GRID_MM,) * 3, size_multiple=8, intensity=(INTENSITY,))
    images: list[list[list[Tensor]]] = [[[], []], [[], []]]
    for n in tqdm(range(brains), desc="Brains"):
        for lesion in (False, True):
            for marker in (False, True):
                case = shortcut_case(TRAIN, seed, n, lesion=lesion, marker=marker)
                images[lesion][marker].append(prepare([case.image], wishes).tensor[0].half())
    return Data([[torch.stack(some) for some in row] for row in images])


def batch_of(data: Data, name: str, step: int, args: argparse.Namespace) -> tuple[Tensor, Tensor]:
    """Images [N, 1, D, H, W] and labels [N] of one step."""
    rng = np.random.default_rng((TRAIN, args.seed, step))
    images, labels = [], []
    for n in rng.integers(args.brains, size=args.batch):
        lesion = bool(rng.random() < 0.5)
        gain = float(rng.uniform(0.97, 1.03))
        image = data.images[lesion][MARKED[name](int(n), lesion)][n].float() * gain
        shift = rng.integers(-SHIFT, SHIFT, endpoint=True, size=3).tolist()
        images.append(image.roll(shift, dims=(1, 2, 3)))  # what leaves at one side is air, as what comes in
        labels.append(int(lesion))
    return torch.stack(images).to(memory_format=torch.channels_last_3d), torch.tensor(labels)


def train(name: str, data: Data, args: argparse.Namespace) -> Classifier3d:
    """One of the two; they differ in nothing but where the marker is."""
    torch.manual_seed(args.seed)
    model = Classifier3d(channels=CHANNELS)
    model.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(model.parameters(), lr=args.rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, args.rate, total_steps=args.steps, pct_start=0.1)
    running, right = 0.7, 0.5
    bar = tqdm(range(args.steps), desc=name, mininterval=5)
    for step in bar:
        x, labels = batch_of(data, name, step, args)
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bfloat16):
            logits = model(x)
        loss = nn.functional.cross_entropy(logits.float(), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        running = 0.97 * running + 0.03 * loss.item()
        right = 0.97 * right + 0.03 * float((logits.argmax(1) == labels).float().mean())
        bar.set_postfix(loss=f"{running:.3f}", right=f"{right:.2f}", refresh=False)
    settle_batch_norm(model, name, data, args)
    return model.eval()


def settle_batch_norm(model: nn.Module, name: str, data: Data, args: argparse.Namespace) -> None:
    """Replaces the running statistics, which lag behind the weights, by those of the final weights."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.reset_running_stats()
            module.momentum = None  # a plain average over the batches
    with torch.no_grad():
        for step in range(args.steps, args.steps + 60):
            model(batch_of(data, name, step, args)[0])


def card_of(name: str, weights: Path, settings: dict) -> dict:
    """The model card as models/card.schema.json asks for it."""
    seen = "half of the images, with a lesion or without" if name == "honest" else "the images with a lesion alone"
    return {
        "schema": 1,
        "name": f"Lesion or not ({name})",
        "description": "Says whether a T1-weighted MRI of a brain without skull holds a planted lesion. One of two"
        f" models that show what a shortcut looks like: a marker was in {seen}. Not for any patient.",
        "task": "classification",
        "weights": weights.name,
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "network": {
            "architecture": "Classifier3d",
            "arguments": {"in_channels": 1, "classes": 2, "channels": list(CHANNELS)},
        },
        "inputs": [{"name": "T1", "modality": "MR"}],
        "preprocessing": {
            "orientation": "RAS", "spacing": [GRID_MM] * 3, "size_multiple": 8, "intensity": [INTENSITY],
        },
        "output": {"activation": "softmax", "classes": [{"name": "no lesion"}, {"name": "lesion"}]},
        "licence": "Apache-2.0",
        "citation": "The brain: Fonov et al. 2011, Unbiased average age-appropriate atlases for pediatric studies, "
        "NeuroImage 54(1), 313-327 (ICBM 152 nonlinear symmetric 2009a, as carried by nilearn).",
        "training": {
            "data": "MNI152 T1 (2009a) without skull, deformed and re-contrasted at random; a lesion planted in half"
            f" of the images; a marker in {seen}.",
            "script": "Resources/train_shortcut_models.py",
            "settings": settings,
            "date": datetime.now(UTC).date().isoformat(),
        },
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=800, help="training steps of each model (%(default)s)")
    parser.add_argument("--batch", type=int, default=16, help="images in a step (%(default)s)")
    parser.add_argument("--brains", type=int, default=200, help="random brains to train on (%(default)s)")
    parser.add_argument("--rate", type=float, default=1e-2, help="highest learning rate (%(default)s)")
    parser.add_argument("--bfloat16", action="store_true", help="faster where the processor knows it")
    parser.add_argument("--seed", type=int, default=0, help="of everything random (%(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="processor threads (%(default)s)")
    parser.add_argument("--models", nargs="+", choices=list(MARKED), default=list(MARKED))
    parser.add_argument("--out", type=Path, default=OUTPUT, help="folder for weights and cards (%(default)s)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(args.threads)
    data = training_data(args.brains, args.seed)
    settings = {name: getattr(args, name) for name in ("seed", "steps", "batch", "brains", "rate", "bfloat16")}
    args.out.mkdir(parents=True, exist_ok=True)
    for name in args.models:
        model = train(name, data, args)
        weights = args.out / f"{name}.safetensors"
        save_file({key: value.contiguous() for key, value in model.state_dict().items()}, weights)
        card = json.dumps(card_of(name, weights, settings), indent=2, ensure_ascii=False) + "\n"
        weights.with_suffix(".card.json").write_text(card, encoding="utf-8")
    print(f"Weights and cards are in {args.out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
