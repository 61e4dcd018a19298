"""The record as one HTML page: nothing is fetched, nothing runs, and it prints."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ..evaluation.tables import tables
from ..findings.account import ledger_line
from .curves import curves, legend
from .markdown import html_of, table
from .shell import embedded, html_page

_SHOWN_SPOTS = 12
_CAPTIONS = {"axial": "Axial", "sagittal": "Sagittal", "coronal": "Coronal", "3d": "3D"}
_LABELS = {
    "sha256": "SHA-256",
    "points_ras": "points at R, A, S (mm)",
    "centre_ras": "centre at R, A, S (mm)",
    "size_mm": "size (mm)",
    "axes_ras": "axes in R, A, S",
}
_ALT = {
    view: f"{caption} view: relevance over the image, through the place of the strongest relevance"
    for view, caption in _CAPTIONS.items()
}
_WHERE = {
    "prediction": "the voxels predicted as it",
    "output": "the whole volume's one answer",
    "everywhere": "the whole field of view",
    "segment": "a segment",
    "box": "a box",
    "points": "points",
}


def page(facts: Mapping[str, Any], pictures: Mapping[str, bytes]) -> str:
    """HTML of a record's facts (see record.schema.json) and its pictures (name -> PNG)."""
    parts = [
        _header(facts), _warnings(facts["findings"]), _pictures(facts, pictures), _question(facts),
        _prediction(facts["prediction"]), _ledger(facts), _hot_spots(facts), _evaluation(facts),
        _provenance(facts), _layers(facts["ledger"]["by_layer"]),
    ]  # fmt: skip
    inside = json.dumps(facts, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
    body = "\n".join([*(part for part in parts if part), _footer(facts)])
    return html_page(_title(facts), f'{body}\n<script type="application/json" id="record">{inside}</script>')


def _title(facts: Mapping[str, Any]) -> str:
    return f"{facts['model']['name']}: {facts['target']['text']}"


def _header(facts: Mapping[str, Any]) -> str:
    names = ", ".join(entry["name"] for entry in facts["volumes"])
    by = facts["composite"].get("method", "layer-wise relevance propagation")
    return (
        f'<header><p class="kicker">Record of an explanation by {escape(by)}</p>'
        f"<h1>Why {escape(facts['target']['text'])}?</h1>"
        f"<p>{escape(facts['model']['name'])} on {escape(names)}, explained {_when(facts['provenance']['created'])}</p>"
        f"<p>{escape(ledger_line(facts['ledger']))}</p></header>"
    )


def _when(text: str) -> str:
    return escape(text.replace("T", " ").replace("+00:00", " UTC"))


def _warnings(found: Mapping[str, Any]) -> str:
    sentences = list(found["warnings"])
    if found["unseen"]:
        sentences.append(
            f"The voxels of {', '.join(found['unseen'])} were not at hand when this record was made: whether relevance"
            " lies outside the body, and whether the intensities are those of the training, was not looked at."
        )
    if not sentences:
        return (
            '<p class="quiet">Nothing was found that warns against the map: its ledger closes, and it lies neither in'
            " air nor at the border.</p>"
        )
    return _listed(sentences)


def _listed(sentences: Sequence[str]) -> str:
    return '<ul class="warnings">' + "".join(f"<li>{escape(text)}</li>" for text in sentences) + "</ul>"


def _pictures(facts: Mapping[str, Any], pictures: Mapping[str, bytes]) -> str:
    if not pictures:
        return f'<p class="quiet">{escape(facts["pictures"]["missing"] or "No pictures were asked for.")}</p>'
    figures = [
        f'<figure><img data-view="{escape(name)}" alt="{escape(_ALT.get(name, name))}" src="{embedded(png)}">'
        f"<figcaption>{escape(_CAPTIONS.get(name, name))}</figcaption></figure>"
        for name, png in pictures.items()
    ]
    of_several = " in the volume that holds most of it" if len(facts["volumes"]) > 1 else ""
    return (
        f'<div class="pictures">{"".join(figures)}</div>'
        f'<p class="quiet">Slicer\'s own views, cut through the place of the strongest relevance{of_several}. Warm'
        " colours speak for the target, cold ones against it; outlines are the prediction and, in white, where was"
        " asked.</p>"
    )


def _question(facts: Mapping[str, Any]) -> str:
    target, composite = facts["target"], facts["composite"]
    rows = [("Target", target["class"])]
    if "rather_than" in target:
        rows.append(("Rather than", target["rather_than"]))
    rows.append(("Asked over", _WHERE.get(target["where"], target["where"])))
    if "voxels" in target:
        rows.append(("Voxels", f"{target['voxels']}, of the model's grid"))  # which the prediction below is not told on
    rows += [(_label(key), _plain(value)) for key, value in (target.get("region") or {}).items() if value is not None]
    rows += [("Explained is", f"the {target['value']}, each voxel starting with {_start(target['start'])}")]
    rows += _how(composite)
    return f"<h2>What was asked</h2>{_list(rows)}"


def _how(composite: Mapping[str, Any]) -> list[tuple[str, str]]:
    """By which rules, or by which other method."""
    said = f"{composite['name']}: {composite['description']}"
    if "method" not in composite:
        return [("Composite", said), ("Biases", f"{composite['biases']} what they receive")]
    parameters = composite["parameters"]
    return [("Method", said), *([("Parameters", _plain(parameters))] if parameters else [])]


def _start(start: str) -> str:
    return "its value" if start == "value" else "1"


def _prediction(said: Mapping[str, Any]) -> str:
    if said["classes"]:
        found = [entry for entry in said["classes"] if entry["voxels"]]
        rows = [[entry["name"], f"{entry['ml']:.4g}", f"{entry['voxels']}"] for entry in found]
        others = ", ".join(entry["name"] for entry in said["classes"] if not entry["voxels"])
        nowhere = f"<p>In no voxel: {escape(others)}.</p>" if others else ""
        return f"<h2>Prediction</h2>{table(['class', 'ml', 'voxels of the volume'], rows)}{nowhere}"
    rows = [[name, f"{value:.4g}"] for name, value in said["values"].items()]
    return f"<h2>Prediction</h2>{table(['class', 'value'], rows)}"


def _ledger(facts: Mapping[str, Any]) -> str:
    ledger, names = facts["ledger"], [entry["name"] for entry in facts["volumes"]]
    whole = ledger["target_value"]
    rows = [("relevance in the volumes" if len(names) > 1 else "relevance in the volume", "in_volume", "")]
    rows += [("for the target", "in_volume_positive", "in"), ("against it", "in_volume_negative", "in")]
    rows += [("absorbed by biases and stabilisers", "absorbed", ""), ("outside the field of view", "outside", "")]
    body = [_account("target value", whole, whole, "", "sum")]
    body += [_account(label, ledger[key], whole, kind) for label, key, kind in rows]
    body.append(_account("unaccounted for", ledger["gap"], whole, ""))
    shares = ""
    if len(names) > 1:
        parts = zip(names, ledger["in_volume_by_input"], strict=True)
        shares = table(["volume", "relevance", "of the target value"],
                       [[name, f"{part:.6g}", _share(part, whole)] for name, part in parts])  # fmt: skip
    account = escape(ledger.get("note", "Every unit of relevance is accounted for."))  # only LRP may say this
    return (
        f"<h2>Ledger</h2><p>{account} Each figure is summed from its own terms, never"
        " as the remainder of the others. The account layer by layer is at the end.</p><table><thead><tr><th></th>"
        f"<th>relevance</th><th>of the target value</th></tr></thead><tbody>{''.join(body)}</tbody></table>{shares}"
    )


def _account(label: str, value: float, whole: float, kind: str, row: str = "") -> str:
    mark = f' class="{kind}"' if kind else ""
    share = _share(value, whole)
    line = f' class="{row}"' if row else ""
    return f'<tr{line}><td{mark}>{label}</td><td class="n">{value:.6g}</td><td class="n">{share}</td></tr>'


def _share(value: float, whole: float) -> str:
    return _percent(value / whole) if whole else "–"


def _percent(share: float) -> str:
    share += 0.0  # of -0 it makes 0
    return f"{share * 100:.2f} %" if abs(share) >= 5e-5 or share == 0 else f"{share * 100:.1e} %"


def _hot_spots(facts: Mapping[str, Any]) -> str:
    found = facts["findings"]
    spots = found["hot_spots"]
    kind = "the strongest voxel" if found["selection"]["threshold_kind"] == "peak" else "the relevance"
    several = len(facts["volumes"]) > 1
    header = ["rank", "of the relevance", "relevance", "ml", "strongest at R, A, S (mm)", "predicted there"]
    header = [*(["volume"] if several else []), *header]
    rows = [
        [
            *([spot["volume"]] if several else []), f"{spot['rank']}", _percent(spot["share"]),
            f"{spot['relevance']:.4g}", f"{spot['ml']:.3g}", ", ".join(f"{value:.1f}" for value in spot["place_ras"]),
            f"{spot['predicted']} ({spot['overlap']:.0%})" if spot["predicted"] else "–",
        ]
        for spot in spots[:_SHOWN_SPOTS]
    ]  # fmt: skip
    more = f" The {len(rows)} strongest of {found['regions']} are listed." if found["regions"] > len(rows) else ""
    return (
        f"<h2>Hot spots</h2><p>Connected regions of the strongest voxels, which together hold"
        f" {found['selection']['threshold']:g} % of {kind}.{more}</p>{table(header, rows)}"
    )


def _evaluation(record: Mapping[str, Any]) -> str:
    facts = record["evaluation"]
    if facts is None:
        return (
            '<h2>Agreement, faithfulness, sanity</h2><p class="quiet">This explanation was not evaluated:'
            " <code>lrpexplain evaluate</code> does it.</p>"
        )
    _, _, text = tables(facts).partition("\n## ")  # its title and first line are in this page's header
    drawn = ""
    faithful = facts["checks"].get("faithfulness")
    if faithful is not None:
        each = "".join(curves(name, row) for name, row in faithful["baselines"].items())
        drawn = f"<h3>Perturbation curves</h3>{legend()}<div class='curves'>{each}</div>"
    missing = [name for name in ("agreement", "faithfulness", "sanity") if name not in facts["checks"]]
    unmade = f'<p class="quiet">Not made: {", ".join(missing)}.</p>' if missing else ""
    remarks = _listed(record["remarks"]) if "remarks" in record else ""
    return f"<h2>How far to trust it</h2>{remarks}{unmade}{html_of('## ' + text)}{drawn}"


def _provenance(facts: Mapping[str, Any]) -> str:
    model, made = facts["model"], facts["provenance"]
    files = [[f"model: {model['path']}", model["sha256"]]]
    files += [[f"volume: {entry['path'] or entry['name']}", entry["sha256"] or "given from memory"]
              for entry in facts["volumes"]]  # fmt: skip
    volumes = [
        [entry["name"], " x ".join(str(n) for n in entry["geometry"]["size"]),
         " x ".join(f"{step:.4g}" for step in entry["geometry"]["spacing"])]
        for entry in facts["volumes"]
    ]  # fmt: skip
    patients = [(f"Patient of {entry['name']}", ", ".join(f"{key} {value}" for key, value in who.items()))
                for entry in facts["volumes"] if (who := entry.get("patient"))]  # fmt: skip
    run = [("Device", made["device"]), *_run(made.get("run", {}))]
    card = model["card"]
    settings = [*_inputs(card), *((_label(key), _plain(value)) for key, value in card["preprocessing"].items()
                                  if value is not None)]  # fmt: skip
    notes = "".join(f"<p>{escape(note)}</p>" for note in card.get("notes", ()))
    commands = facts["commands"]
    explain = (
        "<p>The command line has no words for this question (a rotated box, something from memory, or a map that is"
        " made of others).</p>"
    )
    if commands["explain"]:
        where = "" if facts["with_names"] else ", in a folder that holds the files above"
        explain = f"<p>This command explains it again{where}:</p><pre>{escape(commands['explain'])}</pre>"
    rules = [[row["match"], row["rule"]] for row in facts["composite"]["rules"]]
    return (
        f"<h2>Provenance</h2>{_list(patients) if patients else ''}{table(['file', 'SHA-256'], files, numbered=False)}"
        f"{table(['volume', 'voxels', 'mm'], volumes, numbered=False)}"
        f"<h3>To make it again</h3>{explain}<p>This one recomputes everything from this record and says whether it"
        f" agrees; the files lie beside it, or are given with <code>--model</code> and"
        f" <code>--volume</code>:</p><pre>{escape(commands['verify'])}</pre>"
        f"<h3>Versions and run</h3>{_list([(key, value) for key, value in made['versions'].items()] + run)}"
        f"<h3>What the model's card asks for</h3>{_list(settings)}{notes}"
        + (f"<h3>Rules</h3>{table(['layers', 'rule'], rows=rules)}" if rules else "")
    )


def _inputs(card: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the network's channels are made of each volume, where they are not the volume itself."""
    told = []
    for entry in card.get("inputs", ()):
        parts = [f"repeated over {entry['channels']} channels"] if entry.get("channels", 1) > 1 else []
        parts += [f"{key} {_plain(entry[key])}" for key in ("mean", "std", "labels") if entry.get(key)]
        if parts:
            told.append((f"input {entry['name']}", "; ".join(parts)))
    return told


def _run(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How the network was run; memory is told in bytes."""
    return [
        (_label(key), f"{value / 2**30:.2f} GiB" if key.startswith("memory") else _plain(value))
        for key, value in facts.items()
    ]


def _layers(rows: Sequence[Mapping[str, Any]]) -> str:
    header = ["layer", "operator", "rule", "received", "passed on", "absorbed by biases",
              "by stabilisers", "changed"]  # fmt: skip
    keys = ("relevance_out", "relevance_in", "absorbed_bias", "absorbed_stabiliser", "changed")
    body = [
        [row["layer"], row["operator"].removeprefix("aten."), row["rule"] or "–", *(f"{row[key]:.5g}" for key in keys)]
        for row in rows
    ]
    return f'<div class="long"><h2>Ledger by layer</h2>{table(header, body)}</div>'


def _footer(facts: Mapping[str, Any]) -> str:
    names = "whole paths and patients' names" if facts["with_names"] else "no paths and no patients' names"
    version = escape(facts["made_with"]["lrpexplain"])
    return (
        f"<footer>Made by LRPExplain {version}, {_when(facts['created'])}; holds {names}."
        " A relevance map tells what the model used, not what is true; for research.</footer>"
    )


def _list(rows: Sequence[tuple[str, str]]) -> str:
    return "<dl>" + "".join(f"<dt>{escape(key)}</dt><dd>{escape(str(value))}</dd>" for key, value in rows) + "</dl>"


def _label(key: str) -> str:
    return _LABELS.get(key, key.replace("_", " "))


def _plain(value: Any) -> str:
    """A JSON value for people."""
    if isinstance(value, Mapping):
        return ", ".join(f"{_label(str(key))} {_plain(entry)}" for key, entry in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_plain(entry) for entry in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    return "–" if value is None else str(value)
