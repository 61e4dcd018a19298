"""The one error that is meant for the person at the keyboard, and words for it."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

_MANY = 20  # names that a sentence can list


class UserError(Exception):
    """Wrong input, said in one clear sentence: what is wrong and what to do.

    The shell command prints it on one line and exits with code 2; the Slicer module shows it as it is.
    """


def number_of(count: int, noun: str) -> str:
    """ "1 volume", "3 volumes"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def one_of(names: Sequence[str], wanted: str) -> str:
    """ "liver, spleen, kidney"; of many only those that hold or resemble what was asked for, or else the first."""
    if len(names) <= _MANY:
        return ", ".join(names)
    folded = {name.casefold(): name for name in names}
    asked = wanted.strip().casefold()
    alike = [name for name in folded if asked and asked in name] or get_close_matches(asked, folded, n=5, cutoff=0.5)
    shown = [folded[name] for name in alike][:_MANY] or names[:_MANY]
    return f"{', '.join(shown)} and {len(names) - len(shown)} more"


def reason(error: BaseException) -> str:
    """The telling line of a library's exception, for the end of a `UserError`.

    SimpleITK and TorchScript raise several lines of C++ locations around one line of fact, and put that line last.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    last = lines[-1]
    for prefix in ("ITK ERROR:", "RuntimeError:", "sitk::ERROR:"):
        last = last.split(prefix, 1)[-1].strip()
    return last.rstrip(".")
