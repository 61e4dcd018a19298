"""compare(folders) -> Comparison: explanations of one answer by several methods, composites or models.

comparison.json, comparison.md   pairwise agreement and weights
consensus/, combined/            explanation folders, so that they are shown like any other
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..correlation import pearson
from ..errors import UserError, number_of
from ..explanation import OWN as OF_EXPLANATION
from ..explanation import Explanation
from ..folders import check_replaceable, json_number, whole_folder, within, write_json
from ..imaging.grid import Grid
from ..ledgers import ledger_facts
from . import maps
from .faithfulness import faithfulness_of
from .tables import table

FORMAT, VERSION = "lrpexplain-comparison", 1
FACTS, TABLE, CONSENSUS, COMBINED = "comparison.json", "comparison.md", "consensus", "combined"
OWN = (FACTS, TABLE, CONSENSUS, COMBINED, *within(CONSENSUS, OF_EXPLANATION), *within(COMBINED, OF_EXPLANATION))
TOP_ML = 1.0
# What has to be the same for maps to explain one answer.
_QUESTION = ("index", "where", "value", "start", "rather_than_index", "region")
_DESCRIPTIONS = {
    CONSENSUS: (
        "Where all maps have one sign: that sign times the lowest of the voxel's ranks by magnitude, as a share of the"
        " voxels compared. 0.99: among the hundredth that matters most in every map."
    ),
    COMBINED: "The weighted mean of the maps, each divided by the sum of its magnitudes.",
}
_NOTE = "This map is made of several others and shares nothing out: its sum means nothing, the ledger does not close."


@dataclass(frozen=True, eq=False)
class Comparison:
    """Several explanations side by side.

    Attributes:
        facts: comparison.json: "explanations" (name, folder, method, faithfulness, weight), "agreement" (a, b,
            spearman, spearman_abs, top_k_overlap; null where a figure is not defined), "voxels", "top_ml", "top_k",
            "chance_overlap", "weights_from", "notes".
        consensus: what all maps agree on, as an explanation; see `maps.consensus`.
        combined: their weighted mean, as an explanation; see `maps.combined`.
    """

    facts: dict[str, Any]
    consensus: Explanation
    combined: Explanation

    def table(self) -> str:
        """For people, as Markdown."""
        return table(self.facts)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the folder, whole or not at all. An empty folder or an earlier comparison is replaced.

        Raises:
            UserError: the folder holds other things, or cannot be written.
        """
        with whole_folder(Path(folder), OWN) as partial:
            write_json(self.facts, partial / FACTS)
            (partial / TABLE).write_text(self.table() + "\n", encoding="utf-8")
            for name, explanation in ((CONSENSUS, self.consensus), (COMBINED, self.combined)):
                (partial / name).mkdir()
                explanation.write(partial / name)


def check_comparison_output(folder: str | os.PathLike[str]) -> None:
    """Refuse an output folder before anything is computed.

    Raises:
        UserError: it exists and is neither empty nor a comparison.
    """
    check_replaceable(Path(folder), OWN)


