"""The verbs that hand an explanation on: `record`, `verify` and `export-dicom`."""

import argparse
from pathlib import Path

from .drawing import bar, pictures_of
from .options import Verbs, add_device, add_trust
from .parsing import number

DISAGREES = 1  # the exit code of `verify` where a record does not agree


def add_record(verbs: Verbs) -> None:
    parser = verbs.add_parser("record", help="write an explanation's record, for reviewers and regulators")
    parser.add_argument("explanation", type=Path, metavar="EXPLANATION", help="folder that 'explain' wrote")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.html",
                        help="the page; its facts go beside it as FILE.json")  # fmt: skip
    parser.add_argument("--evaluation", type=Path, metavar="DIR", help="folder that 'evaluate' wrote")
    parser.add_argument("--no-views", action="store_true", help="draw no pictures")
    parser.add_argument("--with-names", action="store_true",
                        help="keep whole paths, and of DICOM the patient's name and ID (default: file names only)",
                        )  # fmt: skip
    parser.set_defaults(run=_record)


def add_verify(verbs: Verbs) -> None:
    parser = verbs.add_parser("verify", help="compute a record's explanation again and say whether it agrees")
    parser.add_argument("record", type=Path, metavar="RECORD", help="either of the files that 'record' wrote")
    parser.add_argument(
        "--model", type=Path, help="where the model or its card is (default: where it was, or beside the record)"
    )
    parser.add_argument("--volume", action="extend", nargs="+", dest="volumes", default=[], type=Path, metavar="VOLUME",
                        help="where the volumes are, in order (default: as the model)")  # fmt: skip
    parser.add_argument("--segment", type=Path, metavar="FILE", help="where the segmentation is that was asked about")
    parser.add_argument("--card", type=Path, metavar="FILE",
                        help="where the model's card is, if it was given by itself "
                        "(default: as the model)")  # fmt: skip
    parser.add_argument("--tolerance", type=number, metavar="SHARE",
                        help="by which figures and map may differ (default: 0.001)")  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="DIR", help="keep the explanation that was made again")
    parser.add_argument("--memory", type=number, metavar="GIB", help="as for explain")
    add_trust(parser)
    add_device(parser)
    parser.set_defaults(run=_verify)


def add_export_dicom(verbs: Verbs) -> None:
    parser = verbs.add_parser("export-dicom", help="write relevance and hot spots for the series they are of")
    parser.add_argument("explanation", type=Path, metavar="EXPLANATION",
                        help="folder that 'explain' wrote of a DICOM series")  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the DICOM objects")
    parser.set_defaults(run=_export_dicom)


def _record(options: argparse.Namespace) -> None:
    from ..evaluation import Evaluation
    from ..explanation import Explanation
    from ..reporting import check_place, make_record

    check_place(options.out)
    explanation = Explanation.load(options.explanation)
    evaluation = None if options.evaluation is None else Evaluation.load(options.evaluation)
    pictures, missing = ({}, None) if options.no_views else pictures_of(explanation)
    made = make_record(explanation, options.out.name, evaluation, pictures, missing, options.with_names)
    made.save(options.out)
    for warning in made.facts["findings"]["warnings"]:
        print(f"Warning: {warning}")
    for entry in made.facts["volumes"]:
        if entry["path"] is None:
            print(f"Note: '{entry['name']}' was given from memory: keep it as a file, for 'verify' needs one.")
    if missing:
        print(f"No pictures: {missing}")
    print(f"The record is {options.out}, its facts are {options.out.with_suffix('.json')}")


def _verify(options: argparse.Namespace) -> int:
    from ..explanation import check_output
    from ..reporting import TOLERANCE, Places, Record, verify

    if options.out:
        check_output(options.out)
    made = Record.load(options.record)
    near = (options.record.resolve().parent, Path.cwd())
    places = Places(options.model, options.volumes, options.segment, options.card, near)
    tolerance = TOLERANCE if options.tolerance is None else options.tolerance
    how = {"device": options.device, "memory": options.memory, "trust": options.trust}
    with bar() as progress:
        found = verify(made, places, tolerance, **how, progress=progress)
    print(found.table())
    if options.out and found.explanation is not None:
        found.explanation.save(options.out)
        print(f"The explanation that was made again is in {options.out}")
    return 0 if found.agrees else DISAGREES


def _export_dicom(options: argparse.Namespace) -> None:
    from ..explanation import Explanation
    from ..reporting import export_dicom

    for path in export_dicom(Explanation.load(options.explanation), options.out):
        print(path)
