"""The verbs about a model alone: `inspect`, `card` and `trust`."""

import argparse
import json
from pathlib import Path

from ..errors import UserError
from ..summaries import summary
from .asking import add_question, question_of
from .drawing import bar
from .options import Verbs, add_rules, add_trust, load, rules_of
from .parsing import whole_number


def add_inspect(verbs: Verbs) -> None:
    inspect = verbs.add_parser("inspect", help="show a model's inputs, classes and operators")
    inspect.add_argument("model", help="as for explain")
    inspect.add_argument("--card", help="as for explain")
    add_trust(inspect)
    size = inspect.add_mutually_exclusive_group()
    size.add_argument("--volume", action="extend", nargs="+", dest="volumes", metavar="VOLUME",
                      help="volume whose size the network is captured for")  # fmt: skip
    size.add_argument("--shape", type=whole_number, nargs=3, metavar=("D", "H", "W"),
                      help="size the network is captured for")  # fmt: skip
    inspect.add_argument("--ledger", action="store_true",
                         help="explain the volumes as well and show where relevance went, layer by layer")  # fmt: skip
    add_question(inspect)
    inspect.add_argument("--composite", help="as for explain")
    add_rules(inspect)
    inspect.set_defaults(run=_inspect)


def add_card(verbs: Verbs) -> None:
    card = verbs.add_parser("card", help="write the first draft of a model card, for you to complete")
    card.add_argument("model", help="as for explain")
    card.add_argument("--out", type=Path, metavar="FILE", help="default: <stem>.card.json next to the model")
    card.add_argument("--overwrite", action="store_true", help="replace a card that is there")
    card.add_argument("--shape", type=whole_number, nargs=3, metavar=("D", "H", "W"),
                      help="a size that the network takes")  # fmt: skip
    add_trust(card)
    card.set_defaults(run=_card)


def add_trust_request(verbs: Verbs) -> None:
    trust = verbs.add_parser("trust", help="say what --trust would run, as JSON with the SHA-256 that it holds for")
    trust.add_argument("model", help="as for explain")
    trust.set_defaults(run=_trust)


def _inspect(options: argparse.Namespace) -> None:
    from ..explain import explain
    from ..inspection import describe, ledger_table

    if options.ledger and not options.volumes:
        raise UserError("The ledger is that of an explanation: give the volumes to explain with --volume.")

    question = question_of(options)
    model = load(options)
    print(describe(model, options.volumes, options.shape))
    if options.ledger:
        with bar() as progress:
            explanation = explain(
                model, options.volumes, question, options.composite, "auto", progress, rules_of(options),
                biases=options.biases,
            )  # fmt: skip
        print(f"\n{summary(explanation)}\n\n{ledger_table(explanation.ledger['by_layer'])}")


def _card(options: argparse.Namespace) -> None:
    from ..folders import check_writable, write_whole
    from ..models import draft_card, trust_request
    from ..models.draft import default_place

    place = options.out or default_place(options.model)
    check_writable(place)  # and so no name that is too long to be looked at
    if place.is_dir():
        raise UserError(
            f"'{place}' is a folder: give a file for the card with --out, such as {place / 'model.card.json'}."
        )
    if not place.parent.is_dir():
        raise UserError(f"There is no folder '{place.parent}' for the card: make it, or give another place with --out.")
    if place.exists() and not options.overwrite:
        raise UserError(f"There is a card '{place}' already: give --overwrite to replace it, or --out FILE.")
    if options.trust:
        for sentence in trust_request(options.model).sentences:
            print(f"Trusted: {sentence}")
    content, notes = draft_card(options.model, options.trust, options.shape)
    try:
        write_whole({place: json.dumps(content, indent=2, ensure_ascii=False) + "\n"})
    except OSError as error:
        raise UserError(f"The card cannot be written to '{place}' ({error.strerror}): give --out.") from error
    for note in notes:
        print(f"Note: {note}")
    print(f"The draft of the card is {place}: look it over and complete it.")


def _trust(options: argparse.Namespace) -> None:
    from ..models import trust_request

    request = trust_request(options.model)
    print(json.dumps({"sha256": request.sha256, "sentences": request.sentences}, indent=2, ensure_ascii=False))
