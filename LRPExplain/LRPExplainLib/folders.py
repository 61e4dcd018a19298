"""Output folders that appear whole or not at all."""

import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from math import isfinite
from pathlib import Path
from typing import Any

from .errors import UserError, reason

_CLUTTER = (".DS_Store", "Thumbs.db")  # what systems leave in a folder that somebody has looked into


def check_replaceable(folder: Path, own: tuple[str, ...]) -> None:
    """Refuse a folder that no result can go to: it holds anything but what LRPExplain itself writes, or is no place.

    A link stands for where it leads to, here and in all that is written.

    Args:
        folder: where a result shall go.
        own: patterns of the entries that a result consists of; the first must be there for it to be one. What may lie
            in its folders has patterns of its own (see `within`).

    Raises:
        UserError: `folder` is a file, a folder with other things in it, or where nothing can be written.
    """
    if os.path.ismount(os.path.realpath(folder)):
        raise UserError(f"'{folder}' is a mount point, which cannot be replaced: choose a new folder in it.")
    check_writable(folder)
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UserError(f"'{folder}' is a file: choose another output folder.")
    try:
        entries = list(folder.iterdir())
        foreign = _foreign(folder, own)
    except OSError as error:
        raise UserError(
            f"'{folder}' cannot be looked into ({error.strerror}): choose another output folder."
        ) from error
    if foreign:
        raise UserError(f"The folder '{folder}' holds other files ({foreign[0]}): choose another output folder.")
    if entries and not any(entry.match(own[0]) for entry in entries):
        raise UserError(f"The folder '{folder}' is not empty and holds no {own[0]}: choose another output folder.")


def within(folder: str, own: tuple[str, ...]) -> tuple[str, ...]:
    """Patterns of what may lie in a folder of this name, for `check_replaceable`."""
    return tuple(f"{folder}/{pattern}" for pattern in own)


def _foreign(folder: Path, own: tuple[str, ...]) -> list[str]:
    """Entries of the folder that no pattern has; where there are none, files in its own folders that no pattern has.

    So somebody's home or disk is known for what it is without a look at all that is in it.
    """

    def others(entries: Iterable[Path]) -> list[str]:
        return sorted(inside.as_posix() for entry in entries if not _is_own(inside := entry.relative_to(folder), own))

    return others(folder.iterdir()) or others(entry for entry in folder.rglob("*") if not entry.is_dir())


def _is_own(inside: Path, own: tuple[str, ...]) -> bool:
    patterns = (pattern for pattern in own if pattern.count("/") + 1 == len(inside.parts))
    return inside.name in _CLUTTER or any(inside.match(pattern) for pattern in patterns)


def check_writable(place: Path) -> None:
    """Refuse a place before anything is computed that could not be kept there.

    What `whole_folder` will do is tried: permissions alone do not tell of a read-only file system, /proc, or a name
    that is too long. Nothing is left of the trial, neither it nor the parents that it took.

    Raises:
        UserError: no folder or file can be made beside `place`.
    """
    trial = beside(place)
    made: list[Path] = []
    try:
        for folder in (*reversed(trial.parents), trial):
            if not os.path.isdir(folder):
                folder.mkdir()
                made.append(folder)
    except OSError as error:
        raise UserError(
            f"Nothing can be written next to '{place}' ({error.strerror}): choose another place."
        ) from error
    finally:
        for folder in reversed(made):
            with suppress(OSError):
                folder.rmdir()


def beside(place: Path, kind: str = "partial") -> Path:
    """A hidden sibling of this place that nothing else is called; on the same file system, so renaming is one step."""
    place = Path(os.path.realpath(place))
    return place.with_name(f".{place.name}.{uuid.uuid4().hex[:8]}.{kind}")


@contextmanager
def whole_folder(folder: Path, own: tuple[str, ...]) -> Iterator[Path]:
    """A new folder to write into that takes the place of `folder` on success and vanishes on an error.

    It is a sibling, so that renaming it is one step on the same file system; an earlier result is removed last.

    Raises:
        UserError: see `check_replaceable`; or the place cannot be written to, before or while it is.
    """
    check_replaceable(folder, own)
    folder = Path(os.path.realpath(folder))
    partial, earlier = beside(folder), beside(folder, "old")
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise UserError(
            f"Nothing can be written next to '{folder}' ({error.strerror}): choose another place."
        ) from error
    try:
        yield partial
        if folder.exists():
            folder.rename(earlier)
        partial.rename(folder)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        if earlier.exists() and not folder.exists():
            earlier.rename(folder)
        if isinstance(error, OSError) and (error.filename is None or str(error.filename).startswith(str(partial))):
            why = error.strerror or error
            raise UserError(f"'{folder}' could not be written ({why}): make room or choose another place.") from error
        raise
    shutil.rmtree(earlier, ignore_errors=True)


def write_whole(texts: Mapping[Path, str]) -> None:
    """Write files, all or none: first beside their places, so that none of them is seen half.

    Raises:
        OSError: they cannot be written, or one of them cannot be replaced, as on Windows while somebody has it open.
    """
    places = {Path(os.path.realpath(path)): text for path, text in texts.items()}
    partial, earlier = ({place: beside(place, kind) for place in places} for kind in ("partial", "old"))
    replaced: list[Path] = []
    try:
        for place, text in places.items():
            place.parent.mkdir(parents=True, exist_ok=True)
            partial[place].write_text(text, encoding="utf-8")
            if place.exists():
                shutil.copyfile(place, earlier[place])
        for place, half in partial.items():
            half.replace(place)
            replaced.append(place)
    except BaseException:
        for place in replaced:
            if earlier[place].exists():
                earlier[place].replace(place)
            else:
                place.unlink()
        raise
    finally:
        for rest in (*partial.values(), *earlier.values()):
            rest.unlink(missing_ok=True)


def read_json(path: Path, give: str, again: str) -> Any:
    """What `write_json` wrote.

    Raises:
        UserError: there is no such file, with what to ``give`` instead; or it is not JSON, with what to do ``again``.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):  # of the latter the folder itself is a file
        raise UserError(f"There is no '{path}': give {give}.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"'{path}' is not readable JSON ({reason(error)}): {again}.") from error


def write_json(content: Mapping[str, Any], path: Path) -> None:
    """Facts as people and programs read them; ValueError for NaN and infinity, which JSON has not."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def json_number(value: float) -> float | None:
    """For `write_json`: None for NaN and infinity."""
    return float(value) if isfinite(value) else None
