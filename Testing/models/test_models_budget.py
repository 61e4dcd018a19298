"""A network that a file describes is built within the memory that its weights justify."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from LRPExplainLib.errors import UserError
from LRPExplainLib.models.budget import build
from torch import nn

MIB = 1 << 20
TOO_LARGE: dict[str, Callable[[], Any]] = {
    "a layer": lambda: nn.Linear(50_000, 50_000),
    "a range": lambda: torch.arange(10**9),
    "steps": lambda: torch.linspace(0, 1, 10**9),
    "one value": lambda: torch.full((50_000, 50_000), 1.0),
    "wide numbers": lambda: torch.zeros(12 * MIB, dtype=torch.float64),
    "bit by bit": lambda: [torch.zeros(4 * MIB) for _ in range(20)],
    "many small ones": lambda: [torch.zeros(1) for _ in range(1200)],
}


@pytest.mark.parametrize("case", TOO_LARGE)
def test_what_is_far_larger_than_its_weights_is_not_made(case: str) -> None:
    with pytest.raises(UserError, match=r"The card describes a network that is far larger than its weights \(\d+ MiB"):
        build(TOO_LARGE[case], {"weight": torch.ones(3)}, "The card")


def test_what_its_weights_justify_is_made() -> None:
    small = (lambda: torch.zeros(12 * MIB), lambda: torch.zeros(60 * MIB, dtype=torch.int8), nn.Identity)
    for make in (*small, lambda: torch.full((2, 2), float("-inf")), lambda: torch.arange(0, 1, 0.1)):
        build(make, {}, "The card")
    weights = torch.zeros(1, dtype=torch.uint8).expand(16 * MIB)
    build(lambda: torch.zeros(40 * MIB), {"weight": weights}, "The card")  # eight times as much, and what is free
    build(lambda: [torch.zeros(1) for _ in range(1200)], dict.fromkeys(map(str, range(50)), torch.ones(1)), "The card")


def test_what_cannot_be_made_is_said_in_one_sentence() -> None:
    with pytest.raises(UserError, match=r"^The card describes a network that cannot be made \(.*\): correct it\.$"):
        build(lambda: nn.Conv3d(0, 1, 3, groups=0), {}, "The card")
