"""Where the worker's answer to an explanation lies, for checks that need more of it than the scene keeps.

It lies in the session's temporary folder until the scene is closed: in a scene that was loaded, the volume has to be
explained again first.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from ..explanation import given_volumes
from . import record
from .host import tr as _
from .parts import whole_of

if TYPE_CHECKING:
    from .presented import PresentedNodes

_ANSWER = record.PREFIX + "Answer"
_EVALUATION = "-evaluation"
# The folders that were kept since Slicer's start: the attribute is saved with scenes, and a scene's file may name any
_known: set[Path] = set()


def keep(first: Any, folder: Path | None) -> None:
    """Remember the answer's folder on the first map; that of an earlier answer goes. None: there is none."""
    earlier = Path(first.GetAttribute(_ANSWER) or "")
    if earlier != folder:
        _remove(earlier)
    if folder is None:
        first.RemoveAttribute(_ANSWER)
    else:
        _known.add(folder)
        first.SetAttribute(_ANSWER, str(folder))


def forget() -> None:
    """Remove the folders of all answers, when their scene was closed."""
    for folder in list(_known):
        _remove(folder)


def _remove(folder: Path) -> None:
    if folder in _known:
        _known.remove(folder)
        for old in (folder, evaluation_beside(folder)):
            shutil.rmtree(old, ignore_errors=True)


def answer_of(presented: PresentedNodes) -> Path:
    """The answer's folder.

    Raises:
        UserError: it is part of another map, has gone or was not kept, or the volume has changed since.
    """
    if whole_of(presented.relevance[0]) is not presented.relevance[0]:
        raise UserError(_("This is the map of one channel: show the whole map, then check that."))
    folder = Path(presented.relevance[0].GetAttribute(_ANSWER) or "")
    if folder not in _known or not folder.is_dir():
        raise UserError(
            _(
                "The answer behind this map is not at hand, as of maps that came with a scene and of those at the"
                " crosshair: explain the volume again, then check it."
            )
        )
    given = [entry["path"] for entry in presented.facts["volumes"] if entry.get("path")]
    if not all(Path(path).exists() for path in given):
        raise UserError(_("The volume has changed since it was explained: explain it again, then check it."))
    return folder


def volumes_of(presented: PresentedNodes) -> list[Any]:
    """The nodes of all volumes that were given, for further maps of them.

    Raises:
        UserError: one of them was deleted since, or its map.
    """
    given = given_volumes(presented.facts["volumes"])
    found = [node for node in presented.volumes if node is not None and node.GetScene() is not None]
    if len(found) != len(given):
        raise UserError(_("A volume of this explanation or its map was deleted: explain the volumes again."))
    return found


def evaluation_beside(folder: Path) -> Path:
    """Where the checks of an answer are kept."""
    return folder.with_name(folder.name + _EVALUATION)


def evaluation_of(presented: PresentedNodes) -> Path | None:
    """The folder of its checks; None where none has been made."""
    folder = evaluation_beside(answer_of(presented))
    return folder if folder.is_dir() else None


def series_of(node: Any) -> list[str]:
    """The files of the DICOM series that a volume node came from; empty if it did not, or they are not at hand."""
    from .host import slicer

    uids = (node.GetAttribute("DICOM.instanceUIDs") or "").split() if node is not None else []
    database = getattr(slicer, "dicomDatabase", None)
    files = [database.fileForInstance(uid) for uid in uids] if database is not None else []
    return files if files and all(files) else []
