"""JSON that somebody has changed: every entry in turn becomes something else, or goes."""

import copy
from collections.abc import Iterator
from typing import Any

_INSTEAD = (None, 0, "x", [], {}, "../../x")
_GONE = object()


def damaged(facts: Any) -> Iterator[Any]:
    """Copies of the facts with one entry changed each; of lists the first two entries."""
    for path in _paths(facts):
        for instead in (*_INSTEAD, _GONE):
            copied = copy.deepcopy(facts)
            *way, last = path
            place = copied
            for step in way:
                place = place[step]
            if instead is _GONE:
                del place[last]
            else:
                place[last] = instead
            yield copied


def _paths(facts: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    steps = facts if isinstance(facts, dict) else range(min(2, len(facts))) if isinstance(facts, list) else ()
    for step in steps:
        yield (*before, step)
        yield from _paths(facts[step], (*before, step))
