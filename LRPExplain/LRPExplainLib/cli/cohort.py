"""The verb that looks at many explanations at once: `cohort`."""

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError
from .drawing import bar, render, require_views
from .options import Verbs

if TYPE_CHECKING:
    from ..cohort import Cohort

_ALIGNMENTS = ("space", "centre", "frame", "target")
_SLICES = ("axial", "sagittal", "coronal")


def add_cohort(verbs: Verbs) -> None:
    parser = verbs.add_parser("cohort", help="group explanations of many volumes, the odd groups first")
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER",
                        help="explanations of one model and one kind of question, or folders that hold them at any "
                        "depth")  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the cohort")
    parser.add_argument("--clusters", type=_number, metavar="auto|N",
                        help="how many (default: auto, by the widest gap between eigenvalues)")  # fmt: skip
    parser.add_argument("--grid", type=float, metavar="MM",
                        help="edge of the blocks in which relevance is summed and compared (default: a 24th of the "
                        "first volume's longest side)")  # fmt: skip
    parser.add_argument("--align", choices=_ALIGNMENTS, default="space",
                        help="how places in different volumes correspond: in patient space as it is, from the centre "
                        "of the field of view, with fields of view stretched onto each other, or from the centre of "
                        "what is predicted as the target (default: %(default)s)")  # fmt: skip
    parser.add_argument("--neighbours", type=int, metavar="N",
                        help="of each map in the graph (default: 1.5 times the square root of how many maps)"
                        )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of everything that is random (default: %(default)s)")
    parser.add_argument("--no-views", action="store_true", help="draw no slices of examples")
    parser.set_defaults(run=_cohort)


def _number(text: str) -> int | None:
    return None if text == "auto" else int(text)


_number.__name__ = "number of clusters"


def _cohort(options: argparse.Namespace) -> None:
    from ..cohort import check_cohort_output, cohort

    check_cohort_output(options.out)
    with bar() as progress:
        found = cohort(
            options.folders, options.clusters, options.grid, options.align, options.neighbours, options.seed, progress
        )
    pictures, missing = ({}, None) if options.no_views else _pictures(found)
    found.save(options.out, pictures, missing)
    print(found.table())
    if missing:
        print(f"\n{missing}")
    print(f"\nThe cohort is in {options.out}, its page is {options.out / 'cohort.html'}")


def _pictures(found: "Cohort") -> tuple[dict[str, dict[str, bytes]], str | None]:
    """The slices of the examples by their names; and a sentence where some could not be drawn."""
    from ..explanation import Explanation

    try:
        require_views()
    except UserError as missing:
        return {}, f"No slices were drawn: {missing}"
    pictures: dict[str, dict[str, bytes]] = {}
    undrawn = []
    for name, folder in found.examples.items():
        with tempfile.TemporaryDirectory() as place:
            try:
                render(Explanation.load(folder), Path(place), slices_only=True)
            except UserError as missing:  # a volume that has gone: the figures and the mean maps stand all the same
                undrawn.append(f"{name}: {missing}")
                continue
            pictures[name] = {view: (Path(place) / f"{view}.png").read_bytes() for view in _SLICES}
    return pictures, f"No slices were drawn of {'; '.join(undrawn)}" if undrawn else None
