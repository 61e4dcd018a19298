"""What argparse says of a command that makes no sense: which verb, what is wrong with which option, and where to look.

argparse itself prints all options of a verb ahead of each error, names no verb where an option is unknown, and calls
what is no number an "invalid float value".
"""

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

WRONG_INPUT = 2


class Parser(argparse.ArgumentParser):
    """A verb's parser, or the command's own."""

    def error(self, message: str) -> NoReturn:
        hint = f"usage: {self.prog} ... ('{self.prog} --help' tells all)"
        self.exit(WRONG_INPUT, f"{hint}\n{self.prog}: {message}\n")

    def parse_known_args(  # type: ignore[override]  # how argparse calls verbs; what they do not know is nobody's
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[Any, list[str]]:
        options, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"there is no option or place for '{unknown[0]}'")
        return options, unknown


def number(text: str) -> float:
    """An option's number."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text.strip()}' is no number") from None


def numbers(text: str) -> list[float]:
    """ "2,1,0.5"."""
    return [number(part) for part in text.split(",")]


def whole_number(text: str) -> int:
    """An option's whole number."""
    try:
        return int(text)
    except ValueError:  # also of more digits than Python converts
        raise argparse.ArgumentTypeError(f"'{text[:20].strip()}' is no whole number") from None
