"""Which volume belongs to which input channel, by their names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

# Names that differ between scanners, archives and model cards for the same sequence
_SYNONYMS = (
    {"t1c", "t1ce", "t1gd", "t1post", "t1km", "t1wc", "t1wce", "t1wgd"},
    {"flair", "t2flair", "fl"},
    {"t1", "t1w", "t1n"},
    {"t2", "t2w"},
    {"pd", "pdw"},
    {"adc", "adcmap"},
    {"dwi", "hbv"},
    {"ct", "ctvolume"},
)
# Words that tell of a contrast agent wherever they stand in the name of a T1, and those that tell of its absence
_WITH_CONTRAST = {
    "ce", "cm", "contrast", "enhanced", "gad", "gado", "gadolinium", "gd", "km", "post", "postcontrast",
}  # fmt: skip
_WITHOUT_CONTRAST = {"native", "non", "noncontrast", "pre", "precontrast", "unenhanced", "without"}
# What stands for other words: "post-op" is not after a contrast agent, and "no 3" not without one
_MEANING = (
    (re.compile(r"(pre|post)[^a-z0-9]*(op|surg|treat|rt|therap)[a-z]*"), " "),
    (re.compile(r"\+ ?c(?![a-z0-9])"), " ce "),
    (re.compile(r"(?<![a-z0-9])no[^a-z0-9]+(?=contrast|enh|ga?d)"), " without "),
)
_SAYING_NOTHING = {"weighted", "with", "image", "scan", "mr", "mri"}


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
    text = text.lower()
    for pattern, meaning in _MEANING:
        text = pattern.sub(meaning, text)
    words = re.split(r"[^a-z0-9]+", text)
    words = [word for word in words if word and word not in _SAYING_NOTHING]
    if _SYNONYMS[2] & set(words):
        contrast = _WITH_CONTRAST & set(words) and not _WITHOUT_CONTRAST & set(words)
        words = [word for word in words if word not in _WITH_CONTRAST | _WITHOUT_CONTRAST]
        words += ["t1c"] if contrast else []
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
