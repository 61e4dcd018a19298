"""Output folders that appear whole or not at all."""

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import UserError


def check_replaceable(folder: Path, own: tuple[str, ...]) -> None:
    """Refuse a folder whose content a new result may not replace: anything but what LRPExplain itself writes.

    Args:
        folder: where a result shall go.
        own: patterns of the entries that a result consists of; the first must be there for it to be one.

    Raises:
        UserError: `folder` is a file, or a folder with other things in it.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UserError(f"'{folder}' is a file: choose another output folder.")
    entries = list(folder.iterdir())
    foreign = [entry.name for entry in entries if not any(entry.match(pattern) for pattern in own)]
    if foreign:
        raise UserError(
            f"The folder '{folder}' holds other files ({sorted(foreign)[0]}): choose another output folder."
        )
    if entries and not any(entry.match(own[0]) for entry in entries):
        raise UserError(f"The folder '{folder}' is not empty and holds no {own[0]}: choose another output folder.")


@contextmanager
def whole_folder(folder: Path, own: tuple[str, ...]) -> Iterator[Path]:
    """A new folder to write into that takes the place of `folder` on success and vanishes on an error.

    It is a sibling, so that renaming it is one step on the same file system; an earlier result is removed last.

    Raises:
        UserError: see `check_replaceable`; or the place cannot be written to.
    """
    check_replaceable(folder, own)
    folder = Path(os.path.abspath(folder))
    mark = uuid.uuid4().hex[:8]
    partial, earlier = (
        folder.with_name(f".{folder.name}.{mark}.partial"),
        folder.with_name(f".{folder.name}.{mark}.old"),
    )
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise UserError(
            f"Nothing can be written next to '{folder}' ({error.strerror}): choose another folder."
        ) from error
    try:
        yield partial
        if folder.exists():
            folder.rename(earlier)
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        if earlier.exists() and not folder.exists():
            earlier.rename(folder)
        raise
    shutil.rmtree(earlier, ignore_errors=True)


def write_json(content: Mapping[str, Any], path: Path) -> None:
    """Facts as people and programs read them; ValueError for NaN and infinity, which JSON has not."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
