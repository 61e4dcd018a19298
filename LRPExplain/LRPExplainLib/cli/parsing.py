"""What argparse says of a command that makes no sense: which verb, what is wrong with which option, and where to look.

argparse itself prints all options of a verb ahead of each error, names no verb where an option is unknown, and calls
what is no number an "invalid float value".
"""

import argparse
import re
from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import Any, NoReturn

WRONG_INPUT = 2
_OPTION = re.compile(r"--?[a-zA-Z][^ ]*")  # -3 and "-a b" are values, as they are to argparse


class Parser(argparse.ArgumentParser):
    """A verb's parser, or the command's own."""

    def error(self, message: str) -> NoReturn:
        hint = f"usage: {self.prog} ... ('{self.prog} --help' tells all)"
        self.exit(WRONG_INPUT, f"{hint}\n{self.prog}: {message}\n")

    def parse_known_args(  # type: ignore[override]  # how argparse calls verbs; what they do not know is nobody's
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[Any, list[str]]:
        # ahead of argparse, which looks first whether a required option is missing: one that is mistyped
        for argument in self._own(args or ()):
            if _OPTION.fullmatch(argument) and not self._knows(argument.partition("=")[0]):
                self._refuse_unknown(argument)
        options, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self._refuse_unknown(unknown[0])
        return options, unknown

    def _own(self, args: Sequence[str]) -> Iterable[str]:
        """The arguments in which this parser's options may be: the command's end where its verb begins."""
        if self._subparsers is not None:
            return takewhile(lambda argument: argument.startswith("-"), args)
        return takewhile(lambda argument: argument != "--", args)

    def _knows(self, option: str) -> bool:
        """Whether an option is meant, also where its name is cut short, or a letter's value follows the letter."""
        known = self._option_string_actions
        return any(name.startswith(option) for name in known) or (option[1] != "-" and option[:2] in known)

    def _refuse_unknown(self, argument: str) -> NoReturn:
        self.error(f"there is no option or place for '{argument}'")


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
