"""A cohort as one HTML page: the map of maps, each cluster's mean map from three sides, and typical cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from ..reporting.markdown import html_of
from ..reporting.shell import embedded, html_page
from .common import Space
from .tables import ordered, table

# Okabe and Ito's colours, which people with colour blindness tell apart
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999", "#f0e442", "#7f3c8d")
_WIDTH, _HEIGHT, _EDGE = 480, 300, 12
_SIDES = (("from above", 0, "R", "L"), ("from the front", 1, "R", "L"), ("from the left", 2, "A", "P"))


def cohort_page(
    facts: Mapping[str, Any],
    space: Space,
    means: Sequence[np.ndarray],
    pictures: Mapping[str, Mapping[str, bytes]],
) -> str:
    """HTML of a cohort's facts, mean maps [inputs, K, J, I] and pictures (member -> view -> PNG)."""
    title = f"{facts['model']['name']}: {len(facts['members'])} explanations of {facts['target']['class']}"
    parts = [
        f'<header><p class="kicker">A cohort of explanations, clustered (SpRAy)</p><h1>{escape(title)}</h1></header>',
        html_of(table(facts).partition("\n")[2]),
        f"<h2>All explanations</h2><p>Near points are like maps (t-SNE); colours are clusters.</p>{_scatter(facts)}",
        *(_cluster(row, space, means[row["number"] - 1], pictures) for row in ordered(facts)),
        f"<footer>Model {escape(facts['model']['sha256'])}; {escape(facts['created'])}. A relevance map tells what the"
        " model used, not what is true; for research.</footer>",
    ]
    return html_page(title, "\n".join(parts))


def _color(number: int) -> str:
    return _COLORS[(number - 1) % len(_COLORS)]


def _scatter(facts: Mapping[str, Any]) -> str:
    places = np.array([member["place"] for member in facts["members"]])
    low, high = places.min(axis=0), places.max(axis=0)
    inner = np.array([_WIDTH - 2 * _EDGE, _HEIGHT - 2 * _EDGE])
    at = _EDGE + (places - low) / np.maximum(high - low, 1e-12) * inner
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{_color(member["cluster"])}">'
        f"<title>{escape(member['name'])}</title></circle>"
        for (x, y), member in zip(at, facts["members"], strict=True)
    )
    keys = " ".join(
        f'<span><svg viewBox="0 0 10 10" style="display:inline-block;width:0.7em"><circle cx="5" cy="5" r="4"'
        f' fill="{_color(row["number"])}"/></svg> cluster {row["number"]}</span>'
        for row in facts["clusters"]
    )
    return (
        f'<figure style="max-width:34rem"><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="maps">{dots}'
        f'</svg><p class="legend">{keys}</p></figure>'
    )


def _cluster(
    row: Mapping[str, Any], space: Space, mean: np.ndarray, pictures: Mapping[str, Mapping[str, bytes]]
) -> str:
    odd = " (odd: looks elsewhere than the rest)" if row["odd"] else ""
    drawn = "".join(
        f'<figure><img alt="{escape(view)}" src="{embedded(png)}">'
        f"<figcaption>{escape(name)}, {escape(view)}</figcaption></figure>"
        for name in row["examples"]
        for view, png in pictures.get(name, {}).items()
    )
    sides = "".join(_projection(mean.sum(axis=0), space, *side) for side in _SIDES)
    return (
        f"<h2>Cluster {row['number']}{odd}</h2><p>{row['size']} explanations. The mean map, added up along the line of"
        f' sight; red speaks for the class, blue against it.</p><div class="curves">{sides}</div>'
        + (f'<div class="pictures">{drawn}</div>' if drawn else "")
    )


def _projection(cells: np.ndarray, space: Space, name: str, axis: int, left: str, right: str) -> str:
    """Sums [K, J, I] along an axis, drawn as radiologists look: the patient's right on the left."""
    flat = cells.sum(axis=axis)  # rows k or j, columns i or j; cells run to L, P and S
    if axis != 0:
        flat = flat[::-1]  # the head is above
    edge = [space.edge[n] for n in ((0, 1), (0, 2), (1, 2))[axis]]
    strongest = float(np.abs(flat).max()) or 1.0
    boxes = "".join(
        f'<rect x="{x * edge[0]:.1f}" y="{y * edge[1]:.1f}" width="{edge[0]:.1f}" height="{edge[1]:.1f}"'
        f' fill="{"#c0281a" if value > 0 else "#1a52c0"}" fill-opacity="{abs(value) / strongest:.2f}"/>'
        for (y, x), value in np.ndenumerate(flat)
        if abs(value) >= 0.01 * strongest
    )
    width, height = flat.shape[1] * edge[0], flat.shape[0] * edge[1]
    return (
        f'<figure><svg viewBox="0 0 {width:.1f} {height:.1f}" style="background:#f5f6f8" role="img"'
        f' aria-label="{name}">{boxes}</svg><figcaption>{name} ({left} on the left, {right} on the right)</figcaption>'
        "</figure>"
    )
