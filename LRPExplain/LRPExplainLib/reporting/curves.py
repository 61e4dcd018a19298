"""Perturbation curves as SVG, drawn by hand: a few lines need no library, and print sharp."""

from collections.abc import Mapping, Sequence
from html import escape
from math import ceil, floor
from typing import Any

WIDTH, HEIGHT = 320, 170
_LEFT, _RIGHT, _TOP, _BOTTOM = 34, 8, 22, 26
_CURVES = {  # key -> what it is called, and its dash pattern: they must be told apart on a black-and-white printer
    "most_relevant_first": ("most relevant first", ""),
    "least_relevant_first": ("least relevant first", "5 3"),
    "insertion": ("put back, most relevant first", "1 3"),
}


def curves(baseline: str, row: Mapping[str, Any]) -> str:
    """One baseline's curves: the share of the pieces that is replaced (or put back), against the score."""
    scores = [point["score"] for key in _CURVES for point in row[key]]
    low, high = min(0.0, *scores), max(1.0, *scores)
    pieces = max(point["pieces"] for key in _CURVES for point in row[key])
    lines = [
        f'<polyline points="{_points(row[key], pieces, low, high)}" stroke-dasharray="{dash}"/>'
        for key, (_, dash) in _CURVES.items()
    ]
    ticks = [
        f'<text x="{_LEFT - 4}" y="{_y(value, low, high) + 3:.1f}" text-anchor="end">{value:g}</text>'
        f'<path class="grid" d="M{_LEFT} {_y(value, low, high):.1f}H{WIDTH - _RIGHT}"/>'
        for value in _ticks(low, high)
    ]
    return (
        f'<figure class="curve"><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="perturbation curves">'
        f'<text x="{_LEFT}" y="12">Replaced by {escape(baseline)}</text>{"".join(ticks)}{"".join(lines)}'
        f'<text x="{_LEFT}" y="{HEIGHT - 6}">0 pieces</text>'
        f'<text x="{WIDTH - _RIGHT}" y="{HEIGHT - 6}" text-anchor="end">{pieces} pieces</text></svg></figure>'
    )


def legend() -> str:
    """What the lines are."""
    parts = [
        f'<span><svg viewBox="0 0 30 6" class="key"><polyline points="0,3 30,3" stroke-dasharray="{dash}"/></svg>'
        f" {escape(name)}</span>"
        for name, dash in _CURVES.values()
    ]
    return f'<p class="legend">{" ".join(parts)}</p>'


def _points(curve: Sequence[Mapping[str, Any]], pieces: int, low: float, high: float) -> str:
    """Pieces on a scale of square roots: the first of them, where maps differ, get their room."""
    width = WIDTH - _LEFT - _RIGHT
    return " ".join(
        f"{_LEFT + width * (point['pieces'] / pieces) ** 0.5:.1f},{_y(point['score'], low, high):.1f}"
        for point in curve
    )


def _ticks(low: float, high: float) -> list[float]:
    """Round values within a range, at most six."""
    step = 0.5 if high - low <= 2.5 else float(ceil((high - low) / 5))
    return [n * step for n in range(ceil(low / step), floor(high / step) + 1)]


def _y(value: float, low: float, high: float) -> float:
    return _TOP + (HEIGHT - _TOP - _BOTTOM) * (high - value) / (high - low)
