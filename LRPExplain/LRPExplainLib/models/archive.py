"""Zip files from strangers: looked at before anything of them is unpacked."""

import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from ..errors import UserError

Source = Path | bytes
"""A file, or the content of one that lies in an archive itself."""

# What Python's own zip file reader raises at damaged files.
DAMAGED = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, UnicodeDecodeError,
           OverflowError, OSError)  # fmt: skip

# Text shrinks to a tenth and weights hardly at all; what claims more than this is made to fill a disk or the memory.
_RATIO = 100
_SMALL = 64 << 20


@contextmanager
def opened(source: Source, name: str) -> Iterator[zipfile.ZipFile]:
    """A zip file whose members stay in their folder and are of credible size.

    Raises:
        UserError: not a whole zip file; a member with a path out of the folder, a link, a double name, or a size that
            the file cannot hold.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(source) if isinstance(source, bytes) else source) as archive:
            _check(archive, len(source) if isinstance(source, bytes) else source.stat().st_size, name)
            yield archive
    except DAMAGED as error:
        raise UserError(f"'{name}' is not a whole zip file: fetch or save it again.") from error


def stored(archive: zipfile.ZipFile, name: str) -> None:
    """Refuse compressed tensors: PyTorch compresses code alone, so that no tensor claims more than the file holds."""
    compressed = [member for member in archive.infolist() if member.compress_type != zipfile.ZIP_STORED]
    if any(member.filename.split("/")[1:2] != ["code"] for member in compressed):
        raise UserError(f"'{name}' holds compressed parts, which PyTorch never writes: save it again with PyTorch.")


def is_zip(path: Path) -> bool:
    return path.is_file() and zipfile.is_zipfile(path)


def rewritten(archive: zipfile.ZipFile, replaced: Mapping[str, bytes | None]) -> bytes:
    """The archive written anew from the members that were checked, some of them replaced, or left out (None).

    PyTorch reads zip files with a library of its own. A file made to be read differently by the two would slip past
    checks made with Python's; what Python has written has one reading.
    """
    result = io.BytesIO()
    with zipfile.ZipFile(result, "w", zipfile.ZIP_STORED) as copy:
        for member in archive.infolist():
            name = member.filename
            content = replaced[name] if name in replaced else archive.read(member)
            if content is not None and not member.is_dir():
                copy.writestr(name, content)
    return result.getvalue()


def _check(archive: zipfile.ZipFile, size: int, name: str) -> None:
    members = archive.infolist()
    names = [member.filename for member in members]
    if len(set(names)) != len(names):
        raise UserError(f"'{name}' holds two members of the same name: do not use it.")
    for member in members:
        path = PurePosixPath(member.filename.replace("\\", "/"))
        if not path.parts or path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
            raise UserError(f"'{name}' wants to write outside its folder ('{member.filename}'): do not use it.")
        if stat.S_ISLNK(member.external_attr >> 16):
            raise UserError(f"'{name}' holds a link ('{member.filename}') instead of a file: do not use it.")
        if member.flag_bits & 1:
            raise UserError(f"'{name}' is encrypted: decrypt it first.")
    claimed = sum(member.file_size for member in members)
    if claimed > _RATIO * size + _SMALL:
        raise UserError(
            f"'{name}' claims to hold {claimed >> 20} MiB in a file of {size >> 10} KiB, which no model does:"
            " do not use it."
        )
