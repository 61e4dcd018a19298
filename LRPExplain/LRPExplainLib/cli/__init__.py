"""The shell command `lrpexplain`; its verbs are in `_VERBS`, in the order in which `--help` shows them."""

import io
import os
import sys
from collections.abc import Sequence

from ..errors import UserError
from ..file_names import read_as_utf8
from ..loading import loading
from .asking import signed
from .checking import add_cohort, add_compare, add_evaluate
from .explaining import add_concepts, add_demo, add_explain
from .models import add_card, add_inspect, add_trust_request
from .parsing import WRONG_INPUT, Parser
from .reporting import add_export_dicom, add_record, add_verify

_VERBS = {
    "explain": add_explain,
    "concepts": add_concepts,
    "evaluate": add_evaluate,
    "compare": add_compare,
    "cohort": add_cohort,
    "record": add_record,
    "verify": add_verify,
    "export-dicom": add_export_dicom,
    "inspect": add_inspect,
    "card": add_card,
    "trust": add_trust_request,
    "demo": add_demo,
}
INTERRUPTED = 130
UNREAD = 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code.

    0, 1 where a record does not agree, 2 with one line on standard error for wrong input, 130 after an interrupt, or
    141 where nobody reads the output any more.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a name that the terminal's encoding has no letters for
    try:
        return _run(sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt:
        print("lrpexplain: interrupted", file=sys.stderr)
        return INTERRUPTED


def _run(arguments: Sequence[str]) -> int:
    try:
        options = _parser().parse_args(signed(arguments))
    except UserError as error:
        return _refuse(error)
    read_as_utf8()
    with loading():
        from ..lrp import LRPError  # torch takes seconds to import, which --help need not wait for

    try:
        code = options.run(options) or 0
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # of `| head`, which has read enough; what is left must not be written at the end either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNREAD
    except (UserError, LRPError) as error:
        return _refuse(error)
    except OSError as error:  # of a file that may not be read, or a full disk
        return _refuse(UserError(_said_of(error)))


def _said_of(error: OSError) -> str:
    what = f"'{error.filename}'" if error.filename else "What was asked for"
    return (
        f"{what} cannot be read or written ({error.strerror or error}): look at the name, the permissions and the room"
        " that is left."
    )


def _refuse(error: Exception) -> int:
    print(f"lrpexplain: {error}", file=sys.stderr)
    return WRONG_INPUT


def _parser() -> Parser:
    parser = Parser(
        prog="lrpexplain",
        description="Shows why a model said what it said about a volume: layer-wise relevance propagation.",
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    for add in _VERBS.values():
        add(verbs)
    return parser
