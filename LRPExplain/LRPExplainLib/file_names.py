"""File names in any script, on Windows."""

from __future__ import annotations

import locale
import sys


def read_as_utf8() -> None:
    """Let Windows' C runtime take file names for UTF-8, for this process; elsewhere they are.

    Python itself needs no help. SimpleITK hands on the bytes of a name, in UTF-8, which the C runtime takes for the
    system's code page unless it is told (Windows 10 1803 or later; Microsoft's page on ``setlocale``). Slicer's own
    executable says so in its manifest, Slicer's Python does not: a user's temporary folder may have an umlaut.
    """
    if sys.platform == "win32":
        locale.setlocale(locale.LC_CTYPE, ".UTF-8")
