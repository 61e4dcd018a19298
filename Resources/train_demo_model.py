#!/usr/bin/env python3
"""Trains the bundled demo model: a small 3D U-Net that segments a planted lesion in T1-weighted MRI.

    python Resources/train_demo_model.py --bfloat16          # as the committed weights; about 15 minutes on one core
    python Resources/train_demo_model.py --evaluate-only     # measures the committed weights again

Nothing is downloaded: the brain is the MNI152 template that nilearn carries (see synthetic_brains.py), the lesions come
from LRPExplainLib.demo. Weights and card, with the measured figures, are written to the output folder.
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
from LRPExplainLib.demo import plant_lesion
from LRPExplainLib.errors import UserError
from LRPExplainLib.models.architectures import UNet3d
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from synthetic_brains import SPACING, as_image, random_anatomy, random_contrast
from torch import Tensor, nn
from tqdm import tqdm

Array = NDArray[np.float32]

# Series of random numbers that never meet; the demo itself draws from series 3 (LRPExplainLib/demo/case.py)
TRAIN, TEST = 1, 2

CHANNELS = (8, 16, 32, 64)
SETTINGS = ("seed", "steps", "batch", "patch", "brains", "rate", "bfloat16", "norm")  # what the weights depend on
PERCENTILES = (1, 99.8)
ML_PER_VOXEL = SPACING**3 / 1000
OUTPUT = Path(__file__).parent.parent / "LRPExplain" / "Resources" / "Models" / "lesion-unet"


@dataclass(frozen=True)
class Brain:
    """A random brain without a lesion."""

    image: sitk.Image
    mask: sitk.Image

    @classmethod
    def draw(cls, *seed: int) -> "Brain":
        rng = np.random.default_rng(seed)
        anatomy = random_anatomy(rng)
        return cls(as_image(random_contrast(anatomy, rng)), as_image(anatomy.brain))


@dataclass(frozen=True)
class Case:
    """A normalised volume [D, H, W] and its lesion mask (empty in a lesion-free case)."""

    voxels: Array
    lesion: NDArray[np.uint8]


def make_case(brain: Brain, *seed: int, lesions: int = 1) -> Case:
    """The brain with this many lesions (some may overlap), as the model gets to see it.

    The scale is that of the brain with its first lesion alone, as when the model is used: several bright lesions
    would shift the upper percentile.
    """
    image, lesion = brain.image, np.zeros(brain.image.GetSize()[::-1], np.uint8)
    low, high = np.percentile(sitk.GetArrayFromImage(image), PERCENTILES)
    for number in range(lesions):
        image, mask = plant_lesion(image, (*seed, number), brain.mask)
        lesion |= sitk.GetArrayFromImage(mask)
        if number == 0:
            low, high = np.percentile(sitk.GetArrayFromImage(image), PERCENTILES)
    return Case(((sitk.GetArrayFromImage(image) - low) / (high - low)).astype(np.float32), lesion)


def unseen_case(index: int, lesions: int = 1) -> Case:
    """An unseen case: an anatomy, contrast and lesion that training never draws."""
    return make_case(Brain.draw(TEST, index), TEST, index, 1, lesions=lesions)


def training_cases(args: argparse.Namespace) -> list[Case]:
    """Brains with up to five lesions each: more of them teach more in a patch."""
    cases = []
    for index in tqdm(range(args.brains), desc="Brains"):
        lesions = int(np.random.default_rng((TRAIN, args.seed, index)).choice([0, 2, 3, 4, 5]))
        cases.append(make_case(Brain.draw(TRAIN, args.seed, index, 0), TRAIN, args.seed, index, 1, lesions=lesions))
    return cases


def random_patch(case: Case, size: int, rng: np.random.Generator) -> tuple[Array, NDArray[np.uint8]]:
    """A cube of the case: three in five near a lesion (if any), the others anywhere; mirrored at random."""
    shape = np.array(case.voxels.shape)
    start = rng.integers(0, shape - size + 1)
    if case.lesion.any() and rng.random() < 0.6:
        lesion_voxel = rng.choice(np.argwhere(case.lesion))
        start = np.clip(lesion_voxel - rng.integers(size // 6, size - size // 6, 3), 0, shape - size)
    box = tuple(slice(first, first + size) for first in start)
    turn = slice(None, None, -1 if rng.random() < 0.5 else 1)
    gain = np.float32(rng.uniform(0.85, 1.15))  # the share of background in a volume moves its percentiles
    return gain * case.voxels[box][..., turn], case.lesion[box][..., turn]


def random_batch(cases: list[Case], step: int, args: argparse.Namespace) -> tuple[Tensor, Tensor]:
    """Patches [N, 1, s, s, s] and labels [N, s, s, s] of one training step."""
    rng = np.random.default_rng((TRAIN, args.seed, args.brains, step))
    images, labels = [], []
    for index in rng.integers(len(cases), size=args.batch):
        image, label = random_patch(cases[index], args.patch, rng)
        images.append(np.ascontiguousarray(image)[None])
        labels.append(np.ascontiguousarray(label))
    x = torch.from_numpy(np.stack(images)).to(memory_format=torch.channels_last_3d)
    return x, torch.from_numpy(np.stack(labels)).long()


def loss_of(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy plus soft Dice loss of the lesion over the batch."""
    lesion, target = logits.softmax(dim=1)[:, 1], labels.float()
    dice = (2 * (lesion * target).sum() + 1) / (lesion.sum() + target.sum() + 1)
    return nn.functional.cross_entropy(logits, labels) + 1 - dice


