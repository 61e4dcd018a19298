"""The nodes of one explanation, found again from any of its relevance maps."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import UserError
from . import record
from .geometry import to_world
from .host import Application
from .host import tr as _
from .nodes import ROLE_ATTRIBUTE


@dataclass(frozen=True)
class PresentedNodes:
    """The MRML nodes of one explanation.

    ``relevance`` has a scalar volume node for each input whose map has not been deleted, ``inputs`` the numbers of
    these inputs, and ``volumes`` the scalar volume nodes that were explained (None for one that was removed since);
    ``segmentation`` is None for a classification. ``focus`` is the place of the strongest relevance (RAS, mm),
    ``limit`` the half-width of the window, ``target`` the name of the explained class, ``caption`` the lines that say
    what is shown. ``region`` outlines where was asked, if that was a segment, a box or points. ``facts`` are the
    explanation's, without its images.
    """

    scene: Any
    volumes: tuple[Any, ...]
    relevance: tuple[Any, ...]
    segmentation: Any | None
    legend: Any
    focus: tuple[float, float, float]
    limit: float
    target: str
    caption: tuple[str, ...]
    region: Any | None = None
    application: Application | None = None  # outside Slicer: what keeps the scene working
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def inputs(self) -> tuple[int, ...]:
        """For each map the number of its input, under which the facts know it."""
        return tuple(int(node.GetAttribute(record.INPUT) or n) for n, node in enumerate(self.relevance))

    def strongest(self, among: Sequence[Any]) -> Any:
        """Of some of its maps the one with most |relevance|; the first of them where that was not recorded."""
        nodes = dict(zip(self.inputs, self.relevance, strict=True))
        return nodes[strongest_input(self.facts["ledger"], (n for n, node in nodes.items() if node in among))]

    @property
    def hot_spots(self) -> Any | None:
        """The segmentation of the hot spots, once it was wanted."""
        return record.linked_one(self.relevance[0], "hotSpots")

    @property
    def tables(self) -> dict[str, Any]:
        """The tables of the findings by name; see `tables`."""
        return {node.GetAttribute(record.PREFIX + "Table"): node for node in self._linked("table")}

    @property
    def charts(self) -> dict[str, Any]:
        """The plot charts of the relevance per slice by the slices' orientation; see `tables`."""
        return {node.GetAttribute(record.PREFIX + "Chart"): node for node in self._linked("chart")}

    def _linked(self, role: str) -> list[Any]:
        return [node for node in record.linked(self.relevance[0], role) if node is not None]


def presented_of(relevance: Any, application: Application | None = None) -> PresentedNodes:
    """All of an explanation again, from any of its relevance nodes; also in a scene that was saved and loaded.

    Of several inputs what is left is shown where a map was deleted, unless that was the first one, which had the facts.
    Raises UserError then, and if the node is no relevance map of this package.
    """
    first = record.record_of(relevance)
    facts = record.read_facts(first)
    maps = record.linked(first, "relevance")
    if not facts and relevance.GetAttribute(ROLE_ATTRIBUTE) == "relevance":  # what was the first one had the facts
        raise UserError(
            _("A map that '{name}' belongs to was deleted: explain the volumes again.").format(name=relevance.GetName())
        )
    if not facts or not maps:
        raise UserError(f"'{relevance.GetName()}' is no relevance map that LRPExplain made: choose one that is.")
    return PresentedNodes(
        scene=first.GetScene(),
        volumes=tuple(record.sources(first)),
        relevance=tuple(maps),
        segmentation=record.linked_one(first, "prediction"),
        legend=record.linked_one(first, "legend"),
        focus=_world_focus(first),
        limit=float(first.GetAttribute(record.LIMIT) or 1),
        target=str(facts["target"]["class"]),
        caption=_caption(facts),
        region=record.linked_one(first, "region"),
        application=application,
        facts=facts,
    )


def strongest_input(ledger: Mapping[str, Any], among: Iterable[int]) -> int:
    """Of these inputs' numbers that of the one whose map holds most |relevance|; the first where none was recorded."""
    shares = dict(enumerate(ledger.get("absolute_share_by_input", ())))
    return max(among, key=lambda number: shares.get(number, 0.0))


def presented_in(scene: Any) -> list[PresentedNodes]:
    """Every explanation in a scene that can be shown, in the order in which they were added."""
    found = []
    for first in record.records(scene):
        try:
            found.append(presented_of(first))
        except UserError:
            continue
    return found


def _world_focus(first: Any) -> tuple[float, float, float]:
    of = next((node for node in record.linked(first, "relevance") if node.GetAttribute(record.FOCUS)), first)
    return to_world(of, json.loads(of.GetAttribute(record.FOCUS) or "[0, 0, 0]"))


def _caption(facts: dict[str, Any]) -> tuple[str, ...]:
    target = facts["target"]
    name, over, place = target.get("text", target["class"]).partition(" over ")
    return (
        f"{facts['model']['name']}",
        f"Relevance for: {name}",
        *((f"{over.strip()} {place}",) if place else ()),
        f"Composite: {facts['composite']['name']}",
        f"Target value: {facts['ledger']['target_value']:.4g}",
    )
