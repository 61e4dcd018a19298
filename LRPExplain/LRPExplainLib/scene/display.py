"""How an explanation is shown: one value, kept by display nodes, colour tables and node attributes, so scenes save it.

Everything acts at once and never changes a voxel of the relevance. The threshold is a band of the colour table; small
regions are left out by showing a second volume, in which their voxels are zero (`cleaning`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import UserError
from ..findings.selection import MASS, SIGNS, Selection
from . import cleaning, glow, hot_spots, overlay, placing, record, shell
from .cache import clusters_in_steps, magnitudes_of
from .colors import COLOR_MAPS, ENTRIES, FIRE_AND_ICE, ZERO_ROW, relevance_colors, window_for
from .companions import color_table
from .nodes import label_legend, legend_of, set_colors

if TYPE_CHECKING:
    from .presented import PresentedNodes

__all__ = ["COLOR_MAPS", "SIGNS", "Display", "apply", "chosen_map", "look_up", "read"]


@dataclass(frozen=True)
class Display:
    """The settings.

    Attributes:
        color_map: a name in `COLOR_MAPS`.
        threshold_kind, threshold, minimum_cluster_ml, sign: see `findings.Selection`.
        opacity: of the overlay in slice views, 0..1.
        legend, volume_rendering, hot_spots: whether these are shown (in 3D within a shell of the anatomy; hot spots as
            a segmentation).
        input: which input's map is shown, where there are several.

    Raises:
        UserError: a value out of its range.
    """

    color_map: str = FIRE_AND_ICE
    threshold_kind: str = MASS
    threshold: float = 80.0
    minimum_cluster_ml: float = 0.0
    opacity: float = overlay.OPACITY
    sign: str = "both"
    legend: bool = True
    volume_rendering: bool = False
    hot_spots: bool = False
    input: int = 0

    def __post_init__(self) -> None:
        if self.color_map not in COLOR_MAPS:
            raise UserError(f"There is no colour map '{self.color_map}': choose one of {', '.join(COLOR_MAPS)}.")
        if not 0 <= self.opacity <= 1:
            raise UserError(f"An opacity is a number from 0 to 1, not {self.opacity:g}.")
        if self.input < 0:
            raise UserError(f"There is no input number {self.input}: inputs are counted from 0.")
        _ = self.selection

    @property
    def selection(self) -> Selection:
        """The part that decides what is selected, and so what counts as a hot spot."""
        return Selection(self.threshold_kind, self.threshold, self.minimum_cluster_ml, self.sign)


def read(presented: PresentedNodes) -> Display:
    """The settings that the explanation is shown with; also after its scene was saved and loaded."""
    first = presented.relevance[0]
    kept = record.read_json(first, record.DISPLAY)
    chosen = record.linked_one(first, "chosen")
    shown = presented.relevance.index(chosen) if chosen in presented.relevance else kept.get("input", 0)
    try:
        kept["input"] = min(shown, len(presented.relevance) - 1)  # its number is another one where a map was deleted
        known = {field.name for field in fields(Display)}
        return Display(**{name: value for name, value in kept.items() if name in known})
    except (UserError, TypeError):  # written by a later version, or by hand
        return Display()


def chosen_map(presented: PresentedNodes) -> Any:
    """Of the relevance maps of several inputs the one that the settings choose."""
    return presented.relevance[read(presented).input]


def apply(presented: PresentedNodes, display: Display) -> None:
    """Show the explanation with these settings (whether it is in the views or not is left to `overlay`).

    Raises:
        UserError: the explanation has no such input.
    """
    if display.input >= len(presented.relevance):
        raise UserError(f"There are {len(presented.relevance)} inputs, and none with the number {display.input}.")
    first, scene = presented.relevance[0], presented.scene
    magnitudes = magnitudes_of(presented.relevance)
    threshold = display.selection.level(magnitudes)
    window, band = window_for(presented.limit, magnitudes.peak(), threshold)
    table = relevance_colors(band, display.color_map, display.sign)
    chosen = presented.relevance[display.input]
    turned = display.volume_rendering != read(presented).volume_rendering
    _keep(scene, first, display, chosen)
    colors = color_table(scene, first, "colors")
    set_colors(colors, table)
    cleaning.update(presented, chosen, threshold, display.selection)
    for node in (*presented.relevance, *record.linked(first, "cleaned")):
        if node is not None:
            _set_window(node, window, colors)
    _set_legend(presented, table, window, display)
    shell.update(presented, display.volume_rendering, turned)
    glow.update(presented, overlay.displayed_map(first), display, threshold, window)
    hot_spots.update(presented, display)
    if overlay.shown(presented):
        overlay.lay(scene, first)
    placing.place(scene)


def look_up(presented: PresentedNodes, display: Display) -> Iterator[None]:
    """In steps, what takes `apply` the longest, so that it does not hold up anybody then."""
    if display.minimum_cluster_ml and display.input < len(presented.relevance):
        level = display.selection.level(magnitudes_of(presented.relevance))
        yield from clusters_in_steps(presented.relevance[display.input], level, display.selection)


def _keep(scene: Any, first: Any, display: Display, chosen: Any) -> None:
    with record.together(first):
        first.SetAttribute(record.DISPLAY, json.dumps(asdict(display)))
        if record.linked_one(first, "chosen") is not chosen:
            record.link(first, "chosen", [chosen])
        overlay.set_opacity(scene, first, display.opacity)


def _set_window(volume: Any, window: float, colors: Any) -> None:
    volume.CreateDefaultDisplayNodes()  # where it has none, as a map that undo has brought back alone
    node = volume.GetDisplayNode()
    modifying = node.StartModify()
    if node.GetColorNodeID() != colors.GetID():
        node.SetAndObserveColorNodeID(colors.GetID())
    node.SetAutoWindowLevel(False)
    node.SetWindowLevelMinMax(-window, window)
    node.EndModify(modifying)


def _set_legend(presented: PresentedNodes, table: np.ndarray, window: float, display: Display) -> None:
    """The legend shows the signs that are shown."""
    carrier = presented.legend
    if carrier is None:
        return
    colors = color_table(presented.scene, presented.relevance[0], "legendColors")
    rows = {"both": table[: ENTRIES - 1], "positive": table[ZERO_ROW:], "negative": table[: ZERO_ROW + 1]}[display.sign]
    set_colors(colors, rows)
    carrier.GetDisplayNode().SetAndObserveColorNodeID(colors.GetID())
    _set_range(carrier, display.sign, -window, window)
    legend = legend_of(carrier)
    if legend is not None:
        overlay.set_visible(presented.relevance[0], legend, display.legend)


def _set_range(carrier: Any, sign: str, low: float, high: float) -> None:
    """The legend's numbers for a window from ``low`` to ``high``, whose middle is between the signs' colours."""
    middle = (low + high) / 2
    low, high = {"both": (low, high), "positive": (middle, high), "negative": (low, middle)}[sign]
    carrier.GetDisplayNode().SetScalarRange(low, high)
    legend = legend_of(carrier)
    if legend is not None:
        label_legend(legend, low, high, 5 if sign == "both" else 3)


def follow_window(shown: Any, *_event: Any) -> None:
    """For the ModifiedEvent of a map's display node, whose window people may change in other modules."""
    node = shown.GetDisplayableNode()
    first = record.record_of(node) if node is not None else None
    carrier = record.linked_one(first, "legend") if first is not None else None
    if carrier is not None and overlay.displayed_map(first) is node:
        sign = record.read_json(first, record.DISPLAY).get("sign")
        _set_range(carrier, sign if sign in SIGNS else "both", shown.GetWindowLevelMin(), shown.GetWindowLevelMax())
