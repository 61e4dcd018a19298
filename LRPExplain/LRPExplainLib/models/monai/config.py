"""An inference configuration as data: references are followed, nothing is run."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ...errors import UserError, reason
from .expressions import NotData, evaluate


class Untranslated(UserError):
    """A part of a bundle that a card cannot say; a card of the user's own can replace it."""


Evaluator = Callable[[str], Any]
"""What a trusted configuration really says at an id ("network_def#in_channels"), by running it."""

# What only points elsewhere: a reference, written as an expression or not, or a macro within the file.
_POINTER = re.compile(r"(?:\$\s*@|@|%)(?P<id>(?:#|::)*\w+(?:(?:#|::)\w+)*)")
_MERGE = re.compile(r"<<[\"']?\s*:")
# More than any real configuration needs; a YAML file of ten lines can stand for a billion items.
_VISITS = 100_000


class Config:
    """The content of a configuration file.

    Args:
        file: how errors call it.
        text: its text, to name lines.
        run: for a trusted bundle: evaluates what would have to be run.
    """

    def __init__(self, content: Mapping[str, Any], file: str, text: str, run: Evaluator | None = None) -> None:
        self.content, self.file, self._text, self.run = content, file, text, run
        self._open: list[str] = []
        self._visits = 0

    def has(self, key: str) -> bool:
        return key in self.content

    def value(self, key: str) -> Any:
        """The value of an id such as "network_def#in_channels", with all references in it followed."""
        return self.resolved(self.raw(key), key)

    def raw(self, key: str) -> Any:
        value: Any = self.content
        for part in key.split("#"):
            value = self._step(value, part, key)
        return value

    def shallow(self, value: Any, key: str) -> tuple[Any, str]:
        """A value that is no reference, expression or macro itself, and its id; what it holds is left as it is."""
        while isinstance(value, str) and (pointer := _POINTER.fullmatch(value.strip())):
            self._count(key)
            key = self._absolute(pointer.group("id").replace("::", "#"), key)
            value = self.raw(key)
        return (self._expression(value, key) if isinstance(value, str) and value.startswith("$") else value), key

    def resolved(self, value: Any, key: str) -> Any:
        self._count(key)
        value, key = self.shallow(value, key)
        if isinstance(value, Mapping):
            return {name: self.resolved(item, f"{key}#{name}") for name, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.resolved(item, f"{key}#{n}") for n, item in enumerate(value)]
        return value

    def components(self, key: str, value: Any) -> Iterator["Component"]:
        """The parts of a list, or of a Compose, that are in use."""
        value, key = self.shallow(value, key)
        if isinstance(value, Mapping) and Component(self, key, value).name == "Compose":
            yield from self.components(f"{key}#transforms", value.get("transforms", []))
        elif isinstance(value, list | tuple):
            for n, item in enumerate(value):
                yield from self.components(f"{key}#{n}", item)
        elif isinstance(value, Mapping):
            component = Component(self, key, value)
            if not component.disabled:
                yield component
        elif value is not None:
            raise UserError(f"'{self.file}' has '{value}' at {key}, where a transform is expected: correct the bundle.")

    def refused(self, key: str, what: Any) -> UserError:
        """Something that would have to be run."""
        return UserError(
            f"{self.where(key, what)} asks for '{str(what).strip()}', which is code that would have to be run: use"
            " --trust if you trust this bundle, or ask for it as TorchScript with a card."
        )

    def where(self, key: str, what: Any) -> str:
        spellings = [str(what), json.dumps(what)[1:-1] if isinstance(what, str) else str(what)]
        for number, line in enumerate(self._text.splitlines(), 1):
            if any(spelling and spelling in line for spelling in spellings):
                return f"'{self.file}', line {number}, key {key},"
        return f"'{self.file}', key {key},"

    def _expression(self, text: str, key: str) -> Any:
        if key in self._open:
            raise UserError(f"'{self.file}' refers in a circle at {key}: correct the bundle.")
        self._open.append(key)
        try:
            return evaluate(text[1:], lambda reference: self.value(self._absolute(reference, key)))
        except NotData:
            if self.run is not None:
                return self.run(key)
            raise self.refused(key, text) from None
        finally:
            self._open.pop()

    def _absolute(self, reference: str, key: str) -> str:
        """MONAI's relative ids: one # is the same level, each further one a level up."""
        levels = len(reference) - len(reference.lstrip("#"))
        if not levels:
            return reference
        above = key.split("#")[:-levels]
        return "#".join([*above, reference.lstrip("#")])

    def _step(self, value: Any, part: str, key: str) -> Any:
        value, _ = self.shallow(value, key) if isinstance(value, str) else (value, key)
        try:
            return value[int(part)] if isinstance(value, list | tuple) else value[part]
        except (KeyError, IndexError, ValueError, TypeError):
            raise UserError(f"'{self.file}' refers to '{key}', which it does not hold: correct the bundle.") from None

    def _count(self, key: str) -> None:
        self._visits += 1
        if self._visits > _VISITS:
            raise UserError(f"'{self.file}' refers in a circle or without end at {key}: correct the bundle.")


@dataclass(frozen=True)
class Component:
    """A part of a configuration with a `_target_`."""

    config: Config
    key: str
    raw: Mapping[str, Any]

    @property
    def target(self) -> str:
        target = self.raw.get("_target_")
        return target if isinstance(target, str) else ""

    @property
    def name(self) -> str:
        """The class's own name, also of a MONAI class written with its module."""
        module, _, name = self.target.rpartition(".")
        return name if module == "" or module.startswith("monai.") else self.target

    @property
    def disabled(self) -> bool:
        return str(self.config.resolved(self.raw.get("_disabled_", False), f"{self.key}#_disabled_")).lower() == "true"

    def get(self, argument: str, default: Any = None) -> Any:
        """The value of an argument; only what is asked for is looked at."""
        if argument not in self.raw:
            return default
        return self.config.resolved(self.raw[argument], f"{self.key}#{argument}")

    @property
    def arguments(self) -> list[str]:
        return [name for name in self.raw if not (name.startswith("_") and name.endswith("_"))]

    @contextmanager
    def understood(self) -> Iterator[None]:
        """Say in one sentence that an argument is not of the kind that it should be."""
        try:
            yield
        except (TypeError, ValueError, LookupError, OverflowError) as error:
            raise self.complaint(
                f"has an argument that makes no sense ({reason(error)}): correct the bundle."
            ) from error

    def complaint(self, text: str) -> UserError:
        return Untranslated(f"{self.config.where(self.key, self.target)} {text}")


def parse(text: str, file: str) -> dict[str, Any]:
    """The content of a .json, .yaml or .yml file.

    Raises:
        UserError: not such a file, or YAML without PyYAML.
    """
    try:
        content = json.loads(text) if file.lower().endswith(".json") else _yaml(text, file)
    except (ValueError, RecursionError) as error:
        raise UserError(f"'{file}' cannot be read ({reason(error)}): correct it.") from error
    if not isinstance(content, dict):
        raise UserError(f"'{file}' holds no keys with values: correct it.")
    return {str(key): value for key, value in content.items()}


def _yaml(text: str, file: str) -> Any:
    try:
        import yaml
    except ImportError:
        raise UserError(f"Reading '{file}' needs PyYAML: install it with 'pip install pyyaml'.") from None
    if _MERGE.search(text):  # each level may double what it merges; MONAI's configurations have none
        raise ValueError("YAML's merge keys are not read")
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error
