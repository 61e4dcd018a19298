"""The explanations in a plane, and the eigenvalues behind the number of clusters, as SVG drawn by hand."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

WIDTH, HEIGHT = 460, 340
_MARGIN = 18
# shape and colour: clusters must be told apart on a black-and-white printer too (colours: Okabe and Ito)
_SHAPES = (
    "M-5 0A5 5 0 1 0 5 0A5 5 0 1 0 -5 0Z",
    "M0 -6L6 5H-6Z",
    "M-4.5 -4.5H4.5V4.5H-4.5Z",
    "M0 -6.5L6 0L0 6.5L-6 0Z",
    "M0 6L6 -5H-6Z",
    "M-2 -6H2V-2H6V2H2V6H-2V2H-6V-2H-2Z",
)
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#5d6670")


def scatter(facts: Mapping[str, Any]) -> str:
    """One mark per explanation; its name appears under the mouse."""
    marks = [
        f'<g transform="translate({_x(row["embedding"][0]):.1f} {_y(row["embedding"][1]):.1f})">'
        f"{mark(row['cluster'])}<title>{escape(row['name'])}, cluster {row['cluster']}</title></g>"
        for row in facts["explanations"]
    ]
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="explanations in a plane">'
        f'<rect class="grid" x="0.5" y="0.5" width="{WIDTH - 1}" height="{HEIGHT - 1}"/>{"".join(marks)}</svg>'
    )


def mark(number: int) -> str:
    """A cluster's sign."""
    shape, color = _SHAPES[(number - 1) % len(_SHAPES)], _COLORS[(number - 1) % len(_COLORS)]
    return f'<path d="{shape}" fill="{color}" fill-opacity="0.75" stroke="{color}"/>'


def key(number: int) -> str:
    """A cluster's sign within a line of text."""
    return f'<svg viewBox="-8 -8 16 16" style="width:0.9em;display:inline-block">{mark(number)}</svg>'


def spectrum(values: Sequence[float], number: int) -> str:
    """Eigenvalues from the lowest; a line stands in the gap behind those of the clusters."""
    width, height, left, bottom = 300, 150, 30, 22
    highest = max(1e-9, *values)
    step = (width - left - 10) / max(1, len(values) - 1) if len(values) > 1 else 0
    up = (height - bottom - 14) / highest
    dots = [
        f'<circle cx="{left + n * step:.1f}" cy="{height - bottom - value * up:.1f}" r="3"'
        f' fill="#1c1f23"><title>{value:.4f}</title></circle>'
        for n, value in enumerate(values)
    ]
    gap = left + (number - 0.5) * step
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="eigenvalues">'
        f'<path class="grid" d="M{left} {height - bottom}H{width}"/><path class="grid" stroke-dasharray="4 3"'
        f' d="M{gap:.1f} 8V{height - bottom}"/>{"".join(dots)}<text x="{left - 4}" y="{height - bottom}"'
        f' text-anchor="end">0</text><text x="{left - 4}" y="17" text-anchor="end">{highest:.2g}</text>'
        f'<text x="{left}" y="{height - 6}">eigenvalues, from the lowest; the line is behind {number}</text></svg>'
    )


def _x(value: float) -> float:
    return WIDTH / 2 + value * (WIDTH / 2 - _MARGIN)


def _y(value: float) -> float:
    return HEIGHT / 2 - value * (HEIGHT / 2 - _MARGIN)
