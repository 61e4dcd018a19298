"""What a bundle would run if it were trusted, as sentences to show beforehand; and running it."""

import importlib
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...errors import UserError, reason
from ..archive import opened
from .bundle import INFERERS_KEYS, TRANSFORMS_KEYS, read_config
from .config import Config, Evaluator
from .expressions import REFERENCE
from .files import BundleFiles, InFolder, InZip
from .networks import KEYS, is_allowed

# MONAI's parser runs these wherever they stand.
_IMPORT = re.compile(r"\$\s*(import|from)\b")


def sentences(files: BundleFiles) -> list[str]:
    """What trusting this bundle would run; empty: nothing, so that there is no need to trust it."""
    config = read_config(files)
    needed = _needed_code(config) if config is not None else []
    if config is None or not needed:
        return []
    everything = [value for _, value in _leaves(config.content, "")]
    imports = [value for value in everything if isinstance(value, str) and _IMPORT.match(value)]
    found = [f"{config.where('imports', line)} runs '{line.removeprefix('$')}'." for line in imports]
    found += [f"{config.where(place, value)} runs '{value}'." for place, value in needed]
    if code := files.code():
        found.append(f"These files of the bundle can then be run: {', '.join(code)}.")
    return found


@contextmanager
def trusted(files: BundleFiles) -> Iterator[Evaluator]:
    """An evaluator that runs what the bundle asks for, with the bundle's own modules in reach."""
    with _on_disk(files) as root:
        config = read_config(files)
        parser: Any = None

        def run(key: str) -> Any:
            nonlocal parser
            try:
                if parser is None and config is not None:
                    bundle = importlib.import_module("monai.bundle")
                    parser = bundle.ConfigParser(config=config.content)
                    parser["bundle_root"] = str(root)
                return parser.get_parsed_content(key)
            except Exception as error:  # it is the bundle's own code that fails
                raise UserError(f"The bundle '{files.name}' failed at {key} ({reason(error)}): correct it.") from error

        with _importable(root):
            yield run


_imported: list[str] = []  # the modules of the bundle that was trusted last


@contextmanager
def _importable(root: Path) -> Iterator[None]:
    """A bundle's own modules in reach, as its files are now, and without a trace beside them.

    Two bundles may have modules of one name, and the files of one may have been edited since: what Python remembers of
    the bundle before is forgotten. Compiled modules among the files would change what was agreed to.
    """
    while _imported:
        sys.modules.pop(_imported.pop(), None)
    importlib.invalidate_caches()
    before, compiles = set(sys.modules), sys.dont_write_bytecode
    sys.path.insert(0, str(root))
    sys.dont_write_bytecode = True
    try:
        yield
    finally:
        sys.dont_write_bytecode = compiles
        sys.path.remove(str(root))
        _imported.extend(name for name in set(sys.modules) - before if _lies_in(sys.modules[name], root))


def _lies_in(module: Any, root: Path) -> bool:
    file = getattr(module, "__file__", None)
    places = [file] if file else list(getattr(module, "__path__", ()))  # a package without a file of its own
    return any(Path(place).resolve().is_relative_to(root) for place in places)


@contextmanager
def _on_disk(files: BundleFiles) -> Iterator[Path]:
    if isinstance(files, InFolder):
        yield files.root.resolve()
    elif isinstance(files, InZip):
        with tempfile.TemporaryDirectory(prefix="LRPExplain-") as folder:
            with opened(files.path, files.name) as archive:
                try:
                    archive.extractall(folder)
                except OSError as error:  # of the disk; what is wrong with the file are errors of other kinds
                    raise UserError(
                        f"The bundle '{files.name}' cannot be unpacked in '{folder}' ({error.strerror}): make room."
                    ) from error
            yield (Path(folder) / files.prefix).resolve()
    else:
        raise UserError(f"'{files.name}' is no bundle that can be run.")


def _needed_code(config: Config) -> list[tuple[str, str]]:
    """Expressions that are no data, and classes that are not allowed, in the parts that are needed.

    MONAI's parser makes an object of everything that an expression refers to, so that its class is code as well.
    """
    groups = (KEYS, TRANSFORMS_KEYS, INFERERS_KEYS)
    waiting = [key for group in groups for key in [next((key for key in group if config.has(key)), None)] if key]
    made = {key for key in waiting if key in KEYS}  # of which objects are made
    seen: set[tuple[str, bool]] = set()
    found: dict[str, str] = {}
    while waiting:
        key = waiting.pop(0)
        if (key, key in made) in seen or not config.has(key):
            continue
        seen.add((key, key in made))
        for place, value in _leaves(config.raw(key), key):
            code = _is_code(config, place, value, key in made)
            if code:
                found[place] = value
            if isinstance(value, str) and value[:1] in ("@", "$"):
                references = [_first_key(match.group()) for match in REFERENCE.finditer(value)]
                waiting += references
                made |= set(references) if code or key in made else set()
    return list(found.items())


def _is_code(config: Config, place: str, value: Any, made: bool) -> bool:
    if not isinstance(value, str):
        return False
    if place.endswith("#_target_"):
        return made and not is_allowed(value)
    if not value.startswith("$"):
        return False
    try:
        config.shallow(value, place)
    except UserError:
        return True
    return False


def _leaves(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _leaves(item, f"{key}#{name}")
    elif isinstance(value, list | tuple):
        for n, item in enumerate(value):
            yield from _leaves(item, f"{key}#{n}")
    else:
        yield key, value


def _first_key(reference: str) -> str:
    return reference.lstrip("@#:").replace("::", "#").split("#")[0]
