"""The files of a bundle, wherever they lie: in a folder, in a zip file, or within a TorchScript file."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from ...digests import sha256_of
from ...errors import UserError
from ..archive import Source, is_zip, opened

METADATA = "configs/metadata.json"
# Text of a config that is larger than this is no config.
_TEXT_BYTES = 16 << 20
# What Python could import; with what is read it makes up the bundle's identity.
_CODE = (".py", ".pyc", ".pyd", ".so", ".zip", ".egg", ".pth")


class BundleFiles(Protocol):
    """Names are relative to the bundle's root, with "/"."""

    @property
    def name(self) -> str: ...

    def has(self, file: str) -> bool: ...

    def text(self, file: str) -> str: ...

    def weights(self, file: str) -> Source:
        """Where the weights can be read from."""
        ...

    def code(self) -> list[str]:
        """Files that Python could import."""
        ...

    def digest(self, weights: str) -> str:
        """SHA-256 of all configs, all code and these weights; the same for a folder as long as none of them changes."""
        ...


class InFolder:
    """A bundle as a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def name(self) -> str:
        return str(self.root)

    def has(self, file: str) -> bool:
        return (self.root / file).is_file()

    def text(self, file: str) -> str:
        path = self.root / file
        return _text(path.read_bytes() if path.stat().st_size <= _TEXT_BYTES else None, str(path))

    def weights(self, file: str) -> Source:
        return self.root / file

    def code(self) -> list[str]:
        files = (path for path in self.root.rglob("*") if path.suffix in _CODE and path.is_file())
        return sorted(path.relative_to(self.root).as_posix() for path in files)

    def digest(self, weights: str) -> str:
        configs = (self.root / "configs").rglob("*")
        names = {path.relative_to(self.root).as_posix() for path in configs if path.is_file()}
        digest = hashlib.sha256()
        for name in sorted(names | set(self.code()) | {weights}):
            digest.update(f"{name}\0{(self.root / name).stat().st_size}\0".encode())
            with (self.root / name).open("rb") as stream:
                while chunk := stream.read(1 << 20):
                    digest.update(chunk)
        return digest.hexdigest()


class InZip:
    """A bundle as a zip file, with or without a folder around it. Members are read, never unpacked."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with opened(path, str(path)) as archive:
            self._names = {member.filename: member.file_size for member in archive.infolist() if not member.is_dir()}
        found = sorted((n for n in self._names if n == METADATA or n.endswith(f"/{METADATA}")), key=len)
        self.prefix = found[0].removesuffix(METADATA) if found else ""

    @property
    def name(self) -> str:
        return str(self.path)

    def has(self, file: str) -> bool:
        return self.prefix + file in self._names

    def text(self, file: str) -> str:
        small = self._names[self.prefix + file] <= _TEXT_BYTES
        return _text(self._bytes(file) if small else None, f"{self.path}/{file}")

    def weights(self, file: str) -> Source:
        return self._bytes(file)

    def code(self) -> list[str]:
        names = (n.removeprefix(self.prefix) for n in self._names if n.startswith(self.prefix))
        return sorted(name for name in names if name.endswith(_CODE))

    def digest(self, weights: str) -> str:
        return sha256_of(self.path)

    def _bytes(self, file: str) -> bytes:
        with opened(self.path, str(self.path)) as archive:
            return archive.read(self.prefix + file)


class InMemory:
    """Configs that lie within or beside a model of another format."""

    def __init__(self, name: str, texts: Mapping[str, str]) -> None:
        self.name = name
        self._texts = texts

    def has(self, file: str) -> bool:
        return file in self._texts

    def text(self, file: str) -> str:
        return self._texts[file]

    def weights(self, file: str) -> Source:
        raise KeyError(file)

    def code(self) -> list[str]:
        return []

    def digest(self, weights: str) -> str:
        return hashlib.sha256("\0".join(self._texts.values()).encode()).hexdigest()


def bundle_files(path: Path) -> tuple[BundleFiles, str | None] | None:
    """The bundle that a path stands for, and the weights if it names them; None if it is none.

    A bundle's folder or zip file, or its weights under models/.
    """
    if path.is_dir():
        return (InFolder(path), None) if (path / METADATA).is_file() else None
    if path.parent.name == "models" and (path.parent.parent / METADATA).is_file():
        return InFolder(path.parent.parent), f"models/{path.name}"
    if path.suffix.lower() == ".zip" and is_zip(path):
        files = InZip(path)
        return (files, None) if files.has(METADATA) else None
    return None


def _text(content: bytes | None, name: str) -> str:
    if content is None:
        raise UserError(f"'{name}' is larger than {_TEXT_BYTES >> 20} MiB, which no configuration is: do not use it.")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"'{name}' is not text ({error.reason}): fetch the bundle again.") from error
