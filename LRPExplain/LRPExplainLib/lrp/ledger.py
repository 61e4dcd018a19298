"""Where relevance went, layer by layer. Every figure is summed from its own layer's tensors, none is a remainder."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from .flow import Flow
from .sums import total


@dataclass(frozen=True)
class LedgerRow:
    """One layer's account; relevance_out = relevance_in + absorbed_bias + absorbed_stabiliser + changed + gap.

    Attributes:
        layer: the module's path, or the call's name.
        operator, role, rule: what the layer is and how it was treated.
        relevance_out: what reached the layer's output.
        relevance_in: what it handed on to its inputs.
        absorbed_bias: taken by biases and other constants, padding included.
        absorbed_stabiliser: taken by the stabiliser.
        changed: lost (positive) or created (negative) by a rule that does not conserve relevance by nature.
    """

    layer: str
    operator: str
    role: str
    rule: str
    relevance_out: float
    relevance_in: float
    absorbed_bias: float
    absorbed_stabiliser: float
    changed: float

    @property
    def gap(self) -> float:
        """What the layer's own account leaves unexplained: rounding, or a mistake."""
        return self.relevance_out - self.relevance_in - self.absorbed_bias - self.absorbed_stabiliser - self.changed


_FIGURES = tuple(field.name for field in fields(LedgerRow) if field.type == "float")


@dataclass(frozen=True, repr=False)
class Ledger:
    """The whole account: target_value = relevance + absorbed, up to rounding.

    Attributes:
        target_value: sum of the start relevance.
        relevance: sum over the inputs.
        by_layer: the rows, output first.
    """

    target_value: float
    relevance: float
    by_layer: tuple[LedgerRow, ...]

    @property
    def absorbed_bias(self) -> float:
        return sum(row.absorbed_bias for row in self.by_layer)

    @property
    def absorbed_stabiliser(self) -> float:
        return sum(row.absorbed_stabiliser for row in self.by_layer)

    @property
    def changed(self) -> float:
        return sum(row.changed for row in self.by_layer)

    @property
    def absorbed(self) -> float:
        """By biases and stabilisers, and lost by rules that do not conserve."""
        return self.absorbed_bias + self.absorbed_stabiliser + self.changed

    @property
    def gap(self) -> float:
        """target_value - relevance - absorbed: zero up to rounding when every unit is accounted for."""
        return self.target_value - self.relevance - self.absorbed

    def __repr__(self) -> str:
        """In one line: a network has hundreds of layers."""
        names = ("target_value", "relevance", "absorbed_bias", "absorbed_stabiliser", "changed", "gap")
        figures = (f"{name}={getattr(self, name):.6g}" for name in names)
        return f"Ledger({', '.join(figures)}, by_layer: {len(self.by_layer)} rows)"

    def __add__(self, other: Ledger) -> Ledger:
        """The account of two runs of one network together: each figure is the sum of both."""
        rows = []
        for mine, theirs in zip(self.by_layer, other.by_layer, strict=True):
            figures = {name: getattr(mine, name) + getattr(theirs, name) for name in _FIGURES}
            rows.append(replace(mine, **figures))
        return Ledger(self.target_value + other.target_value, self.relevance + other.relevance, tuple(rows))

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "target_value": self.target_value,
            "relevance": self.relevance,
            "absorbed": self.absorbed,
            "absorbed_bias": self.absorbed_bias,
            "absorbed_stabiliser": self.absorbed_stabiliser,
            "changed": self.changed,
            "gap": self.gap,
            "by_layer": [asdict(row) | {"gap": row.gap} for row in self.by_layer],
        }


class Bookkeeper:
    """Collects sums as tensors during the walk and reads them once at the end, so that a GPU is never waited for."""

    def __init__(self, start: Tensor) -> None:
        self._summed = WeakTensorKeyDictionary()  # what one layer hands on is often, untouched, what reaches the next
        self._start = self._total(start)
        self._rows: list[tuple[tuple[str, str, str, str], list[list[Tensor]]]] = []

    def enter(self, labels: tuple[str, str, str, str], reached: list[Tensor], flow: Flow) -> None:
        """Book one layer: its (layer, operator, role, rule), the relevance of its outputs, and where that went."""
        whole = [[self._total(relevance) for relevance in signals] for signals in (reached, flow.relevance)]
        self._rows.append((labels, [*whole, flow.bias, flow.stabiliser, flow.changed]))

    def close(self, relevance: list[Tensor]) -> Ledger:
        """The ledger, given the relevance of the inputs."""
        columns = [[self._start], [self._total(r) for r in relevance], *(c for _, row in self._rows for c in row)]
        figures = iter(torch.stack([x for column in columns for x in column]).tolist())
        target_value, at_input, *sums = (sum(islice(figures, len(column))) for column in columns)
        n = len(_FIGURES)
        rows = tuple(LedgerRow(*labels, *sums[i * n : (i + 1) * n]) for i, (labels, _) in enumerate(self._rows))
        return Ledger(target_value, at_input, rows)

    def _total(self, relevance: Tensor) -> Tensor:
        if relevance not in self._summed:
            self._summed[relevance] = total(relevance)
        found: Tensor = self._summed[relevance]
        return found
