"""The shell command `lrpexplain`; its verbs are in `_VERBS`."""

import argparse
import importlib.util
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .asking import add_question, question_of, references_of, signed
from .errors import UserError
from .summaries import defaults, evaluation_plan_summary, plan_summary, summary

if TYPE_CHECKING:
    from .explanation import Explanation
    from .models import ExplainableModel

_UNSAID = object()  # None is an answer of its own to --window
DISAGREES = 1
WRONG_INPUT = 2
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code.

    0, 1 where a record does not agree, or 2 with one line on standard error for wrong input.
    """
    options = _parser().parse_args(signed(sys.argv[1:] if arguments is None else arguments))
    from .lrp import LRPError  # torch takes seconds to import, which --help need not wait for

    try:
        return options.run(options) or 0
    except (UserError, LRPError) as error:
        print(f"lrpexplain: {error}", file=sys.stderr)
        return WRONG_INPUT
    except KeyboardInterrupt:
        print("lrpexplain: interrupted", file=sys.stderr)
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lrpexplain",
        description="Shows why a model said what it said about a volume: layer-wise relevance propagation.",
    )
    verbs = parser.add_subparsers(required=True, metavar=_VERBS)

    explain = verbs.add_parser("explain", help="explain a model's answer about a volume")
    explain.add_argument("--model", required=True, help=_MODEL)
    explain.add_argument("--card", help="model card, where it does not lie next to the weights as <stem>.card.json")
    _add_trust(explain)
    explain.add_argument("--volume", required=True, action="extend", nargs="+", dest="volumes", metavar="VOLUME",
                         help="image file or DICOM series folder; one per input of the model, in order")  # fmt: skip
    add_question(explain)
    explain.add_argument("--composite", help="which rules to use (default: the card's, else volume)")
    _add_rules(explain)
    explain.add_argument("--method", default="lrp", metavar="NAME",
                         help="lrp, or another method on the same target: gradient, gradient-x-input, "
                         "integrated-gradients, smoothgrad, grad-cam, guided-backprop, occlusion, rise "
                         "(default: %(default)s)")  # fmt: skip
    explain.add_argument("--parameter", action="append", default=[], dest="parameters", metavar="NAME=VALUE",
                         help="of the method, as steps=100 or layer=encoder.3; may be given several times")  # fmt: skip
    place = explain.add_mutually_exclusive_group(required=True)
    place.add_argument("--out", type=Path, metavar="DIR", help="folder for the explanation")
    place.add_argument("--dry-run", action="store_true", help="print the plan (windows, memory, time) and do nothing")
    explain.add_argument("--window", type=_size, default=_UNSAID, metavar="IxJxK",
                         help="windows of so many voxels, or 'none': no windows (default: the card's)")  # fmt: skip
    explain.add_argument("--overlap", type=_share, metavar="SHARE", help="of a window with the next one (0 to below 1)")
    explain.add_argument("--blending", choices=("constant", "gaussian"), help="how overlapping windows are averaged")
    explain.add_argument("--memory", type=float, metavar="GIB",
                         help="memory for the network on its device (default: most of what is free)")  # fmt: skip
    explain.add_argument("--views", action="store_true", help="draw pictures into DIR/views (needs slicer-core)")
    _add_device(explain)
    explain.set_defaults(run=_explain)

    _add_evaluate(verbs.add_parser("evaluate", help="tell how far to trust an explanation"))
    _add_compare(verbs.add_parser("compare", help="how far explanations of one answer agree, and what they share"))
    _add_record(verbs.add_parser("record", help="write an explanation's record, for reviewers and regulators"))
    _add_verify(verbs.add_parser("verify", help="compute a record's explanation again and say whether it agrees"))
    _add_export_dicom(verbs.add_parser("export-dicom", help="write relevance and hot spots for the series they are of"))

    inspect = verbs.add_parser("inspect", help="show a model's inputs, classes and operators")
    inspect.add_argument("model", help="as for explain")
    inspect.add_argument("--card", help="as for explain")
    _add_trust(inspect)
    size = inspect.add_mutually_exclusive_group()
    size.add_argument("--volume", action="extend", nargs="+", dest="volumes", metavar="VOLUME",
                      help="volume whose size the network is captured for")  # fmt: skip
    size.add_argument("--shape", type=int, nargs=3, metavar=("D", "H", "W"), help="size the network is captured for")
    inspect.add_argument("--ledger", action="store_true",
                         help="explain the volumes as well and show where relevance went, layer by layer")  # fmt: skip
    add_question(inspect)
    inspect.add_argument("--composite", help="as for explain")
    _add_rules(inspect)
    inspect.set_defaults(run=_inspect)

    card = verbs.add_parser("card", help="write the first draft of a model card, for you to complete")
    card.add_argument("model", help="as for explain")
    card.add_argument("--out", type=Path, metavar="FILE", help="default: <stem>.card.json next to the model")
    card.add_argument("--overwrite", action="store_true", help="replace a card that is there")
    card.add_argument("--shape", type=int, nargs=3, metavar=("D", "H", "W"), help="a size that the network takes")
    _add_trust(card)
    card.set_defaults(run=_card)

    trust = verbs.add_parser("trust", help="say what --trust would run, as JSON with the SHA-256 that it holds for")
    trust.add_argument("model", help="as for explain")
    trust.set_defaults(run=_trust)

    demo = verbs.add_parser("demo", help="explain the bundled model on a brain with a planted lesion")
    demo.add_argument("--out", type=Path, default=Path("results", "demo"), metavar="DIR", help="default: %(default)s")
    demo.add_argument("--seed", type=int, default=0, help="which lesion: 0 or more (default: %(default)s)")
    demo.add_argument("--composite", help="as for explain")
    demo.add_argument("--no-views", action="store_true", help="draw no pictures")
    _add_device(demo)
    demo.set_defaults(run=_demo)
    return parser


_VERBS = "explain | evaluate | compare | record | verify | export-dicom | inspect | card | trust | demo"
_MODEL = (
    "TorchScript (.ts, .pt), torch.export (.pt2), ONNX, .safetensors with a card, a MONAI bundle or a trained model of"
    " nnU-Net v2 (folder or zip; of the latter also one fold or checkpoint), or the card"
)


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("explanation", type=Path, metavar="EXPLANATION", help="folder that 'explain' wrote")
    parser.add_argument("--reference", action="append", default=[], dest="references", metavar="SEG[:NAME]",
                        help="an expert's segment, by name or label value (default: each of the file's); may be given "
                        "several times")  # fmt: skip
    parser.add_argument("--checks", type=_names, metavar="NAMES",
                        help="of agreement, faithfulness, sanity and complexity, with commas between (default: all, "
                        "agreement where there is a reference)")  # fmt: skip
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--out", type=Path, metavar="DIR", help="folder for the evaluation")
    place.add_argument("--dry-run", action="store_true", help="tell about how long it takes and do nothing")
    parser.add_argument("--tolerance", type=float, default=5.0, metavar="MM",
                        help="of the pointing game (default: %(default)s)")  # fmt: skip
    parser.add_argument("--pieces", choices=("blocks", "slic"), default="blocks",
                        help="in what the volume is perturbed (default: %(default)s)")  # fmt: skip
    parser.add_argument("--edge", type=float, default=10.0, metavar="MM", help="of a piece (default: %(default)s)")
    parser.add_argument("--baselines", type=_names, metavar="NAMES",
                        help="what pieces are replaced by: mean, blur, noisy-linear (default: all)")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of everything that is random (default: %(default)s)")
    parser.add_argument("--memory", type=float, metavar="GIB", help="as for explain")
    _add_trust(parser)
    _add_device(parser)
    parser.set_defaults(run=_evaluate)


def _add_record(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("explanation", type=Path, metavar="EXPLANATION", help="folder that 'explain' wrote")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.html",
                        help="the page; its facts go beside it as FILE.json")  # fmt: skip
    parser.add_argument("--evaluation", type=Path, metavar="DIR", help="folder that 'evaluate' wrote")
    parser.add_argument("--no-views", action="store_true", help="draw no pictures")
    parser.add_argument("--with-names", action="store_true",
                        help="keep whole paths, and of DICOM the patient's name and ID (default: file names only)",
                        )  # fmt: skip
    parser.set_defaults(run=_record)


def _add_verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("record", type=Path, metavar="RECORD", help="either of the files that 'record' wrote")
    parser.add_argument("--model", type=Path, help="where the model is (default: where it was, or beside the record)")
    parser.add_argument("--volume", action="extend", nargs="+", dest="volumes", default=[], type=Path, metavar="VOLUME",
                        help="where the volumes are, in order (default: as the model)")  # fmt: skip
    parser.add_argument("--segment", type=Path, metavar="FILE", help="where the segmentation is that was asked about")
    parser.add_argument("--tolerance", type=float, metavar="SHARE",
                        help="by which figures and map may differ (default: 0.001)")  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="DIR", help="keep the explanation that was made again")
    parser.add_argument("--memory", type=float, metavar="GIB", help="as for explain")
    _add_trust(parser)
    _add_device(parser)
    parser.set_defaults(run=_verify)


def _add_export_dicom(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("explanation", type=Path, metavar="EXPLANATION",
                        help="folder that 'explain' wrote of a DICOM series")  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the DICOM objects")
    parser.set_defaults(run=_export_dicom)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _add_compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("explanations", type=Path, nargs="+", metavar="EXPLANATION",
                        help="folders that 'explain' wrote, of one question about the same volumes")  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the comparison")
    parser.add_argument("--weights", type=_numbers, metavar="W,W,...",
                        help="of the combined map, one per explanation (default: faithfulness where it was evaluated, "
                        "else all alike)")  # fmt: skip
    parser.add_argument("--evaluations", type=Path, nargs="+", default=[], metavar="DIR",
                        help="folders that 'evaluate' wrote, in any order")  # fmt: skip
    parser.add_argument("--top", type=float, default=1.0, metavar="ML",
                        help="of how much of the most relevant volume the overlap is told "
                        "(default: %(default)s)")  # fmt: skip
    parser.set_defaults(run=_compare)


def _numbers(text: str) -> list[float]:
    return [float(number) for number in text.split(",")]


_numbers.__name__ = "list of numbers"


def _add_trust(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--trust", action="store_true",
                        help="let a bundle run the code that it asks for; what that is, is printed")  # fmt: skip


def _load(options: argparse.Namespace) -> "ExplainableModel":
    from .models import load_model, trust_request

    if options.trust:
        for sentence in trust_request(options.model).sentences:
            print(f"Trusted: {sentence}")
    model = load_model(options.model, options.card, options.trust)
    if not model.card.stated:
        print(defaults())
    for note in model.card.notes:
        print(f"Note: {note}")
    return model


def _add_rules(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rule", action="append", default=[], dest="rules", metavar="LAYER=RULE",
                        help="rule for a role or layer name pattern, as input=flat or 'encoder.*=gamma(0.1)'; "
                        "may be given several times")  # fmt: skip
    parser.add_argument("--biases", choices=("share", "absorb"),
                        help="share what biases receive among the contributions they were added to, or let them absorb "
                        "it as in the literature (default: the card's, else share)")  # fmt: skip


def _rules(options: argparse.Namespace) -> dict[str, str]:
    table = {}
    for text in options.rules:
        layer, equals, rule = text.partition("=")
        if not (layer and equals and rule):
            raise UserError(f"'{text}' is no rule for a layer: write LAYER=RULE, for example input=flat.")
        table[layer] = rule
    return table


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
    size = [int(number) for number in text.lower().split("x")]
    if len(size) != 3 or min(size) < 1:
        raise ValueError
    return size


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share < 1:
        raise ValueError
    return share


_size.__name__, _share.__name__ = "size", "share"  # argparse's words for what is wrong


def _window(options: argparse.Namespace) -> dict[str, object]:
    """The entries of a card's window that the user gave."""
    given = {"overlap": options.overlap, "blending": options.blending}
    named = {key: value for key, value in given.items() if value is not None}
    return named | ({"size": options.window} if options.window is not _UNSAID else {})


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: auto, CUDA where there is one"
    )


