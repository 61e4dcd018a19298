"""Section "Model": a path, and what is known of the model there."""

from __future__ import annotations

import html
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import qt
import slicer
from slicer.i18n import tr as _

from .dropping import DropFilter
from .section import Section

if TYPE_CHECKING:
    from .panel import Panel

Facts = Mapping[str, Any]
_MANY = 6  # so many classes are named in the line; the details have all


class ModelSection(Section):
    """Asks the worker what a chosen model is; ``facts`` are its answer, None until there is one."""

    def __init__(self, ui: Any, panel: Panel) -> None:
        super().__init__(ui, panel)
        self.facts: Facts | None = None
        self.problem = ""  # why this model cannot be explained, as a sentence
        self._asked: Path | None = None  # the path that `facts` are, or will be, of
        self._request: Any = None
        ui.modelDetailsButton.setVisible(False)
        ui.modelDetailsBrowser.setVisible(False)
        ui.modelDetailsButton.connect("toggled(bool)", ui.modelDetailsBrowser.setVisible)
        ui.demoModelButton.connect("clicked(bool)", self.choose_demo)
        ui.modelFolderButton.connect("clicked(bool)", self.choose_folder)
        self._drops = [
            DropFilter(widget, self.choose)
            for widget in (ui.modelCollapsibleButton, ui.modelPathLineEdit.comboBox().lineEdit())
        ]

    @property
    def path(self) -> Path | None:
        """The chosen model; None where nothing is chosen."""
        chosen = self.parameters.modelFile if self.parameters else None
        return None if chosen is None or str(chosen) in ("", ".") else chosen

    def choose(self, path: str) -> None:
        if self.parameters:
            self.parameters.modelFile = Path(path)

    def choose_demo(self, *_clicked: Any) -> None:
        self.choose(str(self.panel.logic.bundledModel))

    def choose_folder(self, *_clicked: Any) -> None:
        folder = qt.QFileDialog.getExistingDirectory(
            slicer.util.mainWindow(), _("Folder of a MONAI bundle or a trained nnU-Net"), str(self.path or "")
        )
        if folder:
            self.choose(folder)

    def refresh(self) -> None:
        if self.path != self._asked:
            self.describe()

    def describe(self) -> None:
        """Ask what the model is, unless that would mean to install something first."""
        self._asked = path = self.path  # first: the panel looks for another path when what is known is forgotten
        self.forget()
        if path is None:
            self._say(_("Choose a model, or drop its file here.") if self.parameters else "")
        elif not path.exists():
            self.problem = _("There is nothing at this path any more: choose the model again.\n{path}").format(
                path=path
            )
            self._say(self.problem)
        elif not self.panel.entered:
            self._asked = None  # when the user comes to look
        elif self.panel.logic.missingPackages():
            self._say(_("PyTorch and what belongs to it are not installed yet: Explain asks before it installs them."))
        else:
            self._say(_("Looking at the model …"))
            self._request = self.panel.logic.describe(path, on_done=self._on_done, on_failed=self._on_failed)

    def describe_if_unknown(self) -> None:
        """Ask again what could not be told before something was installed or trusted."""
        if self.facts is None and self._request is None:
            self.describe()

    def look_again(self) -> None:
        """Its files may have been mended since they were found to be wrong."""
        if self.problem:
            self.describe()

    def forget(self) -> None:
        """Nothing is known of the model, and no answer is awaited."""
        request, self._request = self._request, None
        if request is not None:
            request.cancel()
        self.problem = ""
        if self.facts is not None:
            self.facts = None
            self.panel.on_model()
        self.ui.modelDetailsButton.checked = False
        self.ui.modelDetailsButton.setVisible(False)

    def close(self) -> None:
        super().close()
        self._asked = None
        self.forget()

    def _on_done(self, facts: Facts) -> None:
        self._request = None
        self.facts = facts
        self._remember()
        self._say(summary(facts))
        self.ui.modelDetailsBrowser.setHtml(details(facts))
        self.ui.modelDetailsButton.setVisible(True)
        self.panel.on_model()

    def _remember(self) -> None:
        """Put the path among the recent ones. The line edit reorders its entries, which must not choose another one."""
        line = self.ui.modelPathLineEdit
        blocked = line.blockSignals(True)
        line.currentPath = str(self._asked)
        line.addCurrentPathToHistory()
        line.blockSignals(blocked)

    def _on_failed(self, sentence: str) -> None:
        """What is wrong with its files stays wrong; trust and packages can be asked for, and a process started anew."""
        refused = self._request is not None and self._request.refused == "user"
        self._request = None
        self.problem = sentence if refused else ""
        self._say(sentence)
        self.panel.refresh()

    def _say(self, text: str) -> None:
        self.ui.modelSummaryLabel.text = text


def summary(facts: Facts) -> str:
    """One line: task, inputs, classes, device, trust."""
    inputs = ", ".join(entry["name"] for entry in facts["inputs"]) or _("one volume per channel")
    classes = list(facts["classes"])
    named = ", ".join(classes[:_MANY]) + (f" … ({len(classes)})" if len(classes) > _MANY else "")
    return _("{name}: {task} of {inputs} into {classes}. {device}. {trust}.").format(
        name=facts["name"],
        task=_task(facts["task"]),
        inputs=inputs,
        classes=named or _("classes that it does not name"),
        device=_device(facts),
        trust=_trust(facts),
    )


def _task(task: str | None) -> str:
    names = {"segmentation": _("segmentation"), "classification": _("classification"), "regression": _("regression")}
    return names.get(task or "", _("answer"))


def _device(facts: Facts) -> str:
    if facts["device"] == "cpu":
        return _("Runs on the CPU, as there is no graphics card for it")
    return _("Runs on {device}").format(device=facts.get("device_name") or facts["device"])


def _trust(facts: Facts) -> str:
    return _("Runs code from its files, as you allowed") if facts.get("trusted") else _("Runs no code from its files")


def details(facts: Facts) -> str:
    """All that is known of a model, as HTML."""
    rows = [
        (_("Name"), facts["name"]),
        (_("About"), facts.get("description")),
        (_("Task"), _task(facts["task"])),
        (_("Inputs"), ", ".join(_input(entry) for entry in facts["inputs"])),
        (_("Classes"), ", ".join(facts["classes"])),
        (_("Composite"), facts.get("composite")),
        (_("Parameters"), f"{facts['parameters']:,}".replace(",", " ") if facts.get("parameters") else None),
        (_("Card"), _("stated") if facts.get("stated") else _("none: defaults are assumed")),
        (_("Device"), _device(facts)),
        (_("Trust"), _trust(facts)),
        (_("File"), facts["path"]),
        (_("SHA-256"), facts["sha256"]),
        *((_("Note"), note) for note in facts.get("notes", ())),
    ]
    cells = (f"<tr><td><b>{title}</b>&nbsp;</td><td>{html.escape(str(text))}</td></tr>" for title, text in rows if text)
    return f"<table>{''.join(cells)}</table>"


def _input(entry: Mapping[str, Any]) -> str:
    return f"{entry['name']} ({entry['modality']})" if entry.get("modality") else str(entry["name"])
