"""Section "Concepts": which channels of an inner layer carry the relevance, and the map of each."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slicer.i18n import tr as _

from ...errors import UserError
from .findings import percent
from .progress import show_progress
from .section import Section
from .tables import fill

if TYPE_CHECKING:
    from .panel import Panel

_LANE = "layers"


class ConceptsSection(Section):
    """Of the explanation that the display section has; one that shows a channel is a part of it."""

    def __init__(self, ui: Any, panel: Panel) -> None:
        super().__init__(ui, panel)
        self._request: Any = None
        self._asking: Any = None  # which layers there are
        self._model: tuple[str, str] | None = None  # whose layers are offered: path and SHA-256
        self._layers: list[str] = []
        self._rows: list[Any] = []
        ui.findConceptsButton.connect("clicked(bool)", self.find)
        ui.cancelConceptsButton.connect("clicked(bool)", self.cancel)
        ui.wholeMapButton.connect("clicked(bool)", self.back)
        ui.conceptsTable.connect("cellClicked(int,int)", self.choose)
        ui.conceptsCollapsibleButton.connect("contentsCollapsed(bool)", self._on_open)
        self._offer([], "")
        self.say("")
        self._show_running(False)
        self.update()

    @property
    def running(self) -> bool:
        return self._request is not None

    @property
    def whole(self) -> Any:
        """The first map of the explanation that is shown, whole or in part; None where none is."""
        from ..parts import whole_of

        nodes = self.panel.display.nodes
        return whole_of(nodes.relevance[0]) if nodes is not None else None

    def on_result(self, nodes: Any) -> None:
        """An explanation has been presented; what was found of the map that it took the place of is out of date."""
        from ..concepts import facts_of, forget_in_steps

        if facts_of(nodes.relevance[0]):
            self._tidy(forget_in_steps(nodes))
        self.update()

    def update(self) -> None:
        """Another map is shown: the channels of its explanation, if they are known."""
        self._show_table()
        self._ask_for_layers()
        self._enable()

    def on_reference(self) -> None:
        """The table names the segments of the reference."""
        self._show_table()

    def _tidy(self, steps: Generator[None, None, None]) -> None:
        """Take a step, and the next one when the application has served its user."""
        from ..process import later

        if next(steps, self) is not self:
            later(0, lambda: self._tidy(steps))

    def close(self) -> None:
        super().close()
        self.cancel()
        if self._asking is not None:
            self._asking.cancel()
        self._asking = self._model = None
        self._offer([], "")
        self.say("")
        self._clear()

    # --- finding ----------------------------------------------------------------------------------------------------

    def find(self, *_clicked: Any) -> None:
        """Ask for the channels of the chosen layer; whatever is wrong is said below the button."""
        from .. import presented_of
        from ..answers import answer_of, volumes_of

        self.cancel()
        self.panel.begin(self)
        self.say("")
        session, parameters = self.panel.logic.session, self.parameters
        try:
            whole = presented_of(self.whole)
            folder = answer_of(whole)
            volumes_of(whole)
            message = {
                "explanation": str(folder), "layer": self._layer(), "top": round(self.ui.conceptsSpinBox.value),
                "device": parameters.device.value, "memory": parameters.memory or None,
                "precision": parameters.precision.value, "out": str(session.place("concepts")),
            }  # fmt: skip
            self._on_progress("starting", 0.0, None)
            self._request = session.ask(
                "concepts",
                message,
                on_progress=self._on_progress,
                on_done=lambda event: self._on_found(whole, event),
                on_failed=self._on_failed,
            )
        except UserError as error:
            self.say(str(error))
        self._show_running(self.running)

    def cancel(self, *_clicked: Any) -> None:
        request, self._request = self._request, None
        if request is not None:
            request.cancel()
            self.say(_("Cancelled."))
        self._show_running(False)

    def _layer(self) -> str | None:
        index = self.ui.layerComboBox.currentIndex - 1  # the first entry is the automatic choice
        return self._layers[index] if 0 <= index < len(self._layers) else None

    def _on_progress(self, stage: str, share: float, seconds_left: float | None) -> None:
        show_progress(self.ui.conceptsProgressBar, stage, share, seconds_left)

    def _on_found(self, whole: Any, event: dict[str, Any]) -> None:
        from ..concepts import show_in_steps

        self._on_progress("presenting", 1.0, None)
        steps = show_in_steps(whole, Path(event["folder"]), event["facts"])
        self.panel.logic.session.present(self._request, steps, self._on_shown, self._on_failed)

    def _on_shown(self, _nothing: Any) -> None:
        self._request = None
        self._show_running(False)
        self.update()

    def _on_failed(self, sentence: str) -> None:
        self._request = None
        self._show_running(False)
        self.say(sentence)
        self.update()

    # --- showing ----------------------------------------------------------------------------------------------------

    def choose(self, row: int, _column: int = 0) -> None:
        """Show the map of the channel in this row in place of the one that is shown."""
        if 0 <= row < len(self._rows) and self._rows[row].node.GetScene() is not None:
            self._show(self._rows[row].node)

    def _show(self, first: Any) -> None:
        """Of several inputs' maps that which the explanation is looked at by."""
        from .. import presented_of
        from ..display import chosen_map

        self.parameters.relevance = chosen_map(presented_of(first))

    @property
    def in_part(self) -> bool:
        """Whether the map of a channel is shown."""
        whole = self.whole
        return whole is not None and self.panel.display.nodes.relevance[0] is not whole

    def back(self, *_clicked: Any) -> None:
        """Show the whole map, if that of a channel is shown."""
        if self.in_part:
            self._show(self.whole)

    def _show_table(self) -> None:
        from ..concepts import facts_of, rows_of

        whole = self.whole
        facts = facts_of(whole) if whole is not None else {}
        if not facts:
            self._clear()
            return
        reference = self.panel.volumes.reference
        self._rows = rows_of(whole, reference.node, reference.segment)
        cells = [
            (str(row.rank), str(row.channel), share(row.share), _place(row.place), ", ".join(row.segments))
            for row in self._rows
        ]
        ui, shown = self.ui, self.panel.display.nodes.relevance[0]
        fill(ui.conceptsTable, cells, stretched=4)
        for n, row in enumerate(self._rows):
            if row.node is shown:
                ui.conceptsTable.selectRow(n)
        ui.conceptsTable.setVisible(bool(self._rows))
        ui.conceptsLabel.text = account(facts)
        ui.conceptsLabel.setVisible(True)

    def _clear(self) -> None:
        self._rows = []
        self.ui.conceptsTable.setVisible(False)
        self.ui.conceptsLabel.setVisible(False)

    def say(self, text: str) -> None:
        """One line below the buttons; none where there is nothing to say."""
        self.ui.conceptsStatusLabel.text = text
        self.ui.conceptsStatusLabel.setVisible(bool(text))

    def _show_running(self, running: bool) -> None:
        self.ui.conceptsProgressBar.setVisible(running)
        self._enable()

    def _enable(self) -> None:
        ui, whole = self.ui, self.whole
        ui.findConceptsButton.enabled = not (whole is None or self.running or self.panel.installing)
        ui.findConceptsButton.toolTip = (
            _("Explain a volume first") if whole is None
            else _("Find the channels of the layer that carry most of the relevance, and make a map of each")
        )  # fmt: skip
        ui.cancelConceptsButton.enabled = self.running
        ui.wholeMapButton.enabled = self.in_part

    # --- the layers -------------------------------------------------------------------------------------------------

    def _on_open(self, collapsed: bool) -> None:
        if not collapsed:
            self._ask_for_layers()

    def _ask_for_layers(self) -> None:
        """Which layers the shown explanation's model has: asked once for each model, when somebody looks."""
        from .. import presented_of
        from ..answers import answer_of

        whole = self.whole
        if whole is None or self.ui.conceptsCollapsibleButton.collapsed:
            return
        try:
            presented = presented_of(whole)
            folder = answer_of(presented)
        except UserError:  # said when somebody asks for the concepts
            return
        model = (str(presented.facts["model"]["path"]), str(presented.facts["model"]["sha256"]))
        if model == self._model:
            return
        self._model = model
        if self._asking is not None:  # about another model
            self._asking.cancel()
        self._offer([], "")
        self._asking = self.panel.logic.session.ask(
            "layers", {"explanation": str(folder)}, lane=_LANE,
            on_done=lambda event: self._offer(event["layers"], event["automatic"]), on_failed=self._on_no_layers,
        )  # fmt: skip

    def _on_no_layers(self, _sentence: str) -> None:
        self._model = None  # asked again when another map is shown

    def _offer(self, layers: list[dict[str, Any]], automatic: str) -> None:
        """Fill the chooser; each layer with the number of its channels."""
        self._layers = [layer["name"] for layer in layers]
        combo = self.ui.layerComboBox
        combo.clear()
        combo.addItem(_("Automatic ({layer})").format(layer=automatic) if automatic else _("Automatic"))
        combo.addItems([
            _("{layer} ({count} channels)").format(layer=layer["name"], count=layer["channels"]) for layer in layers
        ])  # fmt: skip


def account(facts: dict[str, Any]) -> str:
    """Where the target value went, seen from the layer: two lines at most."""
    ledger, whole = facts["ledger"], facts["target_value"]
    return _(
        "{layer}: {shown} of the target value in these channels' maps, {others} in its other channels', {around} not"
        " through this layer, {absorbed} absorbed."
    ).format(
        layer=facts["layer"],
        shown=share(ledger["in_volume"] / whole),
        others=share(ledger["other_channels"] / whole),
        around=share(ledger["not_through"] / whole),
        absorbed=share(ledger["absorbed"] / whole),
    )


def share(part: float) -> str:
    """Of a small share more digits than `percent` has: one channel of many may carry little."""
    return percent(part) if abs(part) >= 0.01 or not part else f"{100 * part:.2g} %"


def _place(ras: tuple[float, float, float]) -> str:
    """ "R 12, A 30, S -4": as Slicer names the directions, in mm."""
    letters = ("RL", "AP", "SI")
    return " ".join(f"{both[value < 0]}{abs(value):.0f}" for both, value in zip(letters, ras, strict=True))
