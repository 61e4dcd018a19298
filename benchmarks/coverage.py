"""Which methods run on which networks, and whether they conserve relevance.

    python -m benchmarks.coverage [--networks unet ...] [--composites epsilon-plus ...]

Prints a markdown table: the sum of the input's relevance over the start relevance, with everything additive in the
network at zero, so that LRP's sum should be 1. Ours shows beside it what the ledger says was absorbed (by the means
that instance, group and layer norm subtract, and by stabilisers); the two add up to 1. Nobody else can tell.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterable

import torch
from LRPExplainLib import lrp
from torch import Tensor, nn
from tqdm import tqdm

from .methods import ZENNIT_PLUS, captum, reason, zennit
from .networks import NETWORKS, Network, first_tensor, start_relevance

# Zennit as the network is and made ready for it ("canonized"): the better of the two counts.
PEERS = {ZENNIT_PLUS: (zennit("EpsilonPlus"), zennit("EpsilonPlus", canonize=False)), "Captum LRP": (captum,)}
COMPOSITES = ("epsilon", "epsilon-plus", "gamma", "attn-lrp", "volume")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Networks x methods: does it run, does it conserve relevance?")
    parser.add_argument("--networks", nargs="*", default=[""], help="parts of names; default: all")
    parser.add_argument("--composites", nargs="*", default=[name for name in COMPOSITES if name in lrp.COMPOSITES])
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    chosen = [network for name, network in NETWORKS.items() if any(part in name for part in options.networks)]
    for line in table(chosen, options.composites):
        print(line, flush=True)


def table(networks: list[Network], composites: list[str]) -> Iterable[str]:
    """The lines of the markdown table, and one that counts."""
    columns = [*(f"LRPExplain {name}" for name in composites), *PEERS]
    yield "| network | norm | " + " | ".join(columns) + " |"
    yield "|---|---|" + "---|" * len(columns)
    ran, conserved = dict.fromkeys(columns, 0), dict.fromkeys(columns, 0)
    rows = 0
    for network in tqdm(networks, unit="network"):
        missing = network.missing()
        if missing:
            yield f"| {network.name} | {network.norm} | {missing} |" + " |" * (len(columns) - 1)
            continue
        cells = row(network, composites)
        rows += 1
        for column, (_, accounted) in zip(columns, cells, strict=True):
            ran[column] += accounted is not None
            conserved[column] += bool(accounted)
        yield f"| {network.name} | {network.norm} | " + " | ".join(text for text, _ in cells) + " |"
    counts = " | ".join(f"{ran[c]} run, {conserved[c]} account for all" for c in columns)
    yield f"| **of {rows}** | | {counts} |"


def row(network: Network, composites: list[str]) -> list[tuple[str, bool | None]]:
    """Each method's cell, and whether all relevance is accounted for to 0.1 % (None: it does not run)."""
    model, x = network.build(biases=False), network.input()
    with torch.no_grad():
        start = start_relevance(first_tensor(model(x)))
    graph = lrp.capture(model, x)
    cells: list[tuple[str, bool | None]] = []
    for name in composites:
        try:
            ledger = lrp.attribute(graph, x, start, name).ledger
        except lrp.LRPError as error:
            cells.append((reason(error), None))
            continue
        kept, absorbed = ledger.relevance / ledger.target_value, ledger.absorbed / ledger.target_value
        cells.append((f"{kept:.4f} + {absorbed:.4f}", abs(kept + absorbed - 1) <= 1e-3))
    return [*cells, *(_peer(name, model, x, start) for name in PEERS)]


def _peer(name: str, model: nn.Module, x: Tensor, start: Tensor) -> tuple[str, bool | None]:
    """The best that a peer reaches in any of its ways."""
    ratios, failure = [], ""
    for way in PEERS[name]:
        try:
            relevance = way(model, x, start)()
        except Exception as error:  # whatever a peer raises is the finding
            failure = reason(error)
            continue
        ratios.append(float(relevance.double().sum() / start.double().sum()))
    if not ratios:
        return failure, None
    best = min(ratios, key=lambda ratio: abs(ratio - 1))
    return f"{best:.4g}", abs(best - 1) <= 1e-3


if __name__ == "__main__":
    main()
