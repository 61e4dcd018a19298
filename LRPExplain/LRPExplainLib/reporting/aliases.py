"""No names of persons in a record: what paths are called in it.

Where a file lies often tells whose it is, and so does the name of a DICOM folder. Of a path only the file's name is
kept; a folder of slices becomes "series 1".
"""

import os
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path, PureWindowsPath
from typing import Any

from ..explanation import Explanation

_PATHS = ("path", "file", "folder", "card_file")  # keys whose values are paths
_SHORTEST = 4  # a path of fewer characters would be found inside words


class Aliases:
    """What to write instead of names: called with any JSON value, it gives that value back without them.

    Args:
        names: what is replaced wherever a string is nothing else.
        paths: what is replaced within strings too, the longest first.
    """

    def __init__(self, names: Mapping[str, str], paths: Mapping[str, str]) -> None:
        self._names = names
        self._paths = sorted(paths.items(), key=lambda item: -len(item[0]))

    @classmethod
    def of(cls, explanation: Explanation, numbered: bool = False) -> "Aliases":
        """Those of an explanation's model and volumes.

        Args:
            numbered: the names of the volumes' files are hidden, too: "volume-1.nrrd".
        """
        model = explanation.model["path"]
        names, paths = {}, {model: last_part(model)}
        for n, entry in enumerate(explanation.volumes, 1):
            path = entry["path"]
            if path is None:
                continue
            if numbered:
                names[entry["name"]] = paths[path] = f"volume-{n}.nrrd"
            elif _is_folder(path):
                names[entry["name"]] = paths[path] = f"series {n}"
            else:
                paths[path] = last_part(path)
        return cls(names, paths)

    def __call__(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: self._path(entry) if key in _PATHS else self(entry) for key, entry in value.items()}
        if isinstance(value, (list, tuple)):
            return [self(entry) for entry in value]
        return self._text(value) if isinstance(value, str) else value

    def _path(self, value: Any) -> Any:
        return last_part(self._text(value)) if isinstance(value, str) else self(value)

    def _text(self, text: str) -> str:
        if text in self._names:
            return self._names[text]
        for path, alias in self._paths:
            if len(path) >= _SHORTEST:
                text = text.replace(path, alias)
        return text


class Verbatim(Aliases):
    """Leaves everything as it is, for those who ask for names."""

    def __init__(self) -> None:
        super().__init__({}, {})

    def __call__(self, value: Any) -> Any:
        return deepcopy(value)


def last_part(path: str) -> str:
    """The name at the end of a path of any system."""
    return PureWindowsPath(path).name or path


def _is_folder(path: str) -> bool:
    """Whether a volume is a folder of slices; one that has gone is judged by its name."""
    return os.path.isdir(path) or (not os.path.exists(path) and not Path(path).suffix)