def compare(
    folders: Sequence[str | os.PathLike[str]],
    weights: Sequence[float] | None = None,
    evaluations: Sequence[str | os.PathLike[str]] = (),
    top_ml: float = TOP_ML,
) -> Comparison:
    """Compare explanations of the same question about the same volumes.

    Args:
        folders: of the explanations, two at least.
        weights: of the combined map, one per explanation, 0 or more. None: the explanations' faithfulness (mean ABPC,
            at least 0) where an evaluation of each is found, else all alike.
        evaluations: folders that `evaluate` wrote; one that lies within an explanation's folder is found by itself.
        top_ml: how much of the most relevant volume is looked at for the overlap.

    Raises:
        UserError: fewer than two, of different volumes or questions, an empty map, or weights that do not fit.
    """
    places = [Path(folder) for folder in folders]
    if len(places) < 2:
        raise UserError("One explanation cannot be compared: give the folders of two at least.")
    if not top_ml > 0:
        raise UserError(f"The volume of the most relevant voxels is above 0 ml, not {top_ml:g}.")
    explanations = [Explanation.load(place) for place in places]
    names = _names(explanations, places)
    notes = _check_alike(explanations, names)
    values = [_values(explanation) for explanation in explanations]
    for name, one in zip(names, values, strict=True):
        if not one.any():
            raise UserError(f"The map of '{name}' is empty: leave it out.")
    looked_at = np.any([one != 0 for one in values], axis=0)
    grid = Grid.of(explanations[0].relevance[0])
    k = max(1, round(top_ml * 1000 / float(np.prod(grid.spacing))))
    found = [
        faithfulness_of(place, explanation.composite["name"], explanation.provenance["created"], _paths(evaluations))
        for place, explanation in zip(places, explanations, strict=True)
    ]
    chosen, source = _weights(weights, found, notes)
    facts = {
        "format": FORMAT,
        "version": VERSION,
        "target": explanations[0].target["text"],
        "explanations": [
            {
                "name": name,
                "folder": str(place.resolve()),
                "method": one.composite["name"],
                "faithfulness": figure,
                "weight": weight,
            }
            for name, place, one, figure, weight in zip(names, places, explanations, found, chosen, strict=True)
        ],
        "agreement": _agreement(names, _for_the_answer(values, explanations), looked_at, k),
        "voxels": int(looked_at.sum()),
        "top_ml": top_ml,
        "top_k": k,
        "chance_overlap": min(1.0, k / int(looked_at.sum())),
        "weights_from": source,
        "notes": notes,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    made = {CONSENSUS: maps.consensus(values, looked_at), COMBINED: maps.combined(values, chosen)}
    parameters = {"of": names, "weights": list(chosen)}
    shown = {name: _explanation(name, one, explanations[0], parameters) for name, one in made.items()}
    return Comparison(facts, shown[CONSENSUS], shown[COMBINED])


def _paths(folders: Sequence[str | os.PathLike[str]]) -> list[Path]:
    return [Path(folder) for folder in folders]


def _names(explanations: Sequence[Explanation], places: Sequence[Path]) -> list[str]:
    """The methods' names; with the folder's where two are the same."""
    methods = [explanation.composite["name"] for explanation in explanations]
    names = [
        name if methods.count(name) == 1 else f"{name} ({place.name})"
        for name, place in zip(methods, places, strict=True)
    ]
    return [name if names.count(name) == 1 else f"{n}: {name}" for n, name in enumerate(names, 1)]


def _check_alike(explanations: Sequence[Explanation], names: Sequence[str]) -> list[str]:
    """What should be known; UserError where the maps do not explain one answer."""
    first = explanations[0]
    notes = []
    for other, name in zip(explanations[1:], names[1:], strict=True):
        grids = [Grid.of(image) for image in first.relevance]
        digests = [(a["sha256"], b["sha256"]) for a, b in zip(first.volumes, other.volumes, strict=False)]
        if grids != [Grid.of(image) for image in other.relevance] or any(a != b for a, b in digests if a and b):
            raise UserError(f"'{name}' explains other volumes than '{names[0]}': compare maps of the same ones.")
        different = [key for key in _QUESTION if first.target.get(key) != other.target.get(key)]
        if different:
            raise UserError(
                f"'{name}' explains '{other.target['text']}' and '{names[0]}' '{first.target['text']}': compare answers"
                " to the same question."
            )
        if first.model["sha256"] != other.model["sha256"]:
            notes.append(f"'{name}' explains another model than '{names[0]}'.")
        elif changed := first.prepared_differently(other):
            notes.append(
                f"'{name}' prepares the volume in another way than '{names[0]}' ({', '.join(changed)}): that alone"
                " changes the prediction and the map."
            )
    return notes


def _values(explanation: Explanation) -> np.ndarray:
    """All voxels of all volumes in a row."""
    return np.concatenate([sitk.GetArrayFromImage(image).ravel() for image in explanation.relevance])


def _for_the_answer(values: Sequence[np.ndarray], explanations: Sequence[Explanation]) -> list[np.ndarray]:
    """The maps by what speaks for the answer, which is against the target where its value is below 0."""
    signs = [np.float32(-1 if one.ledger["target_value"] < 0 else 1) for one in explanations]
    return [one * sign for one, sign in zip(values, signs, strict=True)]


def _agreement(
    names: Sequence[str], values: Sequence[np.ndarray], looked_at: np.ndarray, k: int
) -> list[dict[str, Any]]:
    """One row per pair."""
    signed = [maps.ranks(one, looked_at) for one in values]
    by_size = [maps.ranks(np.abs(one), looked_at) for one in values]
    top = [maps.most_relevant(one, k) for one in values]
    return [
        {
            "a": names[a],
            "b": names[b],
            "spearman": json_number(pearson(signed[a], signed[b])),
            "spearman_abs": json_number(pearson(by_size[a], by_size[b])),
            "top_k_overlap": json_number(maps.overlap(top[a], top[b])),
        }
        for a, b in combinations(range(len(names)), 2)
    ]


def _weights(given: Sequence[float] | None, found: Sequence[float | None], notes: list[str]) -> tuple[list[float], str]:
    """The weights, and where they come from: "given", "faithfulness" or "equal"."""
    if given is not None:
        if len(given) != len(found):
            raise UserError(f"{number_of(len(given), 'weight')} cannot weigh {len(found)} explanations: give one each.")
        if min(given) < 0 or not sum(given) > 0 or not np.isfinite(sum(given)):
            raise UserError("Weights are 0 or more, and not all of them 0.")
        return [float(weight) for weight in given], "given"
    known = [max(0.0, figure) for figure in found if figure is not None]
    if len(known) == len(found) and sum(known) > 0:
        return known, "faithfulness"
    if any(figure is not None for figure in found):
        notes.append(
            "Not every explanation has an evaluation of its faithfulness above 0, so all weigh the same in the combined"
            " map."
            if len(known) < len(found)
            else "No explanation is faithful above chance (ABPC), so all weigh the same in the combined map."
        )
    return [1.0] * len(found), "equal"


def _explanation(name: str, values: np.ndarray, first: Explanation, parameters: dict[str, Any]) -> Explanation:
    """A map made of several, in the place of the first one's."""
    images, start = [], 0
    for image in first.relevance:
        grid, size = Grid.of(image), int(np.prod(image.GetSize()))
        images.append(grid.image(values[start : start + size].reshape(image.GetSize()[::-1])))
        start += size
    target_value = first.ledger["target_value"]
    at_input = float(values.sum(dtype=np.float64))
    nothing = dict.fromkeys(("absorbed_bias", "absorbed_stabiliser", "changed"), 0.0)
    row = {
        "layer": name, "operator": name, "role": "comparison", "rule": name, "relevance_out": target_value,
        "relevance_in": at_input, **nothing, "gap": target_value - at_input,
    }  # fmt: skip
    account = {"absorbed": 0.0, **nothing, "by_layer": [row]}
    ledger = ledger_facts(target_value, images, [0.0] * len(images), account)
    return replace(
        first,
        relevance=tuple(images),
        composite={
            "name": name, "description": _DESCRIPTIONS[name], "method": name, "parameters": parameters,
            "normalization": None, "biases": None, "rules": [],
        },
        ledger=ledger | {"conserves": False, "note": _NOTE},
        provenance=first.provenance | {"created": datetime.now(UTC).isoformat(timespec="seconds"), "timings": {}},
    )  # fmt: skip