def _explain(options: argparse.Namespace) -> None:
    from .explain import explain, plan
    from .explanation import OWN, VIEWS, check_output
    from .folders import whole_folder

    if options.out:
        check_output(options.out)
    if options.views:
        _require_views()
    question = question_of(options)
    model = _load(options)
    how = {"device": options.device, "rules": _rules(options), "window": _window(options), "memory": options.memory,
           "biases": options.biases, "method": options.method, "parameters": _parameters(options)}  # fmt: skip
    if options.dry_run:
        print(plan_summary(plan(model, options.volumes, question, options.composite, **how)))
        return
    with _bar() as progress:
        explanation = explain(model, options.volumes, question, options.composite, progress=progress, **how)
    with whole_folder(options.out, OWN) as partial:
        explanation.write(partial)
        if options.views:
            _render(explanation, partial / VIEWS)
    print(summary(explanation))
    print(f"The explanation is in {options.out}")


def _evaluate(options: argparse.Namespace) -> None:
    from .evaluation import BASELINES, Perturbation, Settings, check_evaluation_output, evaluate, plan

    if options.out:
        check_evaluation_output(options.out)
    baselines = tuple(options.baselines if options.baselines is not None else BASELINES)
    perturbation = Perturbation(options.pieces, options.edge, baselines, seed=options.seed)
    settings = Settings(options.tolerance, perturbation=perturbation, seed=options.seed)
    asked = (options.explanation, references_of(options.references), options.checks, settings)
    how = {"device": options.device, "memory": options.memory, "trust": options.trust}
    if options.dry_run:
        print(evaluation_plan_summary(plan(*asked, **how)))
        return
    with _bar() as progress:
        evaluation = evaluate(*asked, **how, progress=progress)
    evaluation.save(options.out)
    print(evaluation.table())
    print(f"The evaluation is in {options.out}")


