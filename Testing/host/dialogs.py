"""Dialogs that a person would answer: recorded, and answered at once. A real one would block a test for ever."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import Any

from PySide6 import QtWidgets

from .pythonqt import invokable

_Button = QtWidgets.QMessageBox.StandardButton
_AGREEING = (_Button.Ok, _Button.Yes)


@dataclass
class Dialogs:
    """What was shown, and what is answered: message boxes are agreed to unless ``refuse``; paths and texts queue up."""

    shown: list[str] = field(default_factory=list)
    details: list[str] = field(default_factory=list)
    refuse: bool = False
    paths: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    def answer(self, text: str, buttons: Any) -> Any:
        self.shown.append(text)
        offered = [each for each in _Button.__members__.values() if each.value and each in buttons]
        if self.refuse:
            refusals = [each for each in offered if each not in (*_AGREEING, _Button.Retry)]
            return refusals[0] if refusals else _Button.Ok
        return next((each for each in offered if each in _AGREEING), offered[0] if offered else _Button.Ok)


dialogs = Dialogs()


def ask_for_path(_current: str, _folder_only: bool, _filters: Any) -> str:
    """The next path of the queue; empty, as after Cancel, if there is none."""
    return dialogs.paths.pop(0) if dialogs.paths else ""


def ask_for_text(_label: str, _default: str) -> str:
    return dialogs.texts.pop(0) if dialogs.texts else ""


class _MessageBox(QtWidgets.QMessageBox):
    """A message box that is answered when it is executed."""

    @invokable
    def exec_(self) -> Any:
        dialogs.details.append(self.detailedText())
        return dialogs.answer(self.text(), self.standardButtons())

    @invokable
    def exec(self) -> Any:  # as Qt names it
        return self.exec_()

    @staticmethod
    @invokable
    def question(_parent: Any, _title: str, text: str, buttons: Any = _Button.Yes | _Button.No, _d: Any = None) -> Any:
        return dialogs.answer(text, buttons)

    @staticmethod
    @invokable
    def information(_parent: Any, _title: str, text: str, buttons: Any = _Button.Ok, _d: Any = None) -> Any:
        return dialogs.answer(text, buttons)

    warning = information


class QMessageBox(_MessageBox):
    """`qt.QMessageBox`."""


class ctkMessageBox(_MessageBox):
    """`ctk.ctkMessageBox`, which can be told not to show again; here it always shows."""


class QFileDialog(QtWidgets.QFileDialog):
    """`qt.QFileDialog`: its static functions take the next path of the queue."""

    @staticmethod
    @invokable
    def getOpenFileName(_parent: Any = None, _caption: str = "", current: str = "", filters: str = "", *_: Any) -> str:
        return ask_for_path(current, False, filters)

    @staticmethod
    @invokable
    def getExistingDirectory(_parent: Any = None, _caption: str = "", current: str = "", *_: Any) -> str:
        return ask_for_path(current, True, "")

    getSaveFileName = getOpenFileName


REPLACEMENTS: dict[str, type] = {each.__name__: each for each in (QMessageBox, QFileDialog)}


def forget() -> None:
    """As at start-up."""
    fresh = Dialogs()
    with contextlib.suppress(AttributeError):
        vars(dialogs).update(vars(fresh))
