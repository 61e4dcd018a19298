"""Observers that are added once, and keep neither a node nor a scene alive."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .host import vtk

# What is observed already, by its address, the event and what is called. (No DeleteEvent: a closure that is called for
# it while Python collects garbage may be in pieces itself, which ends the process.)
_observed: dict[tuple[str, int, Callable[..., None]], Any] = {}


def observe(thing: Any, event: int, act: Callable[..., None]) -> None:
    """Call ``act`` for every ``event`` of a node or scene from now on; again has no further effect."""
    key = (thing.GetAddressAsString(""), int(event), act)
    known = _observed.get(key)
    if known is None or known.Get() is None:  # never seen, or it was another one at the same place in memory
        _observed[key] = vtk.vtkWeakReference()
        _observed[key].Set(thing)
        thing.AddObserver(event, act)
