"""The cohort as one HTML page: the odd clusters first, each with its mean map and the slices of its examples."""

import json
from collections.abc import Mapping
from html import escape
from typing import Any

from ..reporting.markdown import table
from ..reporting.shell import embedded, html_page
from .pictures import shrunk
from .scatter import key, scatter, spectrum
from .tables import CAVEAT, HEADER, LEGEND, cluster_row, summary, title, warning

_SHOWN_NAMES = 60
_STYLE = """.pictures.three { grid-template-columns: 1fr 1fr 1fr; }
.means img { aspect-ratio: 1; object-fit: contain; image-rendering: pixelated; }
"""


def page(
    facts: Mapping[str, Any],
    means: Mapping[int, Mapping[str, bytes]],
    pictures: Mapping[str, Mapping[str, bytes]],
    missing: str | None,
) -> str:
    """HTML of a cohort.

    Args:
        facts: see cohort.schema.json.
        means: cluster number -> view -> PNG of its mean map.
        pictures: name of an example -> view -> PNG of its slices.
        missing: why there are none, or not of all.
    """
    parts = [_header(facts), _warnings(facts), _groups(facts)]
    parts += [_cluster(row, facts, means[row["number"]], pictures) for row in facts["clusters"]]
    parts += [f'<p class="quiet">{escape(missing)}</p>' if missing else "", _left_out(facts), _footer(facts)]
    inside = json.dumps(facts, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
    parts.append(f'<script type="application/json" id="cohort">{inside}</script>')
    return html_page(title(facts), "\n".join(part for part in parts if part), _STYLE)


def _header(facts: Mapping[str, Any]) -> str:
    return (
        '<header><p class="kicker">A cohort of explanations: spectral relevance analysis</p>'
        f"<h1>{escape(title(facts))}</h1><p>{escape(summary(facts))}</p></header>"
    )


def _warnings(facts: Mapping[str, Any]) -> str:
    sentences = [warning(row, len(facts["explanations"])) for row in facts["clusters"] if row["odd"]] + facts["notes"]
    if not sentences:
        sentences = ["No cluster stands apart from the largest one."]
    return f'<ul class="warnings">{"".join(f"<li>{escape(text)}</li>" for text in sentences)}</ul><p>{CAVEAT}</p>'


def _groups(facts: Mapping[str, Any]) -> str:
    marks = "".join(
        f"<span>{key(row['number'])} cluster {row['number']}{_kind(row)}</span>" for row in facts["clusters"]
    )
    return (
        f'<h2>Clusters</h2><div class="pictures"><figure>{scatter(facts)}<figcaption>Each mark is an explanation, near'
        " others as their maps are alike (t-SNE; distances between clusters mean nothing). The mouse shows its name."
        f"</figcaption></figure><figure>{spectrum(facts['clustering']['eigenvalues'], len(facts['clusters']))}"
        "<figcaption>Eigenvalues of the graph's Laplacian, where each map is joined to its"
        f" {facts['clustering']['neighbours']} nearest.</figcaption></figure></div>"
        f'<p class="legend">{marks}</p>{table(HEADER, [cluster_row(row) for row in facts["clusters"]])}'
        f'<p class="quiet">{escape(LEGEND)}</p>'
    )


def _cluster(
    row: Mapping[str, Any],
    facts: Mapping[str, Any],
    mean: Mapping[str, bytes],
    pictures: Mapping[str, Mapping[str, bytes]],
) -> str:
    whole = len(facts["explanations"])
    of_input = f" of input {row['strongest_input']}" if facts["space"]["inputs"] > 1 else ""
    drawn = "".join(_figure(f"mean {view}", png, f"Mean map{of_input}, {view}, summed") for view, png in mean.items())
    parts = [
        f"<h2>{key(row['number'])} Cluster {row['number']}{_kind(row)}: {row['size']} of {whole} explanations</h2>",
        f"<p>{row['for']:.0%} of the relevance in its mean map speaks for the target,"
        f" {-row['against']:.0%} against it (what differs in sign from map to map cancels).</p>",
        f'<div class="pictures three means">{drawn}</div>',
    ]
    for name in row["examples"]:
        if name in pictures:
            views = pictures[name].items()
            slices = "".join(_figure(f"{name} {view}", shrunk(png), f"{name}, {view}") for view, png in views)
            parts.append(f'<div class="pictures three">{slices}</div>')
    others = [name for name in row["members"] if name not in row["examples"]]
    more = f" and {len(others) - _SHOWN_NAMES} more (cohort.json)" if len(others) > _SHOWN_NAMES else ""
    rest = f" Also in it: {escape(', '.join(others[:_SHOWN_NAMES]))}{more}." if others else ""
    parts.append(f'<p class="quiet">Most typical: {escape(", ".join(row["examples"]))}.{rest}</p>')
    return "\n".join(parts)


def _figure(name: str, png: bytes, caption: str) -> str:
    return (
        f'<figure><img alt="{escape(name)}" src="{embedded(png)}"><figcaption>{escape(caption)}</figcaption></figure>'
    )


def _kind(row: Mapping[str, Any]) -> str:
    return " (odd)" if row["odd"] else " (largest)" if row["main"] else ""


def _left_out(facts: Mapping[str, Any]) -> str:
    if not facts["left_out"]:
        return ""
    rows = [[row["name"], row["why"]] for row in facts["left_out"]]
    return f"<h2>Left out</h2>{table(['explanation', 'why'], rows, numbered=False)}"


def _footer(facts: Mapping[str, Any]) -> str:
    made, model = facts["provenance"], facts["model"]
    versions = ", ".join(f"{name} {version}" for name, version in made["versions"].items())
    when = made["created"].replace("T", " ").replace("+00:00", " UTC")
    return (
        f"<footer>Model {escape(model['name'])}, SHA-256 {escape(model['sha256'])}. Made {escape(when)} with"
        f" {escape(versions)}, seed {facts['clustering']['seed']}. Grey: the mean of the examples' volumes. Warm"
        " colours speak for the target, cold ones against it; the patient's right is on the left. A relevance map"
        " tells what the model used, not what is true; for research.</footer>"
    )
