"""What a bundle would run if it were trusted, as sentences to show beforehand; and running it."""

import importlib
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...errors import UserError, reason
from .bundle import INFERERS_KEYS, TRANSFORMS_KEYS, read_config
from .config import Config, Evaluator
from .expressions import REFERENCE
from .files import BundleFiles, InFolder, InZip
from .networks import KEYS, is_allowed

_IMPORTS = ("imports", "import")


def sentences(files: BundleFiles) -> list[str]:
    """What trusting this bundle would run; empty: nothing, so that there is no need to trust it."""
    config = read_config(files)
    if config is None:
        return []
    found = _needed_code(config)
    if not found:
        return []
    imports = [line for key in _IMPORTS if config.has(key) for line in _strings(config.raw(key))]
    found = [f"{config.where('imports', line)} runs '{line.removeprefix('$')}'." for line in imports] + found
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

        sys.path.insert(0, str(root))
        try:
            yield run
        finally:
            sys.path.remove(str(root))


@contextmanager
def _on_disk(files: BundleFiles) -> Iterator[Path]:
    if isinstance(files, InFolder):
        yield files.root.resolve()
    elif isinstance(files, InZip):
        with tempfile.TemporaryDirectory(prefix="LRPExplain-") as folder:
            with zipfile.ZipFile(files.path) as archive:  # its members were checked when it was opened
                archive.extractall(folder)
            yield (Path(folder) / files.prefix).resolve()
    else:
        raise UserError(f"'{files.name}' is no bundle that can be run.")


def _needed_code(config: Config) -> list[str]:
    """Expressions that are no data, and classes that are not allowed, in the parts that are needed."""
    groups = (KEYS, TRANSFORMS_KEYS, INFERERS_KEYS)
    waiting = [key for group in groups for key in [next((key for key in group if config.has(key)), None)] if key]
    networks = {key for key in waiting if key in KEYS}
    seen: set[str] = set()
    found: list[str] = []
    while waiting:
        key = waiting.pop(0)
        if key in seen or not config.has(key):
            continue
        seen.add(key)
        for place, value, within_network in _leaves(config.raw(key), key, key in networks):
            if isinstance(value, str):
                references = [
                    m.group().lstrip("@#:").replace("::", "#").split("#")[0] for m in REFERENCE.finditer(value)
                ]
                waiting += references if value[:1] in "@$" else []
                networks |= set(references) if within_network else set()
            if _is_code(config, place, value, within_network):
                found.append(f"{config.where(place, value)} runs '{value}'.")
    return found


def _is_code(config: Config, place: str, value: Any, within_network: bool) -> bool:
    if not isinstance(value, str):
        return False
    if place.endswith("#_target_"):
        return within_network and not is_allowed(value)
    if not value.startswith("$"):
        return False
    try:
        config.shallow(value, place)
    except UserError:
        return True
    return False


def _leaves(value: Any, key: str, within_network: bool) -> Iterator[tuple[str, Any, bool]]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _leaves(item, f"{key}#{name}", within_network)
    elif isinstance(value, list | tuple):
        for n, item in enumerate(value):
            yield from _leaves(item, f"{key}#{n}", within_network)
    else:
        yield key, value, within_network


def _first_key(reference: str) -> str:
    return reference.lstrip("@#:").replace("::", "#").split("#")[0]


def _strings(value: Any) -> list[str]:
    return [str(item) for item in (value if isinstance(value, list) else [value])]
