"""What the engine is to reach beside PyTorch and Zennit, as data: `peers.py` says of each whether it is met."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from .methods import BFLOAT16, FORWARD, FURTHER, GRADIENT, LOW_MEMORY, ZENNIT_PLUS, named

Quantity = Literal["seconds", "memory", "preparation"]
FOUR = ("DynUNet", "SegResNet", "MONAI UNet", "ResNet50")
LARGE = ("DynUNet", "SegResNet")
PLUS = named("epsilon-plus")
BOTH = ("cpu", "cuda")


class Row(Protocol):
    """What was measured of one method on one network."""

    @property
    def seconds(self) -> float | None: ...
    @property
    def memory(self) -> int | None: ...
    @property
    def preparation(self) -> float | None: ...


@dataclass(frozen=True)
class Goal:
    """The quantity of a method is at most `limit` times that of another, or (no other) at most `limit` itself."""

    method: str
    quantity: Quantity
    limit: float
    beside: str | None
    devices: Sequence[str] = BOTH
    networks: Sequence[str] = FOUR

    def __str__(self) -> str:
        what = {"seconds": "time", "memory": "peak memory", "preparation": "capture"}[self.quantity]
        than = f"{self.limit:.2f} of {self.beside}" if self.beside else f"{self.limit:g} s"
        return f"{self.method}: {what} <= {than}"

    def value(self, rows: Mapping[str, Row]) -> float | None:
        """What was reached, in the goal's own terms; None where it was not measured."""
        mine = getattr(rows.get(self.method), self.quantity, None)
        if self.beside is None or mine is None:
            return mine
        other = getattr(rows.get(self.beside), self.quantity, None)
        return mine / other if other else None


GOALS = (
    *(Goal(named(name), "seconds", limit, GRADIENT, ["cuda"])
      for name, limit in (("epsilon", 0.6), ("epsilon-plus", 0.8), ("volume", 0.8))),
    Goal(PLUS, "seconds", 1 / 4, ZENNIT_PLUS, ["cuda"]),
    Goal(PLUS, "seconds", 1.0, GRADIENT, ["cpu"], (*FOUR, "MeshNet")),
    Goal(PLUS, "seconds", 1 / 3, ZENNIT_PLUS, ["cpu"], (*FOUR, "MeshNet")),
    Goal(PLUS, "memory", 1.0, GRADIENT),
    Goal(PLUS, "memory", 0.4, ZENNIT_PLUS),
    Goal(named("epsilon-plus", LOW_MEMORY), "memory", 1.3, FORWARD),
    Goal(named("epsilon-plus", LOW_MEMORY), "seconds", 1.5, PLUS),
    Goal(named("epsilon-plus", BFLOAT16), "seconds", 0.5, PLUS, networks=LARGE),
    Goal(PLUS, "preparation", 2.0, None, networks=(*FOUR, "MeshNet")),
    Goal(named("epsilon-plus", FURTHER), "seconds", 0.1, None, ["cuda"], ["DynUNet"]),
)  # fmt: skip


def verdicts(device: str, measured: Mapping[str, Mapping[str, Row]]) -> list[str]:
    """The lines of a table: each goal, and what was reached on each network that it is for; misses in bold."""
    names = list(measured)
    lines = ["| goal | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    for goal in GOALS:
        if ("cpu" if device == "cpu" else "cuda") not in goal.devices:
            continue
        cells = []
        for name, rows in measured.items():
            value = goal.value(rows) if any(name.startswith(part) for part in goal.networks) else None
            cells.append("" if value is None else f"{value:.2f}" if value <= goal.limit else f"**{value:.2f}**")
        if any(cells):
            lines.append(f"| {goal} | " + " | ".join(cells) + " |")
    return lines
