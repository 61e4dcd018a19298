"""Section "Trust": one button for each check of the map that is shown, other methods, the record, DICOM."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import qt
import slicer
import vtk
from slicer.i18n import tr as _

from ...errors import UserError
from .progress import show_progress
from .section import Section
from .verdicts import compared, verdicts

if TYPE_CHECKING:
    from .panel import Panel

# as `methods` names them, and whether captum does the work
METHODS = {
    "gradient": True, "gradient-x-input": True, "integrated-gradients": True, "smoothgrad": True, "grad-cam": False,
    "guided-backprop": False, "occlusion": True, "rise": False,
}  # fmt: skip
_CAPTUM, _HIGHDICOM = "captum>=0.8", "highdicom>=0.28"
_CHECKS = ("agreement", "faithfulness", "sanity", "complexity")


class TrustSection(Section):
    """Of the explanation that the display section has. The worker checks; one thing runs at a time."""

    def __init__(self, ui: Any, panel: Panel) -> None:
        super().__init__(ui, panel)
        self._run: Any = None
        self._about: Any = None  # the explanation that the last request is about
        for name in _CHECKS:
            getattr(ui, f"{name}Button").connect("clicked(bool)", _ignoring(self.check, name))
        ui.otherMethodComboBox.addItems(list(METHODS))
        ui.otherMethodComboBox.currentText = "gradient-x-input"
        ui.compareButton.connect("clicked(bool)", _ignoring(self.compare))
        ui.recordButton.connect("clicked(bool)", _ignoring(self.ask_for_record))
        ui.dicomButton.connect("clicked(bool)", _ignoring(self.ask_for_dicom))
        ui.trustCancelButton.connect("clicked(bool)", _ignoring(self.cancel))
        ui.resultsComboBox.connect("currentIndexChanged(int)", _ignoring(self._on_chosen))
        ui.showResultButton.connect("toggled(bool)", self.show_result)
        self._results: list[Any] = []
        self._say("")
        self._show_running()

    @property
    def running(self) -> bool:
        return self._run is not None

    @property
    def nodes(self) -> Any:
        """The explanation that is shown; None if there is none."""
        return self.panel.display.nodes

    def refresh(self) -> None:
        """Buttons can be pressed where they can do something; tool tips say what is missing."""
        free = not (self.nodes is None or self.running or self.panel.installing)
        for name in ("faithfulness", "sanity", "complexity", "compare", "record"):
            getattr(self.ui, f"{name}Button").enabled = free
        self.ui.otherMethodComboBox.enabled = free
        self.ui.agreementButton.enabled = free and self.panel.volumes.reference.node is not None
        self.ui.dicomButton.enabled = free and any(self._series())

    def on_result(self, _nodes: Any) -> None:
        """An explanation has been presented."""
        self.on_map()

    def on_map(self) -> None:
        """Another map is shown, or none."""
        self._show_results()
        self.refresh()

    def on_removal(self, node: Any) -> None:
        """A node is about to be deleted; of a map that goes nothing is checked any more."""
        if self.running and node is self._about.relevance[0]:
            self.cancel()

    def close(self) -> None:
        super().close()
        self.cancel()
        self.ui.showResultButton.checked = False  # which brings the user's layout back
        self._say("")
        self._show_results()

    def cancel(self) -> None:
        """End what runs; nothing of it is kept."""
        run, self._run = self._run, None
        if run is not None:
            run.cancel()
            self._say(_("Cancelled."))
        self._show_running()

    # --- checks -----------------------------------------------------------------------------------------------------

    def check(self, name: str) -> None:
        """Make one check; its tables, plots and verdict join those that are there."""
        self._begin(lambda: self._checking(name))

    def compare(self) -> None:
        """Explain the same answer by another method, and compare; its map, consensus and combination are shown."""
        self._begin(self._comparing)

    def write_record(self, path: Path) -> None:
        """Write the record to an .html file, with pictures of the views and the checks that were made."""
        self._begin(lambda: self._recording(path))

    def write_dicom(self, folder: Path) -> None:
        """Write DICOM objects into a folder."""
        self._begin(lambda: self._exporting(folder))

    def ask_for_record(self) -> None:
        """Ask where to, then write."""
        name = qt.QFileDialog.getSaveFileName(
            slicer.util.mainWindow(), _("Record of the explanation"), "record.html", _("Record (*.html)")
        )
        if name:  # "case 1.2" has no ending
            self.write_record(Path(name if name.lower().endswith(".html") else f"{name}.html"))

    def ask_for_dicom(self) -> None:
        """Ask for an empty folder, then write."""
        name = qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), _("Folder for the DICOM objects"))
        if name:
            self.write_dicom(Path(name))

    def _begin(self, request: Callable[[], Any]) -> None:
        """Start a request; whatever is wrong is said below the buttons."""
        if self.nodes is None:
            return
        self.cancel()
        self.panel.begin(self)
        self._about = self.nodes
        self._say("")
        try:
            self.panel.ensure(self.panel.logic.ensurePackages)
            self._run = request() if self.nodes is not None else None  # the scene may have been closed meanwhile
        except UserError as error:
            self._say(str(error))
        self._on_progress("starting", 0.0, None)
        self._show_running()

    def _checking(self, name: str) -> Any:
        from .. import checks, record

        nodes, reference = self.nodes, self.panel.volumes.reference
        given = []
        if name == "agreement":
            chosen = [reference.segment] if reference.segment else reference.node.GetSegmentation().GetSegmentIDs()
            given = [(reference.node, segment) for segment in chosen]

        def done(event: dict[str, Any]) -> None:
            nodes.relevance[0].SetAttribute(record.VERDICT, "\n".join(verdicts(event["facts"])))
            self._finish(write=lambda: checks.write_evaluation(nodes, event["facts"]))

        return checks.evaluate(self._session, nodes, [name], given, **self._callbacks(done))

    def _comparing(self) -> Any:
        from .. import checks
        from .packages import ensure_optional

        method, nodes = self.ui.otherMethodComboBox.currentText, self.nodes
        if METHODS[method]:
            self.panel.ensure(lambda: ensure_optional([_CAPTUM]))

        def done(facts: dict[str, Any]) -> None:
            self._finish(compared(facts), lambda: checks.write_comparison(nodes, facts))
            self.panel.display.refresh()

        return checks.compare(self._session, nodes, method, **self._callbacks(done))

    def _recording(self, path: Path) -> Any:
        from .. import checks

        def done(event: dict[str, Any]) -> None:
            self._finish(_("The record is {file}.").format(file=event["files"][0]))

        return checks.record(self._session, self.nodes, path, **self._callbacks(done))

    def _exporting(self, folder: Path) -> Any:
        from .. import checks
        from .packages import ensure_optional

        self.panel.ensure(lambda: ensure_optional([_HIGHDICOM]))

        def done(event: dict[str, Any]) -> None:
            self._finish(_("Written: {files}.").format(files=", ".join(event["files"])))

        return checks.export_dicom(self._session, self.nodes, self._series(), folder, **self._callbacks(done))

    @property
    def _session(self) -> Any:
        return self.panel.logic.session

    def _series(self) -> list[list[str]]:
        from ..answers import series_of

        return [series_of(node) for node in self.nodes.volumes] if self.nodes is not None else []

    # --- what comes back --------------------------------------------------------------------------------------------

    def _callbacks(self, done: Callable[[Any], None]) -> dict[str, Any]:
        return {"on_progress": self._on_progress, "on_done": done, "on_failed": self._on_failed}

    def _on_progress(self, stage: str, share: float, seconds_left: float | None) -> None:
        show_progress(self.ui.trustProgressBar, stage, share, seconds_left)

    def _on_failed(self, sentence: str) -> None:
        self._run = None
        self._say(sentence)
        self._show_running()

    def _finish(self, text: str = "", write: Callable[[], None] = lambda: None) -> None:
        """What ran is over, whatever comes of writing its results."""
        self._run = None
        try:
            write()
        finally:
            self._say(text)
            self._show_running()
            self._show_results()

    def _show_running(self) -> None:
        self.ui.trustProgressBar.setVisible(self.running)
        self.ui.trustCancelButton.setVisible(self.running)
        self.refresh()

    def _say(self, text: str) -> None:
        self.ui.trustStatusLabel.text = text
        self.ui.trustStatusLabel.setVisible(bool(text))

    # --- results ----------------------------------------------------------------------------------------------------

    def _show_results(self) -> None:
        """The verdicts, and the tables and plots that there are, of the map that is shown."""
        from ..record import VERDICT

        nodes, combo = self.nodes, self.ui.resultsComboBox
        told = nodes.relevance[0].GetAttribute(VERDICT) if nodes is not None else None
        sentences = [*(told or "").splitlines(), *self._other_reference()]
        self.ui.verdictLabel.text = "\n".join(f"• {sentence}" for sentence in sentences)
        self.ui.verdictLabel.setVisible(bool(sentences))
        found = []
        if nodes is not None:
            found += [(_("Table: {name}").format(name=name), node) for name, node in nodes.tables.items()]
            found += [(_("Plot: {name}").format(name=name), node) for name, node in nodes.charts.items()]
        chosen = combo.currentText
        self._results = [node for _name, node in found]
        blocked = combo.blockSignals(True)
        combo.clear()
        combo.addItems([name for name, _node in found])
        combo.setCurrentIndex(max(0, combo.findText(chosen)))
        combo.blockSignals(blocked)
        if not found:
            self.ui.showResultButton.checked = False  # which brings the user's layout back
        combo.enabled = self.ui.showResultButton.enabled = bool(found)

    def _other_reference(self) -> list[str]:
        """The verdict on agreement is about the reference as it was when that was checked."""
        from ..agreed import kept
        from ..examination import held_by

        reference = self.panel.volumes.reference
        before = kept(self.nodes.relevance[0]) if self.nodes is not None else None
        if before is None or reference.node is None:
            return []
        if before == held_by(reference.node, self.nodes.relevance[0], reference.segment):
            return []
        return [_("The reference is not as it was when agreement with it was checked: check it again.")]

    def _on_chosen(self) -> None:
        if self.ui.showResultButton.checked:
            self.show_result(True)

    def show_result(self, wanted: bool) -> None:
        """The chosen table or plot in Slicer's views, or the user's own layout again."""
        from .. import showing
        from ..layout import layout_node

        self.removeObservers(self._on_layout)
        if not wanted:
            showing.back(slicer.mrmlScene)
            return
        index = self.ui.resultsComboBox.currentIndex
        if 0 <= index < len(self._results) and self._results[index].GetScene() is not None:
            showing.show(self._results[index])
            self.addObserver(layout_node(slicer.mrmlScene), vtk.vtkCommand.ModifiedEvent, self._on_layout)

    def _on_layout(self, *_event: Any) -> None:
        """Another layout, which the user has chosen, ends it; the button then shows so."""
        from .. import showing

        if not showing.shown(slicer.mrmlScene):
            self.ui.showResultButton.checked = False


def _ignoring(method: Callable[..., None], *given: Any) -> Callable[[Any], None]:
    """A slot for a signal whose argument says nothing."""
    return lambda _argument: method(*given)