def _compare(options: argparse.Namespace) -> None:
    from .comparison import check_comparison_output, compare

    check_comparison_output(options.out)
    comparison = compare(options.explanations, options.weights, options.evaluations, options.top)
    comparison.save(options.out)
    print(comparison.table())
    print(
        f"The comparison is in {options.out}, its maps are {options.out / 'consensus'} and {options.out / 'combined'}"
    )


def _record(options: argparse.Namespace) -> None:
    from .evaluation import Evaluation
    from .explanation import Explanation
    from .reporting import check_place, make_record

    check_place(options.out)
    explanation = Explanation.load(options.explanation)
    evaluation = None if options.evaluation is None else Evaluation.load(options.evaluation)
    pictures, missing = ({}, None) if options.no_views else _pictures(explanation)
    made = make_record(explanation, options.out.name, evaluation, pictures, missing, options.with_names)
    made.save(options.out)
    for warning in made.facts["findings"]["warnings"]:
        print(f"Warning: {warning}")
    if missing:
        print(f"No pictures: {missing}")
    print(f"The record is {options.out}, its facts are {options.out.with_suffix('.json')}")


def _pictures(explanation: "Explanation") -> tuple[dict[str, bytes], str | None]:
    """What the views draw of an explanation, by the view's name; or why there is nothing."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            _require_views()
            _render(explanation, Path(folder))
        except UserError as missing:  # the figures are a record too; the page says why it has no pictures
            return {}, str(missing)
        return {
            name: (Path(folder) / f"{name}.png").read_bytes() for name in ("axial", "sagittal", "coronal", "3d")
        }, None


def _verify(options: argparse.Namespace) -> int:
    from .explanation import check_output
    from .reporting import TOLERANCE, Places, Record, verify

    if options.out:
        check_output(options.out)
    made = Record.load(options.record)
    near = (options.record.resolve().parent, Path.cwd())
    places = Places(options.model, options.volumes, options.segment, near)
    tolerance = TOLERANCE if options.tolerance is None else options.tolerance
    how = {"device": options.device, "memory": options.memory, "trust": options.trust}
    with _bar() as progress:
        found = verify(made, places, tolerance, **how, progress=progress)
    print(found.table())
    if options.out and found.explanation is not None:
        found.explanation.save(options.out)
        print(f"The explanation that was made again is in {options.out}")
    return 0 if found.agrees else DISAGREES


def _export_dicom(options: argparse.Namespace) -> None:
    from .explanation import Explanation
    from .reporting import export_dicom

    for path in export_dicom(Explanation.load(options.explanation), options.out):
        print(path)


def _inspect(options: argparse.Namespace) -> None:
    from .explain import explain
    from .inspection import describe, ledger_table

    if options.ledger and not options.volumes:
        raise UserError("The ledger is that of an explanation: give the volumes to explain with --volume.")

    question = question_of(options)
    model = _load(options)
    print(describe(model, options.volumes, options.shape))
    if options.ledger:
        with _bar() as progress:
            explanation = explain(
                model, options.volumes, question, options.composite, "auto", progress, _rules(options),
                biases=options.biases,
            )  # fmt: skip
        print(f"\n{summary(explanation)}\n\n{ledger_table(explanation.ledger['by_layer'])}")


def _card(options: argparse.Namespace) -> None:
    from .models import draft_card, trust_request
    from .models.draft import default_place

    place = options.out or default_place(options.model)
    if place.exists() and not options.overwrite:
        raise UserError(f"There is a card '{place}' already: give --overwrite to replace it, or --out FILE.")
    if options.trust:
        for sentence in trust_request(options.model).sentences:
            print(f"Trusted: {sentence}")
    content, notes = draft_card(options.model, options.trust, options.shape)
    try:
        place.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"The card cannot be written to '{place}' ({error.strerror}): give --out.") from error
    for note in notes:
        print(f"Note: {note}")
    print(f"The draft of the card is {place}: look it over and complete it.")


def _trust(options: argparse.Namespace) -> None:
    from .models import trust_request

    request = trust_request(options.model)
    print(json.dumps({"sha256": request.sha256, "sentences": request.sentences}, indent=2, ensure_ascii=False))


def _demo(options: argparse.Namespace) -> None:
    from .demonstration import run

    with _bar() as progress:
        shown = run(options.out, options.seed, options.composite, options.device, progress)
    print(summary(shown.explanation))
    print(f"Of the positive relevance {shown.inside:.1%} lies inside the planted lesion,")
    print(f"and {shown.with_rim:.1%} inside the lesion and the {shown.rim_mm:g} mm around it, which are"
          f" {shown.volume_share:.2%} of the volume.")  # fmt: skip
    print(f"The volume, the lesion and the explanation are in {options.out}")
    if not options.no_views:
        _demo_views(shown.explanation, options.out)


def _demo_views(explanation: "Explanation", out: Path) -> None:
    from .explanation import VIEWS

    try:
        _require_views()
        _render(explanation, out / VIEWS, out / "scene.mrb")
    except UserError as missing:  # the demo has its figures; pictures need a renderer, which not every machine has
        print(missing)
    else:
        print(f"The pictures are in {out / VIEWS}, the scene for 3D Slicer is {out / 'scene.mrb'}")


def _require_views() -> None:
    if importlib.util.find_spec("slicer") is None:
        raise UserError(
            "Pictures need 3D Slicer's core: install it with 'pip install slicer-core', or leave the pictures out."
        )
    from .scene import missing_renderer

    missing = missing_renderer()
    if missing:
        raise UserError(missing)


def _render(explanation: "Explanation", folder: Path, bundle: Path | None = None) -> None:
    from . import scene

    with _bar() as progress:
        progress("presenting", 0.0)
        presented = scene.present(explanation)
        scene.render(presented, folder, progress)
        if bundle is not None:
            progress("saving", 1.0)
            scene.save(presented, bundle)


@contextmanager
def _bar() -> Iterator[Callable[[str, float], None]]:
    """A progress bar on standard error, if that is a terminal; it is wiped at the end."""
    from tqdm import tqdm

    shape = "{desc:<12} {percentage:3.0f} %|{bar}| {elapsed}"
    with tqdm(total=1.0, disable=None, leave=False, bar_format=shape) as bar:

        def progress(stage: str, share: float) -> None:
            bar.set_description_str(stage, refresh=False)
            bar.update(share - bar.n)
            bar.refresh()

        yield progress


if __name__ == "__main__":
    sys.exit(main())
