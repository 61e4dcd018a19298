"""Options that several verbs share, and what is read from them."""

import argparse
from contextlib import suppress
from typing import TYPE_CHECKING, TypeAlias

from ..errors import UserError
from ..seeds import check_seed
from ..summaries import defaults
from .parsing import Parser

if TYPE_CHECKING:
    from ..models import ExplainableModel

Verbs: TypeAlias = "argparse._SubParsersAction[Parser]"
MODEL = (
    "TorchScript (.ts, .pt), torch.export (.pt2), ONNX, .safetensors with a card, a MONAI bundle or a trained model of"
    " nnU-Net v2 (folder or zip; of the latter also one fold or checkpoint), or the card"
)


def add_trust(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--trust", action="store_true",
                        help="let a bundle run the code that it asks for; what that is, is printed")  # fmt: skip


def load(options: argparse.Namespace) -> "ExplainableModel":
    from ..models import load_model, trust_request

    if options.trust:
        for sentence in trust_request(options.model).sentences:
            print(f"Trusted: {sentence}")
    model = load_model(options.model, options.card, options.trust)
    if not model.card.stated:
        print(defaults())
    for note in model.card.notes:
        print(f"Note: {note}")
    return model


def add_rules(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rule", action="append", default=[], dest="rules", metavar="LAYER=RULE",
                        help="rule for a role or layer name pattern, as input=flat or 'encoder.*=gamma(0.1)'; "
                        "may be given several times")  # fmt: skip
    parser.add_argument("--biases", choices=("share", "absorb"),
                        help="share what biases receive among the contributions they were added to, or let them absorb "
                        "it as in the literature (default: the card's, else share)")  # fmt: skip


def rules_of(options: argparse.Namespace) -> dict[str, str]:
    table = {}
    for text in options.rules:
        layer, equals, rule = text.partition("=")
        if not (layer and equals and rule):
            raise UserError(f"'{text}' is no rule for a layer: write LAYER=RULE, for example input=flat.")
        table[layer] = rule
    return table


def add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: auto, CUDA where there is one"
    )


def seed(text: str) -> int:
    """For argparse, which lets a `UserError` through."""
    number: object = text[:20]
    with suppress(ValueError):  # also of more digits than Python converts
        number = int(text)
    check_seed(number)
    return int(text)


def names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
