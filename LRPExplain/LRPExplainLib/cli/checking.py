"""The verbs that tell how far to trust explanations: `evaluate`, `compare` and `cohort`."""

import argparse
from pathlib import Path

from ..summaries import evaluation_plan_summary
from .asking import references_of
from .drawing import bar, pictures_of
from .options import Verbs, add_device, add_trust, names, seed
from .parsing import number, numbers, whole_number


def add_evaluate(verbs: Verbs) -> None:
    parser = verbs.add_parser("evaluate", help="tell how far to trust an explanation")
    parser.add_argument("explanation", type=Path, metavar="EXPLANATION", help="folder that 'explain' wrote")
    parser.add_argument("--reference", action="append", default=[], dest="references", metavar="SEG[:NAME]",
                        help="an expert's segment, by name or label value (default: each of the file's); may be given "
                        "several times")  # fmt: skip
    parser.add_argument("--checks", type=names, metavar="NAMES",
                        help="of agreement, faithfulness, sanity and complexity, with commas between (default: all, "
                        "agreement where there is a reference)")  # fmt: skip
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--out", type=Path, metavar="DIR", help="folder for the evaluation")
    place.add_argument("--dry-run", action="store_true", help="tell about how long it takes and do nothing")
    parser.add_argument("--tolerance", type=number, default=5.0, metavar="MM",
                        help="of the pointing game (default: %(default)s)")  # fmt: skip
    parser.add_argument("--pieces", choices=("blocks", "slic"), default="blocks",
                        help="in what the volume is perturbed (default: %(default)s)")  # fmt: skip
    parser.add_argument("--edge", type=number, default=10.0, metavar="MM", help="of a piece (default: %(default)s)")
    parser.add_argument("--baselines", type=names, metavar="NAMES",
                        help="what pieces are replaced by: mean, blur, noisy-linear (default: all)")  # fmt: skip
    parser.add_argument("--seed", type=seed, default=0, help="of everything that is random (default: %(default)s)")
    parser.add_argument("--memory", type=number, metavar="GIB", help="as for explain")
    add_trust(parser)
    add_device(parser)
    parser.set_defaults(run=_evaluate)


def add_compare(verbs: Verbs) -> None:
    parser = verbs.add_parser("compare", help="how far explanations of one answer agree, and what they share")
    parser.add_argument("explanations", type=Path, nargs="+", metavar="EXPLANATION",
                        help="folders that 'explain' wrote, of one question about the same volumes")  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the comparison")
    parser.add_argument("--weights", type=numbers, metavar="W,W,...",
                        help="of the combined map, one per explanation (default: faithfulness where it was evaluated, "
                        "else all alike)")  # fmt: skip
    parser.add_argument("--evaluations", type=Path, nargs="+", default=[], metavar="DIR",
                        help="folders that 'evaluate' wrote, in any order")  # fmt: skip
    parser.add_argument("--top", type=number, default=1.0, metavar="ML",
                        help="of how much of the most relevant volume the overlap is told "
                        "(default: %(default)s)")  # fmt: skip
    parser.set_defaults(run=_compare)


def add_cohort(verbs: Verbs) -> None:
    parser = verbs.add_parser("cohort", help="group explanations of many volumes, the odd groups first")
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER",
                        help="explanations of one model and one kind of question, or folders that hold them at any "
                        "depth")  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the cohort")
    parser.add_argument("--clusters", type=_auto, metavar="auto|N",
                        help="how many (default: auto, by the widest gap between eigenvalues)")  # fmt: skip
    parser.add_argument("--grid", type=number, metavar="MM",
                        help="edge of the blocks in which relevance is summed and compared (default: a 24th of the "
                        "first volume's longest side)")  # fmt: skip
    parser.add_argument("--align", choices=("frame", "space", "centre", "target"), default="frame",
                        help="how places in volumes correspond: with fields of view stretched onto each "
                        "other, in patient space as it is (for registered volumes), from the centre of the field "
                        "of view, or of what is predicted as the target (default: %(default)s)")  # fmt: skip
    parser.add_argument("--neighbours", type=whole_number, metavar="N",
                        help="of each map in the graph (default: 1.5 times the square root of how many maps)",
                        )  # fmt: skip
    parser.add_argument("--seed", type=seed, default=0, help="of everything that is random (default: %(default)s)")
    parser.add_argument("--no-views", action="store_true", help="draw no slices of examples")
    parser.set_defaults(run=_cohort)


def _auto(text: str) -> int | None:
    return None if text == "auto" else whole_number(text)


def _evaluate(options: argparse.Namespace) -> None:
    from ..evaluation import BASELINES, Perturbation, Settings, check_evaluation_output, evaluate, plan

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
    with bar() as progress:
        evaluation = evaluate(*asked, **how, progress=progress)
    evaluation.save(options.out)
    print(evaluation.table())
    print(f"The evaluation is in {options.out}")


def _compare(options: argparse.Namespace) -> None:
    from ..comparison import check_comparison_output, compare

    check_comparison_output(options.out)
    comparison = compare(options.explanations, options.weights, options.evaluations, options.top)
    comparison.save(options.out)
    print(comparison.table())
    print(
        f"The comparison is in {options.out}, its maps are {options.out / 'consensus'} and {options.out / 'combined'}"
    )


def _cohort(options: argparse.Namespace) -> None:
    from ..cohort import check_cohort_output, cohort
    from ..explanation import Explanation

    check_cohort_output(options.out)
    how = (options.clusters, options.grid, options.align, options.neighbours, options.seed)
    with bar() as progress:
        found = cohort(options.folders, *how, progress=progress)
    drawn = {
        name: pictures_of(Explanation.load(folder), ("axial", "sagittal", "coronal"))
        for name, folder in found.examples.items()
        if not options.no_views
    }
    # a volume may have gone, or nothing can be drawn here at all: figures and mean maps stand all the same
    reasons = sorted({missing for _, missing in drawn.values() if missing})
    missing = f"Slices are missing: {' '.join(reasons)}" if reasons else None
    found.save(options.out, {name: pictures for name, (pictures, _) in drawn.items() if pictures}, missing)
    print(found.table())
    if missing:
        print(f"\n{missing}")
    print(f"\nThe cohort is in {options.out}, its page is {options.out / 'cohort.html'}")
