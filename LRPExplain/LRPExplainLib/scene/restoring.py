"""What a scene needs after it was loaded, beyond what its file holds."""

from __future__ import annotations

from typing import Any

from . import display, following, overlay, side_by_side
from .presented import presented_in


def restore(scene: Any) -> None:
    """Bring the explanations of a loaded scene back as they were: overlay, settings, links between nodes, side by side.

    Slicer's scene files do not keep the opacity of additional layers, and round the window to six digits.
    """
    side_by_side.resume(scene)
    for presented in presented_in(scene):
        display.apply(presented, display.read(presented))
    overlay.restore(scene)
    following.watch(scene)
