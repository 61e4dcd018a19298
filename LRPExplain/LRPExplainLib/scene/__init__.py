"""An Explanation in 3D Slicer's own scene: nodes, overlay, pictures, scene file. The only part that imports ``slicer``.

Inside Slicer the nodes go to the application's scene; elsewhere PyPI's slicer-core provides the same scene and views.
Names are looked up on first use: what Slicer loads at start-up must not bring SimpleITK and SciPy with it. (A module
here must not have the name of a function in ``_HOME``: the first import of the module would put it in the function's
place.)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .display import Display
    from .examination import findings_of
    from .presented import PresentedNodes, presented_in, presented_of
    from .presenting import present, present_in_steps, remove
    from .renderer import missing_renderer
    from .rendering import render
    from .restoring import restore
    from .storage import load, save

_HOME = {
    "Display": "display",
    "findings_of": "examination",
    "PresentedNodes": "presented",
    "load": "storage",
    "missing_renderer": "renderer",
    "present": "presenting",
    "present_in_steps": "presenting",
    "presented_in": "presented",
    "presented_of": "presented",
    "remove": "presenting",
    "render": "rendering",
    "restore": "restoring",
    "save": "storage",
}

__all__ = [
    "Display",
    "PresentedNodes",
    "findings_of",
    "load",
    "missing_renderer",
    "present",
    "present_in_steps",
    "presented_in",
    "presented_of",
    "remove",
    "render",
    "restore",
    "save",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
