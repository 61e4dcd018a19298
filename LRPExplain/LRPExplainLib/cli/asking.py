"""The question on the command line: its options, and the value they make."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError

if TYPE_CHECKING:
    from ..imaging import Box, Points, Region, Segment
    from ..question import Question

_WITH_NUMBERS = ("--point", "--roi", "--roi-corners", "--weights")
_MARKUPS = ".json"


def add_question(parser: argparse.ArgumentParser) -> None:
    """Options that say what is asked; `question_of` reads them."""
    parser.add_argument("--target", help="name or index of the class to explain (default: what the model predicts)")
    parser.add_argument("--rather-than", metavar="CLASS", help="explain the target rather than this class")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--segment", metavar="FILE[:NAME]",
                       help="ask about a segment of a .seg.nrrd, DICOM Segmentation or label map, by name or label "
                       "value (default: where the target is predicted)")  # fmt: skip
    where.add_argument("--roi", nargs="+", metavar="BOX",
                       help="ask about a box: centre and size in mm as R,A,S R,A,S, or a Slicer ROI")  # fmt: skip
    where.add_argument("--roi-corners", nargs=2, metavar="R,A,S", help="ask about the box between two corners, in mm")
    where.add_argument("--point", action="append", dest="points", metavar="POINT",
                       help="ask about the voxel at R,A,S in mm, or at the points of a Slicer point list .mrk.json; "
                       "may be given several times")  # fmt: skip
    where.add_argument("--everywhere", action="store_true", help="ask about the whole field of view")
    parser.add_argument("--value", choices=("logit", "probability"), default="logit",
                        help="what to explain of the class (default: %(default)s)")  # fmt: skip
    parser.add_argument("--start", choices=("value", "one"), default="value",
                        help="what each voxel starts with: its value, or 1 (default: %(default)s)")  # fmt: skip


def signed(arguments: Sequence[str]) -> list[str]:
    """Arguments in which argparse does not take coordinates such as -12.5,3,40 or weights for options.

    A leading space does it; `float` does not mind.
    """
    result: list[str] = []
    open_option = False
    for argument in arguments:
        if argument.startswith("--"):
            open_option = argument in _WITH_NUMBERS
        result.append(f" {argument}" if open_option and re.match(r"-[\d.,]", argument) else argument)
    return result


def question_of(options: argparse.Namespace) -> Question:
    """The question that the options ask; files are read.

    Raises:
        UserError: coordinates that are none, or a file that cannot be read.
    """
    from ..question import Question

    return Question(options.target, options.rather_than, _region(options), options.value, options.start)


def _region(options: argparse.Namespace) -> Region | None:
    from ..imaging import Box, Everywhere

    if options.everywhere:
        return Everywhere()
    if options.segment is not None:  # also "", as of a shell's variable that was never set
        return _segment(options.segment)
    if options.points:
        return _points(options.points)
    if options.roi_corners:
        return Box.between(*(_triple(text) for text in options.roi_corners))
    return _box(options.roi) if options.roi else None


def _segment(text: str) -> Segment:
    """FILE[:NAME]."""
    from ..imaging import read_segment

    return read_segment(*_file_and_name(text))


def references_of(texts: Sequence[str]) -> list[Segment]:
    """The segments that FILE[:NAME] means each time; all of a file's, each by itself, where no name is given.

    Raises:
        UserError: no such file or segment, or a file without any.
    """
    from ..imaging import read_segment, read_segments

    found: list[Segment] = []
    for text in texts:
        file, name = _file_and_name(text)
        found += read_segments(file) if name is None else [read_segment(file, name)]
    return found


def _file_and_name(text: str) -> tuple[str, str | None]:
    """FILE[:NAME]; a colon may be part of the file's path or of the name."""
    cuts = [len(text), *(match.start() for match in re.finditer(":", text))]
    for cut in cuts:
        if cut and Path(text[:cut]).is_file():
            return text[:cut], text[cut + 1 :] or None
    raise UserError(f"There is no segmentation file '{text}': give FILE or FILE:NAME.")


def _box(texts: Sequence[str]) -> Box:
    from ..imaging import Box, read_markups

    if len(texts) == 1 and texts[0].endswith(_MARKUPS):
        found = read_markups(texts[0])
        if not isinstance(found, Box):
            raise UserError(f"'{texts[0]}' holds points and no ROI: give it with --point.")
        return found
    if len(texts) != 2:
        raise UserError(f"'{' '.join(texts)}' is no box: give its centre and its size as R,A,S R,A,S, or a .mrk.json.")
    return Box(_triple(texts[0]), _triple(texts[1]))


def _points(texts: Sequence[str]) -> Points:
    from ..imaging import Points, read_markups

    points: list[tuple[float, float, float]] = []
    for text in texts:
        if not text.endswith(_MARKUPS):
            points.append(_triple(text))
            continue
        found = read_markups(text)
        if not isinstance(found, Points):
            raise UserError(f"'{text}' holds an ROI and no points: give it with --roi.")
        points += found.points
    return Points(tuple(points))


def _triple(text: str) -> tuple[float, float, float]:
    try:
        right, anterior, superior = (float(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"'{text.strip()}' is no position: give three numbers R,A,S in mm, as -12.5,8,40.") from None
    return right, anterior, superior
