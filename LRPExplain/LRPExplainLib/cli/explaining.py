"""The verbs `explain`, `concepts` and `demo`."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError
from ..summaries import plan_summary, summary
from .asking import add_question, question_of
from .drawing import bar, render, require_views
from .options import MODEL, Verbs, add_device, add_rules, add_trust, load, rules_of, seed
from .parsing import number, whole_number

if TYPE_CHECKING:
    from ..explanation import Explanation
    from ..models import ExplainableModel

_UNSAID = object()  # None is an answer of its own to --window
_LONGEST = 10  # digits of a window's edge


def add_explain(verbs: Verbs) -> None:
    explain = verbs.add_parser("explain", help="explain a model's answer about a volume")
    _add_request(explain)
    explain.add_argument("--method", default="lrp", metavar="NAME",
                         help="lrp, or another method on the same target: gradient, gradient-x-input, "
                         "integrated-gradients, smoothgrad, grad-cam, guided-backprop, occlusion, rise "
                         "(default: %(default)s)")  # fmt: skip
    explain.add_argument("--parameter", action="append", default=[], dest="parameters", metavar="NAME=VALUE",
                         help="of the method, as steps=100 or layer=encoder.3; may be given several times")  # fmt: skip
    place = explain.add_mutually_exclusive_group(required=True)
    place.add_argument("--out", type=Path, metavar="DIR",
                       help="folder for the explanation; an earlier one there is replaced")  # fmt: skip
    place.add_argument("--dry-run", action="store_true", help="print the plan (windows, memory, time) and do nothing")
    explain.add_argument("--views", action="store_true", help="draw pictures into DIR/views (needs slicer-core)")
    explain.set_defaults(run=_explain)


def add_concepts(verbs: Verbs) -> None:
    concepts = verbs.add_parser("concepts", help="explain, and tell the channels of an inner layer apart")
    _add_request(concepts)
    concepts.add_argument("--layer", default="", metavar="NAME",
                          help="the layer, as inspect lists them (default: the last convolution on the coarsest grid "
                          "that everything passes through)")  # fmt: skip
    concepts.add_argument("--top", type=whole_number, default=5, metavar="K",
                          help="how many channels get a map of their own (default: %(default)s)")  # fmt: skip
    concepts.add_argument("--out", type=Path, required=True, metavar="DIR",
                          help="folder for the explanation, with one for each channel in it")  # fmt: skip
    concepts.set_defaults(run=_concepts)


def _add_request(parser: argparse.ArgumentParser) -> None:
    """Model, volumes, question, rules and how to run."""
    parser.add_argument("--model", required=True, help=MODEL)
    parser.add_argument("--card", help="model card, where it does not lie next to the weights as <stem>.card.json")
    add_trust(parser)
    parser.add_argument("--volume", required=True, action="extend", nargs="+", dest="volumes", metavar="VOLUME",
                        help="image file or DICOM series folder; one per input of the model, in order")  # fmt: skip
    add_question(parser)
    parser.add_argument("--composite",
                        help="which rules to use (default: the card's, else volume, of several volumes epsilon-plus)",
                        )  # fmt: skip
    add_rules(parser)
    parser.add_argument("--window", type=_size, default=_UNSAID, metavar="IxJxK",
                        help="windows of so many voxels, or 'none': no windows (default: the card's)")  # fmt: skip
    parser.add_argument("--overlap", type=_share, metavar="SHARE", help="of a window with the next one (0 to below 1)")
    parser.add_argument("--blending", choices=("constant", "gaussian"), help="how overlapping windows are averaged")
    parser.add_argument("--memory", type=number, metavar="GIB",
                        help="memory for the network on its device, beside which the scores of all windows lie in the "
                        "CPU's (default: most of what is free)")  # fmt: skip
    parser.add_argument("--precision", choices=("float32", "bfloat16"),
                        help="bfloat16: half the memory, and less time on hardware that knows it; some per mille of "
                        "error in each layer (default: float32)")  # fmt: skip
    add_device(parser)


def add_demo(verbs: Verbs) -> None:
    demo = verbs.add_parser("demo", help="explain the bundled model on a brain with a planted lesion")
    demo.add_argument("--out", type=Path, default=Path("results", "demo"), metavar="DIR", help="default: %(default)s")
    demo.add_argument("--seed", type=seed, default=0, help="which lesion: 0 or more (default: %(default)s)")
    demo.add_argument("--composite", help="as for explain")
    demo.add_argument("--no-views", action="store_true", help="draw no pictures")
    add_device(demo)
    demo.set_defaults(run=_demo)


def _parameters(options: argparse.Namespace) -> dict[str, str]:
    table = {}
    for text in options.parameters:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise UserError(f"'{text}' is no parameter of a method: write NAME=VALUE, for example steps=100.")
        table[name] = value
    return table


def _size(text: str) -> list[int] | None:
    """ "96x96x64" as a card's size along i, j and k; None for "none"."""
    if text.lower() == "none":
        return None
    size = text.lower().split("x")
    if len(size) != 3 or not all(edge.isdecimal() and len(edge) < _LONGEST and int(edge) for edge in size):
        raise argparse.ArgumentTypeError(f"'{text[:40]}' is no window: give its voxels as 96x96x64, or none")
    return [int(edge) for edge in size]


