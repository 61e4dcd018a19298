"""concepts(model, volumes, target, layer) -> Concepts: which channels of an inner layer carry the relevance, and where.

Concept relevance propagation (Achtibat et al. 2023, Nature Machine Intelligence 5, 1006-1019): what reaches a layer is
held back in all channels but one, and carried on to the input. The parts account for the whole map:

    target value = relevance in the volume, of the channels shown + of the other channels + not through the layer
                 + absorbed + outside
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from . import lrp
from .channel_walks import Walks
from .errors import UserError, reason
from .explain import Answered, answer
from .explanation import CONCEPT, CONCEPTS, CONCEPTS_TABLE, NOT_THROUGH, OTHER_CHANNELS, OWN, Explanation
from .folders import read_json, whole_folder, write_json
from .progress import Progress
from .question import Question, as_question

FORMAT = "lrpexplain-concepts"
VERSION = 1
TOP = 5


@dataclass(frozen=True, eq=False)
class Concepts:
    """The relevance that passes through the channels of a layer.

    Attributes:
        whole: the explanation that is taken apart.
        concepts: the channels that carry most relevance (by its absolute value), first the strongest, each as an
            explanation whose target value is the channel's relevance at the layer.
        others: what the remaining channels carry together; None where they carry nothing.
        elsewhere: what reaches the input without passing through the layer; None where no way leads around it.
        facts: JSON-ready, as in concepts.json: {"layer", "channels", "places", "target" (in words), "target_value",
            "held" (what reaches the layer), "ledger" (the account above), "concepts": [{"rank", "channel", "relevance",
            "share" (of the target value), "in_volume", "absorbed", "outside", "peak": {"input", "ras", "relevance"},
            "folder"}], "relevance_by_channel"}.
    """

    whole: Explanation
    concepts: tuple[Explanation, ...]
    others: Explanation | None
    elsewhere: Explanation | None
    facts: dict[str, Any]

    def save(self, folder: str | os.PathLike[str], compressed: bool = True) -> None:
        """Write the explanation's folder with a folder for each part in it, whole or not at all.

        Raises:
            UserError: the folder holds other things, or cannot be written.
        """
        with whole_folder(Path(folder), OWN) as partial:
            self.write(partial, compressed)

    def write(self, folder: Path, compressed: bool = True) -> None:
        """Write the files into an existing folder."""
        self.whole.write(folder, compressed)
        for name, part in self._parts().items():
            (folder / name).mkdir()
            part.write(folder / name, compressed)
        write_json({"format": FORMAT, "version": VERSION, **self.facts}, folder / CONCEPTS)
        (folder / CONCEPTS_TABLE).write_text(table(self.facts), encoding="utf-8")

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Concepts:
        """Read a folder back.

        Raises:
            UserError: there are no concepts in it, or a part is missing or damaged.
        """
        folder = Path(folder)
        facts = read_facts(folder)
        parts = [folder / entry["folder"] for entry in facts["concepts"]]  # of the names that `read_facts` lets through
        rest = [folder / name for name in (OTHER_CHANNELS, NOT_THROUGH)]
        others, elsewhere = (Explanation.load(part) if part.is_dir() else None for part in rest)
        return cls(Explanation.load(folder), tuple(map(Explanation.load, parts)), others, elsewhere, facts)

    def _parts(self) -> dict[str, Explanation]:
        named = dict(zip([entry["folder"] for entry in self.facts["concepts"]], self.concepts, strict=True))
        rest = {OTHER_CHANNELS: self.others, NOT_THROUGH: self.elsewhere}
        return named | {name: part for name, part in rest.items() if part is not None}


def read_facts(folder: Path) -> dict[str, Any]:
    """concepts.json; UserError where it is none."""
    path = folder / CONCEPTS
    facts: dict[str, Any] = read_json(path, "a folder that 'lrpexplain concepts' wrote", "find the concepts again")
    try:
        if facts.pop("format") != FORMAT or facts.pop("version") != VERSION:
            raise UserError(f"'{path}' is of another version: update LRPExplain to read it.")
        named = [(entry["folder"], CONCEPT.format(rank=entry["rank"])) for entry in facts["concepts"]]
        if any(told != usual or not isinstance(told, str) or Path(told).name != told for told, usual in named):
            raise ValueError("a folder is not called by the rank of its channel")
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise UserError(f"'{path}' is damaged ({reason(error)}): find the concepts again.") from error
    return facts


def concepts(
    model: Any,
    volumes: Sequence[sitk.Image | str | os.PathLike[str]],
    target: str | int | Question | None = None,
    composite: str | lrp.Composite | None = None,
    device: str = "auto",
    progress: Progress | None = None,
    rules: Any = None,
    *,
    layer: str = "",
    top: int = TOP,
    biases: lrp.Biases | None = None,
    window: Any = None,
    memory: float | None = None,
    precision: str | None = None,
    **question: Any,
) -> Concepts:
    """Explain, and tell the channels of an inner layer apart. Arguments and errors as for `explain`.

    Args:
        layer: its name, as `lrpexplain inspect` lists them, or a call's; "": the last
            convolution on the coarsest grid, of those that everything passes through where there are any.
        top: how many channels get a map of their own; fewer where fewer have relevance.
        question: the other parts of the question: rather_than, region, value, start.

    Raises:
        UserError, lrp.LRPError: also if there is no such layer, it has no channels, or no relevance reaches it.
    """
    asked = as_question(target, **question)
    _check_top(top)
    answered = answer(
        model, volumes, composite, device, progress, rules,
        biases=biases, window=window, memory=memory, precision=precision, question=asked, keep=True,
    )  # fmt: skip
    return concepts_of(answered, asked, layer, top, progress)


def concepts_of(
    answered: Answered, question: Question, layer: str = "", top: int = TOP, progress: Progress | None = None
) -> Concepts:
    """The second half of `concepts`, about what a model has answered (by LRP, and no other method)."""
    _check_top(top)
    walks = Walks(layer, top)
    whole, *parts = answered.explanations(question, walks.attribute, progress)
    by_part: dict[str, list[Explanation]] = {}
    for part in parts:
        by_part.setdefault(part.target["concept"]["part"], []).append(part)
    shown = by_part.get("channel", [])
    others, elsewhere = (next(iter(by_part.get(name, [])), None) for name in (OTHER_CHANNELS, NOT_THROUGH))
    return Concepts(whole, tuple(shown), others, elsewhere, _facts(walks, whole, shown, others, elsewhere))


def _check_top(top: int) -> None:
    if top < 1:
        raise UserError(f"{top} channels are too few: ask for 1 or more.")


def _facts(
    walks: Walks,
    whole: Explanation,
    shown: Sequence[Explanation],
    others: Explanation | None,
    elsewhere: Explanation | None,
) -> dict[str, Any]:
    """concepts.json; each figure of its ledger is summed from its own terms."""
    entries = []
    for part in shown:
        concept, ledger = part.target["concept"], part.ledger
        entries.append({
            **{key: concept[key] for key in ("rank", "channel", "relevance", "share")},
            **{key: ledger[key] for key in ("in_volume", "absorbed", "outside")},
            "peak": _peak(part.relevance),
            "folder": CONCEPT.format(rank=concept["rank"]),
        })  # fmt: skip
    account = {
        "target_value": whole.ledger["target_value"],
        "in_volume": sum(entry["in_volume"] for entry in entries),
        "other_channels": others.ledger["in_volume"] if others else 0.0,
        "not_through": elsewhere.ledger["in_volume"] if elsewhere else 0.0,
        "absorbed": whole.ledger["absorbed"],
        "outside": whole.ledger["outside"],
    }
    gap = account["target_value"] - sum(value for name, value in account.items() if name != "target_value")
    account |= {"gap": gap, "relative_gap": abs(gap / account["target_value"])}
    return {
        "layer": walks.layer.name,
        "channels": walks.layer.channels,
        "places": list(walks.layer.places),
        "target": whole.target["text"],
        "target_value": account["target_value"],
        "held": float(walks.held.sum()),
        "ledger": account,
        "concepts": entries,
        "relevance_by_channel": walks.held.tolist(),
    }


def _peak(images: Sequence[sitk.Image]) -> dict[str, Any]:
    """The voxel of most relevance, by its absolute value: which input's, and where (RAS, mm)."""
    arrays = [sitk.GetArrayViewFromImage(image) for image in images]
    at = [int(np.abs(array).argmax()) for array in arrays]
    n = max(range(len(arrays)), key=lambda m: abs(arrays[m].flat[at[m]]))
    k, j, i = (int(index) for index in np.unravel_index(at[n], arrays[n].shape))
    x, y, z = images[n].TransformIndexToPhysicalPoint((i, j, k))
    return {"input": n, "ras": [-x, -y, z], "relevance": float(arrays[n].flat[at[n]])}


