"""Which composite for a transformer? A small one is trained on the demo's lesions, and its maps are perturbed.

    .venv/bin/python -m benchmarks.transformer --weights FILE [--steps 1400] [--seeds ...]

The network is MONAI's ViT with tokens of 4 voxels a side, each of which is turned into the logits of its voxels by one
linear layer (Strudel et al. 2021): nothing goes around the attention, as a U-Net's skip connections do. Where there is
no such FILE it is trained first. The curves are those of `faithfulness.py`, in the model's window around the lesion;
beside them stand Dice, the share of the positive relevance in the lesion and 4 mm around it, what is left of the
relevance when both signs are taken together (sum over sum of magnitudes), and how far float32 is from float64.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from LRPExplainLib import lrp
from LRPExplainLib.demo import demo_case
from LRPExplainLib.demonstration import BUNDLED_MODEL
from LRPExplainLib.imaging import prepare
from LRPExplainLib.models import load_model
from monai.networks.nets import ViT
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm

from .faithfulness import Case, around, family, measure, show

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "Resources"))
from train_demo_model import loss_of, random_batch, training_cases

WINDOW, TOKEN, WIDTH = 32, 4, 96
RIM = 2  # voxels of 2 mm
SHARED = {name: composite.with_biases("share") for name, composite in lrp.COMPOSITES.items()}
COMPOSITES = SHARED | {
    "attn-lrp, absorb": lrp.COMPOSITES["attn-lrp"],
    "volume, gamma in dense layers": SHARED["volume"].override({"linear": "gamma(0.25)"}),
    "volume, z+ in dense layers": SHARED["volume"].override({"linear": "z+(no bias)"}),
    "volume, attention as in attn-lrp": SHARED["volume"].override(
        {"gate": "uniform", "matmul": "uniform", "softmax": "taylor"}
    ),
}


class Segmenter(nn.Module):
    """[N, 1, 32, 32, 32] to the logits of background and lesion, [N, 2, 32, 32, 32]."""

    def __init__(self) -> None:
        super().__init__()
        self.vit = ViT(1, (WINDOW,) * 3, (TOKEN,) * 3, WIDTH, 4 * WIDTH, num_layers=4, num_heads=4)
        self.decode = nn.ConvTranspose3d(WIDTH, 2, TOKEN, stride=TOKEN)

    def forward(self, x: Tensor) -> Tensor:
        tokens, _ = self.vit(x)
        return self.decode(tokens.transpose(1, 2).unflatten(2, (WINDOW // TOKEN,) * 3))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--weights", type=Path, required=True, help="of the model (safetensors); made if missing")
    parser.add_argument("--steps", type=int, default=1400, help="of training, eight windows each (%(default)s)")
    parser.add_argument("--brains", type=int, default=200, help="random brains to train on (%(default)s)")
    parser.add_argument("--seeds", type=int, nargs="*", default=[*range(7), *range(10, 20)], help="lesions of the demo")
    options = parser.parse_args()
    model = Segmenter()
    if not options.weights.is_file():
        train(model, options.steps, options.brains)
        save_file({name: value.contiguous() for name, value in model.state_dict().items()}, options.weights)
    model.load_state_dict(load_file(options.weights))
    compare(model.eval(), options.seeds)


def train(model: Segmenter, steps: int, brains: int) -> None:
    torch.manual_seed(0)
    settings = argparse.Namespace(seed=0, batch=8, patch=WINDOW, brains=brains)
    cases = training_cases(settings)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-3, total_steps=steps, pct_start=0.1)
    for step in tqdm(range(steps), desc="Training", mininterval=5):
        x, labels = random_batch(cases, step, settings)
        loss = loss_of(model(x.contiguous()), labels)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()


def compare(model: Segmenter, seeds: Sequence[int]) -> None:
    curves: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    others: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for case, lesion in lesions(model, seeds):
        random = torch.randn(case.x.shape, generator=torch.Generator().manual_seed(0))
        measure(case, "random", random, curves)
        graph, target = lrp.capture(model, case.x), lrp.Target(1, case.where)
        exact = lrp.capture(model.double(), case.x.double())
        model.float()
        rim = nn.functional.max_pool3d(lesion[None, None].float(), 2 * RIM + 1, 1, RIM) > 0
        for name, composite in COMPOSITES.items():
            relevance = lrp.attribute(graph, case.x, target, composite).relevance
            wanted = lrp.attribute(exact, case.x.double(), target, composite).relevance
            assert isinstance(relevance, Tensor)
            assert isinstance(wanted, Tensor)
            measure(case, name, relevance, curves)
            speaking = relevance.clamp(min=0)
            others[name]["in the lesion and 4 mm"].append(float(speaking[rim].sum() / speaking.sum()))
            others[name]["left of both signs"].append(float(relevance.sum() / relevance.abs().sum()))
            off = float((relevance - wanted).abs().max() / wanted.abs().max())
            others[name]["float32, millionths of the largest"].append(1e6 * off)
    show(curves)
    show(others)


def lesions(model: Segmenter, seeds: Sequence[int]) -> Iterator[tuple[Case, Tensor]]:
    """The demo's lesions that the model finds, with the lesion in its window [32, 32, 32]."""
    wishes = load_model(BUNDLED_MODEL).card.preprocessing
    for seed in seeds:
        case = demo_case(seed)
        volume = prepare([case.image], wishes).tensor
        mask = prepare([case.mask], replace(wishes, intensity=())).tensor > 0.5
        x, lesion = (around(mask[0, 0], tensor, WINDOW) for tensor in (volume, mask))
        with torch.inference_mode():
            where = model(x).argmax(1)[0] == 1
        dice = float(2 * (where & lesion[0, 0]).sum() / (where.sum() + lesion.sum()))
        print(f"lesion {seed}: Dice {dice:.2f}{'' if dice >= 0.3 else ', left out'}", flush=True)
        if dice >= 0.3:
            yield Case(f"lesion {seed}", family(case), model, x, 1, where), lesion[0, 0]


if __name__ == "__main__":
    main()