def _share(text: str) -> float:
    share = number(text)
    if not 0 <= share < 1:
        raise argparse.ArgumentTypeError(f"{text} is no share of a window: give a number from 0 to below 1, as 0.5")
    return share


def _window(options: argparse.Namespace) -> dict[str, object]:
    """The entries of a card's window that the user gave."""
    given = {"overlap": options.overlap, "blending": options.blending}
    named = {key: value for key, value in given.items() if value is not None}
    return named | ({"size": options.window} if options.window is not _UNSAID else {})


def _explain(options: argparse.Namespace) -> None:
    from ..explain import explain, plan
    from ..explanation import OWN, VIEWS, check_output
    from ..folders import whole_folder

    if options.out:
        check_output(options.out)
    if options.views:
        require_views()
    question = question_of(options)
    model = load(options)
    how = {"device": options.device, "rules": rules_of(options), "window": _window(options), "memory": options.memory,
           "precision": options.precision, "biases": options.biases, "method": options.method,
           "parameters": _parameters(options)}  # fmt: skip
    if options.dry_run:
        print(plan_summary(plan(model, options.volumes, question, options.composite, **how)))
        return
    with bar() as progress:
        explanation = explain(model, options.volumes, question, options.composite, progress=progress, **how)
    with whole_folder(options.out, OWN) as partial:
        explanation.write(partial)
        if options.views:
            render(explanation, partial / VIEWS)
    print(summary(explanation))
    _tell_notes(model, explanation)
    print(f"The explanation is in {options.out}")


def _tell_notes(model: "ExplainableModel", explanation: "Explanation") -> None:
    """What was noticed of the model when it ran, besides what `load` has told."""
    for note in explanation.model["card"]["notes"][len(model.card.notes) :]:
        print(f"Note: {note}")


def _concepts(options: argparse.Namespace) -> None:
    from ..concepts import concepts, table
    from ..explanation import check_output

    check_output(options.out)
    question = question_of(options)
    model = load(options)
    with bar() as progress:
        found = concepts(
            model, options.volumes, question, options.composite, options.device, progress, rules_of(options),
            layer=options.layer, top=options.top, biases=options.biases, window=_window(options),
            memory=options.memory, precision=options.precision,
        )  # fmt: skip
    found.save(options.out)
    print(table(found.facts))
    _tell_notes(model, found.whole)
    print(f"The explanation is in {options.out}, with a folder for each channel in it")


def _demo(options: argparse.Namespace) -> None:
    from ..demonstration import run

    with bar() as progress:
        shown = run(options.out, options.seed, options.composite, options.device, progress)
    print(summary(shown.explanation))
    print(f"Of the positive relevance {shown.inside:.1%} lies inside the planted lesion,")
    print(f"and {shown.with_rim:.1%} inside the lesion and the {shown.rim_mm:g} mm around it, which are"
          f" {shown.volume_share:.2%} of the volume.")  # fmt: skip
    print(f"The volume, the lesion and the explanation are in {options.out}")
    if not options.no_views:
        _demo_views(shown.explanation, options.out)


def _demo_views(explanation: "Explanation", out: Path) -> None:
    from ..demonstration import SCENE
    from ..explanation import VIEWS

    try:
        require_views()
        render(explanation, out / VIEWS, out / SCENE)
    except UserError as missing:  # the demo has its figures; pictures need a renderer, which not every machine has
        print(missing)
    else:
        print(f"The pictures are in {out / VIEWS}, the scene for 3D Slicer is {out / SCENE}")
