"""Models that run code of their own: asked once for each content, and remembered in Slicer's settings."""

from __future__ import annotations

from typing import Any

import slicer
from slicer.i18n import tr as _


def consent(what: dict[str, Any], may_ask: bool) -> bool:
    """Whether a model may run ``what["sentences"]``; a yes holds for the same files (``what["sha256"]``) for good."""
    settings, key = slicer.app.userSettings(), f"LRPExplain/Trusted/{what['sha256']}"
    if slicer.util.toBool(settings.value(key, False)):
        return True
    if not may_ask or slicer.app.testingEnabled():  # where nobody can answer, the answer is no
        return False
    question = _(
        "This model wants to run code from its own files:\n\n{what}\n\n"
        "Allow it only if you trust where the model comes from. Run it?"
    )
    if not slicer.util.confirmOkCancelDisplay(question.format(what="\n".join(what["sentences"]))):
        return False
    settings.setValue(key, True)
    return True
