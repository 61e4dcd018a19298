"""Volumes in several files: a header, and the voxels in other files that it names or that are called like it.

ITK reads them through the header. A volume's SHA-256 has to be of all of them: the header alone is the same for any
two volumes of one geometry.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from ..errors import UserError

_HEADER_BYTES = 1 << 20  # no header is longer; behind it, in the same file, voxels may follow
_LIST = re.compile(r"LIST\b", re.IGNORECASE)  # the names of the files follow, one in each line
_NUMBERED = re.compile(
    r"(?P<name>[^%]*%\d{0,2}d[^%]*?)\s+(?P<numbers>-?\d+(?:\s+-?\d+)*)\s*"
)  # such as "slice%03d.raw 1 20 1"
_MOST = 1 << 16  # files that a pattern may stand for
_LONGEST = 4096  # characters of a path, on any system


def parts_of(path: Path) -> list[Path]:
    """The files of a volume that is given as one file, its header first.

    Raises:
        UserError: one of them is not there.
    """
    suffix = Path(path.name.removesuffix(".gz")).suffix.lower()
    named = _READERS[suffix](path) if suffix in _READERS else []
    missing = next((part for part in named if not os.path.isfile(part)), None)
    if missing is not None:
        raise UserError(f"The voxels of '{path}' are to lie in '{missing}', which is not there: put it back.")
    return [path, *named]


def _of_metaimage(path: Path) -> list[Path]:
    lines = _lines(path)
    for n, line in enumerate(lines):
        key, equals, value = line.partition("=")
        if equals and key.strip() == "ElementDataFile":  # the last one of the header
            return [] if value.strip().upper() == "LOCAL" else _named(path, value.strip(), lines[n + 1 :])
    return []


def _of_nrrd(path: Path) -> list[Path]:
    lines = _lines(path)
    for n, line in enumerate(lines):
        if not line.strip():  # the end of the header
            return []
        key, colon, value = line.partition(":")
        if colon and key.strip().lower() in ("data file", "datafile") and not value.startswith("="):
            return _named(path, value.strip(), lines[n + 1 :])
    return []


def _of_pair(path: Path) -> list[Path]:
    """NIfTI and Analyze: NAME.hdr and NAME.img, either of which may be given and be compressed."""
    name = path.name.removesuffix(".gz")
    other = {".hdr": ".img", ".img": ".hdr"}[Path(name).suffix.lower()]
    beside = [path.with_name(f"{Path(name).stem}{other}{ending}") for ending in ("", ".gz")]
    return [file for file in beside if file.is_file()][:1]  # one that is missing is refused when it is read


def _named(header: Path, value: str, following: list[str]) -> list[Path]:
    """What a header says of where the voxels lie: a name, a list of names, or a pattern with numbers.

    What is too long for a name is none: whoever reads the volume says so.
    """
    if _LIST.match(value):
        names = [line.strip() for line in following if line.strip()]
    elif len(value) > _LONGEST:
        names = []
    elif numbered := _NUMBERED.fullmatch(value):
        first, last, step = [*(int(n) for n in numbered["numbers"].split()), 1, 1][:3]
        numbers = range(first, last + (1 if step > 0 else -1), step or 1)
        names = [numbered["name"] % n for n in numbers[:_MOST]]
    else:
        names = [value]
    return [header.parent / name for name in names if len(name) <= _LONGEST]


def _lines(path: Path) -> list[str]:
    try:
        with path.open("rb") as stream:
            return stream.read(_HEADER_BYTES).decode("utf-8", errors="surrogateescape").splitlines()
    except OSError:  # whoever reads the volume says so
        return []


_READERS: dict[str, Callable[[Path], list[Path]]] = {
    ".mhd": _of_metaimage,
    ".mha": _of_metaimage,
    ".nhdr": _of_nrrd,
    ".nrrd": _of_nrrd,
    ".hdr": _of_pair,
    ".img": _of_pair,
}
