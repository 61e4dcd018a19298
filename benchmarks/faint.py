"""Does a map of an answer below 0 have the right sign? Classifiers of faint squares, by the last layer and its bias.

    .venv/bin/python -m benchmarks.faint [--steps 300] [--cases 200]

Two networks of three convolutions look for a square of 8 x 8 pixels, brighter by 0.03 to 0.28 than a noisy picture of
64 x 64: one pools its features and has a dense last layer, one has a convolution for its last layer and pools the map
of scores. Each is trained twice: squares in one of 20 pictures, with a last bias that begins where that prevalence has
it (-4.6), and in one of five with a bias of 0. Whether a square speaks for the answer is known: it does if the score
falls when it is replaced by background. Told is in how many pictures with a square the relevance in it has that sign,
by the score: where the square is missed, it is below 0.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from LRPExplainLib import lrp
from LRPExplainLib.lrp.rules import LinearRule, magnitude
from torch import Tensor, nn

SIDE, SQUARE, MOST = 64, 8, 50
RANGES = {"below -2": (-torch.inf, -2.0), "-2 to 0": (-2.0, 0.0), "above 0": (0.0, torch.inf)}
TRAININGS = {"one of 20, bias from -4.6": (0.05, -4.6), "one of 5, bias from 0": (0.2, 0.0)}


@dataclass(frozen=True)
class Pictures:
    """[N, 1, 64, 64]: pictures, the same without their squares, and where these are; whether there is one, [N, 1]."""

    shown: Tensor
    without: Tensor
    where: Tensor
    present: Tensor


class Network(nn.Module):
    def __init__(self, dense: bool) -> None:
        super().__init__()
        self.dense = dense
        self.features = nn.Sequential(block(1, 16), block(16, 32), block(32, 32))
        self.head: nn.Module = nn.Linear(32, 1) if dense else nn.Conv2d(32, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.features(x)
        return self.head(y.mean((2, 3))) if self.dense else self.head(y).mean((2, 3))


def block(inputs: int, outputs: int) -> nn.Module:
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=300, help="of training, 32 pictures each (%(default)s)")
    parser.add_argument("--cases", type=int, default=200, help="pictures with a square to explain (%(default)s)")
    options = parser.parse_args()
    cases = pictures(options.cases, torch.Generator().manual_seed(9), 1.0)
    print("| last layer | squares | score | pictures | square speaks for it |", " | ".join(composites()), "|")
    print("|---|---|---|---|---|" + "---|" * len(composites()))
    for dense in (True, False):
        for name, (prevalence, bias) in TRAININGS.items():
            network = trained(dense, prevalence, bias, options.steps)
            for scores, figures in compared(network, cases).items():
                told = " | ".join(f"{figure:.0%}" for figure in figures[1:])
                print(
                    f"| {'dense' if dense else 'convolution'} | {name} | {scores} | {figures[0]:.0f} | {told} |",
                    flush=True,
                )


def composites() -> Mapping[str, lrp.Composite]:
    """`volume` and `epsilon-plus` as they are, and with what they leave out for the last layer."""
    found = {}
    for name in ("volume", "epsilon-plus"):
        chosen = lrp.composite_named(name).with_biases("share")
        found[name] = chosen
        shared = (
            replace(row, rule=row.rule.sharing_bias()) if isinstance(row.rule, LinearRule) else row
            for row in chosen.rows
        )
        found[f"{name}, last bias shared"] = replace(chosen, rows=tuple(shared))
        as_convolution = {"head": "z+(no bias)" if name == "volume" else "z+", "scores": magnitude()}
        found[f"{name}, last layer by z+"] = chosen.override(as_convolution)
        found[f"{name}, all biases absorb"] = chosen.with_biases("absorb")
    return found


def compared(network: Network, cases: Pictures) -> dict[str, list[float]]:
    """For each range of scores: pictures, in how many of them the square speaks for the answer, and by each composite
    in how many the relevance in it says which."""
    with torch.inference_mode():
        scores = network(cases.shown)[:, 0]
        speaks_for = scores > network(cases.without)[:, 0]
    graph = lrp.capture(network, cases.shown[:1])
    found = {}
    for name, (low, high) in RANGES.items():
        chosen = ((scores >= low) & (scores < high)).nonzero().flatten()[:MOST].tolist()
        if not chosen:
            continue
        right = []
        for composite in composites().values():
            maps = [lrp.attribute(graph, cases.shown[n : n + 1], lrp.Target(0), composite).relevance for n in chosen]
            inside = torch.stack([(r * cases.where[n]).sum() for n, r in zip(chosen, maps, strict=True)])
            right.append(float(((inside > 0) == speaks_for[chosen]).double().mean()))
        found[name] = [len(chosen), float(speaks_for[chosen].double().mean()), *right]
    return found


def trained(dense: bool, prevalence: float, bias: float, steps: int) -> Network:
    torch.manual_seed(0)
    network = Network(dense)
    nn.init.constant_(network.head.bias, bias)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(1)
    optimiser = torch.optim.AdamW(network.parameters(), 3e-3, weight_decay=1e-2)
    for _ in range(steps):
        seen = pictures(32, generator, prevalence)
        loss = nn.functional.binary_cross_entropy_with_logits(network(seen.shown), seen.present)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return network.eval()


def pictures(count: int, generator: torch.Generator, prevalence: float) -> Pictures:
    def uniform(*shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=generator)

    background = 0.6 * nn.functional.avg_pool2d(uniform(1, SIDE + 2, SIDE + 2), 3, 1) + 0.2 * uniform(1, SIDE, SIDE)
    present = (uniform(1) < prevalence).float()
    where = torch.zeros_like(background)
    corners = torch.randint(4, SIDE - SQUARE - 6, (count, 2), generator=generator)
    for n, (row, column) in enumerate(corners.tolist()):
        where[n, 0, row : row + SQUARE, column : column + SQUARE] = present[n]
    shown = background + (0.25 * uniform(1, 1, 1) + 0.03) * where
    return Pictures(shown, background, where, present)


if __name__ == "__main__":
    main()
