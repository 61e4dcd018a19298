"""Section "Findings": what the map says, in numbers. `findings` computes them; here they are shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import qt
import slicer
from slicer.i18n import tr as _

from ..saying import said
from .section import Section
from .tables import fill

if TYPE_CHECKING:
    from .panel import Panel

_ORIENTATIONS = ("sagittal", "coronal", "axial")  # as in the combo box
_PLOT_VIEW = "LRPExplain"
_PLOT_HEIGHT = 180  # pixels
_PAUSE = 200  # ms without a change before the numbers follow a slider


class FindingsSection(Section):
    """Of the explanation that the display section has. Each part is computed in a turn of the event loop of its own."""

    def __init__(self, ui: Any, panel: Panel) -> None:
        super().__init__(ui, panel)
        self.found: Any = None
        self._steps: list[Callable[[], object]] = []
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.connect("timeout()", self._step)
        self._follower: Any = None
        self._plot_view: Any = None
        self._reference: tuple[Any, ...] = (None, "", ())
        self._watched: dict[str, list[Any]] = {}  # whose changes are observed, by what they are to the findings
        self._other: tuple[Any, Any] = (None, None)  # of another map: what its findings depend on, and they
        self._examined: tuple[Any, ...] = ()  # what map and volumes were when the findings were computed
        self._plot = slicer.qMRMLPlotView()  # made here: Slicer has no Designer plugin for it
        self._plot.setMRMLScene(slicer.mrmlScene)
        self._plot.minimumHeight = _PLOT_HEIGHT
        ui.plotFrame.layout().addWidget(self._plot)
        ui.hotSpotsTable.connect("cellClicked(int,int)", self.go_to)
        ui.plotComboBox.addItems([_("sagittal, left to right"), _("coronal, back to front"), _("axial, foot to head")])
        ui.plotComboBox.currentIndex = 2
        ui.plotComboBox.connect("currentIndexChanged(int)", self._show_plot)
        self._clear()

    def on_result(self, _nodes: Any) -> None:
        """An explanation has been presented."""
        self.update()

    def refresh(self) -> None:
        """Hot spots and shares are told by the segments of the reference: another one gives others."""
        from ..examination import segmentation_key

        reference = self.panel.volumes.reference
        node = reference.node
        self._watch("reference", [node], self._on_edited)
        chosen = (node, reference.segment, segmentation_key(node) if node is not None else ())
        if chosen != self._reference:
            self._reference = chosen
            if self.panel.display.nodes is not None:
                self.panel.on_reference()

    def _watch(self, role: str, given: Iterable[Any], changed: Callable[..., None]) -> None:
        """Observe these nodes, and no others, in a role: their voxels or segments, and where they lie."""
        nodes = [node for node in given if node is not None]
        if nodes == self._watched.get(role, []):
            return
        self.removeObservers(changed)
        self._watched[role] = nodes
        for node in nodes:
            events = node.GetContentModifiedEvents()
            self.addObserver(node, slicer.vtkMRMLTransformableNode.TransformModifiedEvent, changed)
            for n in range(events.GetNumberOfValues()):
                self.addObserver(node, events.GetValue(n), changed)

    def _on_edited(self, *_event: Any) -> None:
        """The reference has changed; who edits it elsewhere is not held up, and finds the numbers on coming back."""
        if self.panel.entered:
            self._steps = [self.refresh, *(step for step in self._steps if step != self.refresh)]
            self._timer.start(_PAUSE)

    def _on_changed(self, *_event: Any) -> None:
        """Map and volumes: hot spots lie elsewhere once they are moved; of other voxels the map says nothing.

        MRML tells of less, too: of a link to a table that holds these numbers, say.
        """
        self.on_display()

    def on_display(self) -> None:
        """The map is shown otherwise, or another one is shown: colours and opacity are nothing to the findings."""
        if self._state() != self._examined:
            self.update()

    def _state(self) -> tuple[Any, ...]:
        """Changes when anything does that the findings depend on, but for the reference."""
        from ..examination import volume_key

        nodes = self.panel.display.nodes
        if nodes is None:
            return ()
        shown = self.panel.display.display()
        watched = tuple(volume_key(node) for node in self._watched.get("explained", []))
        return (nodes.relevance[0].GetID(), shown.input, shown.selection, watched)

    def update(self) -> None:
        """Compute all again, once nothing has changed for a moment; without a map there is nothing to say at once."""
        self._steps = [self._examine]
        if self.panel.display.nodes is None:
            self.compute()
        else:
            self._timer.start(_PAUSE)

    def compute(self) -> None:
        """Compute all now."""
        self._timer.stop()
        self._steps = [self._examine]
        while self._steps:
            self._steps.pop(0)()

    @property
    def pending(self) -> bool:
        """Whether something is still to be computed or shown."""
        return bool(self._steps)

    def close(self) -> None:
        super().close()
        self._watched = {}
        self._follow(None)
        self._timer.stop()
        self._steps = []
        self.found, self._plot_view, self._examined, self._other = None, None, (), (None, None)
        self._clear()

    def go_to(self, row: int, _column: int = 0) -> None:
        """All slice views show the strongest voxel of the hot spot in this row, and the crosshair stands there."""
        if self.found is not None and 0 <= row < len(self.found.hot_spots):
            from ..crosshair import jump

            place = self.found.place_of(self.found.hot_spots[row])
            jump(self.panel.display.nodes.scene, place)
            self._show_readout(place)

    # --- computing --------------------------------------------------------------------------------------------------

    def _step(self) -> None:
        if self.panel.logic.session.presenting:  # perhaps of this map, whose nodes are half of the next answer then
            self._timer.start(_PAUSE)
            return
        try:
            if self._steps:
                self._steps.pop(0)()
        finally:  # what one part fails at is no reason to leave the others out
            if self._steps:
                self._timer.start(0)

    def _spread(self, work: Iterator[None]) -> Callable[[], None]:
        """Work that takes several turns."""

        def turn() -> None:
            if next(work, work) is not work:
                self._steps.insert(0, turn)

        return turn

    def _examine(self) -> None:
        nodes = self.panel.display.nodes
        self._follow(nodes)
        if nodes is None:
            self._watch("explained", [], self._on_changed)
            self.found, self._examined, self._other = None, (), (None, None)
            self._clear()
            return
        from .. import findings_of

        reference = self.panel.volumes.reference
        self.found = findings_of(nodes, self.panel.display.display(), reference.node, reference.segment)
        self._watch("explained", [self.found.node, *nodes.volumes], self._on_changed)
        self._examined = self._state()
        self.ui.readoutLabel.text = readout(None)
        self._steps = [
            self._spread(self.found.in_steps()),
            self._show_hot_spots, self._invite, self._show_shares, self._show_account,
            *(partial(self.found.of_input, n) for n in range(len(self.found.maps))), self._show_warnings,
            self._write_nodes, self._show_plot,
        ]  # fmt: skip

    # --- showing ----------------------------------------------------------------------------------------------------

    def _clear(self) -> None:
        ui = self.ui
        for widget in (
            ui.warningsLabel, ui.ledgerLabel, ui.hotSpotsLabel, ui.hotSpotsTable, ui.sharesLabel, ui.sharesTable,
            ui.inputsLabel, ui.inputsTable, ui.plotComboBoxLabel, ui.plotComboBox, ui.plotFrame,
        ):  # fmt: skip
            widget.setVisible(False)
        ui.readoutLabel.text = _("Explain a volume or choose a map; what it says is then listed here.")

    def _show_hot_spots(self) -> None:
        spots = self.found.hot_spots
        rows = [
            (str(spot.rank), spot.percent, millilitres(spot.ml), f"{spot.peak:.3g}", said(spot.segment))
            for spot in spots
        ]
        table = self.ui.hotSpotsTable
        fill(table, rows, stretched=4)
        table.setVisible(bool(rows))
        self.ui.hotSpotsLabel.text = _("Hot spots (click to go there)") if rows else self._nothing_above()
        self.ui.hotSpotsLabel.setVisible(True)

    def _nothing_above(self) -> str:
        """Of several maps, that which is shown may be of a volume that hardly counts."""
        inputs, nodes = self.found.inputs, self.panel.display.nodes
        maps = list(zip(nodes.inputs, nodes.relevance, strict=True))
        strongest = max((n for n, node in maps if node.GetScene()), key=lambda n: abs(inputs[n][1]))
        if strongest == nodes.inputs[self.panel.display.display().input]:
            return _("No relevance above the threshold.")
        return _(
            "No relevance above the threshold in this map: most of it is in that of {name}, which Display can show."
        ).format(name=inputs[strongest][0])

    def _show_shares(self) -> None:
        rows = [(said(share.name), percent(share.share), millilitres(share.ml)) for share in self.found.shares]
        fill(self.ui.sharesTable, rows)
        self.ui.sharesTable.setVisible(bool(rows))
        self.ui.sharesLabel.setVisible(bool(rows))

    def _show_account(self) -> None:
        self.ui.ledgerLabel.text = "\n".join(
            [said(self.found.ledger_line), *(_("Note: {note}").format(note=note) for note in self.found.notes)]
        )
        self.ui.ledgerLabel.setVisible(True)
        inputs = self.found.inputs
        rows = [(name, percent(share)) for name, _relevance, share in inputs] if len(inputs) > 1 else []
        fill(self.ui.inputsTable, rows)
        self.ui.inputsTable.setVisible(bool(rows))
        self.ui.inputsLabel.setVisible(bool(rows))

    def _show_warnings(self) -> None:
        warnings = self.found.warnings
        self.ui.warningsLabel.text = "\n".join(f"⚠ {said(sentence)}" for sentence in warnings)
        self.ui.warningsLabel.setVisible(bool(warnings))

    def _write_nodes(self) -> None:
        """The same findings as tables and charts of the scene, each in a turn of its own."""
        from ..tables import writing

        self._steps[:0] = [*writing(self.panel.display.nodes, self.found), self.panel.on_written]

    def _show_plot(self, *_index: Any) -> None:
        nodes = self.panel.display.nodes
        self._avoid_a_single_slice()
        chart = nodes.charts.get(_ORIENTATIONS[self.ui.plotComboBox.currentIndex]) if nodes else None
        for widget in (self.ui.plotComboBoxLabel, self.ui.plotComboBox, self.ui.plotFrame):
            widget.setVisible(chart is not None)
        if chart is not None:
            view = _plot_view(nodes.scene)
            view.SetPlotChartNodeID(chart.GetID())
            if self._plot_view is not view:
                self._plot_view = view
                self._plot.setMRMLPlotViewNode(view)

    def _avoid_a_single_slice(self) -> None:
        """An axis along which there is only one slice has no curve: that with the most slices is shown then."""
        combo = self.ui.plotComboBox
        counts = {profile.name: len(profile.position) for profile in self.found.profiles} if self.found else {}
        if counts and counts[_ORIENTATIONS[combo.currentIndex]] < 2:
            blocked = combo.blockSignals(True)
            combo.currentIndex = _ORIENTATIONS.index(max(counts, key=lambda name: counts[name]))
            combo.blockSignals(blocked)

    # --- under the mouse --------------------------------------------------------------------------------------------

    def _invite(self) -> None:
        """A first look must not find nothing; but the views stay where the user has them."""
        from ..crosshair import cursor, in_view

        under = cursor(self.found.node.GetScene())
        if self.found.hot_spots and not in_view(self.found.node, self.found.level):
            self.ui.readoutLabel.text = _("The slices shown do not cut the relevance: click a hot spot to go there.")
        elif under is not None:  # the mouse may rest there, as at the crosshair
            self._show_readout(under)

    def _follow(self, nodes: Any) -> None:
        """Read the map under the mouse, in the scene of ``nodes``; None: no longer."""
        if (nodes is None) == (self._follower is None):
            return
        from ..crosshair import Follower

        if nodes is None:
            self._follower.stop()
            self._follower = None
        else:
            self._follower = Follower(nodes.scene, self._show_readout)

    def _show_readout(self, place: Any) -> None:
        if self.found is None or self.panel.display.nodes is None:
            return
        from ..crosshair import readout as read

        other = self._above()
        text = readout(read(other or self.found, place) if place else None)
        if other is not None and place:
            text = _("{map}: {text}").format(map=other.node.GetName(), text=text)
        self.ui.readoutLabel.text = text

    def _above(self) -> Any:
        """The findings of the map that lies over the upper views, with the mouse over one of them; else None."""
        from .. import findings_of, presented_of
        from ..cache import voxels_key
        from ..crosshair import view_under
        from ..display import read
        from ..side_by_side import over

        nodes, reference = self.panel.display.nodes, self.panel.volumes.reference
        first = over(nodes.scene, view_under(nodes.scene))
        if first is None or first is nodes.relevance[0]:
            return None
        other = presented_of(first)
        key = (read(other), voxels_key(first), reference.node, reference.segment, self.found)
        if self._other[0] != key:
            self._other = (key, findings_of(other, reference=reference.node, segment=reference.segment))
        return self._other[1]


def _plot_view(scene: Any) -> Any:
    """The panel's own plot view, which no layout shows."""
    node = scene.GetSingletonNode(_PLOT_VIEW, "vtkMRMLPlotViewNode")
    if node is None:
        node = slicer.vtkMRMLPlotViewNode()
        node.SetSingletonTag(_PLOT_VIEW)
        node.SetLayoutName(_PLOT_VIEW)
        node.SetName(_PLOT_VIEW)
        node.SetSaveWithScene(False)
        node.SetDoPropagatePlotChartSelection(False)  # a chart that is chosen for Slicer's views is not for this one
        node = scene.AddNode(node)
    return node


def readout(under: Any) -> str:
    """What is under the crosshair, in a line or two."""
    if under is None:
        return _("Move the mouse over a slice to read the map here.")
    parts = [_("Relevance {value}").format(value=f"{under.relevance:.3g}")]
    if under.segments:
        parts.append(_("in {segments}").format(segments=", ".join(under.segments)))
    spot = under.hot_spot
    if spot is None:
        return ", ".join([*parts, _("below the threshold")]) + "."
    parts.append(
        _("hot spot {rank} ({volume}, mean {mean}, peak {peak})").format(
            rank=spot.rank, volume=millilitres(spot.ml), mean=f"{spot.mean:.3g}", peak=f"{spot.peak:.3g}"
        )
    )
    return ", ".join(parts) + "."


def percent(share: float) -> str:
    return f"{share:.1%}".replace("%", " %")


def millilitres(volume: float) -> str:
    return _("{volume} ml").format(volume=f"{volume:.3g}" if volume < 100 else f"{volume:.0f}")