def table(facts: dict[str, Any]) -> str:
    """concepts.md: the channels and the account, in Markdown."""
    target_value, ledger = facts["target_value"], facts["ledger"]
    rows = ["| rank | channel | relevance | share | in the volume | absorbed | peak (R, A, S in mm) |",
            "|---:|---:|---:|---:|---:|---:|---|"]  # fmt: skip
    for entry in facts["concepts"]:
        place = ", ".join(f"{n:.1f}" for n in entry["peak"]["ras"])
        rows.append(
            f"| {entry['rank']} | {entry['channel']} | {entry['relevance']:.5g} | {100 * entry['share']:.3g} %"
            f" | {entry['in_volume']:.5g} | {entry['absorbed']:.5g} | {place} |"
        )
    words = {
        "in_volume": "these channels, in the volume",
        "other_channels": "the other channels, in the volume",
        "not_through": "not through this layer, in the volume",
        "absorbed": "absorbed",
        "outside": "outside the field of view",
        "gap": "gap",
    }
    shares = {key: 100 * ledger[key] / target_value + 0.0 for key in words}  # of -0 it makes 0
    account = [f"| {words[key]} | {ledger[key]:.5g} | {shares[key]:.3g} % |" for key in words]
    return "\n".join([
        f"# Concepts of {facts['layer']}",
        "",
        f"{facts['target']}: target value {target_value:.6g}, of which {facts['held']:.6g}"
        f" ({facts['held'] / target_value:.1%}) reaches the {facts['channels']} channels of this layer.",
        "",
        *rows,
        "",
        "| where the target value went | relevance | share |",
        "|---|---:|---:|",
        *account,
        "",
    ])  # fmt: skip
