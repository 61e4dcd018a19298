"""Section "Question": class, rather than which, where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slicer.i18n import tr as _

from ...errors import UserError
from .live import Live
from .parameters import Where
from .section import Section, show_rows
from .segments import SegmentChoice

if TYPE_CHECKING:
    from .panel import Panel


class QuestionSection(Section):
    """Offers the classes of the model, and the selector that belongs to the chosen kind of place."""

    def __init__(self, ui: Any, panel: Panel) -> None:
        super().__init__(ui, panel)
        self._updating = False
        self._classes = {
            "target": _ClassChoice(ui.targetComboBox, _("As predicted")),
            "ratherThan": _ClassChoice(ui.ratherThanComboBox, _("(nothing)")),
        }
        self.segment = SegmentChoice(ui.segmentSelector, "segmentation", "segment", panel)
        self.live = Live(ui, panel)
        for combo in (ui.targetComboBox, ui.ratherThanComboBox):
            combo.connect("currentIndexChanged(int)", self._on_class)
        self.on_model()

    def on_model(self) -> None:
        """Another model is known: offer its classes."""
        facts = self.panel.model.facts
        names = list(facts["classes"]) if facts else []
        for choice in self._classes.values():
            choice.offer(names)
        self.refresh()

    def refresh(self) -> None:
        parameters = self.parameters
        if parameters is None:
            return
        self._updating = True
        try:
            for name, choice in self._classes.items():
                choice.choose(getattr(parameters, name))
        finally:
            self._updating = False
        ui, where = self.ui, parameters.where
        fields = {
            ui.segmentSelector: where is Where.SEGMENT,
            ui.roiSelector: where is Where.ROI,
            ui.pointsSelector: where is Where.POINTS,
        }
        show_rows(ui.questionCollapsibleButton.layout(), fields)
        self.segment.refresh()

    def close(self) -> None:
        super().close()
        self.live.stop()

    def asked(self) -> dict[str, Any]:
        """The question as arguments of the logic's `explain`.

        Raises UserError if the place that was chosen is not complete.
        """
        chosen = self.parameters
        question: dict[str, Any] = {
            "target": chosen.target or None,
            "ratherThan": chosen.ratherThan or None,
            "value": chosen.value.value,
            "start": chosen.start.value,
        }
        return question | {"where": self._where(chosen)}

    def _where(self, chosen: Any) -> Any:
        if chosen.where is Where.SEGMENT:
            if not self.segment.segment:
                raise UserError(_("Choose the segment to ask about, or ask where the class is predicted."))
            return (chosen.segmentation, self.segment.segment)
        if chosen.where is Where.ROI:
            if chosen.roi is None:
                raise UserError(_("Choose or draw the box (ROI) to ask about, or ask where the class is predicted."))
            return chosen.roi
        if chosen.where is Where.POINTS:
            if chosen.points is None or not chosen.points.GetNumberOfDefinedControlPoints():
                raise UserError(_("Place a point to ask about, or ask where the class is predicted."))
            return chosen.points
        return "everywhere" if chosen.where is Where.EVERYWHERE else None

    def _on_class(self, *_index: Any) -> None:
        if self._updating or self.parameters is None:
            return
        for name, choice in self._classes.items():
            if getattr(self.parameters, name) != choice.name:
                setattr(self.parameters, name, choice.name)


class _ClassChoice:
    """A combo box of class names with a first entry that stands for none."""

    def __init__(self, combo: Any, none: str) -> None:
        self._combo, self._none = combo, none
        self._names: list[str] = []
        self.offer([])

    @property
    def name(self) -> str:
        """The chosen class; empty for none."""
        return self._names[max(0, self._combo.currentIndex)]

    def offer(self, names: list[str]) -> None:
        self._names = ["", *names]
        blocked = self._combo.blockSignals(True)
        self._combo.clear()
        self._combo.addItems([self._none, *names])
        self._combo.blockSignals(blocked)

    def choose(self, name: str) -> None:
        if name not in self._names:  # of a scene whose model has not been looked at yet, or of another model
            self.offer([*self._names[1:], name])
        index = self._names.index(name)
        if self._combo.currentIndex != index:
            self._combo.currentIndex = index
