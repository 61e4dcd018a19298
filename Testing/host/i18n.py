"""What stands for `slicer.i18n`: texts pass through the application's translator with their file as the context."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import slicer


def translate(context: str, text: str) -> str:
    return slicer.app.translate(context, text)


def getContext(sourceFile: str) -> str:
    path = Path(sourceFile)
    return f"{path.parent.name}.{path.stem}" if (path.parent / "__init__.py").is_file() else path.stem


def tr(text: str) -> str:
    """Translate a literal; TypeError for anything but a string, which Qt could not take either."""
    if not isinstance(text, str):
        raise TypeError(f"tr() takes a string, not {text!r}")
    frame = inspect.currentframe()
    caller = frame.f_back if frame else None
    result = translate(getContext(caller.f_code.co_filename if caller else ""), text)
    braces = re.compile(r"(?<!\{)\{([^{}]+)\}(?!\})")
    return result if set(braces.findall(result)) == set(braces.findall(text)) else text
