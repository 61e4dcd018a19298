"""Which volume belongs to which input channel, by their names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

# Names that differ between scanners, archives and model cards for the same sequence
_SYNONYMS = (
    {"t1c", "t1ce", "t1gd", "t1post", "t1km"},
    {"flair", "t2flair", "fl"},
    {"t1", "t1w", "t1n"},
    {"t2", "t2w"},
    {"pd", "pdw"},
    {"adc", "adcmap"},
    {"dwi", "hbv"},
    {"ct", "ctvolume"},
)


def match(channels: Sequence[str], volumes: Sequence[str]) -> list[int | None]:
    """For each channel the index of the volume whose name says the same; None where no name does.

    A volume is given once, first to the channel that it fits best: "T1ce" is not taken for "T1".
    """
    scores = [
        (_score(_names(channel), _names(volume)), -c, -v)
        for c, channel in enumerate(channels)
        for v, volume in enumerate(volumes)
    ]
    found: dict[int, int] = {}
    for score, c, v in sorted(scores, reverse=True):
        if score and -c not in found and -v not in found.values():
            found[-c] = -v
    return [found.get(c) for c in range(len(channels))]


def _names(text: str) -> set[str]:
    """The words of a name, also joined with the next one ("T1 ce"), each with those that mean the same."""
    words = [word for word in re.split(r"[^a-z0-9]+", text.lower()) if word]
    words += [first + second for first, second in pairwise(list(words))]
    names = set(words)
    for group in _SYNONYMS:
        if names & group:
            names |= group
    # a special kind of T1 or T2 is not the plain one
    special = names & (_SYNONYMS[0] | _SYNONYMS[1])
    return names - _SYNONYMS[2] - _SYNONYMS[3] if special else names


def _score(channel: set[str], volume: set[str]) -> int:
    """Letters of the longest common name."""
    return max((len(name) for name in channel & volume), default=0)
