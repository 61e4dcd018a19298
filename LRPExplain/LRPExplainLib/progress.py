"""Who is told how far a computation is. Whoever is told may raise an exception: that cancels."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, float], None]  # told the stage, and the share of the whole that is done
ViewProgress = Callable[[float, str], None]  # told the share of a stage that is done, and which of several views it is


def nobody(*_told: object) -> None:
    """Nobody is told."""