def train(args: argparse.Namespace) -> UNet3d:
    """Trains a model from scratch; the same arguments give the same model on the same machine."""
    torch.manual_seed(args.seed)
    cases = training_cases(args)
    model = UNet3d(channels=CHANNELS, norm=args.norm)
    model.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]  # half the time on a CPU
    optimiser = torch.optim.AdamW(model.parameters(), lr=args.rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, args.rate, total_steps=args.steps, pct_start=0.1)
    running: float | None = None
    bar = tqdm(range(args.steps), desc="Training", mininterval=5)
    for step in bar:
        x, labels = random_batch(cases, step, args)
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bfloat16):
            logits = model(x)
        loss = loss_of(logits.float(), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        running = loss.item() if running is None else 0.97 * running + 0.03 * loss.item()
        bar.set_postfix(loss=f"{running:.3f}", refresh=False)
    _settle_batch_norm(model, cases, args)
    return model.eval()


def _settle_batch_norm(model: UNet3d, cases: list[Case], args: argparse.Namespace) -> None:
    """Replaces the running statistics, which lag behind the weights, by those of the final weights."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.reset_running_stats()
            module.momentum = None  # a plain average over the batches
    with torch.no_grad():
        for step in tqdm(range(args.steps, args.steps + 100), desc="Batch norm"):
            model(random_batch(cases, step, args)[0])


def segment(model: nn.Module, case: Case) -> NDArray[np.bool_]:
    """The voxels [D, H, W] that the model takes for lesion."""
    with torch.inference_mode():
        return model(torch.from_numpy(case.voxels)[None, None])[0].argmax(dim=0).numpy() == 1


def dice_of(found: NDArray[np.bool_], lesion: NDArray[np.uint8]) -> float:
    """Dice overlap of the voxels found with the lesion; 1 when both are empty."""
    both = found.sum() + lesion.sum()
    return float(2 * (found & (lesion > 0)).sum() / both) if both else 1.0


def evaluate(model: nn.Module, cases: int) -> dict[str, float | int]:
    """Dice on unseen cases, and volume falsely called lesion in the same brains without one."""
    dice, false_ml = [], []
    for index in tqdm(range(cases), desc="Unseen cases"):
        case = unseen_case(index)
        dice.append(dice_of(segment(model, case), case.lesion))
        false_ml.append(float(segment(model, unseen_case(index, lesions=0)).sum() * ML_PER_VOXEL))
    return {
        "cases": cases,
        "dice_mean": round(float(np.mean(dice)), 4),
        "dice_median": round(float(np.median(dice)), 4),
        "dice_lowest": round(float(np.min(dice)), 4),
        "missed": sum(value == 0 for value in dice),
        "lesion_free_brains_without_false_positive": sum(volume == 0 for volume in false_ml),
        "false_positive_ml_mean": round(float(np.mean(false_ml)), 4),
        "false_positive_ml_median": round(float(np.median(false_ml)), 4),
        "false_positive_ml_highest": round(float(np.max(false_ml)), 4),
    }


def make_card(weights: Path, settings: dict, measured: dict) -> dict:
    """The model card as models/card.schema.json asks for it."""
    norm = {"norm": settings["norm"]} if settings.get("norm", "batch") != "batch" else {}
    return {
        "schema": 1,
        "name": "Planted-lesion U-Net",
        "description": "Segments a planted lesion in T1-weighted MRI of a brain without skull. A model to "
        "learn and test explanation with: it has never seen a patient's lesion and must not be used on one.",
        "task": "segmentation",
        "weights": weights.name,
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "network": {
            "architecture": "UNet3d",
            "arguments": {"in_channels": 1, "out_channels": 2, "channels": list(CHANNELS), **norm},
        },
        "inputs": [{"name": "T1", "modality": "MR"}],
        "preprocessing": {
            "orientation": "RAS",
            "spacing": [SPACING] * 3,
            "size_multiple": UNet3d(channels=CHANNELS).size_multiple,
            # not clipped: a small bright lesion lies above the 99.8th percentile and would vanish in white matter
            "intensity": [{"type": "percentile", "lower": PERCENTILES[0], "upper": PERCENTILES[1], "clip": False}],
        },
        "output": {
            "activation": "softmax",
            "classes": [{"name": "background"}, {"name": "lesion", "color": [255, 0, 0]}],
        },
        # sharper than the default `volume` on the demo lesions compared; not the best on all of them (RESULTS.md)
        "explanation": {"composite": "epsilon-plus"},
        "licence": "Apache-2.0",
        "citation": "The brain: Fonov et al. 2011, Unbiased average age-appropriate atlases for pediatric studies, "
        "NeuroImage 54(1), 313-327 (ICBM 152 nonlinear symmetric 2009a, as carried by nilearn).",
        "training": {
            "data": "MNI152 T1 (2009a) without skull, deformed and re-contrasted at random, with planted lesions: up "
            "to five in a training case, one in an unseen case. The unseen cases have their own deformation, contrast "
            "and lesion, but come from the same template.",
            "script": "Resources/train_demo_model.py",
            "settings": settings,
            "measured_at_2_mm": measured,
            "date": datetime.now(UTC).date().isoformat(),
        },
    }


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=2000, help="training steps (%(default)s)")
    parser.add_argument("--batch", type=int, default=4, help="patches in a step (%(default)s)")
    parser.add_argument("--patch", type=int, default=40, help="edge of a patch in voxels (%(default)s)")
    parser.add_argument("--brains", type=int, default=200, help="random brains to train on (%(default)s)")
    parser.add_argument("--rate", type=float, default=4e-3, help="highest learning rate (%(default)s)")
    parser.add_argument(
        "--bfloat16", action="store_true", help="train in reduced precision: faster where the processor knows it"
    )
    parser.add_argument(
        "--norm", choices=("batch", "instance"), default="batch", help="of the network; for comparisons (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of everything random (%(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="processor threads (%(default)s)")
    parser.add_argument("--cases", type=int, default=50, help="unseen cases to measure on (%(default)s)")
    parser.add_argument("--out", type=Path, default=OUTPUT, help="folder for weights and card (%(default)s)")
    parser.add_argument("--evaluate-only", action="store_true", help="measure the weights that are there")
    return parser.parse_args()


def main() -> int:
    args = parse_arguments()
    torch.set_num_threads(args.threads)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(args.threads)
    weights, card_path = args.out / "lesion_unet.safetensors", args.out / "lesion_unet.card.json"
    if args.evaluate_only:
        settings = json.loads(card_path.read_text(encoding="utf-8"))["training"]["settings"]
        model = UNet3d(channels=CHANNELS, norm=settings.get("norm", "batch"))
        model.load_state_dict(load_file(weights))
    else:
        model = train(args)
        settings = {
            name: getattr(args, name)
            for name in ("seed", "steps", "batch", "patch", "brains", "rate", "bfloat16", "norm")
        }
        args.out.mkdir(parents=True, exist_ok=True)
        save_file({name: value.contiguous() for name, value in model.state_dict().items()}, weights)
    measured = evaluate(model.eval(), args.cases)
    card = make_card(weights, settings, measured)
    card_path.write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(json.dumps(measured, indent=2))
    print(f"Weights and card are in {args.out}")
    return 0


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except UserError as error:
        raise SystemExit(f"Error: {error}") from error
