"""How far the worker is, on a progress bar."""

from __future__ import annotations

from typing import Any

from slicer.i18n import tr as _


def show_progress(bar: Any, stage: str, share: float, seconds_left: float | None) -> None:
    """The stage, the share that is done (0..1), and how long it still takes, if that can be said."""
    bar.value = round(100 * share)
    text = stages().get(stage, _("Working"))
    bar.format = text if seconds_left is None else f"{text} · {time_left(seconds_left)}"


def stages() -> dict[str, str]:
    """The worker's stages in the user's words."""
    return {
        "starting": _("Starting"),
        "loading": _("Loading the model"),
        "reading": _("Reading"),
        "preparing": _("Preparing the volume"),
        "capturing": _("Reading the network"),
        "predicting": _("Predicting"),
        "propagating": _("Carrying relevance back"),
        "returning": _("Bringing it onto the volume"),
        "presenting": _("Showing it"),
        "agreement": _("Comparing with the segment"),
        "perturbing": _("Replacing pieces"),
        "explaining-again": _("Explaining again"),
        "randomising": _("Making the model random"),
        "smoothing": _("Averaging over noise"),
        "asking-about-other-classes": _("Asking about other classes"),
        "adding-noise": _("Adding noise"),
        "complexity": _("Counting"),
        "writing": _("Writing"),
        "done": _("Done"),
    }


def time_left(seconds: float) -> str:
    """ "about 12 s left", in steps that the eye can follow."""
    if seconds < 1.5:
        return _("nearly done")
    if seconds < 90:
        step = 1 if seconds < 10 else 5
        return _("about {count} s left").format(count=max(1, round(seconds / step) * step))
    return _("about {count} min left").format(count=round(seconds / 60))
