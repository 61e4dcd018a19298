"""Explain and Cancel: the request, its progress, what the model says, and the map."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from slicer.i18n import tr as _

from ...errors import UserError
from .findings import millilitres
from .parameters import Result
from .progress import show_progress
from .section import Section
from .tables import fill

if TYPE_CHECKING:
    from .panel import Panel

Place = tuple[float, float, float]


class RunSection(Section):
    """Sends requests through the logic and shows what comes of them; one runs at a time."""

    def __init__(self, ui: Any, panel: Panel) -> None:
        super().__init__(ui, panel)
        self._request: Any = None
        self._said: dict[str, Any] = {}
        self._live: Any = None  # the newest question at the crosshair, while it has no answer
        self._live_map: Any = None  # the crosshair's own map: each place updates it, and the other maps stay
        ui.progressBar.setVisible(False)
        ui.predictionTable.setVisible(False)
        ui.explainButton.connect("clicked(bool)", self.explain)
        ui.cancelButton.connect("clicked(bool)", self.cancel)
        self.say("")

    @property
    def running(self) -> bool:
        return self._request is not None

    def refresh(self) -> None:
        """Explain can be pressed once everything is chosen; its tool tip says what is missing."""
        missing = self._missing()
        self.ui.explainButton.enabled = not (missing or self.running or self.panel.installing)
        self.ui.explainButton.toolTip = missing or _(
            "Compute what the model's answer rests on; Slicer stays usable meanwhile"
        )
        self.ui.cancelButton.enabled = self.running

    def close(self) -> None:
        super().close()
        self.cancel()
        self.forget_live()
        self._live_map = None
        self.say("")
        self.ui.predictionTable.setVisible(False)

    def explain(self, *_clicked: Any) -> None:
        """Start; whatever is wrong is said in the line below the button."""
        self.cancel()
        self.panel.begin(self)
        if self.parameters is not None and self.parameters.result is Result.UPDATE:
            self.panel.concepts.back()  # the whole map is what is updated
        self.say("")
        try:
            arguments = self._arguments() | self.panel.question.asked()
            self.panel.ensure(self.panel.logic.ensurePackages)
        except UserError as error:
            self.say(str(error))
            return
        self.ui.predictionTable.setVisible(False)
        self._on_progress("starting", 0.0, None)
        try:
            self._request = self.panel.logic.start(
                **arguments,
                onProgress=self._on_progress,
                onPrediction=self._on_prediction,
                onDone=self._on_done,
                onFailed=self._on_failed,
            )
        except UserError as error:
            self.say(str(error))
        self._show_running(self.running)
        self.panel.model.describe_if_unknown()

    def cancel(self, *_clicked: Any) -> None:
        request, self._request = self._request, None
        if request is not None:
            request.cancel()
            self.say(_("Cancelled."))
            self.on_map(self.panel.display.nodes)  # which has a prediction of its own
        self._show_running(False)

    # --- at the crosshair -------------------------------------------------------------------------------------------

    def explain_at(self, place: Place) -> None:
        """Explain the voxel at ``place`` (RAS, mm); a newer place goes before one that still waits."""
        if self.running or self._missing():
            return
        try:
            arguments = self._arguments() | self.panel.question.asked() | {"where": place, "update": self._kept_map}
        except UserError as error:
            self.say(str(error))
            return
        if self.panel.logic.missingPackages():
            self.say(_("Press Explain once first: it asks before it installs what is needed."))
            return
        asked = object()
        try:
            run = self.panel.logic.start(
                **arguments,
                lane="crosshair",
                onPrediction=self._on_prediction,
                onDone=partial(self._on_live_done, asked),
                onFailed=partial(self._end_live, asked),
            )
        except UserError as error:
            self.say(str(error))
            return
        self._live = (asked, run)
        self.say(_("Explaining at the crosshair …"))

    def _kept_map(self) -> Any:
        node = self._live_map
        return node if node is not None and node.GetScene() is not None else None

    def forget_live(self) -> None:
        if self._live is not None:
            asked, run = self._live
            self._end_live(asked)
            run.cancel()

    def _end_live(self, asked: object, sentence: str = "") -> None:
        """An answer is there, or will not come; a newer question still waits for its own."""
        if self._live is not None and self._live[0] is asked:
            self._live = None
            self.say(sentence)

    def _on_live_done(self, asked: object, nodes: Any) -> None:
        self._end_live(asked)
        self._note_prediction(nodes)
        first = self._kept_map() is None
        self._live_map = nodes.relevance[0]
        self.panel.on_result(nodes, first)

    # --- what comes back --------------------------------------------------------------------------------------------

    def _on_progress(self, stage: str, share: float, seconds_left: float | None) -> None:
        show_progress(self.ui.progressBar, stage, share, seconds_left)

    def _on_prediction(self, said: Mapping[str, Any]) -> None:
        self._said = dict(said)
        self._show_prediction(said)

    def on_map(self, nodes: Any) -> None:
        """Another map is shown, perhaps of a scene that was loaded, or none: a map's node keeps what was predicted."""
        from ..parts import whole_of
        from ..record import PREDICTION, read_json

        if not self.running:
            self._show_prediction(read_json(whole_of(nodes.relevance[0]), PREDICTION) if nodes is not None else {})

    def _show_prediction(self, said: Mapping[str, Any]) -> None:
        rows = predictions(said)
        self.ui.predictionTable.setVisible(bool(rows))
        fill(self.ui.predictionTable, rows)

    def _note_prediction(self, nodes: Any) -> None:
        from ..record import PREDICTION

        nodes.relevance[0].SetAttribute(PREDICTION, json.dumps(self._said))

    def _on_done(self, nodes: Any) -> None:
        self._request = None
        self._show_running(False)
        self.say("")
        self._note_prediction(nodes)
        self.panel.on_result(nodes, first=True)

    def _on_failed(self, sentence: str) -> None:
        self._request = None
        self._show_running(False)
        self.on_map(self.panel.display.nodes)
        self.say(sentence)

    def say(self, text: str) -> None:
        """One line below the buttons; none where there is nothing to say."""
        self.ui.statusLabel.text = text
        self.ui.statusLabel.setVisible(bool(text))

    def _show_running(self, running: bool) -> None:
        self.ui.progressBar.setVisible(running)
        self.refresh()

    # --- the request ------------------------------------------------------------------------------------------------

    def _missing(self) -> str:
        """What is yet to be chosen, as a sentence; empty if nothing is."""
        if self.parameters is None:
            return _("There is no scene")
        if self.panel.model.path is None:
            return _("Choose a model first")
        if self.panel.model.problem:
            return str(self.panel.model.problem)
        volumes = self.panel.volumes.given
        if any(node is None for node in volumes):
            return _("Choose a volume first") if len(volumes) == 1 else _("Choose a volume for every input first")
        return ""

    def _arguments(self) -> dict[str, Any]:
        return self.panel.method.chosen() | {
            "volumeNodes": self.panel.volumes.given,
            "modelPath": self.panel.model.path,
            "update": self.parameters.relevance if self.parameters.result is Result.UPDATE else None,
        }


def predictions(said: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Rows of class and probability, or of segment and volume, largest first."""
    probabilities = sorted((said.get("probabilities") or {}).items(), key=lambda item: -item[1])
    volumes = sorted((said.get("volumes_ml") or {}).items(), key=lambda item: -item[1])
    rows = [(str(name), f"{value:.3g}") for name, value in probabilities]
    return rows + [(str(name), millilitres(value)) for name, value in volumes]
